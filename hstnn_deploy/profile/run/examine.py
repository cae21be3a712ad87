"""Before a foreign network is measured: look at it, settle its inputs and run it once, in a process of its own.

    python -m hstnn_deploy.profile.run.examine REQUEST.json RESULT.json

The request has `kind` ("onnx" or "module"), `name` (the file, or PACKAGE.MODULE:FACTORY), `inputs` (see
`profile.foreign.shapes`), `pairs` of batch and steps, `free` (bytes of main memory) and `limit` (bytes that this
process may take, or null). The result has an error with its class, or `inputs`, `batch`, `steps` and `notes` of each
pair, with `bytes` and `weights` of a file.
"""

import json
import sys
from pathlib import Path
from typing import Any

from hstnn_deploy import files
from hstnn_deploy.errors import HstnnError, ProfileError, out_of_memory
from hstnn_deploy.foreign import first_line
from hstnn_deploy.processes import end_with_starter
from hstnn_deploy.profile.foreign import shapes
from hstnn_deploy.profile.run.worker import limit


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be measured, once it has run.

    Raises:
        HstnnError: it cannot be measured; see `onnx_file.examine`, `load_factory` and `shapes`.
    """
    given = shapes.parse(request["inputs"])
    return (_onnx if request["kind"] == "onnx" else _module)(request, given)


def _onnx(request: dict[str, Any], given: list[shapes.Given]) -> dict[str, Any]:
    from hstnn_deploy.profile.foreign import onnx_file

    path = Path(request["name"])
    found = onnx_file.examine(path)
    resolved = [shapes.of_file(found.inputs, given, *pair) for pair in request["pairs"]]
    _check(resolved, request["free"])
    from hstnn_deploy.export.runtime.ort import open_graph

    graph = open_graph(path)
    try:
        graph.call(shapes.values(resolved[0].inputs))
    except HstnnError as error:
        raise type(error)(f"{path}: {error.message}", error.hint) from error
    return {"resolved": [_plain(each) for each in resolved], "bytes": found.bytes, "weights": found.weights}


def _module(request: dict[str, Any], given: list[shapes.Given]) -> dict[str, Any]:
    resolved = [shapes.of_module(given, *pair) for pair in request["pairs"]]
    _check(resolved, request["free"])
    from hstnn_deploy.factories import load_factory
    from hstnn_deploy.profile.foreign import torch_module

    name = request["name"]
    network = load_factory(name)
    torch_module.try_once(name, network, torch_module.arguments(shapes.values(resolved[0].inputs)))
    return {"resolved": [_plain(each) for each in resolved]}


def _check(resolved: list[shapes.Resolved], free: int) -> None:
    for each in resolved:
        shapes.check_size(each.inputs, free)


def _plain(resolved: shapes.Resolved) -> dict[str, Any]:
    return {
        "inputs": [each.plain() for each in resolved.inputs],
        "batch": resolved.batch,
        "steps": resolved.steps,
        "notes": resolved.notes,
    }


def main() -> None:
    """Do what the request says; what is wrong is written to the result too."""
    end_with_starter()
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    limit(request["limit"])
    try:
        result = examine(request)
    except HstnnError as error:
        result = {"error": error.message, "hint": error.hint, "class": type(error).__name__}
    except Exception as error:
        found = out_of_memory(error) or ProfileError(f"{request['name']} cannot be measured: {first_line(error)}")
        result = {"error": found.message, "hint": found.hint, "class": type(found).__name__}
    files.write_json(Path(sys.argv[2]), result)


if __name__ == "__main__":
    main()
