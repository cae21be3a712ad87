"""The ways a written file is compared with its network. Each gives a `Check`: passed, failed, or why it was not run.

Shapes: T time, B batch, C classes or words.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import onnx
import torch
from torch import Tensor

from hstnn_deploy import metrics
from hstnn_deploy.data.files.folder import Report, silent
from hstnn_deploy.data.preprocessing import Preprocessing, Values
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.export.graph.forms import Form, States, time_axis
from hstnn_deploy.export.graph.interface import Interface, interface, state_after
from hstnn_deploy.export.graph.write import written_by
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.engines import Engine, State, network_engine, read_network
from hstnn_deploy.export.proof.modules import fresh_text, text
from hstnn_deploy.export.proof.partings import LOGIT_TOLERANCE, Tally, differing, excused, identical
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.export.proof.weights import difference, read_weights
from hstnn_deploy.foreign import first_line
from hstnn_deploy.models.exits import EXIT
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.shown import Sheet
from hstnn_deploy.train.evaluation import batches, unpadded

Outcome = Literal["passed", "failed", "not run"]

_MOST_VALUES = 2e9
"""How much of the test split is evaluated, in values of the states at all steps: about a minute of one core."""
_SLOW_BATCHES, _SLOW_VALUES = 2, 1e7
"""The same for a slow engine, which evaluates at most this many batches."""
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


def told_of(checks: Sequence[Check]) -> str:
    """Return in a few words how checks came out."""
    counts = {outcome: sum(each.outcome == outcome for each in checks) for outcome in ("passed", "failed", "not run")}
    said = [f"{count} check{'' if count == 1 else 's'} {outcome}" for outcome, count in counts.items() if count]
    return ", ".join(said) or "not checked"


def sheet_of(title: str, checks: Sequence[Check], notes: Sequence[str] = ()) -> Sheet:
    """Return checks as a table."""
    rows = [(each.file, each.name, each.outcome, each.figure) for each in checks]
    return Sheet(title, ("file", "check", "outcome", "figure"), rows, list(notes))


@dataclass(frozen=True)
class Subject:
    """What is verified, and on what."""

    network: Network
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
    """Whether to evaluate the full test split, however large the network."""
    report: Report = silent
    """Told what is under way."""
    source: str = "checkpoint"
    """What the network is of, for those who read the figures."""
    sampled: str = ""
    """What the windows are, in words."""
    answers: "dict[tuple[bool, int], Answers]" = field(init=False, default_factory=dict)
    """What the network itself answers; see `own_answers`."""
    logits_of: dict[str, list[Tensor]] = field(init=False, default_factory=dict)
    """Of files, by name, what they answered to what is asked, batch by batch, where raw samples are at hand too."""
    scores: "dict[str, Score]" = field(init=False, default_factory=dict)
    """Of files, by name, that were asked what a quick engine is."""

    @property
    def face(self) -> Interface:
        """The network's inputs and outputs."""
        return interface(self.network)

    def on(self, windows: list[Tensor]) -> "Subject":
        """Return the same, on other windows."""
        return replace(self, windows=windows)

    def eager(self, x: Tensor, state: State | None = None) -> Run:
        """Run the network itself; it does not show its layers."""
        return network_engine(self.network)(x, state)

    def watched(self, x: Tensor, state: State | None = None) -> Run:
        """Run the network itself, to the same bits, and show its layers; maps are pooled."""
        return network_engine(self.network, show=True)(x, state)

    def logits(self, x: Tensor, state: State | None = None) -> Tensor:
        """Return the network's own logits."""
        return self.eager(x, state).logits


def whole(path: Path) -> Check:
    """Run onnx's checker in full, shape inference included."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker and shape inference raise different kinds
        return Check(path.name, "onnx checker, full", "failed", first_line(error))
    model = onnx.load(str(path))
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    nodes = len(model.graph.node)
    inside = sum(len(attribute.g.node) for node in model.graph.node for attribute in node.attribute)
    figure = f"{nodes} nodes" + (f" and {inside} in scans" if inside else "") + f", opset {opset}"
    return Check(path.name, "onnx checker, full", "passed", figure)


def dimensions(path: Path, face: Interface, form: Form, states: States = "named") -> Check:
    """Compare the written symbolic dimensions with what must be free; None stands for a fixed one."""
    time = [axis if isinstance(axis, str) else None for axis in time_axis(form, None)]
    expected: dict[str, list[str | None]] = {"x": [*time, "B", *[None for _ in face.step]]}
    expected["logits"] = [*(time if face.every_step else []), "B", None]
    for state in face.states if states == "named" else ():
        expected |= {name: ["B", *[None for _ in state.shape]] for name in (state.name, state_after(state.name))}
    if form == "step" and face.leaves:
        expected[EXIT] = ["B"]
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
    sizes = {tuple(values.shape[:2]) for values in run.taps.values()}
    if sizes != {tuple(x.shape[:2])}:
        return Check(path.name, name, "failed", f"the layers ran {sorted(sizes)}, not {tuple(x.shape[:2])}")
    certificate = replay(subject.network, x, run)
    return Check(path.name, name, "passed" if certificate.passed else "failed", str(certificate))


def weights(path: Path, subject: Subject) -> Check:
    """Compare the weights in a file with the network's, to the bit."""
    name, ours = "weights = network", subject.network.state_dict()
    found = difference(ours, read_weights(path))
    figure = found or f"{sum(value.numel() for value in ours.values())} values equal to the bit"
    return Check(path.name, name, "failed" if found else "passed", figure)


def built(path: Path, subject: Subject, loaded: Any, facts: dict[str, str]) -> Check:
    """Compare all that TorchScript or a program computes, but for its weights, with a fresh build of the network.

    Args:
        path: the file.
        subject: the network.
        loaded: what the file holds.
        facts: what is stored beside it: the versions that wrote it.
    """
    name = "graph = fresh build"
    found, fresh = text(loaded), fresh_text(subject.network, loaded)
    here = written_by()
    if found == fresh:
        return Check(path.name, name, "passed", f"{len(found.splitlines())} lines equal, torch {here['torch']}")
    for package, version in here.items():
        if facts.get(package) != version:
            wrote = f"written by {package} {facts[package]}" if package in facts else f"it does not name {package}"
            return Check(path.name, name, "not run", f"{wrote}, this is {version}; the texts differ")
    pairs = zip_longest(found.splitlines(), fresh.splitlines(), fillvalue="nothing")
    theirs, ours = next((one.strip(), two.strip()) for one, two in pairs if one != two)
    return Check(path.name, name, "failed", f"{theirs[:100]!r} instead of {ours[:100]!r}")


def identical_runs(path: Path, subject: Subject, engine: Engine, shown: Engine) -> Check:
    """Compare a file, as whoever deploys it calls it, with what is replayed: logits and states, to the bit.

    Args:
        path: the file.
        subject: the network and its data.
        engine: the file as it ships.
        shown: what shows its layers.
    """
    windows, different, runs = subject.windows, [], 0
    longest = subject.network.longest
    # Once from zeros, and once from the states after that, unless the network knows no more steps.
    for x in windows:
        start: State | None = None
        for _ in range(2 if longest is None or 2 * len(x) <= longest else 1):
            runs += 1
            ours = engine(x, start)
            if not identical(ours, shown(x, start)):
                different.append(f"T={x.shape[0]} B={x.shape[1]}")
            start = ours.state
    figure = f"logits and {len(subject.face.states)} states equal to the bit in {runs} runs"
    if different:
        figure = f"logits or states differ at {different[0]}, in {len(different)} of {runs} runs"
    return Check(path.name, "shipped file = replayed file", "failed" if different else "passed", figure)


def same(
    path: Path, name: str, subject: Subject, engine: Engine, other: Engine | None = None, shown: Engine | None = None
) -> Check:
    """Compare two runs by their logits; a sample may differ only where the runs part at a borderline spike.

    Args:
        path: the file.
        name: of the check.
        subject: the network and its data.
        engine: what runs the file.
        other: what it is compared with, which shows its layers; None: the network itself.
        shown: what shows the engine's layers, where it does not do so itself.
    """
    tally, worst = Tally(), 0.0
    for x in subject.windows:
        run, theirs = engine(x, None), (other or subject.eager)(x, None)
        differs, difference = differing(run.logits, theirs.logits, subject.face)
        worst = max(worst, difference)
        reasons = differs
        if differs.any():
            theirs = theirs if other else subject.watched(x)
            reasons = excused(subject.network, x, None, run, theirs, differs, shown)
        tally.add(differs, reasons)
    equal = tally.samples - tally.excused - tally.unexplained
    figure = f"{equal} of {tally.samples} samples equal (logits to {worst:.1e}){tally}"
    return Check(path.name, name, "passed" if tally.passed else "failed", figure)


def on_test_split(
    path: Path,
    subject: Subject,
    engine: Engine,
    name: str = "answers on the test split",
    slow: bool = False,
    shown: Engine | None = None,
    steps: int = 0,
) -> Check:
    """Compare answers and metric with the network's own on the recipe's test split, or a part; see `asked`.

    Answers are classes or words; the values of a regression are equal where they differ by no more than logits may.
    Each goes through the split by itself, a language model with its state from window to window. Where their answers
    differ, the network is asked again from the engine's own state: two answers may tie, and one step may tip over, but
    not without a reason.

    Args:
        path: the file.
        subject: its network and data.
        engine: what runs the file.
        name: of the check.
        slow: whether the engine is.
        shown: what shows the engine's layers, where it does not do so itself.
        steps: T of the windows that the file takes; 0: any.
    """
    if subject.test is None:
        return Check(path.name, name, "not run", subject.no_test)
    known = own_answers(subject, slow, steps)
    if not known.best:
        length = len(next(asked(subject, slow, name)).x)
        return Check(path.name, name, "not run", f"samples have {length} steps; the graph takes {steps}")
    here, tally, task = Score(subject), Tally(), subject.task
    unequal = ties = 0
    kept: list[Tensor] = []
    for batch, theirs in zip(asked(subject, slow, f"{path.name}: {name}", steps), known.best, strict=True):
        x, start = batch.x, here.start(batch.x)
        run = engine(x, start)
        logits = here.take(run, batch)
        if subject.raw is not None:
            kept.append(logits)
        differs, reasons = torch.zeros(x.shape[1], dtype=torch.bool), None
        if _unlike(task, logits, theirs).any():
            own = subject.watched(x, start)
            other = _unlike(task, logits, task.answer(own.logits))
            # Logits that agree have their largest two so close that either may be the larger one.
            within = ~_apart(logits, own.logits)
            unequal += int(other.sum())
            ties += int((other & within).sum())
            differs = (other & ~within).reshape(-1, x.shape[1]).any(0)
            if differs.any():
                reasons = excused(subject.network, x, start, run, own, differs, shown)
        tally.add(differs, differs if reasons is None else reasons)
    if not slow:
        subject.scores[path.name] = here
        subject.logits_of[path.name] = kept
    ours, its = (f"{metrics.shown(task.metric, value)}{task.unit}" for value in (here.value(), known.value))
    figure = f"{here.count - unequal} of {here.count} equal; {task.metric} {ours} ({subject.source} {its})"
    if ties:
        figure += f", {ties} ties of two logits"
    return Check(
        path.name, name + part_asked(subject, here.count), "passed" if tally.passed else "failed", f"{figure}{tally}"
    )


def _unlike(task: Task, logits: Tensor, theirs: Tensor) -> Tensor:
    """Return which answers of an engine are others than the network's own, [B] or [T, B]."""
    return _apart(logits, theirs) if task.asks == "values" else task.answer(logits) != theirs


def _apart(logits: Tensor, own: Tensor) -> Tensor:
    """Return where logits [..., n] differ by more than the tolerance, [...]; NaN differs."""
    return ~((logits - own).abs().amax(-1) <= LOGIT_TOLERANCE * (1 + own.abs().amax(-1)))


class Answers(NamedTuple):
    """The network's own answers."""

    best: list[Tensor]
    """Of each batch the class [B], or the words [T, B], with the largest logit; or the values [B, K]."""
    value: float
    """The metric."""
    answered: int
    """How many they are."""


@torch.no_grad()
def own_answers(subject: Subject, slow: bool, steps: int = 0) -> Answers:
    """Return the network's own answers, computed once for all files."""
    if (slow, steps) not in subject.answers:
        score = Score(subject)
        best = [
            subject.task.answer(score.take(subject.eager(batch.x, score.start(batch.x)), batch))
            for batch in asked(subject, slow, f"the answers of the {subject.source}", steps)
        ]
        subject.answers[slow, steps] = Answers(best, score.value(), score.count)
    return subject.answers[slow, steps]


def asked(subject: Subject, slow: bool, what: str, steps: int = 0) -> Iterator[Batch]:
    """Yield the batches to evaluate: the full test split, or a part for a large network or a slow engine.

    A part is of samples from all over the split, which may be in the order of classes, or the beginning of a text.
    Samples of unequal length come one by one, for what is exported knows no padding.

    Args:
        subject: the network and its data.
        slow: whether the engine is.
        what: it is for, for those who watch.
        steps: T of the windows that are taken, and others are left out; 0: any.
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
        if steps in {0, len(batch.x)}:
            yield batch
        spent += batch.x.shape[0] * batch.x.shape[1] * subject.face.values
        done += subject.task.answers(batch)


def numbers_asked(subject: Subject, slow: bool = False) -> Tensor:
    """Return the numbers of the evaluated samples of the test split, ascending."""
    test = subject.test
    assert test is not None
    steps = len(test.batch(torch.tensor([0]), _CPU).x)
    fitting = int(min(len(test), _most_values(subject, slow) / (steps * subject.face.values)))
    samples = max(1, min(fitting, _SLOW_BATCHES * subject.batch) if slow else fitting)
    return torch.linspace(0, len(test) - 1, samples, dtype=torch.float64).round().long()


def _most_values(subject: Subject, slow: bool) -> float:
    return _SLOW_VALUES if slow else math.inf if subject.whole_test else _MOST_VALUES


def part_asked(subject: Subject, count: int) -> str:
    """Return which part of the test split these answers cover; nothing where they cover all of it."""
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
        self.count, self._loss, self._correct = 0, 0.0, 0.0

    _state: State | None

    def start(self, x: Tensor) -> State | None:
        """Return the state that a batch starts from."""
        return self._subject.task.carried(self._subject.network, x, self._state)

    def take(self, run: Run, batch: Batch) -> Tensor:
        """Count a batch; return its logits."""
        task = self._subject.task
        self._state = run.state
        self._loss += float(task.loss(run.logits, batch.target, len(batch.x))) * task.answers(batch)
        self._correct += float(task.correct(run.logits, batch.target))
        self.count += task.answers(batch)
        return run.logits

    @property
    def loss(self) -> float:
        """The mean loss of all answers so far."""
        return self._loss / max(1, self.count)

    def value(self) -> float:
        """Return the metric."""
        return self._subject.task.score(self.loss, self._correct, max(1, self.count))
