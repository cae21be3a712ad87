"""Tiny-ImageNet: photographs of 64 x 64 pixels in 200 classes, from the folders that it is published in.

tiny-imagenet-200/
    wnids.txt                         the classes, a WordNet number a line; their labels follow these in order
    train/n01443537/images/*.JPEG     the training images of a class; n01443537_boxes.txt beside them is not read
    val/images/*.JPEG                 the images of the validation split, which test here: the published test split
    val/val_annotations.txt           has no labels. Name, class and a box in pixels, between tabs

Images are decoded once, and kept on disk as bytes in the order in which they are read column by column: 12 288 for
each, 1.35 GB for all, mapped into memory. Whole images are another view of the same bytes.
Shapes: N images; as columns T = 64, I = 192 (64 rows of red, then of green, then of blue).
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import Card, Choice, DataSet, Inspected, Picture, Shape, Source
from hstnn_deploy.data.files.folder import VARIABLE, find
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.images import ImageConfig, ImageSplit, shape_of
from hstnn_deploy.data.pictures.images import draw_images
from hstnn_deploy.data.splits import ArraySplit, Splits, with_validation
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, TEXT_LIMIT, brief, read_bytes, reading

_SIDE, _CLASSES = 64, 200
_BYTES = 3 * _SIDE * _SIDE
_PUBLISHED = {"train": 100_000, "test": 10_000}
_LARGEST = 2**20
"""Bytes of an image file at most; the published ones have some 2000."""
_FOLDER = "tiny-imagenet-200"
_WNID = re.compile(r"n\d{8}", re.ASCII)
_CHECKED = "images of 64 x 64 pixels, unpacked whole"


class TinyImageNetConfig(ImageConfig):
    """Tiny-ImageNet from `tiny-imagenet-200`, or from a part of it."""

    name: Literal["tiny-imagenet"] = "tiny-imagenet"


@dataclass(frozen=True)
class Files:
    """The images of a split."""

    paths: Sequence[Path]
    target: Tensor
    """[N], int64."""


def load_tiny_imagenet(config: TinyImageNetConfig, source: Source) -> Splits:
    """Return the images, whole or column by column; of a part those that are there.

    Raises:
        DataError: the set is not there, names a class or an image that it does not have, or an image is damaged.
    """
    folder, parts = _find(source.folder), files_in(source.folder)
    for split, found in parts.items():
        if not found.paths:
            place = folder / ("train/*/images" if split == "train" else "val/images")
            raise DataError(f"Tiny-ImageNet contains no {split} images: {place} has no .JPEG file", AGAIN)
    origin = f"Tiny-ImageNet from {folder}{_part(parts, len(read_classes(folder / 'wnids.txt')))}"
    bytes = {split: _bytes(split, found, folder, source) for split, found in parts.items()}
    if (how := config.images) is None:
        columns = {split: ArraySplit(bytes[split], found.target, scale=1 / 255) for split, found in parts.items()}
        train, valid = with_validation(columns["train"], source.protocol)
        return Splits(train, valid or columns["test"], columns["test"], 3 * _SIDE, _CLASSES, origin)
    whole = {split: ImageSplit(_whole(bytes[split]), found.target, 255, how) for split, found in parts.items()}
    trained, held = with_validation(whole["train"], source.protocol)
    trained, test = replace(trained, training=True), whole["test"]
    return Splits(trained, held or test, test, 3, _CLASSES, origin, family="convolutional", size=_SIDE)


def _part(parts: Mapping[str, Files], named: int) -> str:
    """Return how much of the set is there; nothing of a whole one."""
    counts = {split: len(found.paths) for split, found in parts.items()}
    if (counts, named) == (_PUBLISHED, _CLASSES):
        return ""
    few = "" if named == _CLASSES else f", {named} of 200 classes named, which changes their labels"
    return f", in part: {counts['train']} of 100000 training and {counts['test']} of 10000 test images{few}"


def files_in(given: Path | None) -> dict[str, Files]:
    """Return the images of each split.

    Raises:
        DataError: the set is not there; or one of its texts or folders names a class or an image that there is not.
    """
    folder = _find(given)
    if absent := missing_files(given):
        raise DataError(
            f"Tiny-ImageNet is not at {folder} ({absent[0]} is missing)",
            f"`hstnn data prepare tiny-imagenet` gets it; or put {_FOLDER}/, or a part of it, into the data folder "
            f"(--data-dir or {VARIABLE})",
        )
    labels = read_classes(folder / "wnids.txt")
    return {"train": _training(folder / "train", labels), "test": _testing(folder / "val", labels)}


def read_classes(path: Path) -> dict[str, int]:
    """Return the label of each class that `wnids.txt` names: its place among the names in order.

    Raises:
        DataError: it cannot be read, or names something else than up to 200 different classes.
    """
    with reading(path, "a list of classes"):
        names = read_bytes(path, TEXT_LIMIT).decode("ascii").split()
    if wrong := next((name for name in names if not _WNID.fullmatch(name)), None):
        raise DataError(
            f"{path} names the class {brief(wrong)}, which is not a WordNet number such as n01443537", AGAIN
        )
    if not names or len(set(names)) != len(names) or len(names) > _CLASSES:
        what = f"{len(names)} classes, {len(set(names))} of them different"
        raise DataError(f"{path} names {what}; Tiny-ImageNet has {_CLASSES}", AGAIN)
    return {name: label for label, name in enumerate(sorted(names))}


def _training(folder: Path, labels: Mapping[str, int]) -> Files:
    found: list[tuple[Path, int]] = []
    for place in sorted(folder.iterdir()):
        if place.is_dir() and place.name not in labels:
            raise DataError(f"{place} is the folder of a class that wnids.txt does not name", "copy wnids.txt whole")
        if place.is_dir():
            found += [(path, labels[place.name]) for path in sorted((place / "images").glob("*.JPEG"))]
    return _files(found)


def _testing(folder: Path, labels: Mapping[str, int]) -> Files:
    table = folder / "val_annotations.txt"
    with reading(table, "a table of images and classes"):
        lines = read_bytes(table, TEXT_LIMIT).decode("utf-8").splitlines()
    classes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if not name or not wnid or name in classes:
            what = "repeats an image" if name in classes else "is not an image, a tab and its class"
            raise DataError(f"{table}: line {number} {what}: {brief(line)}", AGAIN)
        classes[name] = wnid
    found: list[tuple[Path, int]] = []
    for path in sorted((folder / "images").glob("*.JPEG")):
        if (known := classes.get(path.name)) is None:
            raise DataError(f"{table} does not give the class of {path.name}", AGAIN)
        if known not in labels:
            raise DataError(
                f"{table} gives {path.name} the class {brief(known)}, which wnids.txt does not name",
                "copy both whole",
            )
        found.append((path, labels[known]))
    return _files(found)


def _files(found: Sequence[tuple[Path, int]]) -> Files:
    return Files([path for path, _ in found], torch.tensor([label for _, label in found], dtype=torch.int64))


def read_jpeg(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of a file, [row, column, colour]; grey ones in three equal colours.

    Raises:
        DataError: it is no JPEG file, is damaged, or has another size or other colours.
    """
    from PIL import Image

    with reading(path, "a JPEG file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of large images: the size is looked at here
        content = read_bytes(path, _LARGEST)
        try:
            image = Image.open(io.BytesIO(content), formats=("JPEG",))
        except Image.DecompressionBombError as error:
            raise _of_another_size(path, "far too many") from error
        # Before anything is unpacked.
        if image.size != (_SIDE, _SIDE):
            raise _of_another_size(path, f"{image.width} x {image.height}")
        if image.mode not in ("L", "RGB"):
            raise DataError(f"{path} has the colours {image.mode}; they must be grey or RGB", AGAIN)
        return np.asarray(image.convert("RGB"))


def _of_another_size(path: Path, size: str) -> DataError:
    return DataError(f"{path} has {size} pixels; images of Tiny-ImageNet have {_SIDE} x {_SIDE}", AGAIN)


def _bytes(split: str, found: Files, folder: Path, source: Source) -> Tensor:
    """Return the images of a split as columns [N, T, I] of bytes, from the cache where they are in it."""
    import PIL

    total = len(found.paths)

    def rows() -> Iterator[NDArray[np.int32]]:
        for number, path in enumerate(found.paths, 1):
            # [row, column, colour] -> [column, colour, row], four bytes to a number of the cache
            yield np.ascontiguousarray(read_jpeg(path).transpose(1, 2, 0)).reshape(-1).view(np.int32)
            source.progress(f"preparing tiny-imagenet {split}", number, total)

    parameters = {"files": cache.fingerprint(folder, found.paths), "pillow": PIL.__version__}
    key = cache.Key("tiny-imagenet", split, parameters)
    if source.cache == "disk":
        values = cache.on_disk(key, rows).values
    elif source.cache != "none" and (kept := cache.read(key)) is not None:
        values = kept.values.clone()
    else:
        values = torch.empty(total, _BYTES // 4, dtype=torch.int32)
        for number, row in enumerate(rows()):
            values[number] = torch.from_numpy(row)
    return values.view(torch.uint8).view(total, _SIDE, 3 * _SIDE)


def _whole(columns: Tensor) -> Tensor:
    """Return columns [N, T, colour * row] as images [N, colour, row, column], of the same bytes."""
    return columns.view(len(columns), _SIDE, 3, _SIDE).permute(0, 2, 3, 1)


def missing_files(given: Path | None) -> list[str]:
    """Return the names of what is not in the set's folder."""
    folder = _find(given)
    parts = ("wnids.txt", "train", "val/val_annotations.txt", "val/images")
    return [name for name in parts if not (folder / name).exists()]


def inspect(given: Path | None) -> Iterator[Inspected]:
    """Read and unpack every image; see `DataSet`."""
    for split, found in files_in(given).items():
        for path, label in zip(found.paths, found.target.tolist(), strict=True):
            try:
                read_jpeg(path)
            except DataError as error:
                yield Inspected(str(path), split, problem=error.message)
            else:
                yield Inspected(str(path), split, 1, {label: 1}, _CHECKED)


def _find(given: Path | None) -> Path:
    def holds(place: Path) -> bool:
        return (place / "wnids.txt").exists() or (place / "val" / "val_annotations.txt").exists()

    return find(given, (f"tiny-imagenet/{_FOLDER}", _FOLDER, "tiny-imagenet"), holds)


def _place(given: Path | None) -> Path:
    """Return the folder that holds the published folder, or the parts of it."""
    place = _find(given)
    return place.parent if place.name == _FOLDER else place


def _picture(config: TinyImageNetConfig, source: Source, choice: Choice) -> Picture:
    by_columns = load_tiny_imagenet(config.model_copy(update={"images": None}), source)
    # x[t] is column t in three colours: [T, colour * row] -> [row, column, colour]
    return draw_images(by_columns, choice, TINY_IMAGENET.card, lambda x: x.unflatten(1, (3, _SIDE)).permute(2, 0, 1))


TINY_IMAGENET = DataSet(
    "tiny-imagenet",
    TinyImageNetConfig,
    Card(
        "110 000 colour photographs of 64 x 64 pixels in 200 classes, read column by column",
        "classification, 200 classes",
        "ImageNet's: for research that is not commercial",
        "http://cs231n.stanford.edu/",
        "`hstnn data prepare tiny-imagenet`; or put tiny-imagenet-200/, or a part of it, into tiny-imagenet/",
        248_100_043,
    ),
    load_tiny_imagenet,
    lambda config: shape_of(config, Shape(100_000, 10_000, steps=_SIDE, inputs=3 * _SIDE, classes=_CLASSES), 3),
    lambda _, folder: missing_files(folder),
    place=lambda _, folder: _place(folder),
    remotes=(
        Remote(
            "tiny-imagenet-200.zip",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "md5:90528d7ca1a48142e341f4ef8d21d0de",
            holds=_FOLDER,
        ),
    ),
    inspect=lambda _, folder: inspect(folder),
    picture=_picture,
)
