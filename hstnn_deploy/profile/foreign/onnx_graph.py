"""Measure an ONNX file as it is: loading, the first call, and calls back to back. Needs numpy and onnxruntime alone."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from hstnn_deploy.profile.foreign.absent import not_counted, throughput
from hstnn_deploy.profile.foreign.shapes import RANGES, Input, values
from hstnn_deploy.profile.meter import stats
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Findings, Meet
from hstnn_deploy.profile.phases.inference import WARM_UP_SHARE, repeated
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured, NotMeasured, Value


def measure(configuration: Configuration, ledger: Ledger, meet: Meet) -> Findings:
    """Load the file, call it once, then until it is steady, then repeatedly.

    Raises:
        ExportError: ONNX Runtime cannot load it, or not run it on these inputs.
        DeviceError: it does not run where it was asked to.
        OutOfMemoryError: it does not fit into memory.
    """
    with ledger.span("import"):
        import onnxruntime  # noqa: F401 - so that it is no part of the loading

        from hstnn_deploy.export.runtime.ort import load_cuda_libraries, open_graph
    assert configuration.ckpt is not None
    assert configuration.foreign is not None
    on_gpu = configuration.device != "cpu"
    if on_gpu:
        load_cuda_libraries()
    with ledger.span("load"):
        start = time.perf_counter()
        graph = open_graph(Path(configuration.ckpt), "cuda" if on_gpu else "cpu", configuration.threads)
        load = time.perf_counter() - start
    with ledger.span("inputs"):
        feeds = values([Input(**each) for each in configuration.foreign["inputs"]])

    def once() -> float:
        start = time.perf_counter()
        graph.call(feeds)
        return time.perf_counter() - start

    with ledger.span("first call"):
        start = time.perf_counter()
        outputs = graph.call(feeds)
        first = time.perf_counter() - start
    with ledger.span("warm-up"):
        warm = stats.warm_up(once, WARM_UP_SHARE * configuration.seconds)
    meet()
    with ledger.span("inference"):
        spent = repeated(once, configuration.seconds)
    size = configuration.foreign["bytes"]
    counted = "floating-point initializers of the file"
    found: list[Value] = [
        Measured("load", load, "s", "time.perf_counter, once", "the file was in the page cache already"),
        Measured("first_call", first, "s", "time.perf_counter, once"),
        *stats.distribution("latency", spent, "time.perf_counter", "calls"),
        throughput(configuration.batch, spent),
        Measured("file_bytes", size, "B", "size of the file and of its weight files"),
        Measured("parameters", configuration.foreign["weights"], "parameters", counted),
        NotMeasured("buffers", "an ONNX file does not distinguish buffers from parameters"),
        *not_counted("an ONNX file of another program"),
    ]
    facts = {
        "data": RANGES,
        "warm_up": warm.facts(),
        "calls": len(spent),
        "runs_on": graph.provider,
        "threads": configuration.threads,
        "outputs": {name: _described(value) for name, value in outputs.items()},
    }
    return Findings(found, facts, {"latency": spent}, "inference")


def _described(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    finite = value.dtype.kind != "f" or bool(np.isfinite(value).all())
    return f"{list(value.shape)} {value.dtype}" + ("" if finite else ", not all finite")
