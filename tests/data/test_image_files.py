"""Image files and raw pixels: what they become, what is said of it, and what is refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.preprocessing import Pixels
from hstnn_deploy.data.readers.image_files import (
    MOST_PIXELS,
    another_format,
    from_levels,
    is_image,
    read_image,
    read_levels,
)
from hstnn_deploy.data.sets.digits import DigitsConfig
from hstnn_deploy.data.sets.digits import load_digits as load_split
from hstnn_deploy.errors import DataError

GREY = Pixels(height=8, width=8, colours=1, white=16)
COLOUR = Pixels(height=8, width=8, colours=3)
LEVELS = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
THREE = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def saved(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def x_of(levels: Any) -> Any:
    """Return x[T, I] of pixels [row, column(, colour)] of 0 to 255, entry by entry."""
    pixels = levels[..., None] if levels.ndim == 2 else levels
    colours = pixels.shape[2]
    x = np.zeros((8, 8 * colours), np.float32)
    for row in range(8):
        for column in range(8):
            for colour in range(colours):
                x[column, colour * 8 + row] = pixels[row, column, colour] / 255
    return x


GREY_LUMA = np.asarray(Image.fromarray(THREE).convert("L"))
READ: list[tuple[Any, Pixels, Any, str]] = [
    (saved(Image.fromarray(LEVELS)), GREY, LEVELS, ""),
    (saved(Image.fromarray(LEVELS).convert("LA")), GREY, LEVELS, ""),
    (saved(Image.fromarray(LEVELS).convert("RGBA")), GREY, LEVELS, ""),
    (saved(Image.fromarray(LEVELS).convert("P")), GREY, LEVELS, ""),
    (saved(Image.fromarray(LEVELS > 99)), GREY, (LEVELS > 99) * np.uint8(255), ""),
    (saved(Image.fromarray(LEVELS.astype(np.uint16) * 257)), GREY, LEVELS, ""),
    (saved(Image.fromarray(THREE)), GREY, GREY_LUMA, "colours made grey"),
    (saved(Image.fromarray(THREE)), COLOUR, THREE, ""),
    (saved(Image.fromarray(LEVELS)), COLOUR, np.stack([LEVELS] * 3, axis=-1), ""),
    (saved(Image.fromarray(LEVELS.astype(np.uint16) * 257)), COLOUR, np.stack([LEVELS] * 3, axis=-1), ""),
]


@pytest.mark.parametrize(("content", "how", "levels", "note"), READ)
def test_every_mode_that_has_one_meaning_is_read(content: bytes, how: Pixels, levels: Any, note: str) -> None:
    assert is_image(content)
    notes: list[str] = []
    np.testing.assert_allclose(read_image(content, "x.png", how, False, notes.append), x_of(levels), atol=1e-6)
    assert notes == ([f"x.png: {note}"] if note else [])
    raw = read_levels(content, "x.png", how, False, notes.append)
    np.testing.assert_array_equal(raw, np.rint(levels.astype(np.float32) * (how.white / 255)))


def test_a_cameras_orientation_is_applied_and_said() -> None:
    exif = Image.Exif()
    notes: list[str] = []
    for orientation, upright in (
        (1, LEVELS),
        (3, np.rot90(LEVELS, 2)),
        (6, np.rot90(LEVELS, -1)),
        (8, np.rot90(LEVELS)),
    ):
        exif[0x0112] = orientation
        content = saved(Image.fromarray(LEVELS), exif=exif)
        notes.clear()
        np.testing.assert_allclose(read_image(content, "x", GREY, False, notes.append), x_of(upright), atol=1e-6)
        assert notes == ([] if orientation == 1 else ["x: turned upright, as its EXIF orientation says"])
    # Of a picture that is not square, the size is that of the upright one.
    how = Pixels(height=4, width=8, colours=1)
    exif[0x0112] = 6
    content = saved(Image.fromarray(LEVELS[:, :4]), exif=exif)
    assert read_image(content, "x", how, False, print).shape == (8, 4)
    with pytest.raises(DataError, match="is 8 x 4 pixels; the network takes 4 x 8"):
        read_image(content, "x", Pixels(height=8, width=4, colours=1), False, print)


def test_another_size_is_brought_to_the_networks_where_that_is_asked_for() -> None:
    large = saved(Image.fromarray(LEVELS.repeat(3, 0).repeat(3, 1)))
    with pytest.raises(DataError, match="is 24 x 24 pixels; the network takes 8 x 8"):
        read_image(large, "x", GREY, False, print)
    notes: list[str] = []
    assert read_image(large, "x", GREY, True, notes.append).shape == (8, 8)
    assert notes == ["x: scaled from 24 x 24 to 8 x 8 pixels"]


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def holed(mode: str) -> Any:
    image = Image.fromarray(LEVELS).convert(mode)
    image.putalpha(Image.fromarray(np.where(LEVELS > 9, 255, 0).astype(np.uint8)))
    return image


REFUSED: list[tuple[bytes, str]] = [
    (saved(holed("L")), "has transparent pixels"),
    (saved(holed("RGB")), "has transparent pixels"),
    (saved(Image.fromarray(LEVELS), transparency=int(LEVELS[0, 0])), "has transparent pixels"),
    (saved(Image.fromarray(LEVELS).convert("P"), transparency=int(LEVELS[0, 0])), "has transparent pixels"),
    (saved(Image.fromarray(LEVELS.astype(np.uint16)), transparency=3), "has transparent pixels"),
    (
        saved(Image.fromarray(LEVELS), save_all=True, append_images=[Image.fromarray(LEVELS.T)]),
        "is animated: it contains 2 images",
    ),
    (saved(Image.fromarray(THREE).convert("CMYK"), "JPEG"), "has the colours CMYK"),
    (png_that_claims(15_000, 15_000), "is too large: at most 64 million pixels are read"),
    (png_that_claims(2**31 - 1, 2**31 - 1), "is too large: at most 64 million pixels are read"),
    (png_that_claims(9000, 9000), "is too large, 9000 x 9000 pixels: at most 64 million"),
    (png_that_claims(9, 12), "9 x 12 pixels; the network takes|is damaged, or not an image"),
    (saved(Image.fromarray(LEVELS))[:60], "is damaged, or not an image"),
    (saved(Image.fromarray(LEVELS), "JPEG")[:60], "is damaged, or not an image"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_has_no_one_meaning_is_refused(content: bytes, message: str) -> None:
    for resize in (False, True):
        with pytest.raises(DataError, match=message):
            read_image(content, "x.png", GREY, resize, print)
    assert MOST_PIXELS < 15_000**2


def test_a_picture_with_previews_behind_it_is_the_first_one() -> None:
    content = saved(Image.fromarray(THREE), "MPO", save_all=True, append_images=[Image.fromarray(THREE)], quality=100)
    notes: list[str] = []
    assert read_image(content, "x.jpg", COLOUR, False, notes.append).shape == (8, 24)
    assert notes == ["x.jpg: the first of 2 images"]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "WEBP"])
def test_other_formats_are_known_by_name(kind: str) -> None:
    content = saved(Image.fromarray(LEVELS), kind)
    assert not is_image(content)
    assert another_format(content).upper().removeprefix("A ") == kind


def test_raw_pixels_become_to_the_bit_what_training_makes_of_them() -> None:
    images = load_digits().images
    split = load_split(DigitsConfig(), Source("test")).test
    x = split.batch(torch.arange(len(split)), torch.device("cpu")).x.numpy()
    # Which of the images these are, in order.
    known = {image.tobytes(): image for image in images}
    chosen = np.stack([known[(sample.T * 16).astype(images.dtype).copy().tobytes()] for sample in x.swapaxes(0, 1)])
    notes: list[str] = []
    for dtype in (np.uint8, np.int64, np.uint16):
        found = from_levels(chosen.astype(dtype), "raw", GREY, notes.append)
        np.testing.assert_array_equal(found, x)
    assert notes[0] == "raw: taken as raw pixels [B, row, column], uint8 0 to 16, and multiplied by 1 / 16"
    np.testing.assert_array_equal(from_levels(chosen[0].astype(np.uint8), "raw", GREY, notes.append), x[:, :1])


def test_colours_may_come_last_or_first() -> None:
    notes: list[str] = []
    for values in (THREE, THREE.transpose(2, 0, 1), THREE[None], THREE.transpose(2, 0, 1)[None]):
        found = from_levels(values, "raw", COLOUR, notes.append)
        assert found is not None
        np.testing.assert_allclose(found[:, 0], x_of(THREE), atol=1e-6)
    assert ["[colour, row, column]" in notes[1], "[B, colour, row, column]" in notes[3]] == [True, True]


def test_whole_numbers_that_are_no_raw_pixels_are_refused_or_left_alone() -> None:
    for values, message in (
        (LEVELS, "raw pixels are 0 to 16 in the training data"),
        (LEVELS.astype(np.int16) * -1, "raw contains -"),
        (LEVELS % 2, "raw contains only uint8 0 and 1"),
        (LEVELS > 9, "raw contains only bool 0 and 1"),
    ):
        with pytest.raises(DataError, match=message):
            from_levels(values, "raw", GREY, print)
    for shape in ((8, 9), (2, 9, 8), (8, 8, 3), (8,), (0, 8, 8)):
        assert from_levels(np.zeros(shape, np.uint8), "raw", GREY, print) is None
