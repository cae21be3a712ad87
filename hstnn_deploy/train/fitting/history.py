"""The result of a training in Python: the network of the best epoch, the curves, and how they came about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import UsageError
from hstnn_deploy.metrics import shown
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.plugins import registry as plugins
from hstnn_deploy.shown import Sheet, Shown
from hstnn_deploy.train.evaluation import PROTOCOLS

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """How a network does on some data."""

    metric: str
    """Such as accuracy or perplexity."""
    score: float
    """The metric: of accuracy in percent."""
    loss: float
    """The mean loss."""
    count: int
    """The number of samples or words."""
    unit: str = ""
    """The unit of the score, such as " %"."""
    counts: str = "samples"
    """What is counted."""
    more: Mapping[str, float] = field(default_factory=dict)
    """The requested custom metrics, by name."""

    @classmethod
    def of(cls, found: dict[str, Any], task: Task) -> "Evaluation":
        """Return what an evaluation found, as `train.evaluation.evaluate` says it."""
        known = {task.metric, task.counts, "loss"}
        more = {key: value for key, value in found.items() if key not in known and plugins.find("metrics", key)}
        return cls(task.metric, found[task.metric], found["loss"], found[task.counts], task.unit, task.counts, more)

    def __repr__(self) -> str:
        """Return all of it in one line."""
        more = "".join(f", {name} {value:.4g}" for name, value in self.more.items())
        return (
            f"<Evaluation: {self.metric} {shown(self.metric, self.score)}{self.unit}, loss {self.loss:.4g}{more}, "
            f"of {self.count} {self.counts}>"
        )

    def sheet(self) -> Sheet:
        """Return all of it as a table."""
        more = [f"{value:.4g}" for value in self.more.values()]
        row = (f"{shown(self.metric, self.score)}{self.unit}", f"{self.loss:.4g}", *more, str(self.count))
        return Sheet("Evaluation", (self.metric, "loss", *self.more, self.counts), [row])


@dataclass(frozen=True, repr=False)
class History(Shown):
    """The result of `hstnn_deploy.fit`."""

    network: Network
    """The network of the best epoch, in evaluation mode, on the device of the given network."""
    checkpoint: Checkpoint
    """The same network with its whole record, as in best.pt of a run folder."""
    rows: list[dict[str, Any]]
    """A row for each epoch, as in metrics.jsonl."""
    metric: str
    """Such as accuracy."""
    unit: str
    test: Evaluation | None
    """The figures on the test data, if there was some and the training finished."""
    folder: Path | None
    """The run folder, if there is one."""
    epochs: int
    """The requested number of epochs."""
    interrupted: bool = False
    """Whether Ctrl-C ended the training early."""
    notes: list[str] = field(default_factory=list)
    """The lines printed about the data, and warnings."""

    @property
    def curves(self) -> dict[str, list[float]]:
        """What was measured at each epoch, by name: epoch, train_loss, valid_loss, train_accuracy, …"""
        names = dict.fromkeys(key for row in self.rows for key, value in row.items() if _is_number(value))
        return {name: [float(row[name]) if name in row else float("nan") for row in self.rows] for name in names}

    @property
    def best(self) -> dict[str, float]:
        """What was measured at the best epoch, by name."""
        row = next((each for each in self.rows if each["epoch"] == self.best_epoch), {})
        return {key: float(value) for key, value in row.items() if _is_number(value)}

    @property
    def best_epoch(self) -> int:
        """The number of the epoch whose network is kept, from 1."""
        return self.checkpoint.epoch

    @property
    def protocol(self) -> str:
        """How the best epoch was chosen, in words."""
        return PROTOCOLS[self.checkpoint.recipe["protocol"]]

    def to_pandas(self) -> "DataFrame":
        """Return the curves as a table of pandas, a row for each epoch.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            hint = "pip install pandas, or use .curves, a dict of lists"
            raise UsageError("pandas is not installed", hint) from error
        return pandas.DataFrame(self.curves)

    def __repr__(self) -> str:
        """Return the main figures in one line."""
        return f"<History: {self._line()}>"

    def _line(self) -> str:
        done = "" if len(self.rows) == self.epochs else f"{len(self.rows)} of "
        done += "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        stopped = ", interrupted" if self.interrupted else ""
        valid = f"valid {self.metric} {shown(self.metric, self.best[f'valid_{self.metric}'])}{self.unit}"
        test = "" if self.test is None else f", test {self.metric} {shown(self.metric, self.test.score)}{self.unit}"
        return f"{done}{stopped}, best epoch {self.best_epoch}: {valid}{test}"

    def sheet(self) -> Sheet:
        """Return the best and the last epoch, and a picture of the curves."""
        names = ["train_loss", "valid_loss", f"train_{self.metric}", f"valid_{self.metric}"]
        chosen = {self.best_epoch: "best", self.rows[-1]["epoch"]: "last"}
        if len(chosen) == 1:
            chosen = {self.best_epoch: "best and last"}
        rows = [
            (f"{row['epoch']} ({chosen[row['epoch']]})", *(f"{row[name]:.4g}" for name in names))
            for row in self.rows
            if row["epoch"] in chosen
        ]
        notes = [self.protocol, *self.notes]
        return Sheet(
            f"History: {self._line()}", ("epoch", *(n.replace("_", " ") for n in names)), rows, notes, self.svg()
        )

    def svg(self) -> str:
        """Return a small picture of loss and metric over the epochs: dashed of training, solid of validation."""
        panels = []
        for number, name in enumerate(("loss", self.metric)):
            lines = [self.curves[f"train_{name}"], self.curves[f"valid_{name}"]]
            panels.append(_panel(60 + 330 * number, f"{name}{self.unit if number else ''}", lines, self._place()))
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="680" height="210" viewBox="0 0 680 210" '
            'font-family="sans-serif" font-size="11"><rect width="680" height="210" fill="white"/>'
            f"{''.join(panels)}</svg>"
        )

    def _place(self) -> int:
        return next((n for n, row in enumerate(self.rows) if row["epoch"] == self.best_epoch), 0)


_WIDTH, _HEIGHT, _TOP = 260, 140, 30
_BLUE, _GREY, _DASHES = "#1f5fa8", "#888888", ' stroke-dasharray="4 3"'


def _panel(left: int, title: str, lines: Sequence[Sequence[float]], best: int) -> str:
    """Return one chart: lines of training and validation, and a circle at the best epoch."""
    low, high = min(map(min, lines)), max(map(max, lines))
    span, count = (high - low) or 1.0, max(1, len(lines[0]) - 1)

    def at(place: int, value: float) -> tuple[float, float]:
        return left + _WIDTH * place / count, _TOP + _HEIGHT * (1 - (value - low) / span)

    def line(values: Sequence[float], colour: str, dash: str) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(n, value) for n, value in enumerate(values)))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>'

    x, y = at(best, lines[1][best])
    bottom = _TOP + _HEIGHT
    return (
        f'<text x="{left}" y="18" font-weight="bold">{title}</text>'
        f'<text x="{left + _WIDTH}" y="18" text-anchor="end" fill="{_GREY}">dashed training, solid validation</text>'
        f'<path d="M{left} {_TOP}V{bottom}H{left + _WIDTH}" fill="none" stroke="#cccccc"/>'
        f'<text x="{left - 6}" y="{_TOP + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left}" y="{bottom + 18}">epoch 1</text>'
        f'<text x="{left + _WIDTH}" y="{bottom + 18}" text-anchor="end">{len(lines[0])}</text>'
        f"{line(lines[0], _GREY, _DASHES)}{line(lines[1], _BLUE, '')}"
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="white" stroke="{_BLUE}" stroke-width="2"/>'
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
