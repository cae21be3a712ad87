"""Before inference is measured: export the network and write the input, in a process of its own.

    python -m hstnn_deploy.profile.run.prepare REQUEST.json FOLDER

The request has a configuration and the engines. The folder gets `inputs.npy`, the graphs, and `prepared.json`: what
the input is, the graphs' sizes on disk, and per engine why it has no graph, if so.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hstnn_deploy import files
from hstnn_deploy.errors import ExportError, HstnnError
from hstnn_deploy.processes import end_with_starter
from hstnn_deploy.profile.phases.inference import FORMATS, INPUTS, PREPARED
from hstnn_deploy.profile.phases.inputs import splits_of
from hstnn_deploy.profile.phases.networks import fresh_network, recipe_of
from hstnn_deploy.profile.record import Configuration

_SAMPLES = 100
"""Distinct samples in the input; a larger batch repeats them."""


def prepare(configuration: Configuration, engines: list[str], folder: Path) -> dict[str, Any]:
    """Write everything that the engines need; return the content of prepared.json.

    Args:
        configuration: which network, and where its data is.
        engines: those that will be measured.
        folder: where to write.

    Raises:
        HstnnError: the data is damaged, or the folder cannot be written.
    """
    recipe = recipe_of(configuration)
    data, what = splits_of(configuration, recipe)
    chosen = torch.arange(min(_SAMPLES, len(data.test)))
    np.save(folder / INPUTS, data.test.batch(chosen, torch.device("cpu")).x.numpy())
    absent: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for engine in engines:
        if engine in FORMATS:
            try:
                sizes[engine] = _write_graphs(configuration, folder, FORMATS[engine])
            except ExportError as error:
                absent[engine] = f"no export form: {error.message}"
    return {"data": what, "absent": absent, "sizes": sizes}


def _write_graphs(configuration: Configuration, folder: Path, form: str) -> int:
    """Write the graphs of a format; return the bytes of the first of them, which is the one that runs."""
    from hstnn_deploy.export.graph.write import write_graphs

    return write_graphs(fresh_network(configuration).eval(), folder, {form})[0].stat().st_size


def main() -> None:
    """Do what the request file says. An error that can be explained is written to prepared.json too."""
    end_with_starter()
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[2])
    configuration = Configuration.from_plain(request["configuration"])
    try:
        result = prepare(configuration, request["engines"], folder)
    except HstnnError as error:
        result = {"error": error.message}
    files.write_json(folder / PREPARED, result)


if __name__ == "__main__":
    main()
