"""Smaller graphs: int8 and fp16, and what they cost in flipped spikes and in the metric.

    int8 dynamic  weights in int8, one scale per unit; each call finds the range of what they are multiplied with
    int8 static   the same, with ranges found beforehand on training samples (calibration)
    fp16          weights and arithmetic in half precision; inputs, outputs and states stay float32
    integers      weights of few levels as integers that stand for the very same numbers (`integers`)

Such a graph, but for the last, does not compute what the network computes, so there is no certificate for it: it is
run beside the graph it was made from, and is refused where it loses more than may be lost. Whether it gains anything
depends on the network and the machine: small graphs grow, and some processors have no quick arithmetic for them. What
is neither smaller nor faster is not kept, unless all is.

Shapes: T time, B batch.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor

from hstnn_deploy import files
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.bundle.choice import calling, in_turns
from hstnn_deploy.export.bundle.integers import graphs, store_integers
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.write import VARIANTS, states_in
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.comparisons import Check, Score, Subject, asked, part_asked
from hstnn_deploy.export.proof.engines import (
    Engine,
    network_alone,
    onnxruntime_session,
    open_network,
    opened_up,
    read_model,
    read_network,
    step_engine,
    window_engine,
)
from hstnn_deploy.export.proof.inside import answering, inside_engine
from hstnn_deploy.export.proof.raw_input import check_front
from hstnn_deploy.export.runtime.ort import open_graph
from hstnn_deploy.metrics import points, shown, worse
from hstnn_deploy.models.network import SPIKES

MAX_DROP = 0.5
"""Points of the metric that a smaller graph may lose, unless told otherwise."""
How = Literal["int8-dynamic", "int8-static", "fp16", "integers"]

_PRODUCTS = ("MatMul", "Gemm", "Conv", "LSTM")
"""What has weights."""
_CALIBRATION_CALLS = 64
_FASTER = 1.05
"""The smallest speed-up that counts: a median of some twenty calls varies by less."""


@dataclass(frozen=True)
class Reduction:
    """A smaller graph beside the one it was made from."""

    file: str
    how: How
    bytes: int
    bytes_before: int
    milliseconds: float
    """Median time of one window at batch 1."""
    milliseconds_before: float
    flipped: int
    """Spikes that differ when both run freely on the same input."""
    spikes: int
    metric: str
    value: float | None
    """Of the smaller graph, on the test split; None where that is not at hand."""
    value_before: float | None
    lost: float | None
    """How much worse the metric is, in its own points; of an error, in % of it, for its size depends on its unit."""
    asked: str
    """Which part of the test split the metric is of; empty where it is all."""
    limit: float
    left: str
    """What was not converted, and why."""
    keep_all: bool = False
    """Whether it is kept even though it gains nothing."""

    @property
    def refused(self) -> bool:
        """Whether it loses too much, or an unknown amount."""
        if self.how == "integers":
            return self.flipped > 0
        return self.lost is None or not self.lost <= self.limit

    @property
    def size_ratio(self) -> float:
        """Its size, as a share of that before."""
        return self.bytes / self.bytes_before

    @property
    def time_ratio(self) -> float:
        """Its time, as a share of that before."""
        return self.milliseconds / self.milliseconds_before

    @property
    def gains(self) -> bool:
        """Whether it is smaller or, by more than a measurement moves, faster."""
        return self.size_ratio < 1 or self.time_ratio <= 1 / _FASTER

    @property
    def kept(self) -> bool:
        """Whether it goes into the bundle."""
        return not self.refused and (self.gains or self.keep_all)

    @property
    def effect(self) -> str:
        """The change of size and speed, in words."""
        size = "smaller" if self.size_ratio < 1 else "larger" if self.size_ratio > 1 else "as large"
        speed = "faster" if self.time_ratio <= 1 / _FASTER else "slower" if self.time_ratio >= _FASTER else "as fast"
        return f"{size}, {speed}"

    def __str__(self) -> str:
        return (
            f"{self.file} is {'kept' if self.kept else 'not kept'}: {self.effect} "
            f"({self.bytes / 1e3:.1f} kB, {self.size_ratio:.2f} of the size before; {self.milliseconds:.3g} ms, "
            f"{self.time_ratio:.2f} of the time before)"
        )

    def plain(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"size_ratio": self.size_ratio, "time_ratio": self.time_ratio}

    def check(self) -> Check:
        """Return the outcome as a check."""
        if self.how == "integers":
            figure = f"{self.flipped} of {self.spikes} spikes flipped; {self.bytes} bytes, {self.bytes_before} before"
            name = "integers stand for the same numbers"
            return Check(self.file, name, "failed" if self.refused else "passed", figure)
        if self.lost is None or self.value is None or self.value_before is None:
            figure = f"the lost {self.metric} is unknown: no test data"
        else:
            figure = (
                f"{self.metric} {shown(self.metric, self.value)} ({shown(self.metric, self.value_before)} before): "
                f"{self.lost:+.2f} {points(self.metric)} lost, at most {self.limit:g} allowed; "
                f"{self.flipped} of {self.spikes} spikes flipped"
            )
        return Check(self.file, f"{self.how} loses little{self.asked}", "failed" if self.refused else "passed", figure)


def reduced_name(path: Path, how: How) -> str:
    """Return the file name of a smaller graph."""
    return f"{path.stem}.{how}{path.suffix}"


def parse_name(name: str) -> tuple[str, Form, How] | None:
    """Return the file a smaller graph was made from, its form, and how, from its name; None of other names."""
    match name.rsplit(".", 2):
        case [stem, "int8-dynamic" | "int8-static" | "fp16" | "integers" as how, "onnx"] if f"{stem}.onnx" in VARIANTS:
            return f"{stem}.onnx", VARIANTS[f"{stem}.onnx"].form, how
        case _:
            return None


def reduce(path: Path, form: Form, how: How, training: list[Tensor]) -> Path:
    """Write the smaller graph of an ONNX file beside it; a front stays as it is.

    Args:
        path: the file.
        form: its form.
        how: what to make of it.
        training: windows [T, B, …] of the training split, for calibration.

    Raises:
        ExportError: the tool cannot convert the graph.
        RunError: the folder cannot be written.
    """
    target = path.with_name(reduced_name(path, how))
    with files.atomic(target) as temporary, network_alone(path) as alone:
        try:
            with _quiet():
                match how:
                    case "int8-dynamic":
                        _dynamic(alone, temporary)
                    case "int8-static":
                        _static(alone, temporary, form, training)
                    case "fp16":
                        _half(alone, temporary)
                    case "integers":
                        model = read_model(alone)
                        store_integers(model)
                        onnx.save(model, str(temporary))
            if head := raw_input.split(read_model(path))[0]:
                onnx.save(raw_input.join(head, read_model(temporary)), str(temporary))
        except (OSError, ExportError):
            raise
        except Exception as error:  # the tools raise exceptions of many kinds
            raise ExportError(f"cannot make {path.name} {how}: {' '.join(str(error).split())}") from error
    if how not in {"fp16", "integers"} and not (_products(path) - _unconverted(target)):
        why = left_over(path, target, how)
        target.unlink()
        raise ExportError(f"nothing in {path.name} converts to {how}: {why}")
    return target


def _dynamic(path: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        read_model(path),
        str(target),
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
    )


def _static(path: Path, target: Path, form: Form, training: list[Tensor]) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        str(path),
        str(target),
        _Calibration(path, form, training),
        quant_format=QuantFormat.QDQ,
        # Membranes and cells stay in float32: they add up small differences over time.
        op_types_to_quantize=["MatMul", "Gemm", "Conv"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


class _Calibration:
    """Hands out the inputs of a graph as it meets them: windows, or steps with the states that come before them."""

    def __init__(self, path: Path, form: Form, training: list[Tensor]) -> None:
        self._feeds = self._walk(path, form, training)

    @staticmethod
    def _walk(path: Path, form: Form, training: list[Tensor]) -> Iterator[dict[str, Any]]:
        graph = open_graph(path)
        for window in training:
            whole = window.numpy()
            if form != "step":
                yield {"x": whole, **graph.zeros(whole.shape[1])}
                continue
            state = graph.zeros(whole.shape[1])
            for now in whole[:_CALIBRATION_CALLS]:
                yield {"x": now, **state}
                _, state = graph.step(now, state)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs."""
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._feeds

    def set_range(self, start_index: int, end_index: int) -> None:
        """Do nothing: all samples are used."""


def _half(path: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(read_model(path), keep_io_types=True)
    # It puts the casts of the inputs last, where ONNX does not allow them.
    nodes = sorted(model.graph.node, key=lambda node: not node.name.startswith("graph_input_cast"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def make_smaller(
    subject: Subject,
    names: Collection[str],
    hows: Collection[How],
    limit: float,
    training: list[Tensor],
    done: Callable[[Check], None],
    keep_all: bool = False,
) -> list[Reduction]:
    """Make smaller graphs of the ONNX files among `names`; those that lose too much or gain nothing are removed again.

    Args:
        subject: the network, its folder and data.
        names: files in that folder.
        hows: what to make of each.
        limit: how many points of the metric may be lost.
        training: windows [T, B, …] of the training split.
        done: called with the check of each that is kept or refused.
        keep_all: whether those that gain nothing are kept all the same.
    """
    found = []
    for name, how in product(names, hows):
        if name not in VARIANTS:
            continue
        try:
            path = reduce(subject.folder / name, VARIANTS[name].form, how, training)
            found.append(compare(subject, path.name, limit, keep_all))
        except ExportError as error:
            done(Check(reduced_name(Path(name), how), f"{how} can be made", "failed", error.message))
            continue
        # A graph that gains nothing is not a failure, and not a file of the bundle to check.
        if found[-1].kept or found[-1].refused:
            done(found[-1].check())
        if not found[-1].kept:
            path.unlink()
            continue
        for check in check_front(path, subject, VARIANTS[name].form):
            done(check)
    return found


def compare(subject: Subject, name: str, limit: float, keep_all: bool = False) -> Reduction:
    """Run a smaller graph of the subject's folder beside the one it was made from.

    Raises:
        ExportError: a file cannot be read or run.
    """
    parsed = parse_name(name)
    assert parsed is not None
    source, form, how = parsed
    small, large = subject.folder / name, subject.folder / source
    inside = states_in(name) == "inside"
    engines = {path: _engine(subject, path, form, inside) for path in (small, large)}
    x = subject.windows[0]
    flipped, spikes = _flips(engines[small](x, None), engines[large](x, None))
    one = x[:, :1].numpy()
    spent = in_turns({path: calling(open_network(path), form, one) for path in (small, large)})
    here = there = lost = None
    if subject.test is not None:
        here, there = (_score(subject, path, form, inside).value() for path in (small, large))
        lost = worse(subject.task.metric, there, here)
    return Reduction(
        name,
        how,
        small.stat().st_size,
        large.stat().st_size,
        1e3 * spent[small],
        1e3 * spent[large],
        flipped,
        spikes,
        subject.task.metric,
        here,
        there,
        lost,
        part_asked(subject, subject.scores[name].count) if subject.test is not None else "",
        limit,
        left_over(large, small, how),
        keep_all,
    )


def _engine(subject: Subject, path: Path, form: Form, inside: bool) -> Engine:
    if inside:
        return inside_engine(path, form, subject)
    opened = opened_up(path, form, subject.network)
    make = step_engine if form == "step" else window_engine
    return make(onnxruntime_session(opened.model), subject.face, opened.values)


def _flips(small: Run, large: Run) -> tuple[int, int]:
    spiking = [(small.taps[tap].float(), spikes) for tap, spikes in large.taps.items() if tap.name == SPIKES]
    flipped = sum(int((ours != theirs).sum()) for ours, theirs in spiking)
    return flipped, sum(theirs.numel() for _, theirs in spiking)


@torch.no_grad()
def _score(subject: Subject, path: Path, form: Form, inside: bool) -> Score:
    """Return how a file does on the test split, or the part of it that is asked; see `comparisons.asked`.

    With its states inside, a language model begins every window at zeros.
    """
    if path.name not in subject.scores:
        graph, score = open_network(path), Score(subject)
        make = step_engine if form == "step" else window_engine
        engine = answering(graph) if inside else make(graph.call, subject.face, {})
        for batch in asked(subject, False, f"{path.name}: the {subject.task.metric} on the test split"):
            score.take(engine(batch.x, None if inside else score.start(batch.x)), batch)
        subject.scores[path.name] = score
    return subject.scores[path.name]


def left_over(before: Path, after: Path, how: How) -> str:
    """Say which products of weights were not converted, and why."""
    if how in {"fp16", "integers"}:
        return ""
    there, left = _products(before), _unconverted(after)
    return "; ".join(f"{left[op]} of {there[op]} {op} left in float32: {_why(op, how)}" for op in sorted(left))


def _why(op: str, how: How) -> str:
    if how == "int8-dynamic":
        return "the tool found no stored weight there"
    return "there is no static LSTM" if op == "LSTM" else "calibration does not look inside a scan"


def _unconverted(path: Path) -> Counter[str]:
    """Return the products of weights that are still in float32."""
    found: Counter[str] = Counter()
    for graph in graphs(read_network(path).graph):
        made_by = {name: node.op_type for node in graph.node for name in node.output}
        for node in graph.node:
            # With static ranges a product stays what it is, between values in int8.
            if node.op_type in _PRODUCTS and made_by.get(node.input[0]) != "DequantizeLinear":
                found[node.op_type] += 1
    return found


def _products(path: Path) -> Counter[str]:
    ops = (node.op_type for graph in graphs(read_network(path).graph) for node in graph.node)
    return Counter(op for op in ops if op in _PRODUCTS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output of the tools."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
