"""Measure inference: one call after another on one batch, from input in host memory to logits in host memory.

Needs numpy and what the engine itself needs: the onnxruntime engine loads neither torch nor the rooms that train, so
that its memory is its own. Every engine's call holds the copies to and from the device.

Shapes: T time, B batch, I inputs, C classes.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.gpu import torch_device
from hstnn_deploy.profile.probes import Probe, measured
from hstnn_deploy.profile.records import Configuration
from hstnn_deploy.profile.values import Measured, Value

Array = NDArray[np.float32]

INPUTS = "inputs.npy"
"""In the folder that `prepare` writes: samples x[T, any B, I]. The graphs lie beside it."""
PREPARED = "prepared.json"
"""There too: what the input is, and what could not be prepared."""
WINDOW_ONNX, TORCHSCRIPT = "model.window.onnx", "model.ts"

_WARMUP_CALLS, _WARMUP_SECONDS, _MOST_WARMUP = 3, 1.0, 50
_FEWEST_CALLS, _CALLS, _MOST_CALLS = 3, 20, 1000
_ENOUGH = 0.25
"""The share of the time given after which `_CALLS` calls are enough."""


class Engine(NamedTuple):
    """A network that is ready to be called."""

    call: Callable[[Array], Array]
    """x[T, B, I] -> logits [B, C]."""
    runs_on: str
    """What really runs it: "torch cpu", "CPUExecutionProvider", …"""
    threads: int | None
    """CPU threads, or None where the engine chose by itself and does not tell."""


def open_engine(configuration: Configuration, folder: Path) -> Engine:
    """Return the configured engine over the files in `folder`.

    Raises:
        ExportError: the engine does not run where it was asked to.
    """
    if configuration.engine == "onnxruntime":
        from hstnn_deploy.export.ort import open_graph

        provider = "cpu" if configuration.device == "cpu" else "cuda"
        graph = open_graph(folder / WINDOW_ONNX, provider, configuration.threads)
        return Engine(graph.run, graph.provider, configuration.threads)
    return _torch_engine(configuration, folder)


def _torch_engine(configuration: Configuration, folder: Path) -> Engine:
    import torch

    device = torch_device(configuration)
    network: Any
    if configuration.engine == "torchscript":
        with warnings.catch_warnings():
            # torch says that TorchScript is deprecated; who profiles it knows, or has been told at export.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(folder / TORCHSCRIPT, map_location=device)
    else:
        from hstnn_deploy.profile.networks import fresh_network

        network = fresh_network(configuration).to(device).eval()

    @torch.inference_mode()
    def call(x: Array) -> Array:
        output: Array = network(torch.from_numpy(x).to(device))[0].cpu().numpy()
        return output

    return Engine(call, f"torch {device}", torch.get_num_threads())


def measure(configuration: Configuration, folder: Path, probes: list[Probe]) -> tuple[list[Value], dict[str, Any]]:
    """Warm up, call repeatedly under the probes, and return values and facts.

    Raises:
        ProfileError: what comes out is not one row of finite logits per sample.
    """
    engine = open_engine(configuration, folder)
    samples = np.load(folder / INPUTS)
    x = np.ascontiguousarray(samples[:, np.arange(configuration.batch) % samples.shape[1]])
    logits = engine.call(x)
    if logits.ndim != 2 or len(logits) != configuration.batch or not np.isfinite(logits).all():
        raise ProfileError(f"{configuration.engine} gave {logits.shape} for a batch of {configuration.batch}")
    warmup = 1 + len(
        _calls(engine, x, lambda done, spent: done >= _WARMUP_CALLS and spent >= _WARMUP_SECONDS, _MOST_WARMUP)
    )
    seconds = configuration.seconds

    def enough(done: int, spent: float) -> bool:
        return done >= _FEWEST_CALLS and (spent >= seconds or (done >= _CALLS and spent >= _ENOUGH * seconds))

    with measured(probes) as values:
        spent = _calls(engine, x, enough, _MOST_CALLS)
    few = "of fewer than 100 calls: close to the slowest one" if len(spent) < 100 else ""
    source = f"time.perf_counter, {len(spent)} calls"
    latencies: list[Value] = [
        Measured(f"latency_p{share}", float(np.percentile(spent, share)), "s", source, few if share == 99 else "")
        for share in (50, 90, 99)
    ]
    speed = Measured("throughput", configuration.batch * len(spent) / sum(spent), "samples/s", "samples / sum of calls")
    facts = {"warmup_calls": warmup, "calls": len(spent), "runs_on": engine.runs_on, "threads": engine.threads}
    return [*latencies, speed, *values], facts


def _calls(engine: Engine, x: Array, enough: Callable[[int, float], bool], most: int) -> list[float]:
    """Call until there is enough, `most` times at most; return each call's seconds.

    The logits come back to host memory in every call, so the clock need not synchronise with the device.
    """
    spent: list[float] = []
    begin = time.perf_counter()
    while len(spent) < most and not enough(len(spent), time.perf_counter() - begin):
        start = time.perf_counter()
        engine.call(x)
        spent.append(time.perf_counter() - start)
    return spent
