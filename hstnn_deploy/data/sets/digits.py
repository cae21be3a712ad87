"""The 1797 handwritten digits that ship with scikit-learn: 8 steps of 8 pixels, column by column."""

from importlib.metadata import distribution
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data.dataset import Card, Choice, DataSet, Picture, Shape, Source
from hstnn_deploy.data.images import ImageConfig, as_images, shape_of
from hstnn_deploy.data.pictures.images import draw_images
from hstnn_deploy.data.splits import ArraySplit, Splits, hold_out, with_validation


class DigitsConfig(ImageConfig):
    """What a recipe says of the digits."""

    name: Literal["digits"] = "digits"


def load_digits(config: DigitsConfig, source: Source) -> Splits:
    """Return the digits, column by column or whole; one fifth of them, stratified, is the fixed test split."""
    images, target = digit_images()
    # [N, row, column] in 0..16 -> [N, T = column, I = row] in 0..1
    whole = ArraySplit(images.movedim(2, 1).contiguous(), target, scale=1 / 16)
    rest, held = hold_out(whole.target, 0.2)
    test = whole.take(held)
    train, valid = with_validation(whole.take(rest), source.protocol)
    splits = Splits(train, valid or test, test, inputs=8, classes=10, origin="scikit-learn's digits, 1797 real images")
    return splits if config.images is None else as_images(splits, config.images, lambda x: x.mT[:, None], 16)


def digit_images() -> tuple[Tensor, Tensor]:
    """Return the images, [1797, row, column] of 0 to 16 as bytes, and their classes, from scikit-learn's own file.

    The file is read without importing scikit-learn, which takes as long as importing torch.
    """
    file = str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz"))
    table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    return table[:, :-1].reshape(-1, 8, 8).to(torch.uint8), table[:, -1].clone()


def _picture(config: DigitsConfig, source: Source, choice: Choice) -> Picture:
    # x[t] is column t: [T, I] -> [row, column]
    by_columns = load_digits(config.model_copy(update={"images": None}), source)
    return draw_images(by_columns, choice, DIGITS.card, lambda sample: sample.T)


DIGITS = DataSet(
    "digits",
    DigitsConfig,
    Card(
        "1797 handwritten digits of 8 x 8 pixels, read column by column",
        "classification, 10 classes",
        "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/80",
        "it comes with scikit-learn",
    ),
    load_digits,
    lambda config: shape_of(config, Shape(train=1437, test=360, steps=8, inputs=8, classes=10), 1),
    picture=_picture,
)
