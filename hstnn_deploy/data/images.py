"""Images as images: the whole picture at every step, normalised, and encoded in spikes or repeated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.data.dataset import Shape
from hstnn_deploy.data.encoding import as_steps
from hstnn_deploy.data.splits import ArraySplit, Batch, Split, Splits
from hstnn_deploy.errors import UsageError

Encoding = Literal["poisson", "repeat"]


class Images(BaseModel):
    """How images become the steps of a sample: x[t] is [C, H, W] at every step t."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    steps: PositiveInt = Field(le=100_000)
    """Time steps for which each image is shown."""
    encoding: Encoding = "poisson"
    """`poisson`: random spikes, e = sign(x) where 2 u <= |x|, else 0, with u drawn from [0, 1) for each value and step
    (as in BNTT); or `repeat`: x itself at every step."""
    mean: list[float] = [0.0]
    """Subtracted from each colour, which ranges from 0 (black) to 1 (white); one number, or one per colour."""
    std: list[float] = [1.0]
    """Each colour is divided by this after subtraction."""
    crop: int = Field(0, ge=0, le=1000)
    """Augmentation: shift each image at random by up to this many pixels along both axes, filling with zeros."""
    flip: bool = False
    """Augmentation: mirror half of the images left to right."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the encoding in evaluation, where each sample has its own random generator."""

    @model_validator(mode="after")
    def _numbers_can_be(self) -> "Images":
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, 3):
                raise ValueError(f"{key} must be one number, or one for each of three colours")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self


class ImageConfig(BaseModel):
    """The settings of a data set of images in a recipe."""

    model_config = ConfigDict(extra="forbid")

    images: Images | None = None
    """How whole images become steps; null: read each image column by column."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the key that there was not always, where it says nothing."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) != ("images", None)}


@dataclass(frozen=True)
class ImageSplit:
    """Images in memory, encoded when a batch is asked for.

    Args:
        pixels: [N, C, H, W], bytes.
        target: [n], int64.
        white: the byte that is white.
        how: see `Images`.
        training: whether images are moved and turned, and draws come from torch's generator; else each sample is
            always encoded alike, whatever it comes together with.
        numbers: which of the pixels' images these are, [n]; None: all of them, in order. So that a part of a split
            shares the pixels of the whole, which may be mapped from a file.
        changed: what is done to images [B, C, H, W], of 0 (black) to 1 (white), by the numbers of the samples, before
            they are normalised; None: nothing.
    """

    pixels: Tensor
    target: Tensor
    white: int
    how: Images
    training: bool = False
    numbers: Tensor | None = None
    changed: Callable[[Tensor, Sequence[int]], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`. x is [T, B, C, H, W]."""
        target, how = self.target[indices].to(device), self.how
        chosen = indices if self.numbers is None else self.numbers[indices]
        if not self.training:
            # By numpy, on the processor: the same to the bit wherever the network computes, and as `hstnn run` has it.
            shown, white = self.pixels[chosen].cpu(), self.white
            if self.changed is not None:
                shown, white = self.changed(shown.float() / white, indices.tolist()), 1
            x = as_steps(shown.numpy(), white, how, indices.tolist())
            return Batch(torch.from_numpy(x).to(device), target)
        pixels = self.pixels[chosen].to(device).float() / self.white
        pixels = _moved(pixels, how.crop, how.flip)
        if self.changed is not None:
            pixels = self.changed(pixels, indices.tolist())
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (how.mean, how.std))
        normal = (pixels - mean) / std
        if how.encoding == "repeat":
            return Batch(normal.expand(how.steps, *normal.shape).contiguous(), target)
        return Batch(encoded(normal, torch.rand(how.steps, *normal.shape, device=device)), target)

    def storages(self) -> list[Tensor]:
        """Return what is held."""
        return [self.pixels, self.target]

    def still(self) -> "ImageSplit":
        """Return the split as evaluation sees it: images as they are, each always encoded alike."""
        return replace(self, training=False)

    def take(self, indices: Tensor) -> "ImageSplit":
        """Return the split of some of the samples."""
        numbers = indices if self.numbers is None else self.numbers[indices]
        return replace(self, target=self.target[indices], numbers=numbers)


def as_evaluated(split: Split) -> Split:
    """Return a split as evaluation sees it: of images, nothing is drawn from torch's generator."""
    return split.still() if isinstance(split, ImageSplit) else split


def encoded(x: Tensor, u: Tensor) -> Tensor:
    """Return signed spikes of x[…] for draws u[T, …] from [0, 1), as training has them; see `data.encoding.spikes`."""
    return torch.where(2 * u <= x.abs(), x.sign(), 0.0)


def as_images(splits: Splits, how: Images, image: Callable[[Tensor], Tensor], white: int) -> Splits:
    """Return splits of images that are read column by column as splits of whole images.

    Args:
        splits: of `ArraySplit`s [N, T, I].
        how: see `Images`.
        image: from those to pixels [N, C, H, W].
        white: the byte that is white.
    """

    def whole(split: Any, training: bool = False) -> ImageSplit:
        assert isinstance(split, ArraySplit)
        return ImageSplit(image(split.x).contiguous(), split.target, white, how, training)

    test = whole(splits.test)
    return replace(
        splits,
        train=whole(splits.train, training=True),
        valid=test if splits.valid is splits.test else whole(splits.valid),
        test=test,
        inputs=test.pixels.shape[1],
        family="convolutional",
        size=test.pixels.shape[2],
    )


def shape_of(config: ImageConfig, columns: Shape, colours: int) -> Shape:
    """Return the size of a data set: `columns`, of images read column by column, or that of whole ones."""
    if config.images is None:
        return columns
    for key in ("mean", "std"):
        if (given := len(getattr(config.images, key))) not in (1, colours):
            raise UsageError(
                f"data.images.{key} has {given} numbers, but an image has {colours} colours",
                "give one, or one for each",
            )
    return columns._replace(steps=config.images.steps, inputs=colours, size=columns.steps)


def _moved(pixels: Tensor, crop: int, flip: bool) -> Tensor:
    """Return images [B, C, H, W], each moved and turned by draws of its own."""
    count, _, height, width = pixels.shape
    if crop:
        padded = functional.pad(pixels, (crop,) * 4)
        down, right = torch.randint(0, 2 * crop + 1, (2, count, 1), device=pixels.device)
        rows = (down + torch.arange(height, device=pixels.device))[:, None, :, None]
        columns = (right + torch.arange(width, device=pixels.device))[:, None, None, :]
        pixels = padded.gather(2, rows.expand(-1, padded.shape[1], -1, padded.shape[3]))
        pixels = pixels.gather(3, columns.expand(-1, padded.shape[1], height, -1))
    if flip:
        turned = torch.rand(count, 1, 1, 1, device=pixels.device) < 0.5
        pixels = torch.where(turned, pixels.flip(-1), pixels)
    return pixels
