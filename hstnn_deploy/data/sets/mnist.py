"""MNIST as a sequence: 28 steps of 28 pixels, step t is column t of the image (S-MNIST)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from hstnn_deploy import files
from hstnn_deploy.data.dataset import Card, Choice, DataSet, Inspected, Picture, Shape, Source
from hstnn_deploy.data.files.folder import VARIABLE, find
from hstnn_deploy.data.files.idx import read_idx
from hstnn_deploy.data.files.remotes import Remote, fetch
from hstnn_deploy.data.images import ImageConfig, as_images, shape_of
from hstnn_deploy.data.pictures.images import draw_images
from hstnn_deploy.data.splits import ArraySplit, Splits, with_validation
from hstnn_deploy.errors import DataError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"


class _File(NamedTuple):
    name: str
    dimensions: int
    sha256: str
    """Of the file as it is unpacked."""
    sha256_gz: str
    """Of the canonical .gz."""

    @property
    def remote(self) -> Remote:
        """Where the canonical .gz is published."""
        return Remote(f"{self.name}.gz", f"{MIRROR}/{self.name}.gz", f"sha256:{self.sha256_gz}")


_FILES = {
    "train images": _File(
        "train-images-idx3-ubyte",
        3,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train labels": _File(
        "train-labels-idx1-ubyte",
        1,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "test images": _File(
        "t10k-images-idx3-ubyte",
        3,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "test labels": _File(
        "t10k-labels-idx1-ubyte",
        1,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}


class MnistConfig(ImageConfig):
    """What a recipe says of MNIST."""

    name: Literal["mnist"] = "mnist"
    checksum: bool = True
    """Whether the files must be the canonical ones. Switch off to train on your own IDX files of the same names."""


def load_mnist(config: MnistConfig, source: Source) -> Splits:
    """Return MNIST from its four IDX files, downloading those that are missing where the network allows.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is not what it should be.
    """
    folder = _home(source.folder)
    parts = {}
    for part, file in _FILES.items():
        path = _path(folder, file)
        parts[part] = read_idx(path, file.dimensions)
        if config.checksum:
            _check(path, file)
    for split in ("train", "test"):
        images, labels = parts[f"{split} images"], parts[f"{split} labels"]
        if len(images) != len(labels):
            raise DataError(f"{folder}: {len(images)} {split} images but {len(labels)} labels")
        if images.shape[1:] != (28, 28):
            raise DataError(f"{folder}: {split} images are {tuple(images.shape[1:])}, not 28 x 28")
        if len(labels) == 0 or labels.max() > 9:
            raise DataError(f"{folder}: the {split} labels are empty or go beyond 9")

    def split_of(name: str) -> ArraySplit:
        # [N, row, column] -> [N, T = column, I = row]
        return ArraySplit(
            parts[f"{name} images"].movedim(2, 1).contiguous(), parts[f"{name} labels"].long(), scale=1 / 255
        )

    test = split_of("test")
    train, valid = with_validation(split_of("train"), source.protocol)
    splits = Splits(train, valid or test, test, inputs=28, classes=10, origin=f"MNIST from {folder}")
    return splits if config.images is None else as_images(splits, config.images, lambda x: x.mT[:, None], 255)


def missing_files(given: Path | None) -> list[str]:
    """Return the names of the files that are not in the data folder; nothing is downloaded."""
    folder = _home(given)
    return [file.name for file in _FILES.values() if _existing(folder, file) is None]


def inspect(config: MnistConfig, given: Path | None) -> Iterator[Inspected]:
    """Read each of the four files whole and check it; see `DataSet`."""
    folder = _home(given)
    for part, file in _FILES.items():
        split, what = part.split()
        path = _existing(folder, file) or folder / file.remote.name
        try:
            values = read_idx(path, file.dimensions)
            if config.checksum:
                _check(path, file)
        except DataError as error:
            yield Inspected(str(path), split, problem=error.message)
            continue
        how = "files with the published checksum" if config.checksum else "files, whole"
        if what == "labels":
            classes = dict(enumerate(torch.bincount(values).tolist())) if len(values) else {}
            yield Inspected(str(path), split, len(values), classes, how)
        else:
            yield Inspected(str(path), split, how=how)


def _home(given: Path | None) -> Path:
    return find(given, ("mnist",), lambda place: any(_existing(place, file) for file in _FILES.values()))


def _existing(folder: Path, file: _File) -> Path | None:
    return next((path for path in (folder / file.name, folder / f"{file.name}.gz") if path.is_file()), None)


def _path(folder: Path, file: _File) -> Path:
    try:
        fetch([file.remote], folder)
    except DataError as error:
        names = ", ".join(f"{entry.name}[.gz]" for entry in _FILES.values())
        raise DataError(
            f"MNIST is not at {folder} ({file.name} is missing); {error.message}",
            f"put the four files {names} into {folder}, or name their folder with --data-dir or {VARIABLE}",
        ) from error
    return _existing(folder, file) or folder / file.remote.name


def _check(path: Path, file: _File) -> None:
    expected = file.sha256_gz if path.suffix == ".gz" else file.sha256
    if (found := files.sha256(path)) != expected:
        raise DataError(
            f"{path} has the wrong checksum (sha256 {found[:12]}…, expected {expected[:12]}…)",
            "download it again; for IDX files of your own, --set data.checksum=false",
        )


def _picture(config: MnistConfig, source: Source, choice: Choice) -> Picture:
    # x[t] is column t: [T, I] -> [row, column]
    by_columns = load_mnist(config.model_copy(update={"images": None}), source)
    return draw_images(by_columns, choice, MNIST.card, lambda sample: sample.T)


MNIST = DataSet(
    "mnist",
    MnistConfig,
    Card(
        "70 000 handwritten digits of 28 x 28 pixels, read column by column",
        "classification, 10 classes",
        "CC BY-SA 3.0",
        "http://yann.lecun.com/exdb/mnist",
        "`hstnn data prepare mnist`, or the first training; or put the four IDX files into mnist/",
        11_594_722,
    ),
    load_mnist,
    lambda config: shape_of(config, Shape(train=60_000, test=10_000, steps=28, inputs=28, classes=10), 1),
    lambda _, folder: missing_files(folder),
    place=lambda _, folder: _home(folder),
    downloads=True,
    remotes=tuple(file.remote for file in _FILES.values()),
    inspect=inspect,
    picture=_picture,
)
