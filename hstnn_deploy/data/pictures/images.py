"""Draw images that a network reads as a sequence: the images, and what comes at each step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.data.dataset import Card, Choice, Picture
from hstnn_deploy.data.pictures.figure import INK, ON, PALE, choose, counted, new_figure, title
from hstnn_deploy.data.splits import ArraySplit, Splits

_ACROSS = 5
"""Images per row."""


def draw_images(splits: Splits, choice: Choice, card: Card, image: Callable[[Tensor], Tensor]) -> Picture:
    """Draw samples of a split.

    Args:
        splits: the data set.
        choice: which samples; ten of them where that is not said.
        card: of the data set.
        image: from a sample [T, I] to the image [rows, T], or [rows, T, 3] in colours; column t is step t.
    """
    split = splits.split(choice.split)
    assert isinstance(split, ArraySplit)
    chosen = choose(split.target, choice, 10)
    x, target, _ = split.batch(torch.tensor(chosen), torch.device("cpu"))
    steps, values = x.shape[0], x.shape[2]
    lines = -(-len(chosen) // _ACROSS)
    figure = new_figure(9, 1.95 * lines + 3.1)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.95 * lines, 2.9])
    above, below = parts
    axes = above.subplots(lines, _ACROSS, squeeze=False).flatten()
    for place in axes:
        place.set_axis_off()
    for place, number, label, sample in zip(axes, chosen, target.tolist(), x.unbind(1), strict=False):
        _show(place, image(sample))
        place.set_title(title(number, label, card.classes), fontsize=9, color=INK)
    above.suptitle(f"{splits.origin}: {choice.split} split", fontsize=10)
    first = x[:, 0]
    _explain(below, first, image(first), title(chosen[0], int(target[0]), card.classes))
    return Picture(
        figure,
        [
            f"{len(split)} samples in the {choice.split} split, {steps} steps of {values} values each; "
            "step t is column t of the image",
            f"values from {x.min():.3g} to {x.max():.3g}, mean {x.mean():.3g} (of the {len(chosen)} samples drawn)",
            counted(split.target),
        ],
    )


def _show(place: Any, picture: Tensor) -> None:
    place.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")


def _explain(below: Any, sample: Tensor, picture: Tensor, name: str) -> None:
    """Draw one image with its direction of reading, and the values of three of its steps."""
    steps = len(sample)
    left, right = below.subplots(1, 2, width_ratios=[1, 2])
    _show(left, picture)
    shown = [steps // 4, steps // 2, 3 * steps // 4]
    colours = (ON, "#b7950b", "#1e8449")
    for step, colour in zip(shown, colours, strict=True):
        left.axvspan(step - 0.5, step + 0.5, fill=False, edgecolor=colour, linewidth=1.5)
    left.set(xticks=[0, *shown, steps - 1], yticks=[])
    left.tick_params(labelsize=8)
    left.set_xlabel("read in this direction: step  →", fontsize=9)
    left.set_title(name, fontsize=9)
    for step, colour in zip(shown, colours, strict=True):
        right.step(range(sample.shape[1]), sample[step].numpy(), where="mid", color=colour, label=f"step {step}")
    right.set_title(f"what comes in at three of the {steps} steps", fontsize=9)
    rows = len(picture)
    colour_names = ("red", "green", "blue") if picture.ndim == 3 else ()
    for number, name in enumerate(colour_names):
        right.axvline(number * rows - 0.5, color=PALE, linewidth=1)
        right.text((number + 0.5) * rows, 1.03, name, ha="center", fontsize=8, color=INK)
    right.set_xlabel(f"input: the {rows} rows of the column" + (", in each colour" if colour_names else ""))
    right.set_ylabel("value")
    right.xaxis.label.set_size(9)
    right.yaxis.label.set_size(9)
    right.tick_params(labelsize=8)
    right.spines[["top", "right"]].set_visible(False)
    right.set_ylim(-0.05, 1.1)
    right.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
