"""Write a network's graphs: ONNX in its forms, TorchScript, and torch.export's .pt2."""

import json
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

import torch

from hstnn_deploy import environment, files
from hstnn_deploy.data.preprocessing import Frames, Pixels
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export import forms, front, modules
from hstnn_deploy.export.forms import Form
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
_MOST_FACTS = 1 << 20
"""How much of it is read, in bytes."""


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
    with modules.quiet():
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
    module = modules.script(network)
    with files.atomic(path) as temporary:
        torch.jit.save(module, str(temporary), _extra_files={FACTS: json.dumps(facts | written_by())})
    return path


def _write_pt2(network: HybridNetwork, path: Path, facts: dict[str, str]) -> Path:
    program = modules.program(network)
    # By handle: by name, torch insists on a .pt2 suffix.
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={FACTS: json.dumps(facts | written_by())})
    return path


def stored_facts(path: Path) -> dict[str, str]:
    """Return the facts that are stored in a TorchScript or .pt2 file, if any; nothing else of it is opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(each for each in archive.infolist() if each.filename.endswith(f"/extra/{FACTS}"))
            with archive.open(entry) as stored:
                facts = json.loads(stored.read(_MOST_FACTS))
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, StopIteration, ValueError, RuntimeError):
        return {}
    return {key: value for key, value in facts.items() if isinstance(value, str)} if isinstance(facts, dict) else {}


def written_by() -> dict[str, str]:
    """Return the versions that the text of a TorchScript or .pt2 file depends on, by package."""
    versions = environment.versions()
    return {name: versions[name] for name in ("hstnn-deploy", "torch")}
