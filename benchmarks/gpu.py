"""What only a GPU can show: that its kernels and graphs are right, and how fast they are, beside predictions.

    python -m benchmarks.gpu [--rounds N] [--json FILE]

First correctness: the tests of the GPU's kernels, which use the GPU where there is one; then whole networks, training
passes with CUDA graphs, passes without waiting for the GPU, probes of selection, and several GPUs where there are any.
Then speed. Predictions were written before any of this ran on a GPU, for an H100 (3.35 TB/s, 67 TFLOP/s in float32).
The exit code is 1 where a check failed. `python -m benchmarks.peers --device cuda` measures the other libraries.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.networks import Pair, make_pair
from hstnn_deploy.data.splits import ArraySplit, Batch, Splits
from hstnn_deploy.environment import describe
from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.kernels import Form, gpu
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.precision import Precision, products
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification, Task, task_for
from hstnn_deploy.recipe.sections import Stage
from hstnn_deploy.train.loop import Trainer
from hstnn_deploy.train.observer import Observer
from hstnn_deploy.train.schedules import make_optimiser
from hstnn_deploy.train.traces import probe_products, rademacher, ranked_groups

DEVICE = torch.device("cuda", 0)
FASTEST: tuple[Form, ...] = ("triton", "fused")
STAGE = Stage(epochs=1, lr=3e-4, clip=0.25)

FLIPPED = 5e-3
"""Largest relative error between two ways to a gradient: other products round otherwise, so a spike falls otherwise."""


class Line(NamedTuple):
    """A line of the report."""

    what: str
    predicted: str
    measured: str
    ok: bool | None = None
    """Of a check: whether it passed. Of a figure: None."""


class _Noting(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


# Correctness.


def checks() -> Iterator[Line]:
    """Run every check."""
    names = ("models/test_gpu_kernels", "models/test_gpu_recurrences", "train/test_capture")
    tests = [f"tests/{name}.py" for name in names]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], capture_output=True, text=True)
    words = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no word"])[-1]
    yield Line(" ".join(tests), "all pass", words, done.returncode == 0)
    for name, (network, task, batch) in networks().items():
        yield _checked(
            f"{name}: loss and gradients, {name_of_form(network)} = plain", partial(forms, network, task, batch)
        )
    yield _checked("recurrences: cuDNN takes the weights as they lie (no warning)", unwarned)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        yield _checked(f"12 steps with a CUDA graph = without, {precision}", partial(graphs, precision))
    yield _checked("a training pass never waits for the GPU", unwaited)
    yield _checked("selection: 3 probes with a CUDA graph = without", probes_agree)
    if torch.cuda.device_count() < 2:
        yield Line("hstnn train --nproc 2 = one process", "equal to 1e-3", "not run: torch sees one GPU")
    else:
        yield _checked("hstnn train --nproc 2 = one process", processes)


def name_of_form(network: HybridNetwork) -> str:
    """Return the form that a network's states take here."""
    return kernels._picked(next(network.parameters()))


def _checked(what: str, check: Callable[[], float]) -> Line:
    """Return a check's line; the check returns an error that must be below `FLIPPED`, or raises."""
    try:
        error = check()
    except Exception as failure:
        return Line(
            what, "passes", f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}", False
        )
    return Line(what, f"error < {FLIPPED:g}", f"{error:.1e}", error < FLIPPED)


def networks() -> dict[str, tuple[HybridNetwork, Task, Batch]]:
    """Return a network of every family on the GPU, with a batch."""
    torch.manual_seed(0)
    sizes = [Sizes(130, 120), Sizes(64, 96)]
    sequence, lstm = (SequenceConfig(inputs=28, classes=10, units=[1, 1], recurrent=unit) for unit in ("rnn", "lstm"))
    text = LanguageConfig(vocabulary=200, inputs=50, units=[1, 1], dropout=0)
    maps = {
        form: ConvolutionalConfig(form=form, classes=11, units=[1, 1], size=size)
        for form, size in (("dvs", 32), ("nmnist", 34))
    }
    images, labels, words = torch.rand(28, 32, 28), torch.randint(10, (32,)), torch.randint(200, (35, 20))
    padded = Batch(images, labels, torch.randint(1, 29, (32,)))
    made: dict[str, tuple[Any, Batch]] = {
        "rnn": (sequence, Batch(images, labels)),
        "rnn, padded": (sequence, padded),
        "lstm": (lstm, Batch(images, labels)),
        "lstm, padded": (lstm, padded),
        "language": (text, Batch(words, words.roll(-1, 0))),
    }
    for form, config in maps.items():
        frames = torch.rand(12, 8, 2, config.size, config.size)
        made[form] = (config, Batch(frames, torch.randint(11, (8,))))
    return {
        name: (
            config.build([Sizes(8, 8), Sizes(16, 8)] if config.family == "convolutional" else sizes).to(DEVICE),
            task_for(config),
            Batch(*(None if each is None else each.to(DEVICE) for each in batch)),  # type: ignore[arg-type]
        )
        for name, (config, batch) in made.items()
    }


def forms(network: HybridNetwork, task: Task, batch: Batch) -> float:
    """Return how far loss and gradients of the form picked here are from the plain form's."""
    found = []
    for context in (kernels.using("plain"), nullcontext()):
        with context, products("fp32"):
            loss = task.loss(network(batch.x, None, batch.lengths)[0], batch.target)
            found.append([loss, *torch.autograd.grad(loss, list(network.parameters()))])
    return difference(*found)


def difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Return the largest ||found - expected|| / ||expected||."""
    return max(
        float((other.double() - one.double()).norm() / one.double().norm().clamp(min=1e-30))
        for one, other in zip(expected, found, strict=True)
    )


def unwarned() -> float:
    """Return 0 where cuDNN does not copy the weights by itself, which torch warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, h, weight = (
            torch.rand(5, 4, 6, device=DEVICE),
            torch.zeros(4, 8, device=DEVICE),
            torch.rand(6, 8, device=DEVICE),
        )
        gpu.rnn(x, weight, h, torch.rand(8, 8, device=DEVICE))
        gates = torch.rand(6, 4, 8, device=DEVICE), torch.rand(8, 4, 8, device=DEVICE)
        gpu.lstm(x, gates[0], h, h, gates[1])
    return 0.0


def trainer(units: int, samples: int, with_graphs: bool, precision: Precision = "fp32") -> Trainer:
    """Return what trains a redundant hybrid of S-MNIST's shape on random pixels."""
    torch.manual_seed(0)
    network = SequenceConfig(inputs=28, classes=10, units=[1, 1]).build([Sizes(units, units)] * 2).to(DEVICE)
    split = ArraySplit(
        torch.randint(256, (samples, 28, 28), dtype=torch.uint8), torch.randint(10, (samples,)), scale=1 / 255
    )
    splits = Splits(split, split, split, 28, 10, "random pixels")
    optimiser = make_optimiser(STAGE, network)
    return Trainer(network, Classification(), splits, STAGE, 100, 1, DEVICE, precision, optimiser, graphs=with_graphs)


def graphs(precision: Precision) -> float:
    """Return how far the parameters are apart after 12 steps, the last of another shape, with and without a graph."""
    found, watcher = [], _Noting()
    for with_graphs in (False, True):
        training = trainer(100, 1130, with_graphs, precision)
        training.train(1, watcher)
        found.append([each.detach() for each in training.network.parameters()])
    if watcher.notes:
        raise RuntimeError(watcher.notes[0])
    return difference(*found)


def unwaited() -> float:
    """Return 0 where no step of a pass makes the host wait."""
    training = trainer(64, 1000, with_graphs=True)
    training.train(1, Observer())

    class Strict(Observer):
        def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
            torch.cuda.set_sync_debug_mode("error" if 1 < batch < batches else "default")

    try:
        training.train(2, Strict())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0.0


def probes_agree() -> float:
    """Return how far the sums per unit are apart, with and without a graph."""
    found, watcher = [], _Noting()
    for note in (None, watcher.note):
        sums: list[Tensor] = []
        _probes(100, 3, sums.append, note)
        found.append(sums)
    if watcher.notes:
        raise RuntimeError(watcher.notes[0])
    return difference(*found)


def _probes(units: int, count: int, done: Callable[[Tensor], None], note: Callable[[str], None] | None) -> None:
    training = trainer(units, 100, with_graphs=False)
    groups = ranked_groups(training.network)
    batch = training.splits.train.batch(torch.arange(100), DEVICE)
    drawn = (rademacher(groups, 0, number) for number in range(count))
    probe_products(training.network, groups, training.task, batch, drawn, done, note)


def processes() -> float:
    """Return how far the losses of two processes and of one are apart, on the digits."""
    changes = ["--kind", "ffs", "--set", "network.units=[32,32]", "--set", "adapt.epochs=3", "--device", "cuda"]
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        for count in ("1", "2"):
            out = Path(folder) / count
            words = [
                sys.executable,
                "-m",
                "hstnn_deploy",
                "train",
                "digits",
                *changes,
                "--nproc",
                count,
                "--out",
                str(out),
            ]
            subprocess.run(words, check=True, capture_output=True)
            rows = next(out.rglob("metrics.jsonl")).read_text().splitlines()
            losses.append(torch.tensor([json.loads(row)["train_loss"] for row in rows]))
    return difference([losses[0]], [losses[1]])


# Speed.


def milliseconds(run: Callable[[], object], rounds: int, inside: int = 10) -> float:
    """Return the median over rounds of the time of a run; a round is `inside` runs, one after another."""
    for _ in range(3):
        run()
    found = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(inside):
            run()
        end.record()
        end.synchronize()
        found.append(float(start.elapsed_time(end)) / inside)
    return float(statistics.median(found))


def recorded(run: Callable[[], object]) -> Callable[[], object]:
    """Return a CUDA graph of a run: its time on the GPU, without that of launching."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        run()
    return graph.replay


def speeds(rounds: int) -> Iterator[Line]:
    """Measure every figure."""
    yield from _lif(rounds)
    yield from _recurrences(rounds)
    yield from _steps(rounds)
    seconds = milliseconds(lambda: _probes(800, 30, lambda _: None, lambda _: None), 2, 1) / 1e3 * 10
    yield Line("selection at 800+800: 300 probes, s (from 30, with the graph's recording)", "6 to 10", f"{seconds:.1f}")


def _lif(rounds: int) -> Iterator[Line]:
    small, large = (28, 100, 800), (500, 16, 16000)
    yield from _window(rounds, small, torch.float32, "share > 0.67; so small a window stays in the L2 cache")
    yield from _window(rounds, large, torch.float32, "share 0.8 to 0.95")
    yield from _window(rounds, large, torch.bfloat16, "share 0.8 to 0.95, 0.67x the time of float32 (m stays single)")
    run = _lif_window(small, torch.float32)
    name = f"lif {list(small)} float32, as called"
    yield Line(
        f"{name}: ours", "0.1 to 0.25 ms, all of it launches", f"{milliseconds(partial(run, 'triton'), rounds):.3f} ms"
    )
    others: tuple[tuple[Form, str], ...] = (("fused", "15x ours"), ("plain", "40x ours"))
    for form, predicted in others:
        yield Line(f"{name}: {form}", predicted, f"{milliseconds(partial(run, form), rounds, 2):.3f} ms")


def _lif_window(shape: tuple[int, int, int], dtype: torch.dtype) -> Callable[[Form], object]:
    """Return what runs a window forward and backward in a form."""
    current = torch.randn(shape, device=DEVICE, dtype=dtype).requires_grad_()
    gradient, state = torch.randn(shape, device=DEVICE, dtype=dtype), torch.zeros(shape[1:], device=DEVICE)

    def run(form: Form) -> object:
        with kernels.using(form):
            spikes, _ = kernels.spiking(current, {"v": state}, Lif())
        return torch.autograd.grad(spikes, current, gradient.to(spikes.dtype))

    return run


def _window(rounds: int, shape: tuple[int, int, int], dtype: torch.dtype, predicted: str) -> Iterator[Line]:
    run = partial(_lif_window(shape, dtype), "triton")
    # Forward reads I and writes s and m, backward reads gs and m and writes a gradient.
    moved = (4 * dtype.itemsize + 2 * 4) * math.prod(shape)
    target, source = (torch.empty(moved // 2, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    floor, ours = milliseconds(partial(target.copy_, source), rounds), milliseconds(recorded(run), rounds)
    measured = f"{ours:.3f} ms, floor {floor:.3f} ms ({moved / floor / 1e9:.2f} TB/s): share {floor / ours:.2f}"
    name = str(dtype).removeprefix("torch.")
    yield Line(f"lif {list(shape)} {name}, forward and backward on the GPU", predicted, measured)


def _recurrences(rounds: int) -> Iterator[Line]:
    x, state = torch.rand(28, 100, 1600, device=DEVICE), torch.zeros(100, 800, device=DEVICE)
    for unit, gates, predicted in (
        ("rnn", (), "cuDNN 0.4 to 0.8x of fused"),
        ("lstm", (4,), "cuDNN 0.2 to 0.5x of fused"),
    ):
        weights = [
            (torch.randn(inputs, *gates, 800, device=DEVICE) / inputs**0.5).requires_grad_() for inputs in (1600, 800)
        ]
        given = (x, weights[0], *[state] * (2 if gates else 1), weights[1])

        def window(form: Form, unit: str, given: tuple[Tensor, ...]) -> object:
            with kernels.using(form), products("fp32"):
                h = getattr(kernels, unit)(*given)[0]
                return torch.autograd.grad(h.sum(), [given[1], given[-1]])

        cudnn, loop = (milliseconds(partial(window, form, unit, given), rounds, 3) for form in FASTEST)
        measured = f"cuDNN {cudnn:.2f} ms, fused {loop:.2f} ms: {cudnn / loop:.2f}x"
        yield Line(f"{unit} [28, 100, 1600] to 800, forward and backward as called", predicted, measured)


def _steps(rounds: int) -> Iterator[Line]:
    for size, predicted in (
        (Sizes(800, 800), "12 to 18, 3.5, 3.0 ms: 4x, 5x"),
        (Sizes(400, 400), "12 to 18, 2.5, 1.5 ms: 6x, 10x"),
        (Sizes(800, 0), "5 to 8, 1.0, 0.5 ms: 6x, 12x"),
    ):
        pair = make_pair(size)
        x, x_theirs, target = (each.to(DEVICE) for each in (pair.x, pair.x_theirs, pair.target))
        on_gpu = Pair(pair.theirs.to(DEVICE), pair.ours.to(DEVICE), x, x_theirs, target)
        theirs, ours = milliseconds(on_gpu.step_theirs, rounds, 2), milliseconds(on_gpu.step_ours, rounds)
        replayed = milliseconds(recorded(on_gpu.step_ours), rounds)
        measured = f"{theirs:.1f}, {ours:.2f}, {replayed:.2f} ms: {theirs / ours:.1f}x, {theirs / replayed:.1f}x"
        yield Line(f"step {size.snn}+{size.rnn}: textbook, ours, ours replayed", predicted, measured)
    epochs: tuple[tuple[Precision, str], ...] = (("fp32", "2.0 s (540 steps)"), ("medium", "1.2 s"), ("bf16", "1.2 s"))
    for precision, predicted in epochs:
        training = trainer(800, 54000, True, precision)
        training.train(1, Observer())
        seconds = milliseconds(partial(training.train, 2, Observer()), 2, 1) / 1e3
        name = f"training pass of S-MNIST at n = 800, redundant hybrid, {precision}"
        yield Line(name, predicted, f"{seconds:.2f} s")


def reported(program: str, about: str | None, measure: Callable[[int], Iterator[Line]]) -> list[Line]:
    """Measure as often as the command line says; print each line as it comes, then all of them, and return them."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("not run: torch sees no CUDA device; nothing here can be measured on another")
    if not gpu.available():
        sys.exit("not run: Triton cannot be imported, so the GPU's kernels are not used")
    facts = describe(str(DEVICE))
    print(f"{facts['gpu']}; torch {torch.__version__}, CUDA {facts['cuda']}", flush=True)
    lines: list[Line] = []
    for line in measure(options.rounds):
        lines.append(line)
        print(f"{line.what}: {line.measured}", file=sys.stderr, flush=True)
        if options.json:
            found = {"environment": facts, "lines": [each._asdict() for each in lines]}
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    drawn = Table(title="medians", title_justify="left")
    for column in ("what", "predicted", "measured", ""):
        drawn.add_column(column, overflow="fold")
    for line in lines:
        drawn.add_row(line.what, line.predicted, line.measured, {True: "passed", False: "FAILED", None: ""}[line.ok])
    Console(width=160).print(drawn)
    return lines


def main() -> None:
    """Run all of it and print what was predicted beside what was found."""
    lines = reported("benchmarks.gpu", __doc__, lambda rounds: chain(checks(), speeds(rounds)))
    sys.exit(any(line.ok is False for line in lines))


if __name__ == "__main__":
    main()
