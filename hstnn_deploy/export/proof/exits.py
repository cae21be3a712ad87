"""The proof of an exit: after every step, a graph says that the answer may be given where the network's rule does.

Each step is taken by both from the graph's own states. Where only one of the two leaves, that sample's step must be
certified, and it must be near the exit's threshold or have parted at a borderline spike; see `replay` and `partings`.

Shapes: T time, B batch.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.proof.certificate import Certificate
from hstnn_deploy.export.proof.comparisons import Check, Subject, asked, part_asked
from hstnn_deploy.export.proof.engines import Engine, State
from hstnn_deploy.export.proof.partings import Tally, certified
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.eager import Eager


def check_exits(path: Path, subject: Subject, engine: Engine, shown: Engine) -> Iterator[Check]:
    """Check the exits of a file, if its network has any.

    Args:
        path: the file.
        subject: the network and its data.
        engine: the file as it ships, on windows of one step.
        shown: what shows its layers.
    """
    if subject.network.exit is None:
        return
    yield _replayed(path, subject, shown)
    yield _on_test_split(path, subject, engine, shown)


def _replayed(path: Path, subject: Subject, shown: Engine) -> Check:
    """Replay a window step by step, each from the engine's own states."""
    x, state = subject.windows[0], None
    name = f"exit after every step, replayed, T={x.shape[0]} B={x.shape[1]}"
    count = borderline = 0
    for t, now in enumerate(x):
        run = shown(now[None], state)
        if run.exit is None:
            return Check(path.name, name, "failed", "it returns no exit")
        certificate: Certificate = replay(subject.network, now[None], run, state)
        if not certificate.passed:
            return Check(path.name, name, "failed", f"from step {t} on, {certificate}")
        count += certificate.exits
        borderline += certificate.exits_borderline
        state = run.state
    return Check(path.name, name, "passed", f"{count} exits equal ({borderline} borderline)")


@torch.no_grad()
def _on_test_split(path: Path, subject: Subject, engine: Engine, shown: Engine) -> Check:
    """Compare each exit on the test split with the network's own, from the engine's states."""
    name = "exits on the test split"
    if subject.test is None:
        return Check(path.name, name, "not run", subject.no_test)
    tally, left, samples, steps = Tally(), 0.0, 0, 0
    for batch in asked(subject, False, f"{path.name}: {name}"):
        size, state = batch.x.shape[1], None
        done = torch.zeros(size, dtype=torch.bool)
        for t, now in enumerate(batch.x):
            leaving, differs, reasons, state = _one(subject, engine, shown, now[None], state)
            tally.add(differs, reasons)
            left += (t + 1) * int((leaving & ~done).sum())
            done |= leaving
        left += len(batch.x) * int((~done).sum())
        samples, steps = samples + size, len(batch.x)
    equal = tally.samples - tally.excused - tally.unexplained
    figure = f"{equal} of {tally.samples} equal; {left / samples:.2f} of {steps} steps on average"
    if tally.unexplained:
        figure += f", {tally.unexplained} differ without a reason"
    if tally.excused:
        figure += f", {tally.excused} differ at the threshold or a borderline spike"
    return Check(path.name, name + part_asked(subject, samples), "passed" if tally.passed else "failed", figure)


def _one(
    subject: Subject, engine: Engine, shown: Engine, x: Tensor, state: State | None
) -> tuple[Tensor, Tensor, Tensor, State]:
    """Take one step x[1, B, …].

    Returns:
        Which samples leave by the engine, which differ from the network, and which of these may, [B] each; and the
        engine's states.
    """
    network = subject.network
    run, own = engine(x, state), subject.eager(x, state)
    if run.exit is None:
        raise ExportError("it returns no exit")
    leaves = network.may_leave(Eager(), own.logits, own.state)
    # Written so that NaN counts as different.
    differs = ~(run.exit == leaves)
    reasons = torch.zeros_like(differs)
    if differs.any():
        found = certified(network, x, state, run, subject.watched(x, state), differs, shown)
        if found is not None:
            reasons[differs] = found.exit_explained
    return run.exit > 0, differs, reasons, run.state
