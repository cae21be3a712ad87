"""The ways a written file is compared with its network. Each gives a `Check`: passed, failed, or why it was not run.

Shapes: T time, B batch, C classes or words.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import onnx
import torch
from torch import Tensor

from hstnn_deploy.data.folder import Report, silent
from hstnn_deploy.data.preprocessing import Preprocessing, Values
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.export.engines import Engine, State, read_network
from hstnn_deploy.export.forms import Form, time_axis
from hstnn_deploy.export.interface import Interface, interface, kinds, state_after
from hstnn_deploy.export.replay import Run, margins, replay
from hstnn_deploy.models.layers import UnitKind
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.train.evaluation import batches, unpadded
from hstnn_deploy.train.tasks import Task

Outcome = Literal["passed", "failed", "not run"]

LOGIT_TOLERANCE = 1e-4
"""Of logits between engines, relative to 1 + the largest logit, for samples without a borderline spike."""
BORDERLINE = 64.0
"""A sample has a borderline spike when a membrane comes this many eps near its threshold (see `replay`)."""
_MOST_VALUES = 2e9
"""How much of the test split is asked, in values of the states at all steps: a minute or so of one core."""
_SLOW_BATCHES, _SLOW_VALUES = 2, 1e7
"""The same for a slow engine, which is asked this many batches at most."""
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Check:
    """One check of one file."""

    file: str
    name: str
    outcome: Outcome
    figure: str

    def plain(self) -> dict[str, str]:
        """Return plain data for the manifest."""
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """What is verified, and on what."""

    network: HybridNetwork
    """In evaluation mode, on the CPU."""
    folder: Path
    windows: list[Tensor]
    """Inputs x[T, B, …] of at least two (T, B)."""
    task: Task
    test: Split | None
    """The test split, where it is at hand."""
    no_test: str = ""
    """Why it is not."""
    batch: int = 100
    """Samples, or columns of text, that the test split is read in."""
    how: Preprocessing = field(default_factory=Values)
    """What makes x of the data's files."""
    raw: Callable[[Sequence[int]], Any] | None = None
    """Gives samples of the test split, by number, as they were before that."""
    whole_test: bool = False
    """Whether all of the test split is asked, however large the network."""
    report: Report = silent
    """Told what is under way."""
    source: str = "checkpoint"
    """What the network is of, for those who read the figures."""
    answers: "dict[bool, Answers]" = field(init=False, default_factory=dict)
    """What the network itself answers a quick engine's questions and, True, a slow one's; see `own_answers`."""
    scores: "dict[str, Score]" = field(init=False, default_factory=dict)
    """Of files, by name, that were asked what a quick engine is."""

    @property
    def face(self) -> Interface:
        """The network's inputs and outputs."""
        return interface(self.network)

    @property
    def kinds(self) -> list[list[UnitKind]]:
        """Which kinds of units each layer has."""
        return kinds(self.network)

    def on(self, windows: list[Tensor]) -> "Subject":
        """Return the same, on other windows."""
        return replace(self, windows=windows)

    @torch.no_grad()
    def eager(self, x: Tensor, state: State | None = None) -> Run:
        """Run the network itself; it does not show its layers."""
        logits, after = self.network(x, state)
        return Run(logits, [], after)

    def logits(self, x: Tensor, state: State | None = None) -> Tensor:
        """Return the network's own logits."""
        return self.eager(x, state).logits


def whole(path: Path) -> Check:
    """Run onnx's checker in full, shape inference included."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker and shape inference raise different kinds
        return Check(path.name, "onnx checker, full", "failed", (str(error).splitlines() or ["?"])[0])
    model = onnx.load(str(path))
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    nodes = len(model.graph.node)
    inside = sum(len(attribute.g.node) for node in model.graph.node for attribute in node.attribute)
    figure = f"{nodes} nodes" + (f" and {inside} in scans" if inside else "") + f", opset {opset}"
    return Check(path.name, "onnx checker, full", "passed", figure)


def dimensions(path: Path, face: Interface, form: Form) -> Check:
    """Compare the written symbolic dimensions with what must be free; None stands for a fixed one."""
    time = [axis if isinstance(axis, str) else None for axis in time_axis(form, None)]
    expected: dict[str, list[str | None]] = {"x": [*time, "B", *[None for _ in face.step]]}
    expected["logits"] = [*(time if face.every_step else []), "B", None]
    for state in face.states:
        expected |= {name: ["B", *[None for _ in state.shape]] for name in (state.name, state_after(state.name))}
    model = read_network(path)
    written = {
        value.name: [dimension.dim_param or None for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    name = "free dimensions"
    if written == expected:
        axes = "T and B" if form == "window" else "B"
        return Check(path.name, name, "passed", f"{axes} free in {len(expected)} inputs and outputs")
    wrong = sorted(key for key in {*written, *expected} if written.get(key) != expected.get(key))
    key = wrong[0]
    return Check(path.name, name, "failed", f"{key} is {written.get(key)}, expected {expected.get(key)}")


def replayed(path: Path, name: str, engine: Engine, subject: Subject, x: Tensor) -> Check:
    """Certify one run of an engine; see `replay`."""
    name = f"{name}, T={x.shape[0]} B={x.shape[1]}"
    run = engine(x, None)
    sizes = {tuple(values.shape[:2]) for layer in run.layers for values in layer.values()}
    if sizes != {tuple(x.shape[:2])}:
        return Check(path.name, name, "failed", f"the layers ran {sorted(sizes)}, not {tuple(x.shape[:2])}")
    certificate = replay(subject.network, x, run)
    return Check(path.name, name, "passed" if certificate.passed else "failed", str(certificate))


def borderline(subject: Subject, x: Tensor, start: State | None = None) -> Tensor:
    """Return which samples have a membrane so near its threshold that engines may rightly differ, [B]."""
    return margins(subject.network, x, start) < BORDERLINE


def same(
    path: Path, name: str, subject: Subject, one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]
) -> Check:
    """Compare two runs by their logits; only a sample with a borderline spike may differ."""
    samples, unequal, unexplained, worst = 0, 0, 0, 0.0
    for x in subject.windows:
        differ, without_reason, difference = differing(subject, x, one(x), other(x))
        samples += x.shape[1]
        unequal += differ
        unexplained += without_reason
        worst = max(worst, difference)
    figure = f"{samples - unequal} of {samples} samples equal (logits to {worst:.1e})"
    if unequal:
        figure += f", {unequal - unexplained} differ at a borderline spike, {unexplained} for no such reason"
    return Check(path.name, name, "failed" if unexplained else "passed", figure)


def differing(subject: Subject, x: Tensor, first: Tensor, second: Tensor) -> tuple[int, int, float]:
    """Return how many samples' logits differ, how many without a borderline spike, and by how much the others do."""
    difference = _per_sample((first - second).abs(), subject.face)
    # Written so that NaN counts as different.
    differs = ~(difference <= _tolerance(second, subject.face))
    unexplained = int((differs & ~borderline(subject, x)).sum()) if differs.any() else 0
    return int(differs.sum()), unexplained, 0.0 if differs.all() else float(difference[~differs].max())


def _per_sample(values: Tensor, face: Interface) -> Tensor:
    """Return the largest of each sample's values, [B]."""
    return values.amax(dim=(0, 2)) if face.every_step else values.amax(dim=1)


def _tolerance(logits: Tensor, face: Interface) -> Tensor:
    return LOGIT_TOLERANCE * (1 + _per_sample(logits.abs(), face))


def on_test_split(
    path: Path, subject: Subject, engine: Engine, name: str = "answers on the test split", slow: bool = False
) -> Check:
    """Compare answers and metric with the network's own on the recipe's test split, or a part; see `asked`.

    Each goes through the split by itself, a language model with its state from window to window. Where their answers
    differ, the network is asked again from the engine's own state: one step may tip over, but not without a reason.

    Args:
        path: the file.
        subject: its network and data.
        engine: what runs the file.
        name: of the check.
        slow: whether the engine is.
    """
    if subject.test is None:
        return Check(path.name, name, "not run", subject.no_test)
    known = own_answers(subject, slow)
    here = Score(subject)
    unequal, unexplained = 0, 0
    for batch, theirs in zip(asked(subject, slow, f"{path.name}: {name}"), known.best, strict=True):
        start = here.start(batch.x)
        ours = here.take(engine(batch.x, start), batch).argmax(-1)
        if (ours != theirs).any():
            logits = subject.logits(batch.x, start)
            differs = ours != logits.argmax(-1)
            unequal += int(differs.sum())
            # A tie of two words, or classes, may go either way as well.
            best = logits.amax(-1)
            chosen = logits.gather(-1, ours[..., None])[..., 0]
            tie = best - chosen <= 2 * LOGIT_TOLERANCE * (1 + best.abs())
            unexplained += int((differs & ~tie & ~borderline(subject, batch.x, start)).sum())
    task = subject.task
    if not slow:
        subject.scores[path.name] = here
    figure = (
        f"{here.count - unequal} of {here.count} equal; {task.metric} {here.value():.2f}{task.unit} "
        f"({subject.source} {known.value:.2f}{task.unit})"
    )
    if unequal:
        figure += f"; {unexplained} differ without a borderline spike"
    return Check(path.name, name + part_asked(subject, here.count), "failed" if unexplained else "passed", figure)


class Answers(NamedTuple):
    """What the network itself says of what it is asked."""

    best: list[Tensor]
    """Of each batch the class [B], or the words [T, B], with the largest logit."""
    value: float
    """The metric."""


@torch.no_grad()
def own_answers(subject: Subject, slow: bool) -> Answers:
    """Return the network's own answers to what is asked; worked out once, for all files."""
    if slow not in subject.answers:
        score = Score(subject)
        best = [
            score.take(subject.eager(batch.x, score.start(batch.x)), batch).argmax(-1)
            for batch in asked(subject, slow, f"the own answers of the {subject.source}")
        ]
        subject.answers[slow] = Answers(best, score.value())
    return subject.answers[slow]


def asked(subject: Subject, slow: bool, what: str) -> Iterator[Batch]:
    """Yield what is asked of the test split: all of it, or of a large network or for a slow engine a part.

    A part is of samples from all over the split, which may be in the order of classes, or the beginning of a text.
    Samples of unequal length come one by one, for what is exported knows no padding.

    Args:
        subject: the network and its data.
        slow: whether the engine is.
        what: it is for, for those who watch.
    """
    test = subject.test
    assert test is not None
    order = None if isinstance(test, TextSplit) else numbers_asked(subject, slow)
    batches_at_most = _SLOW_BATCHES if slow else None
    spent = done = 0
    for batch in unpadded(islice(batches(test, subject.batch, order, _CPU), batches_at_most)):
        if order is None and spent >= _most_values(subject, slow):
            return
        subject.report(what, done, None if order is None else len(order), subject.task.counts)
        yield batch
        spent += batch.x.shape[0] * batch.x.shape[1] * subject.face.values
        done += subject.task.answers(batch)


def numbers_asked(subject: Subject, slow: bool = False) -> Tensor:
    """Return the numbers of the samples of the test split that are asked, ascending."""
    test = subject.test
    assert test is not None
    steps = len(test.batch(torch.tensor([0]), _CPU).x)
    fitting = int(min(len(test), _most_values(subject, slow) / (steps * subject.face.values)))
    samples = max(1, min(fitting, _SLOW_BATCHES * subject.batch) if slow else fitting)
    return torch.linspace(0, len(test) - 1, samples, dtype=torch.float64).round().long()


def _most_values(subject: Subject, slow: bool) -> float:
    return _SLOW_VALUES if slow else math.inf if subject.whole_test else _MOST_VALUES


def part_asked(subject: Subject, count: int) -> str:
    """Return which part of the test split so many answers are of; nothing where they are of all of it."""
    test, counts = subject.test, subject.task.counts
    if isinstance(test, TextSplit):
        words = sum(subject.task.answers(batch) for batch in test.windows(subject.batch, _CPU))
        return f", first {count} of {words} {counts}" if count < words else ""
    assert test is not None
    return f", {count} of {len(test)} {counts}" if count < len(test) else ""


class Score:
    """One pass over a split: the state from batch to batch, and the metric."""

    def __init__(self, subject: Subject) -> None:
        self._subject, self._state = subject, None
        self.count, self._loss, self._correct = 0, 0.0, 0

    _state: State | None

    def start(self, x: Tensor) -> State | None:
        """Return the state that a batch starts from."""
        return self._subject.task.carried(self._subject.network, x, self._state)

    def take(self, run: Run, batch: Batch) -> Tensor:
        """Count a batch; return its logits."""
        task = self._subject.task
        self._state = run.state
        self._loss += float(task.loss(run.logits, batch.target)) * task.answers(batch)
        self._correct += int(task.correct(run.logits, batch.target))
        self.count += task.answers(batch)
        return run.logits

    def value(self) -> float:
        """Return the metric."""
        return self._subject.task.score(self._loss / max(1, self.count), self._correct, max(1, self.count))
