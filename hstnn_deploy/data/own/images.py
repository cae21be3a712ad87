"""Images of one's own: PNG and JPEG files in folders by class, or in a list.

Each is decoded once and kept on disk as bytes, column by column: as in `sets.tiny_imagenet`, whole images and columns
are two views of the same bytes. Shapes: N images, C colours, H rows, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.own.config import FoundImages, OwnImages
from hstnn_deploy.data.own.files import check_same, place
from hstnn_deploy.data.own.listing import Listing, counts, list_own
from hstnn_deploy.data.own.parts import Numbers, as_splits, by_protocol, divide
from hstnn_deploy.data.own.walk import IMAGES
from hstnn_deploy.data.preprocessing import Picture
from hstnn_deploy.data.readers.image_files import MOST_PIXELS, read_levels
from hstnn_deploy.data.splits import ArraySplit, Split, Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import AGAIN, read_bytes, reading

LARGEST = 2**28
"""Bytes of an image file at most."""
_AT_ONCE = 256
"""Images whose mean is taken at once."""


def listed(
    config: OwnImages, given: Path | None = None, known: Sequence[str] = ()
) -> tuple[Listing, dict[str, Numbers]]:
    """Return the images of a configuration and those of each split; see `list_own` and `divide`.

    Args:
        config: which.
        given: where the data has moved; see `files.place`.
        known: the names of classes that a network was trained on.
    """
    found = list_own(config, IMAGES, given, known)
    return found, divide(found.samples, config.split, config.measured)


def look(config: OwnImages, given: Path | None = None, known: Sequence[str] = ()) -> FoundImages:
    """Return what is found of images: the first is opened, none is unpacked.

    Raises:
        DataError: see `listed`; or the first is no image.
    """
    listing, parts = listed(config, given, known)
    height, width, colours = size_of(listing.path(0))
    if config.size is not None:
        height, width = config.size
    if height * width > MOST_PIXELS:
        raise DataError(f"{listing.path(0)} is {width} x {height} pixels, too large", "--set data.resize=[32,32]")
    return FoundImages(
        listing=listing.digest,
        classes=list(listing.classes),
        height=height,
        width=width,
        colours=config.colours or colours,
        **counts(listing, parts),
    )


def mean_and_std(config: OwnImages, source: Source) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each colour, of 0 to 1, over the training images.

    Raises:
        DataError: an image is damaged, or they are of several sizes; or a colour is everywhere the same.
    """
    listing, parts = listed(config, source.folder)
    values = _bytes(config, listing, source)
    total, squares = torch.zeros(2, 3, dtype=torch.float64).unbind(0)
    count = 0
    for some in torch.from_numpy(parts["train"]).split(_AT_ONCE):
        pixels = _whole(values, config, some).double() / 255
        total[: pixels.shape[1]] += pixels.sum((0, 2, 3))
        squares[: pixels.shape[1]] += (pixels**2).sum((0, 2, 3))
        count += pixels.numel() // pixels.shape[1]
    colours = _found(config).colours
    mean = total[:colours] / count
    std = (squares[:colours] / count - mean**2).clamp(min=0).sqrt()
    if float(std.min()) < 1e-6:
        raise DataError(
            f"{listing.folder}: a colour is the same in every pixel of the training images",
            "its deviation is 0, so it cannot be normalised: leave data.normalise out",
        )
    return [round(float(each), 6) for each in mean], [round(float(each), 6) for each in std]


def load(config: OwnImages, source: Source) -> Splits:
    """Return the images, whole or column by column.

    Raises:
        DataError: they are not there, not what the recipe was made for, of several sizes, or damaged.
    """
    folder = place(config, source.folder)
    seen = config.found or look(config, source.folder)
    listing, parts = listed(config, source.folder, seen.classes)
    check_same(config, seen.model_copy(update={"listing": listing.digest, **counts(listing, parts)}), folder)
    config = config.model_copy(update={"found": seen})
    values = _bytes(config, listing, source)
    targets = torch.from_numpy(listing.labels.astype(np.int64))
    numbers = by_protocol(parts, source.protocol)
    splits: Mapping[str, Split]
    if (how := config.images) is None:
        columns = ArraySplit(values, targets, scale=1 / 255)
        splits = {name: columns.take(some) for name, some in numbers.items()}
    else:
        whole = _whole(values, config)
        splits = {
            name: ImageSplit(whole, targets[some], 255, how, name == "train", some) for name, some in numbers.items()
        }
    origin = f"your images in {folder}, {len(listing.names)} in {len(listing.classes)} classes{listing.beside}"
    return as_splits(config.found_shape(), splits, source.protocol, origin)


def read_image(path: Path, config: OwnImages, first: Path) -> NDArray[np.uint8]:
    """Return the pixels of a file as training sees them, [H, W, C].

    Args:
        path: the file.
        config: resolved.
        first: the image whose size and colours all others have, for messages.

    Raises:
        DataError: it is damaged, of another size, or has colours where the first has none.
    """
    found = _found(config)
    height, width, colours = size_of(path)
    if config.measured and config.size is None and (height, width) != (found.height, found.width):
        raise DataError(
            f"{path} is {width} x {height} pixels; the network was trained on {found.width} x {found.height}",
            "scale it first; a network trained with data.resize takes images of any size",
        )
    if config.size is None and (height, width) != (found.height, found.width):
        raise DataError(
            f"{path} is {width} x {height} pixels, and {first} is {found.width} x {found.height}",
            f"all images must have the same size: --set data.resize=[{found.height},{found.width}] scales all of them",
        )
    if config.colours is None and colours > found.colours:
        raise DataError(
            f"{path} has colours, and {first} is grey",
            "choose one for all: --set data.colours=3, or data.colours=1 for grey",
        )
    how = Picture(height=found.height, width=found.width, colours=found.colours)
    with reading(path, "an image"):
        content = read_bytes(path, LARGEST)
    levels = read_levels(content, str(path), how, config.size is not None, lambda _: None)
    return levels.reshape(found.height, found.width, found.colours)


def size_of(path: Path) -> tuple[int, int, int]:
    """Return height, width and colours of an image file, as it is seen upright; its pixels are not unpacked.

    Raises:
        DataError: it is no image, or damaged.
    """
    from PIL import Image

    with reading(path, "a PNG or JPEG image"):
        try:
            image = Image.open(path, formats=("PNG", "JPEG"))
        except Image.DecompressionBombError as error:
            raise DataError(f"{path} is too large: at most {MOST_PIXELS} pixels are read", "scale it first") from error
        with image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = image.size[::-1] if turned else image.size
            return height, width, 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else 3


def _bytes(config: OwnImages, listing: Listing, source: Source) -> Tensor:
    """Return all images as columns [N, W, C * H] of bytes, from the cache where they are in it."""
    import PIL

    found, total = _found(config), len(listing.names)
    size = found.height * found.width * found.colours
    padded = -(-size // 4) * 4
    first = listing.path(0)

    def rows() -> Iterator[NDArray[np.int32]]:
        for number, path in enumerate(listing.paths, 1):
            row = np.zeros(padded, np.uint8)
            # [row, column, colour] -> [column, colour, row], four bytes to a number of the cache
            row[:size] = read_image(path, config, first).transpose(1, 2, 0).reshape(-1)
            yield row.view(np.int32)
            source.progress("preparing your images", number, total)

    try:
        files = cache.fingerprint(listing.folder, listing.paths)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}", AGAIN) from error
    parameters = {
        "files": files, "pillow": PIL.__version__, "resize": config.size, "size": [found.height, found.width],
        "colours": [found.colours, config.colours],
    }  # fmt: skip
    key = cache.Key("own", "images", parameters)
    if source.cache == "disk":
        values = cache.on_disk(key, rows).values
    elif source.cache != "none" and (kept := cache.read(key)) is not None:
        values = kept.values.clone()
    else:
        values = torch.empty(total * padded // 4, dtype=torch.int32)
        for number, row in enumerate(rows()):
            values[number * padded // 4 : (number + 1) * padded // 4] = torch.from_numpy(row)
    images = values.view(torch.uint8).view(total, padded)[:, :size]
    columns: Tensor = images.unflatten(1, (found.width, found.colours * found.height))
    return columns


def _whole(values: Tensor, config: OwnImages, numbers: Tensor | None = None) -> Tensor:
    """Return columns [N, W, C * H] as images [N, C, H, W], of the same bytes; some of them where numbers are given."""
    found = _found(config)
    chosen = values if numbers is None else values[numbers]
    images: Tensor = chosen.unflatten(2, (found.colours, found.height)).permute(0, 2, 3, 1)
    return images


def _found(config: OwnImages) -> FoundImages:
    assert config.found is not None, "the folder was looked at"
    return config.found
