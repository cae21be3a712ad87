"""Build a bundle's ONNX graphs again, from weights and recipe, and compare them with those that ship, node by node.

Graphs are written by a builder that writes the same network in the same way every time. So a graph that is what it
builds is proved for every input, what no replay can do: nodes that wait for one input are nodes too many.
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import yaml
from onnx import numpy_helper

from hstnn_deploy import environment
from hstnn_deploy.data.preprocessing import Frames, Pixels
from hstnn_deploy.errors import DataError, ExportError, HstnnError
from hstnn_deploy.export.bundle.description import PRODUCER, metadata
from hstnn_deploy.export.bundle.quantise import How, parse_name, reduce
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.nodes import BUILDER, OPSET
from hstnn_deploy.export.graph.write import VARIANTS, build_onnx
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.proof.samples import training_windows
from hstnn_deploy.models.network import Network
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import Recipe

NAME = "graph = built again"
"""Of the check."""
_LONGEST, _BRACKETS = 2**14, 100
"""Characters of a recipe that are read, and brackets among them."""
_CALIBRATED = ("_scale", "_zero_point")
"""What the names of numbers end with that calibration finds, on the processor it runs on."""
_TOOLS = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy")
"""What makes a smaller graph."""


def read_alone(path: Path) -> onnx.ModelProto:
    """Return the model of an ONNX file that holds all its numbers itself; nothing beside it is touched.

    Raises:
        ExportError: it cannot be read, or has numbers in other files, which no hash of the manifest is of.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors share no public base
        raise ExportError(f"cannot read {path} as ONNX: {' '.join(str(error).split())}") from error
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ExportError(f"{path} stores numbers of {_shown(tensor.name)} in another file, which hstnn never does")
    return model


@dataclass
class Rebuilt:
    """A bundle's ONNX graphs as they are built again from its weights and recipe."""

    folder: Path
    facts: dict[str, Any]
    """The manifest."""
    recipe: Recipe
    network: Network
    how: Pixels | Frames | None
    """The preprocessing that the graphs begin with."""
    data_folder: Path | None

    def check(self, name: str) -> Check:
        """Compare an ONNX file of the bundle, a smaller one too, with what is built again."""
        try:
            found = read_alone(self.folder / name)
            if smaller := parse_name(name):
                return self._smaller(name, found, *smaller)
            return self._check(name, found, first_difference(found, self._built(name, found)))
        except ExportError as error:
            return Check(name, NAME, "failed", error.message)

    def _built(self, name: str, found: onnx.ModelProto) -> onnx.ModelProto:
        network = self.facts["network"]
        stored = metadata(self.recipe, network["stage"], self.network, self.facts["metrics"])
        text = (
            ""
            if "recipe" not in stored
            else next((fact.value for fact in found.metadata_props if fact.key == "recipe"), "")
        )
        if text and _same_recipe(text, self.recipe):
            stored["recipe"] = text
        steps = self.facts["files"][name].get("steps")
        if steps and steps > len(found.graph.node):
            raise ExportError(f"{name} has {len(found.graph.node)} nodes, but the manifest claims {steps} steps")
        form, states = VARIANTS[name]
        opset = self.facts["files"][name].get("opset", OPSET)
        return build_onnx(self.network, form, stored, steps=steps, how=self.how, opset=opset, states=states)

    def _smaller(self, name: str, found: onnx.ModelProto, source: str, form: Form, how: How) -> Check:
        if source not in self.facts["files"]:
            return Check(name, NAME, "failed", f"{source}, its source, is not in the bundle")
        try:
            training = training_windows(self.recipe, self.data_folder) if how == "int8-static" else []
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder) / source
                onnx.save(self._built(source, found), str(whole))
                wanted = read_alone(reduce(whole, form, how, training))
        except (ExportError, DataError) as error:
            return Check(name, NAME, "not run", f"cannot make it again here: {error.message}")
        difference = first_difference(found, wanted)
        tools, here = self.facts["tools"], environment.versions()
        others = [tool for tool in _TOOLS if tool in tools and tools[tool] != here.get(tool)]
        if difference and others:
            made = ", ".join(f"{tool} {_shown(tools[tool])} (here {here.get(tool, 'none')})" for tool in others)
            return Check(name, NAME, "not run", f"made with {made}; the first difference: {difference}")
        if difference and how == "int8-static":
            # On another processor calibration finds other ranges; all else is the same.
            difference = first_difference(found, wanted, _CALIBRATED)
            figure = f"{_size(found)}, except for the ranges that calibration found"
            return self._check(name, found, difference, figure)
        return self._check(name, found, difference)

    def _check(self, name: str, found: onnx.ModelProto, difference: str, figure: str = "") -> Check:
        builder = self.facts["graphs"]["builder"]
        if difference and builder != BUILDER:
            wrote = f"an hstnn with another graph builder wrote it (builder {builder}, here {BUILDER})"
            return Check(name, NAME, "not run", f"{wrote}; the first difference: {difference}")
        return Check(name, NAME, "failed" if difference else "passed", difference or figure or _size(found))


def _same_recipe(text: str, recipe: Recipe) -> bool:
    """Return whether the text in a file is of a recipe, though an older hstnn may have left out what was not yet."""
    # hstnn never writes a recipe that takes long to read: deep brackets, or anchors and aliases.
    if len(text) > _LONGEST or text.count("[") + text.count("{") > _BRACKETS or re.search(r"(^|[\s\[{,])[&*]\S", text):
        return text == recipe.yaml()
    try:
        return text == recipe.yaml() or parse(yaml.safe_load(text), "") == recipe
    except (yaml.YAMLError, HstnnError, ValueError, RecursionError, TypeError):
        return False


def _size(model: onnx.ModelProto) -> str:
    inside = sum(len(attribute.g.node) for node in model.graph.node for attribute in node.attribute)
    return (
        f"{len(model.graph.node) + inside} nodes and {len(model.graph.initializer)} stored arrays are equal to the bit"
    )


# ---------------------------------------------------------------------------------------------------------- differences


def first_difference(found: onnx.ModelProto, wanted: onnx.ModelProto, free: Sequence[str] = ()) -> str:
    """Return where a model first differs from what it should be, in words; an empty text where it is the same.

    Args:
        found: the model.
        wanted: what it should be. The facts stored beside the graphs may differ in which version wrote them.
        free: endings of names of stored arrays; only type and shape of these must be the same.
    """
    ours, theirs = onnx.ModelProto(), onnx.ModelProto()
    for copy, model in ((ours, found), (theirs, wanted)):
        copy.CopyFrom(model)
        for fact in copy.metadata_props:
            if fact.key == PRODUCER:
                fact.value = ""
    if ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True):
        return ""
    if difference := _difference(ours, theirs, "", free):
        return difference
    theirs.DiscardUnknownFields()
    before = ours.ByteSize()
    ours.DiscardUnknownFields()
    unknown = before != ours.ByteSize()
    return "it has fields that ONNX does not know" if unknown else "" if free else "a number differs in its bits"


def _difference(found: Any, wanted: Any, where: str, free: Sequence[str]) -> str:
    if isinstance(wanted, onnx.TensorProto):
        return _of_tensors(found, wanted, where, free)
    for field in wanted.DESCRIPTOR.fields:
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        inside = f"{field.name} of {where}" if where else field.name
        repeated = hasattr(theirs, "extend")
        if repeated and field.message_type:
            difference = _of_lists(ours, theirs, inside, free)
        elif repeated:
            difference = "" if list(ours) == list(theirs) else _values(inside, list(ours), list(theirs))
        elif field.message_type:
            there = found.HasField(field.name)
            if not there and not wanted.HasField(field.name):
                continue
            if there != wanted.HasField(field.name):
                difference = f"{inside} is there but should not be" if there else f"{inside} is missing"
            else:
                difference = _difference(ours, theirs, _called(theirs, where or field.name), free)
        else:
            difference = "" if ours == theirs else _values(inside, ours, theirs)
        if difference:
            return difference
    return ""


def _of_lists(found: Sequence[Any], wanted: Sequence[Any], where: str, free: Sequence[str]) -> str:
    ours, theirs = [_called(each, "") for each in found], [_called(each, "") for each in wanted]
    if ours != theirs:
        if more := [name for name in ours if ours.count(name) > theirs.count(name)]:
            return f"{where} has the extra {_shown(more[0])}"
        if missing := [name for name in theirs if name not in ours]:
            return f"{where} lacks {_shown(missing[0])}"
        return f"{where} are in another order"
    for name, one, other in zip(theirs, found, wanted, strict=True):
        if difference := _difference(one, other, name or where, free):
            return difference
    return ""


def _of_tensors(found: Any, wanted: Any, where: str, free: Sequence[str]) -> str:
    if (found.data_type, list(found.dims)) != (wanted.data_type, list(wanted.dims)):
        there, should = ((list(each.dims), each.data_type) for each in (found, wanted))
        return f"{where} has shape {there[0]} and type {there[1]}; it should have {should[0]} and {should[1]}"
    if free and where.endswith(tuple(free)):
        return ""
    if found.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True):
        return ""
    try:
        ours, theirs = (numpy_helper.to_array(each).reshape(-1) for each in (found, wanted))
        count = sum(one.tobytes() != other.tobytes() for one, other in zip(ours, theirs, strict=True))
    except (ValueError, TypeError):
        count = 0
    return f"{where} differs in {count} of {len(ours)} values" if count else f"{where} is stored in another way"


def _values(where: str, found: Any, wanted: Any) -> str:
    return f"{where} is {_shown(found)}; it should be {_shown(wanted)}"


def _called(message: Any, otherwise: str) -> str:
    """Return what a part of a model goes by."""
    match message:
        case onnx.NodeProto():
            return f"node {message.name or ', '.join(message.output)} ({message.op_type})"
        case onnx.TensorProto():
            return f"stored array {message.name}"
        case onnx.AttributeProto():
            return f"{otherwise} attribute {message.name}".strip()
        case onnx.StringStringEntryProto():
            return f"fact {message.key}"
        case onnx.OperatorSetIdProto():
            return f"opset of {message.domain or 'ONNX'}"
        case onnx.ValueInfoProto() | onnx.GraphProto():
            return f"{message.name}"
        case _:
            return otherwise


def _shown(value: Any) -> str:
    plain = isinstance(value, str) and value.isascii() and value.isprintable()
    text = value if plain else ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return all tensors that are stored anywhere in a model."""
    found: list[onnx.TensorProto] = []
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto):
            found.append(message)
            continue
        for field, value in message.ListFields():
            if field.message_type:
                waiting += value if hasattr(value, "extend") else [value]
    return found
