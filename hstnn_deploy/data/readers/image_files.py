"""An image file as the pixels that a network was trained on, or a refusal that says what would be right.

What the file leaves open is never guessed: transparency, several pictures and inks are refused. What has one right
answer is done and said: a camera's orientation, grey made of colours, another size where that is asked for.
"""

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.files.arrays import ARRAY_LIMIT, shown_bytes
from hstnn_deploy.data.preprocessing import Picture, Pixels
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[Any]

MOST_PIXELS = 64_000_000
"""Of an image file; one that states more is not unpacked."""

_MOST = f"at most {MOST_PIXELS // 1_000_000} million pixels are read"
_KNOWN = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_OTHERS = {
    b"GIF8": "a GIF",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"BM": "a BMP",
    b"RIFF": "a WebP",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
}
_ORIENTATION = 0x0112
_BYTE = 255
_OPAQUE = "save it without transparency, on the background used in training"


def is_image(start: bytes) -> bool:
    """Return whether a file that begins so is a PNG or JPEG file."""
    return start.startswith(_KNOWN)


def another_format(start: bytes) -> str:
    """Return what kind of image a file is that no function here reads; empty if it is not an image."""
    return next((name for first, name in _OTHERS.items() if start.startswith(first)), "")


def read_image(content: bytes, name: str, how: Pixels, resize: bool, say: Callable[[str], None]) -> Array:
    """Return an image as x[T, I] in 0..1, float32; see `Pixels`.

    Args:
        content: of a PNG or JPEG file.
        name: what it is called in messages.
        how: what the network was trained on.
        resize: whether an image of another size is brought to the network's, instead of being refused.
        say: told what was done to the image beyond reading it.

    Raises:
        DataError: it is damaged, too large, or cannot be read in one way only.
    """
    pixels, white = _pixels(content, name, how, resize, say)
    if white > how.white == _BYTE:
        # Training had bytes: of 16 bits, the nearest level.
        pixels, white = np.rint(pixels * (how.white / white)), how.white
    # [row, column, colour] -> [T = column, I = colour and row]
    return np.ascontiguousarray((pixels / white).transpose(1, 2, 0).reshape(how.width, -1))


def read_levels(content: bytes, name: str, how: Picture, resize: bool, say: Callable[[str], None]) -> Array:
    """Return an image's raw pixels [row, column(, colour)], uint8, each the nearest level of the data set's own files.

    See `read_image`.
    """
    pixels, white = _pixels(content, name, how, resize, say)
    nearest = np.rint(pixels * (how.white / white)).astype(np.uint8)
    return nearest if how.colours == 3 else nearest[..., 0]


def from_levels(values: Array, name: str, how: Pixels, say: Callable[[str], None]) -> Array | None:
    """Return raw pixels as x[T, B, I], to the bit as in training; None where they have another shape than images.

    See `as_levels`.
    """
    found = as_levels(values, name, how)
    if found is None:
        return None
    images, axes = found
    say(f"{name}: taken as raw pixels {axes}, {values.dtype} 0 to {how.white}, and multiplied by 1 / {how.white}")
    # [B, row, column, colour] -> [T = column, B, I = colour and row]
    columns = images.transpose(2, 0, 3, 1).astype(np.float32).reshape(how.width, len(images), -1)
    columns *= np.float32(1 / how.white)
    return columns


def as_levels(values: Array, name: str, how: Picture, steps: int = 1) -> tuple[Array, str] | None:
    """Return raw pixels as [B, row, column, colour], and what their axes are; None where they are no images.

    Args:
        values: whole numbers, [B, row, column] or [row, column]; of colours, these last or before the rows.
        name: what they are called in messages.
        how: what the network was trained on.
        steps: how many times an image is held in what is made of it.

    Raises:
        DataError: a number that no pixel has; nothing but 0 and 1, which may be raw or not; or too many.
    """
    images, axes = _as_images(values, how)
    if images is None or not values.size:
        return None
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > how.white:
        raise DataError(
            f"{name} contains {low if low < 0 else high}; raw pixels are 0 to {how.white} in the training data",
            f"scale them to 0 to {how.white}, or give x[T, B, …] in 0 to 1, of a floating type",
        )
    if high == 1 < how.white:
        raise DataError(
            f"{name} contains only {values.dtype} 0 and 1: raw pixels are 0 to {how.white}, and x is 0 to 1",
            f"of raw pixels, multiply by {how.white}; of x[T, B, …], give a floating type",
        )
    if 4 * steps * values.size > ARRAY_LIMIT:
        size = shown_bytes(4 * steps * values.size)
        raise DataError(
            f"{name} contains raw pixels that take {size}; at most {shown_bytes(ARRAY_LIMIT)} do", "split it"
        )
    return images, axes


def _as_images(values: Array, how: Picture) -> tuple[Array | None, str]:
    """Return an array as [B, row, column, colour], if its shape is that of images, and what its axes are."""
    place = (how.height, how.width)
    known: dict[str, tuple[int, ...]]
    known = {"[row, column]": place} if how.colours == 1 else {"[row, column, colour]": (*place, 3)}
    if how.colours == 3:
        known["[colour, row, column]"] = (3, *place)
    for axes, shape in known.items():
        for several in (False, True):
            if values.ndim != len(shape) + several or values.shape[several:] != shape:
                continue
            images = values if several else values[None]
            images = images[..., None] if how.colours == 1 else images
            images = np.moveaxis(images, 1, 3) if axes.startswith("[colour") else images
            return images, axes.replace("[", "[B, ") if several else axes
    return None, ""


def _pixels(content: bytes, name: str, how: Picture, resize: bool, say: Callable[[str], None]) -> tuple[Array, int]:
    """Return an image's pixels [row, column, colour], and what is white."""
    from PIL import Image, MpoImagePlugin  # noqa: F401 - so that Pillow knows the format

    with reading(name, "an image", hint="copy it again"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own limits; ours are lower
        try:
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        except Image.DecompressionBombError as error:
            raise DataError(f"{name} is too large: {_MOST}", "scale it first") from error
        _refuse(image, name, how, resize)
        image.load()
        if (count := int(getattr(image, "n_frames", 1))) > 1:
            say(f"{name}: the first of {count} images")  # as cameras write them, with previews behind
        deep = image.mode.startswith("I")
        drawn = _upright(image, name, say) if deep else _drawn(_upright(image, name, say), name, how, say)
    size = (how.width, how.height)
    if drawn.size != size:
        say(f"{name}: scaled from {drawn.width} x {drawn.height} to {how.width} x {how.height} pixels")
        drawn = drawn.resize(size, Image.Resampling.BILINEAR)
    levels: Array = np.asarray(drawn, np.float32)
    return np.repeat(levels[..., None], how.colours, axis=2) if levels.ndim == 2 else levels, 65535 if deep else 255


def _refuse(image: "Image", name: str, how: Picture, resize: bool) -> None:
    """Refuse, before it is unpacked, what cannot be read or not in one way only."""
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"{name} is too large, {image.width} x {image.height} pixels: {_MOST}", "scale it first")
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    width, height = image.size[::-1] if turned else image.size
    if (width, height) != (how.width, how.height) and not resize:
        raise DataError(
            f"{name} is {width} x {height} pixels; the network takes {how.width} x {how.height}",
            "add --resize, or cut and scale it first",
        )
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format == "PNG":
        raise DataError(f"{name} is animated: it contains {frames} images", "give one image per file")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and not image.mode.startswith("I"):
        raise DataError(f"{name} has the colours {image.mode}", "save it as RGB or as grey levels")
    if image.mode.startswith("I") and "transparency" in image.info:
        raise DataError(f"{name} has transparent pixels: the background is unknown", _OPAQUE)


def _upright(image: "Image", name: str, say: Callable[[str], None]) -> "Image":
    from PIL import ImageOps

    if image.getexif().get(_ORIENTATION, 1) in (0, 1):
        return image
    say(f"{name}: turned upright, as its EXIF orientation says")
    return ImageOps.exif_transpose(image)


def _drawn(image: "Image", name: str, how: Picture, say: Callable[[str], None]) -> "Image":
    """Return an image in grey levels or RGB."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{name} has transparent pixels: the background is unknown", _OPAQUE)
        image = image.convert("RGB")
    if how.colours == 3:
        return image.convert("RGB")
    if image.mode in ("P", "RGB"):
        pixels = np.asarray(image.convert("RGB"))
        if (pixels != pixels[..., :1]).any():
            say(f"{name}: colours made grey")
    return image.convert("L")
