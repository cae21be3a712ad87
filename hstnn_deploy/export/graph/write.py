"""Write a network's graphs: ONNX in its forms, TorchScript, and torch.export's .pt2."""

import io
import json
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import onnx
import torch

from hstnn_deploy import environment, files
from hstnn_deploy.data.preprocessing import Frames, Pixels
from hstnn_deploy.errors import ExportError, UsageError
from hstnn_deploy.export.graph import forms, modules, raw_input
from hstnn_deploy.export.graph.forms import Form, States
from hstnn_deploy.export.graph.nodes import OPSET, OPSETS, Opset
from hstnn_deploy.models.network import Network

Format = Literal["onnx", "torchscript", "pt2"]
FORMATS: tuple[Format, ...] = get_args(Format)

WINDOW_ONNX, STEP_ONNX, UNROLLED_ONNX = "model.window.onnx", "model.step.onnx", "model.unrolled.onnx"
WINDOW_INSIDE_ONNX, UNROLLED_INSIDE_ONNX = "model.window.inside.onnx", "model.unrolled.inside.onnx"
TORCHSCRIPT, PT2 = "model.ts", "model.pt2"


class Variant(NamedTuple):
    """How a graph takes time, and its states."""

    form: Form
    states: States


VARIANTS: dict[str, Variant] = {
    WINDOW_ONNX: Variant("window", "named"),
    WINDOW_INSIDE_ONNX: Variant("window", "inside"),
    STEP_ONNX: Variant("step", "named"),
    UNROLLED_ONNX: Variant("unrolled", "named"),
    UNROLLED_INSIDE_ONNX: Variant("unrolled", "inside"),
}
"""Every ONNX file that there can be, but for the smaller ones."""

ONNX_FILES: dict[Form, str] = {variant.form: name for name, variant in VARIANTS.items() if variant.states == "named"}
"""The file of each form, its states by name."""

NAMED: tuple[States, ...] = ("named",)


def states_in(name: str) -> States:
    """Return where the states of an ONNX file are, by its name; of a smaller one's, where they were before."""
    before = name.removesuffix(".onnx").rpartition(".")[0] + ".onnx"
    variant = VARIANTS.get(name) or VARIANTS.get(before)
    return variant.states if variant else "named"


DEFAULT_FORMS: tuple[Form, ...] = ("window", "step")

FACTS = "metadata.json"
"""In TorchScript and .pt2 files: the name of what is stored beside the graph."""
_MOST_FACTS = 1 << 20
"""How much of it is read, in bytes."""


def files_of(
    formats: Collection[str], of_onnx: Collection[Form] = DEFAULT_FORMS, states: Collection[States] = NAMED
) -> list[str]:
    """Return the names of the files of some formats, in the order of `FORMATS`.

    A step graph's states always go by name.
    """
    names = []
    if "onnx" in formats:
        for name, variant in VARIANTS.items():
            if variant.form in of_onnx and (variant.states in states or variant.form == "step"):
                names.append(name)
    return names + [name for format, name in (("torchscript", TORCHSCRIPT), ("pt2", PT2)) if format in formats]


def write_graphs(
    network: Network,
    folder: Path,
    formats: Collection[str],
    metadata: dict[str, str] | None = None,
    *,
    of_onnx: Collection[Form] = DEFAULT_FORMS,
    steps: int | None = None,
    how: Pixels | Frames | None = None,
    opset: int = OPSET,
    states: Collection[States] = NAMED,
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
        opset: the version of ONNX's operators.
        states: of the graphs of windows, those that take their states by name, those that have them inside, or both.

    Raises:
        UsageError: an unknown opset.
        ExportError: an unknown format, or a network that has no export form.
        RunError: the folder cannot be written.
    """
    if unknown := set(formats) - set(FORMATS):
        raise ExportError(f"unknown format {min(unknown)!r}", f"known: {', '.join(FORMATS)}")
    files.make_folder(folder)
    facts = metadata or {}
    written = []
    for name in files_of(formats, of_onnx, states):
        if name in VARIANTS:
            variant = VARIANTS[name]
            model = build_onnx(network, variant.form, facts, steps=steps, how=how, opset=opset, states=variant.states)
            written.append(_write(folder / name, model.SerializeToString(deterministic=True)))
    with modules.quiet():
        if "torchscript" in formats:
            written.append(_write_torchscript(network, folder / TORCHSCRIPT, facts))
        if "pt2" in formats:
            written.append(_write_pt2(network, folder / PT2, facts))
    return written


def build_onnx(
    network: Network,
    form: Form,
    facts: dict[str, str],
    *,
    steps: int | None = None,
    how: Pixels | Frames | None = None,
    opset: int = OPSET,
    states: States = "named",
) -> onnx.ModelProto:
    """Return any ONNX graph of a bundle; the same network and options give the same bytes.

    Args:
        network: the network, on any device.
        form: how the graph takes time.
        facts: what is stored beside the graph.
        steps: T of an unrolled graph.
        how: the preprocessing that the graph begins with; None: it takes x.
        opset: the version of ONNX's operators.
        states: whether a graph of a window takes its states by name, or makes its zeros itself and takes x alone.

    Raises:
        UsageError: an unknown opset.
        ExportError: an opset without an operator that is needed, a step graph with its states inside, or a network that
            no graph is written of.
    """
    version = check_opset(opset)
    model = forms.build(network, form, facts, steps, version, states)
    if how is None:
        return model
    return raw_input.join(raw_input.build(how, form, steps, version, states == "inside"), model)


def check_opset(opset: int) -> Opset:
    """Return a version of ONNX's operators that graphs are written in.

    Raises:
        UsageError: it is none of these.
    """
    for known in OPSETS:
        if known == opset:
            return known
    raise UsageError(f"hstnn does not write graphs in opset {opset}", f"known: {', '.join(map(str, OPSETS))}")


def _write(path: Path, content: bytes) -> Path:
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def _write_torchscript(network: Network, path: Path, facts: dict[str, str]) -> Path:
    module, content = modules.script(network), io.BytesIO()
    # In memory first, here and below: on a full disk, torch's own writers end the process.
    torch.jit.save(module, content, _extra_files={FACTS: json.dumps(facts | written_by())})
    return _write(path, content.getvalue())


def _write_pt2(network: Network, path: Path, facts: dict[str, str]) -> Path:
    content = io.BytesIO()
    torch.export.save(modules.program(network), content, extra_files={FACTS: json.dumps(facts | written_by())})
    return _write(path, content.getvalue())


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
