"""The ways a written file is compared with its network. Each gives a `Check`: passed, failed, or why it was not run.

Shapes: T time, B batch, I inputs.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import Tensor

from hstnn_deploy.data.splits import Split
from hstnn_deploy.export.engines import Engine, Run
from hstnn_deploy.export.replay import replay
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.train.evaluation import batches

Outcome = Literal["passed", "failed", "not run"]

LOGIT_TOLERANCE = 1e-4
"""Of logits between engines, relative to 1 + the largest logit, for samples without a borderline spike."""
BORDERLINE = 64.0
"""A sample has a borderline spike when a membrane comes this many eps near its threshold (see `replay`)."""


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
    """Inputs x[T, B, I] of at least two (T, B)."""
    test: Split | None
    """The test split, where it is at hand."""
    no_test: str = ""
    """Why it is not."""

    @property
    def states(self) -> dict[str, int]:
        """Name and width of each state."""
        return {name: value.shape[1] for name, value in self.network.initial_state(self.windows[0]).items()}

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.network.layers)

    @torch.no_grad()
    def eager(self, x: Tensor) -> Run:
        """Run the network itself."""
        outputs, _ = self.network.run_layers(x, self.network.initial_state(x))
        return Run(self.network(x)[0], outputs)

    def logits(self, x: Tensor) -> Tensor:
        """Return the network's own logits, [B, C]."""
        return self.eager(x).logits

    def borderline(self, x: Tensor) -> Tensor:
        """Return which samples have a membrane so near its threshold that engines may rightly differ, [B]."""
        logits, outputs = self.eager(x)
        return replay(self.network, x, outputs, logits).margins < BORDERLINE


def whole(path: Path) -> Check:
    """Run onnx's checker in full, shape inference included."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker and shape inference raise different kinds
        return Check(path.name, "onnx checker, full", "failed", str(error).splitlines()[0])
    model = onnx.load(str(path))
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    return Check(path.name, "onnx checker, full", "passed", f"{len(model.graph.node)} nodes, opset {opset}")


def dimensions(path: Path, expected: dict[str, list[str | None]]) -> Check:
    """Compare the written symbolic dimensions with what must be free; None stands for a fixed one."""
    model = onnx.load(str(path))
    written = {
        value.name: [dimension.dim_param or None for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    name = "free dimensions"
    if written == expected:
        axes = "T and B" if any("T" in axes for axes in expected.values()) else "B"
        return Check(path.name, name, "passed", f"{axes} free in {len(expected)} inputs and outputs")
    wrong = sorted(key for key in {*written, *expected} if written.get(key) != expected.get(key))
    key = wrong[0]
    return Check(path.name, name, "failed", f"{key} is {written.get(key)}, expected {expected.get(key)}")


def replayed(path: Path, name: str, engine: Engine, subject: Subject, x: Tensor) -> Check:
    """Certify one run of an engine; see `replay`."""
    name = f"{name}, T={x.shape[0]} B={x.shape[1]}"
    logits, outputs = engine(x)
    if len(outputs[0]) != len(x) or len(logits) != x.shape[1]:
        return Check(
            path.name, name, "failed", f"the layers ran {tuple(outputs[0].shape[:2])}, not {tuple(x.shape[:2])}"
        )
    certificate = replay(subject.network, x, outputs, logits)
    return Check(path.name, name, "passed" if certificate.passed else "failed", str(certificate))


def same(
    path: Path, name: str, subject: Subject, one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]
) -> Check:
    """Compare two runs by their logits; only a sample with a borderline spike may differ."""
    samples, unequal, unexplained, worst = 0, 0, 0, 0.0
    for x in subject.windows:
        first, second = one(x), other(x)
        difference = (first - second).abs().amax(1)
        scale = LOGIT_TOLERANCE * (1 + second.abs().amax(1))
        # Written so that NaN counts as different.
        differs = ~(difference <= scale)
        samples += len(differs)
        unequal += int(differs.sum())
        if differs.any():
            unexplained += int((differs & ~subject.borderline(x)).sum())
        if not differs.all():
            worst = max(worst, float(difference[~differs].max()))
    figure = f"{samples - unequal} of {samples} samples equal (logits to {worst:.1e})"
    if unequal:
        figure += f", {unequal - unexplained} differ at a borderline spike, {unexplained} for no such reason"
    return Check(path.name, name, "failed" if unexplained else "passed", figure)


def on_test_split(path: Path, subject: Subject, engine: Engine) -> Check:
    """Compare answers and accuracy with the checkpoint's network on the recipe's test split."""
    name = "answers on the test split"
    if subject.test is None:
        return Check(path.name, name, "not run", subject.no_test)
    right_here, right_there, unequal, unexplained, count = 0, 0, 0, 0, 0
    for x, target, _ in batches(subject.test, 100, None, torch.device("cpu")):
        here, there = engine(x).logits.argmax(1), subject.eager(x).logits.argmax(1)
        differs = here != there
        right_here += int((here == target).sum())
        right_there += int((there == target).sum())
        count += len(target)
        if differs.any():
            unequal += int(differs.sum())
            unexplained += int((differs & ~subject.borderline(x)).sum())
    figure = (
        f"{count - unequal} of {count} equal; accuracy {100 * right_here / count:.2f} % "
        f"(checkpoint {100 * right_there / count:.2f} %)"
    )
    if unequal:
        figure += f"; {unexplained} differ without a borderline spike"
    return Check(path.name, name, "failed" if unexplained else "passed", figure)
