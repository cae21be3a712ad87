"""Which ONNX Runtime providers really load: a one-node model on each, in a process of its own.

    python -m hstnn_deploy.profile.survey.providers NAME

A provider that is listed as available may lack its libraries; ONNX Runtime then takes the CPU, with a word on standard
error at most. So what counts is what the session says it runs on.
"""

import json
import re
import subprocess
import sys
from typing import NamedTuple

from hstnn_deploy import processes

_LIMIT = 60.0
"""Seconds; a provider that hangs is one that does not load."""


class Provider(NamedTuple):
    """A provider that ONNX Runtime was built with."""

    name: str
    loads: bool
    reason: str
    """Why it does not load; empty where it does."""


def survey() -> list[Provider]:
    """Return every provider that ONNX Runtime lists, and whether it loads.

    Raises:
        ImportError: onnxruntime is not installed, or cannot be loaded.
    """
    import onnxruntime

    return [_tried(name) for name in onnxruntime.get_available_providers()]


def one_node_model() -> bytes:
    """Return an ONNX model of a single node: y = x + x over two numbers."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "one_node", [x], [y])
    # Old enough for every ONNX Runtime that this package supports.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized


def _tried(name: str) -> Provider:
    command = processes.command("profile.survey.providers", name)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
            env=processes.environment(),
        )
    except subprocess.TimeoutExpired:
        return Provider(name, False, f"it did not load within {_LIMIT:g} s")
    if done.returncode:
        return Provider(name, False, _reason(done.stderr) or f"the process ended with code {done.returncode}")
    running = json.loads(done.stdout.splitlines()[-1])
    if name in running:
        return Provider(name, True, "")
    return Provider(name, False, _reason(done.stderr) or "ONNX Runtime used the CPU instead and gave no reason")


def _reason(printed: str) -> str:
    """Return why a provider did not load, out of what was printed; "" where that does not say."""
    if found := re.search(r"with error: (.+)", printed):
        return found[1].strip()
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def main() -> None:
    """Open a session on the named provider; print what it runs on as the last line, in JSON."""
    import numpy as np
    import onnxruntime

    from hstnn_deploy.export.runtime.ort import load_cuda_libraries

    if sys.argv[1] != "CPUExecutionProvider":
        load_cuda_libraries()
    session = onnxruntime.InferenceSession(one_node_model(), providers=[sys.argv[1]])
    session.run(None, {"x": np.ones(2, np.float32)})
    print(json.dumps(session.get_providers()))


if __name__ == "__main__":
    main()
