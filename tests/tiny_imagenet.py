"""A small Tiny-ImageNet in the layout of the published one, for tests to write."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = [f"n{1443537 + 7919 * number:08}" for number in range(200)]
"""Made up, but as many as there are, in order: the label of each is its place."""


def jpeg(seed: int, label: int = 0, size: tuple[int, int] = (64, 64), mode: str = "RGB", form: str = "JPEG") -> bytes:
    """Return an image file: noise, and a bright bar whose place tells the label."""
    pixels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), np.uint8)
    pixels[:, 12 * (label % 5) : 12 * (label % 5) + 12] += 180
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form, quality=95)
    return file.getvalue()


def make_tiny_imagenet(root: Path, train: int = 10, val: int = 4, labels: Sequence[int] = (0, 3, 199)) -> Path:
    """Write a part of Tiny-ImageNet below a folder: so many images of each of some classes; each fourth is grey.

    `wnids.txt` names all 200 classes, not in order, as the published one does.
    """
    folder = root / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS[::-1]))
    (folder / "words.txt").write_text("".join(f"{wnid}\tsomething, a thing\n" for wnid in WNIDS))
    rows: list[str] = []
    for label in labels:
        wnid = WNIDS[label]
        place = folder / "train" / wnid
        (place / "images").mkdir(parents=True)
        (place / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
        for number in range(train):
            content = jpeg(1000 * label + number, label, mode="L" if number % 4 == 3 else "RGB")
            (place / "images" / f"{wnid}_{number}.JPEG").write_bytes(content)
        for number in range(val):
            name = f"val_{len(rows)}.JPEG"
            (folder / "val" / "images" / name).write_bytes(jpeg(10**6 + 1000 * label + number, label))
            rows.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
    # The images of other classes are not there.
    rows.append(f"val_9999.JPEG\t{WNIDS[7]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    return folder
