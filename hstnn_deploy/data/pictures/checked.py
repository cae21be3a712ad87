"""Draw what a check found of data of one's own: classes by split, what was measured by class, one sample of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hstnn_deploy.data.checking.checked import Checked, Example, Measure
from hstnn_deploy.data.checking.notes import shown
from hstnn_deploy.data.dataset import Choice
from hstnn_deploy.data.own.parts import SPLITS
from hstnn_deploy.data.pictures.events import coloured
from hstnn_deploy.data.pictures.figure import INK, OFF, PALE, new_figure
from hstnn_deploy.data.pictures.text import draw_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#2471a3", "#c0392b", "#1e8449", "#b7950b", "#7d3c98", "#17a589", "#d35400", "#5d6d7e")
_BARS = 30
"""Classes that have a bar each; of more, it is drawn how many have how many samples."""
_ACROSS, _EXAMPLES = 6, 12


def draw_checked(found: Checked) -> "Figure":
    """Return the picture of a check."""
    if found.words:
        return draw_text(found.words, Choice("train", None, None, None), _plain(found.path)).figure
    measures = found.measures[:3]
    lines = -(-min(len(found.examples), _EXAMPLES) // _ACROSS)
    tall = 3.2 if len(found.classes) <= 10 else 5.0
    figure = new_figure(4 + 3 * len(measures), tall + 0.4 + 1.9 * lines)
    figure.suptitle(f"{_plain(found.path)}: {found.kind}, {_plain(found.extent.partition(':')[0])}", fontsize=11)
    parts: Any = figure.subfigures(2, 1, height_ratios=[tall, 1.9 * lines]) if lines else [figure]
    axes: Any = parts[0].subplots(1, 1 + len(measures), squeeze=False)[0]
    _counts(axes[0], found)
    for place, measure in zip(axes[1:], measures, strict=True):
        _measured(place, measure, found.classes)
    if lines:
        # Of many classes, some from the first to the last.
        ordered = sorted(found.examples, key=lambda each: each.label)
        chosen = np.unique(np.linspace(0, len(ordered) - 1, _EXAMPLES).round().astype(int))
        _examples(parts[1], [ordered[at] for at in chosen], found.classes, lines)
    return figure


def _plain(text: str) -> str:
    """Return text in which no dollar sign begins a formula, short enough for a title."""
    line = shown(text).replace("$", r"\$")
    return line if len(line) <= 90 else f"{line[:40]}…{line[-45:]}"


def _name(label: int, classes: Sequence[str]) -> str:
    name = _plain(classes[label]) if label < len(classes) else ""
    return name if len(name) <= 18 else f"{name[:17]}…"


def _counts(place: Any, found: Checked) -> None:
    drawn = [(split, np.array(found.counts[split])) for split in SPLITS if found.counts[split]]
    count = max((len(each) for _, each in drawn), default=0)
    shades = dict(zip(SPLITS, (OFF, "#b7950b", "#c0392b"), strict=True))
    if count > _BARS:
        total = np.sum([each for _, each in drawn], axis=0)
        if np.ptp(total) == 0:
            place.text(0.5, 0.5, f"all {count}: {total[0]:.0f}", ha="center", va="center", transform=place.transAxes)
            place.set(xticks=[], yticks=[])
        else:
            place.hist(total, bins=min(40, count), color=OFF)
        place.set(title=f"how many samples the {count} classes have", xlabel="samples of a class", ylabel="classes")
    elif count:
        left = np.zeros(count)
        for split, each in drawn:
            place.barh(range(count), each, left=left, color=shades[split], label=split, height=0.7)
            left += each
        place.set_yticks(range(count), [_name(label, found.classes) or "all" for label in range(count)])
        place.invert_yaxis()
        place.set(title="samples of each class", xlabel="samples")
        place.legend(frameon=False, fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    _tidy(place)


def _measured(place: Any, measure: Measure, classes: Sequence[str]) -> None:
    values = measure.values[np.isfinite(measure.values)]
    labels = measure.labels[np.isfinite(measure.values)]
    place.set(title=measure.name, ylabel="samples")
    if len(values):
        low, high = float(values.min()), float(values.max())
        if low == high:
            place.text(0.5, 0.5, f"all {len(values)}: {low:.6g}", ha="center", va="center", transform=place.transAxes)
            place.set(xticks=[], yticks=[], ylabel="")
            _tidy(place)
            return
        wide = low > 0 and high / low > 100
        edges = np.geomspace(low, high, 31) if wide else np.linspace(low, high, 31)
        present = np.unique(labels).tolist()
        if 1 < len(present) <= len(_COLOURS):
            groups = [values[labels == label] for label in present]
            names = [_name(label, classes) for label in present]
            place.hist(groups, bins=edges, stacked=True, color=_COLOURS[: len(present)], label=names)
            place.legend(frameon=False, fontsize=7)
        else:
            place.hist(values, bins=edges, color=OFF)
        if wide:
            place.set_xscale("log")
    _tidy(place)


def _examples(below: Any, examples: Sequence[Example], classes: Sequence[str], lines: int) -> None:
    axes = below.subplots(lines, _ACROSS, squeeze=False).flatten()
    for place in axes:
        place.set_axis_off()
    for place, example in zip(axes, examples, strict=False):
        place.set_axis_on()
        _example(place, example)
        file = _plain(example.name)
        file = file if len(file) <= 26 else f"…{file[-25:]}"
        title = _name(example.label, classes)
        place.set_title(f"{title}\n{file}" if title else file, fontsize=7, color=INK)
        for spine in place.spines.values():
            spine.set_color(PALE)


def _example(place: Any, example: Example) -> None:
    values = example.values
    if example.form == "series":
        place.plot(values, linewidth=0.8)
        place.tick_params(labelsize=6)
        return
    if example.form == "events":
        seen = values[values > 0]
        full = max(1.0, float(np.quantile(seen, 0.95))) if len(seen) else 1.0
        place.imshow(coloured(np.minimum(values / full, 1)), interpolation="nearest")
    elif example.form == "map":
        place.imshow(values, cmap="gray", interpolation="nearest")
    else:
        place.imshow(values, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    place.set(xticks=[], yticks=[])


def _tidy(place: Any) -> None:
    place.tick_params(labelsize=8)
    place.title.set_size(9)
    place.spines[["top", "right"]].set_visible(False)
    for axis in (place.xaxis, place.yaxis):
        axis.label.set_size(8)
