"""Write a network's graphs: ONNX in its forms, TorchScript, and torch.export's .pt2."""

import io
import json
import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch
from torch.export import Dim

from hstnn_deploy import files
from hstnn_deploy.data.preprocessing import Frames, Pixels
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export import forms, front
from hstnn_deploy.export.forms import Form
from hstnn_deploy.export.frozen import Program, freeze
from hstnn_deploy.export.interface import interface
from hstnn_deploy.models.convolutional import SpikingConvolution
from hstnn_deploy.models.layers import SpikingGroup
from hstnn_deploy.models.network import HybridNetwork

Format = Literal["onnx", "torchscript", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)

WINDOW_ONNX, STEP_ONNX, UNROLLED_ONNX = "model.window.onnx", "model.step.onnx", "model.unrolled.onnx"
TORCHSCRIPT, PT2 = "model.ts", "model.pt2"

ONNX_FILES: dict[Form, str] = {"window": WINDOW_ONNX, "step": STEP_ONNX, "unrolled": UNROLLED_ONNX}
"""The file of each form."""

DEFAULT_FORMS: tuple[Form, ...] = ("window", "step")

FACTS = "metadata.json"
"""In TorchScript and .pt2 files: the name of what is stored beside the graph."""

_EXAMPLE_STEPS, _EXAMPLE_BATCH = 3, 2
"""Of the example that torch.export is shown; neither may be found in a written graph."""


def files_of(formats: Collection[str], of_onnx: Collection[Form] = DEFAULT_FORMS) -> list[str]:
    """Return the names of the files of some formats, in the order of `FORMATS`."""
    names = [ONNX_FILES[form] for form in ONNX_FILES if form in of_onnx] if "onnx" in formats else []
    return names + [name for format, name in (("torchscript", TORCHSCRIPT), ("pt2", PT2)) if format in formats]


def write_graphs(
    network: HybridNetwork,
    folder: Path,
    formats: Collection[str],
    metadata: dict[str, str] | None = None,
    *,
    of_onnx: Collection[Form] = DEFAULT_FORMS,
    steps: int | None = None,
    how: Pixels | Frames | None = None,
) -> list[Path]:
    """Write the graphs of a network into a folder; return the files, in the order of `FORMATS`.

    Args:
        network: the network, on any device.
        folder: where to write; created if need be.
        formats: some of `FORMATS`.
        metadata: facts to store inside each file.
        of_onnx: the forms of the ONNX graphs.
        steps: T of an unrolled graph.
        how: the preprocessing that the ONNX graphs begin with; None: they take x.

    Raises:
        ExportError: an unknown format, or a network that has no export form.
        RunError: the folder cannot be written.
    """
    if unknown := set(formats) - set(FORMATS):
        raise ExportError(f"unknown format {min(unknown)!r}", f"known: {', '.join(FORMATS)}")
    for group in (group for layer in network.stack for group in layer.groups.values()):
        if isinstance(group, SpikingGroup | SpikingConvolution) and group.neuron.reset != "zero":
            raise ExportError("a reset by subtraction has no export form yet", "network.neuron.reset=zero has one")
    files.make_folder(folder)
    facts = metadata or {}
    written = []
    if "onnx" in formats:
        for form in ONNX_FILES:
            if form in of_onnx:
                model = forms.build(network, form, facts, steps)
                if how:
                    model = front.join(front.build(how, form, steps), model)
                written.append(_write(folder / ONNX_FILES[form], model.SerializeToString()))
    with _quiet():
        if "torchscript" in formats:
            written.append(_write_torchscript(network, folder / TORCHSCRIPT, facts))
        if "pt2" in formats:
            written.append(_write_pt2(network, folder / PT2, facts))
    return written


def _write(path: Path, content: bytes) -> Path:
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def _write_torchscript(network: HybridNetwork, path: Path, facts: dict[str, str]) -> Path:
    # Scripted, not traced: tracing would bake the number of steps. Not frozen, so that the weights keep their names.
    module = torch.jit.script(freeze(network))
    # In memory first, here and below: on a full disk, torch's own writers end the process.
    content = io.BytesIO()
    torch.jit.save(module, content, _extra_files={FACTS: json.dumps(facts)})
    return _write(path, content.getvalue())


def _write_pt2(network: HybridNetwork, path: Path, facts: dict[str, str]) -> Path:
    face = interface(network)
    batch = Dim("B", min=1)
    program = torch.export.export(
        Program(freeze(network), face.every_step),
        (face.example(_EXAMPLE_STEPS, _EXAMPLE_BATCH), face.zeros(_EXAMPLE_BATCH)),
        dynamic_shapes={
            "x": {0: Dim("T", min=1), 1: batch},
            "state": {each.name: {0: batch} for each in face.states},
        },
    )
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={FACTS: json.dumps(facts)})
    return _write(path, content.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' talk (deprecations, missing torchvision) from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
