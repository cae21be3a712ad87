"""Measure inference: one call after another on one batch, from input in host memory to logits in host memory.

Needs numpy and what the engine itself needs: the onnxruntime engine loads neither torch nor the training code, so
that its memory is its own. Every engine's call includes the copies to and from the device.

Shapes: T time, B batch, I inputs, C classes or words. Input is x[T, B, I], frames, or tokens [T, B]; output is [B, C],
of a language model [T, B, C].
"""

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.meter import stats
from hstnn_deploy.profile.meter.gpu import torch_device
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Findings, Meet
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured

Array = NDArray[Any]

INPUTS = "inputs.npy"
"""In the folder that `prepare` writes: samples x[T, any B, …]. The graphs lie beside it."""
PREPARED = "prepared.json"
"""There too: what the input is, and what could not be prepared."""
WINDOW_ONNX, TORCHSCRIPT, PT2 = "model.window.onnx", "model.ts", "model.pt2"
FORMATS = {"torchscript": "torchscript", "onnxruntime": "onnx", "pt2": "pt2"}
"""Which export each engine runs; the others run the network itself."""

_FEWEST_CALLS, _CALLS, _MOST_CALLS = 3, 20, 1000
_ENOUGH, WARM_UP_SHARE = 0.25, 0.25
"""The share of the time given after which `_CALLS` calls are enough, and that which may be spent to warm up."""


class Engine(NamedTuple):
    """A network that is ready to be called."""

    call: Callable[[Array], Array]
    """Input to output."""
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
        from hstnn_deploy.export.runtime.ort import open_graph

        provider = "cpu" if configuration.device == "cpu" else "cuda"
        graph = open_graph(folder / WINDOW_ONNX, provider, configuration.threads)
        return Engine(graph.run, graph.provider, configuration.threads)
    return _torch_engine(configuration, folder)


def _torch_engine(configuration: Configuration, folder: Path) -> Engine:
    import torch

    from hstnn_deploy.profile.phases.networks import fresh_network

    device = torch_device(configuration)
    network: Any
    with warnings.catch_warnings():
        # torch says that TorchScript is deprecated; who profiles it knows, or has been told at export.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Either runs what it loads: files that this measurement has just written itself (`prepare`), and no others.
        if configuration.engine == "torchscript":
            scripted = torch.jit.load(folder / TORCHSCRIPT, map_location=device)
            network = lambda x: scripted(x)[0]  # noqa: E731
        elif configuration.engine == "pt2":
            # By handle: by name, torch insists on a .pt2 suffix.
            with (folder / PT2).open("rb") as file:
                program = torch.export.load(file)
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            exported, state = program.module(), fresh_network(configuration).to(device).initial_state
            network = lambda x: exported(x, state(x))[0]  # noqa: E731
        else:
            network = _itself(configuration, device)

    @torch.inference_mode()
    def call(x: Array) -> Array:
        output: Array = network(torch.from_numpy(x).to(device)).float().cpu().numpy()
        return output

    return Engine(call, f"torch {device}", torch.get_num_threads())


def _itself(configuration: Configuration, device: Any) -> Callable[[Any], Any]:
    """Return the network itself as a function: eager is the equations as they stand, fused the kernels of training."""
    import torch

    from hstnn_deploy.models import kernels
    from hstnn_deploy.models.precision import forward, products
    from hstnn_deploy.profile.phases.networks import fresh_network, recipe_of

    asked = recipe_of(configuration).precision
    network: Any = fresh_network(configuration).to(device).eval()
    # The kernels of training write in place, which the compiler does not follow.
    quick = configuration.engine == "fused"
    called = torch.compile(network) if configuration.engine == "compile" else network

    def run(x: Any) -> Any:
        with nullcontext() if quick else kernels.using("plain"), products(asked), forward(asked, device):
            return called(x)[0]

    return run


def measure(configuration: Configuration, folder: Path, ledger: Ledger, meet: Meet) -> Findings:
    """Warm up, call repeatedly, and return what was found.

    Raises:
        ProfileError: what comes out is not finite logits for every sample.
    """
    with ledger.span("open"):
        engine = open_engine(configuration, folder)
        samples = np.load(folder / INPUTS)
    x = np.ascontiguousarray(samples[:, np.arange(configuration.batch) % samples.shape[1]])
    seconds = configuration.seconds
    with ledger.span("warm-up"):
        output = engine.call(x)
        if output.ndim not in (2, 3) or output.shape[-2] != configuration.batch or not np.isfinite(output).all():
            raise ProfileError(f"{configuration.engine} gave {output.shape} for a batch of {configuration.batch}")
        warm = stats.warm_up(lambda: _timed(engine, x), WARM_UP_SHARE * seconds)
    meet()
    with ledger.span("inference"):
        spent = repeated(lambda: _timed(engine, x), seconds)
    values = stats.distribution("latency", spent, "time.perf_counter", "calls")
    rate = configuration.batch * len(spent) / sum(spent)
    values.append(Measured("throughput", rate, "samples/s", "samples / sum of calls"))
    facts = {"warm_up": warm.facts(), "calls": len(spent), "runs_on": engine.runs_on, "threads": engine.threads}
    return Findings(values, facts, {"latency": spent}, "inference")


def _timed(engine: Engine, x: Array) -> float:
    """Call once; return seconds. The output comes back to host memory, so the clock need not wait for the device."""
    start = time.perf_counter()
    engine.call(x)
    return time.perf_counter() - start


def repeated(once: Callable[[], float], seconds: float) -> list[float]:
    """Call until there is enough: the time is over, or a quarter of it where there are enough calls by then.

    Args:
        once: calls once; returns seconds.
        seconds: the time given. It is exceeded by as much as the fewest calls need.

    Returns:
        The seconds of each call.
    """
    spent: list[float] = []
    begin = time.perf_counter()
    while len(spent) < _MOST_CALLS:
        spent.append(once())
        over = time.perf_counter() - begin
        if len(spent) >= _FEWEST_CALLS and (over >= seconds or (len(spent) >= _CALLS and over >= _ENOUGH * seconds)):
            break
    return spent
