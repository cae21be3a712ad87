"""Inference of one network in every engine, in turns: latency at batch 1, throughput at batch 100, a single step."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.floor import Product, dense, recurrent, runner
from benchmarks.harness import Measure, Result, Times, turns, wall
from benchmarks.networks import CLASSES, INPUTS, STEPS, make_pair
from hstnn_deploy.export.bundle.quantise import reduce
from hstnn_deploy.export.graph.write import STEP_ONNX, TORCHSCRIPT, WINDOW_ONNX, write_graphs
from hstnn_deploy.export.runtime.ort import Graph, open_graph
from hstnn_deploy.models.sizes import Sizes

SIZES = Sizes(400, 400)
"""Of both layers."""

BATCHES = {1: 20, 100: 2}
"""Batch to how often a candidate is called in its turn: a single call at batch 1 is too short for the clock."""

TOLERANCE = 1e-3
"""Of logits against the eager network's. The int8 graph computes something else, and is not held to it."""

Array = NDArray[np.float32]
Call = Callable[[Array], Array]


def inference(rounds: int) -> Iterator[Result]:
    """Time each engine against the eager network; all answer the same, or the benchmark stops."""
    pair = make_pair(SIZES)
    network: Any = pair.ours.eval()
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        write_graphs(network, folder, ("onnx", "torchscript"))
        threads = torch.get_num_threads()
        window = open_graph(folder / WINDOW_ONNX, threads=threads)
        step = open_graph(folder / STEP_ONNX, threads=threads)
        int8 = open_graph(reduce(folder / WINDOW_ONNX, "window", "int8-dynamic", []), threads=threads)
        script = torch.jit.load(str(folder / TORCHSCRIPT))
        engines: dict[str, Call] = {
            "eager": lambda x: network(torch.from_numpy(x))[0].numpy(),
            "textbook": lambda x: pair.theirs(torch.from_numpy(x).transpose(0, 1)).numpy(),
            "TorchScript": lambda x: script(torch.from_numpy(x))[0].numpy(),
            "ONNX Runtime window": window.run,
            "ONNX Runtime step": lambda x: _by_steps(step, x),
            "ONNX Runtime int8 window": int8.run,
        }
        for batch, calls in BATCHES.items():
            yield from _measured(engines, batch, calls, rounds)


def _floor(batch: int) -> Callable[[], None]:
    """Return the window's matrix products alone, by torch: at batch 1, mostly reading weights at each step."""
    products: list[Product] = []
    inputs = INPUTS
    for _ in range(2):
        for units in SIZES:
            products += dense(STEPS * batch, inputs, units, train=False, input_gradient=False)
        products += recurrent(SIZES.rnn, train=False, batch=batch)
        inputs = sum(SIZES)
    return runner(products + dense(batch, inputs, CLASSES, train=False, input_gradient=False))


def _measured(engines: dict[str, Call], batch: int, calls: int, rounds: int) -> Iterator[Result]:
    x = np.random.default_rng(0).random((STEPS, batch, INPUTS), dtype=np.float32)
    expected = engines["eager"](x)
    assert expected.shape == (batch, CLASSES)
    errors = {name: float(np.abs(call(x) - expected).max()) for name, call in engines.items()}
    for name, error in errors.items():
        # A membrane within an ulp of its threshold may fire in one engine only, in a few samples of a hundred.
        assert "int8" in name or error < TOLERANCE or batch > 1, f"{name} gives other logits: {error:.1e}"

    def repeated(call: Callable[[Array], object]) -> Measure:
        measure = wall(lambda: [call(x) for _ in range(calls)])
        return lambda: measure() / calls

    products = _floor(batch)
    measures = {name: repeated(call) for name, call in engines.items()}
    times = turns(measures | {"floor": repeated(lambda _: products())}, rounds)
    for name in engines:
        if name == "eager":
            continue
        both = {"baseline": times.seconds["eager"], "ours": times.seconds[name], "floor": times.seconds["floor"]}
        result = Times(both, times.repeated, times.disturbed)
        note = [f"{batch / result.median('ours'):.0f} samples/s"] if batch > 1 else []
        if name != "textbook":
            note.append(f"{times.ratio('textbook', name).show()} times the textbook's speed")
        if name == "ONNX Runtime step":
            note.append(f"{1e6 * result.median('ours') / STEPS:.0f} us per step")
        facts = {"logit_error": errors[name], "batch": batch, "step_seconds": result.median("ours") / STEPS}
        yield Result("inference", f"{name}, batch {batch}", result, facts, "; ".join(note))


def _by_steps(step: Graph, x: Array) -> Array:
    state: dict[str, Any] | None = None
    logits = x
    for now in x:
        logits, state = step.step(now, state)
    return logits
