"""CIFAR-10 and CIFAR-100 as sequences: 32 steps of 96 values, step t is column t of the image in its three colours.

From the binary records: the label, 1 byte (CIFAR-100: its superclass before it), then 3072 bytes [colour, row, column].
Shapes: N images, T = 32 columns, I = 96 values (32 rows of red, then of green, then of blue).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data.dataset import Card, Choice, DataSet, Inspected, Picture, Shape, Source
from hstnn_deploy.data.files.folder import VARIABLE, data_folder
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.images import ImageConfig, as_images, shape_of
from hstnn_deploy.data.pictures.images import draw_images
from hstnn_deploy.data.splits import ArraySplit, Splits, with_validation
from hstnn_deploy.errors import DataError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


class _Form(NamedTuple):
    """How a set is published."""

    title: str
    folder: str
    """What its archive unpacks to."""
    train: dict[str, int]
    """Images per file."""
    test: dict[str, int]
    labels: tuple[int, ...]
    """Classes of each label byte of a record; the last is the one to learn."""

    @property
    def record(self) -> int:
        return len(self.labels) + _PIXELS


FORMS = {
    "cifar10": _Form(
        "CIFAR-10",
        "cifar-10-batches-bin",
        {f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
        {"test_batch.bin": 10_000},
        (10,),
    ),
    "cifar100": _Form("CIFAR-100", "cifar-100-binary", {"train.bin": 50_000}, {"test.bin": 10_000}, (20, 100)),
}
_OWN = {"train": ("train*.bin", "data_batch*.bin"), "test": ("test*.bin",)}
"""Files that hold a part of a set, outside the published folder: any whole number of records."""


class CifarConfig(ImageConfig):
    """What a recipe says of CIFAR-10 or CIFAR-100."""


class Cifar10Config(CifarConfig):
    """CIFAR-10, from `cifar-10-batches-bin`, or from a part of it."""

    name: Literal["cifar10"] = "cifar10"


class Cifar100Config(CifarConfig):
    """CIFAR-100 with its 100 fine labels, from `cifar-100-binary`, or from a part of it."""

    name: Literal["cifar100"] = "cifar100"


def load_cifar(config: Cifar10Config | Cifar100Config, source: Source) -> Splits:
    """Return the images as sequences; from the published folder, or from `train*.bin` and `test*.bin` of a part.

    Raises:
        DataError: a file is missing, is not a whole number of records, or holds a label beyond the classes.
    """
    form = FORMS[config.name]
    place, files = _files(config.name, source.folder)
    if absent := missing_files(config.name, source.folder):
        raise DataError(
            f"{form.title} is not at {place} ({absent[0]} is missing)",
            f"`hstnn data prepare {config.name}` gets it; or put {form.folder}/, or train*.bin and test*.bin of "
            f"a part, into {config.name}/ of the data folder (--data-dir or {VARIABLE})",
        )
    train, test = (_joined([read_records(path, config.name) for path in files[split]]) for split in ("train", "test"))
    whole = [sum(each.values()) for each in (form.train, form.test)]
    part = f", in part: {len(train)} of {whole[0]} training and {len(test)} of {whole[1]} test images"
    origin = f"{form.title} from {place}{part if [len(train), len(test)] != whole else ''}"
    trained, valid = with_validation(train, source.protocol)
    splits = Splits(trained, valid or test, test, inputs=96, classes=form.labels[-1], origin=origin)
    return splits if config.images is None else as_images(splits, config.images, _whole, 255)


def missing_files(name: str, given: Path | None) -> list[str]:
    """Return the names of the files that are not in the data folder."""
    place, files = _files(name, given)
    if place.name == FORMS[name].folder:
        return [path.name for split in files.values() for path in split if not path.is_file()]
    return [" or ".join(_OWN[split]) for split, paths in files.items() if not paths]


def inspect(config: Cifar10Config | Cifar100Config, given: Path | None) -> Iterator[Inspected]:
    """Read each file whole and check its records; see `DataSet`."""
    for split, paths in _files(config.name, given)[1].items():
        for path in paths:
            try:
                labels = read_records(path, config.name)[1]
            except DataError as error:
                yield Inspected(str(path), split, problem=error.message)
                continue
            numbers, counts = np.unique(labels, return_counts=True)
            classes = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
            yield Inspected(str(path), split, len(labels), classes, "files of whole records, labels in range")


def _place(name: str, given: Path | None) -> Path:
    """Return the folder that holds the published folder, or the files of a part."""
    place = _files(name, given)[0]
    return place.parent if place.name == FORMS[name].folder else place


def _files(name: str, given: Path | None) -> tuple[Path, dict[str, list[Path]]]:
    """Return where the set lies, and its files by split: the published ones, there or not, or those of a part."""
    form, folder = FORMS[name], data_folder(given)
    places = (folder, folder / form.folder, folder / name / form.folder)
    for place in places:
        if place.name == form.folder and place.is_dir():
            return place, {"train": [place / each for each in form.train], "test": [place / each for each in form.test]}
    for place in (folder / name, folder):
        found = {
            split: sorted(path for pattern in patterns for path in place.glob(pattern))
            for split, patterns in _OWN.items()
        }
        if any(found.values()):
            return place, found
    return folder / name, {"train": [], "test": []}


def read_records(path: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the pixels [N, 3, 32, 32] and the labels [N] of a file.

    Raises:
        DataError: it cannot be read, is not a whole number of records, is shorter or longer than the published file of
            its name, or holds a label beyond the classes.
    """
    form = FORMS[name]
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    again = f"copy it again, or get it with `hstnn data prepare {name}`"
    published = (form.train | form.test).get(path.name) if path.parent.name == form.folder else None
    if published is not None and len(raw) != published * form.record:
        state = "truncated" if len(raw) < published * form.record else "too long"
        raise DataError(
            f"{path} is {state}: {len(raw)} bytes, but the published file has {published * form.record}", again
        )
    if not raw:
        raise DataError(f"{path} is empty", again)
    if len(raw) % form.record:
        raise DataError(
            f"{path} is truncated or not {form.title}: "
            f"{len(raw)} bytes are not a whole number of records of {form.record}",
            again,
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, form.record)
    for place, classes in enumerate(form.labels):
        if len(beyond := np.flatnonzero(records[:, place] >= classes)):
            label = records[beyond[0], place]
            raise DataError(f"{path}: image {beyond[0]} has the label {label}, beyond {classes - 1}", again)
    return records[:, len(form.labels) :].reshape(-1, 3, _SIDE, _SIDE), records[:, len(form.labels) - 1]


def _joined(parts: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> ArraySplit:
    pixels, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    # [N, colour, row, column] -> [N, T = column, I = colour and row]
    x: Tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).flatten(2)
    return ArraySplit(x, torch.from_numpy(labels).long(), scale=1 / 255)


def _whole(x: Tensor) -> Tensor:
    """Return columns [N, T, colour * row] as images [N, colour, row, column]."""
    return x.view(len(x), _SIDE, 3, _SIDE).permute(0, 2, 3, 1)


def _picture(config: Cifar10Config | Cifar100Config, source: Source, choice: Choice) -> Picture:
    card = (CIFAR10 if config.name == "cifar10" else CIFAR100).card
    # x[t] is column t in three colours: [T, colour * row] -> [row, column, colour]
    by_columns = load_cifar(config.model_copy(update={"images": None}), source)
    return draw_images(by_columns, choice, card, lambda sample: sample.unflatten(1, (3, _SIDE)).permute(2, 0, 1))


CIFAR10 = DataSet(
    "cifar10",
    Cifar10Config,
    Card(
        "60 000 colour photographs of 32 x 32 pixels, read column by column",
        "classification, 10 classes",
        "none stated; cite Krizhevsky 2009",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "`hstnn data prepare cifar10`; or put cifar-10-batches-bin/ (or train*.bin, test*.bin of a part) into cifar10/",
        170_052_171,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    load_cifar,
    lambda config: shape_of(config, Shape(train=50_000, test=10_000, steps=_SIDE, inputs=96, classes=10), 3),
    lambda config, folder: missing_files(config.name, folder),
    place=lambda config, folder: _place(config.name, folder),
    remotes=(
        Remote(
            "cifar-10-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            holds="cifar-10-batches-bin",
        ),
    ),
    inspect=inspect,
    picture=_picture,
)

CIFAR100 = DataSet(
    "cifar100",
    Cifar100Config,
    Card(
        "60 000 colour photographs of 32 x 32 pixels in 100 classes, read column by column",
        "classification, 100 classes",
        "none stated; cite Krizhevsky 2009",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "`hstnn data prepare cifar100`; or put cifar-100-binary/ (or train*.bin, test*.bin of a part) into cifar100/",
        168_513_733,
    ),
    load_cifar,
    lambda config: shape_of(config, Shape(train=50_000, test=10_000, steps=_SIDE, inputs=96, classes=100), 3),
    lambda config, folder: missing_files(config.name, folder),
    place=lambda config, folder: _place(config.name, folder),
    remotes=(
        Remote(
            "cifar-100-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "md5:03b5dce01913d631647c71ecec9e9cb8",
            holds="cifar-100-binary",
        ),
    ),
    inspect=inspect,
    picture=_picture,
)
