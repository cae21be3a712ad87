"""Preprocessing as the first nodes of a graph: raw pixels or events go in, and x comes out for the network behind it.

    pixels   image [B, height, T] or column [B, height] (with 3 colours last), uint8 -> scaled, columns as time
    events   events [N, 5], or frame_events of a step, and the frames each recording has had so far -> their counts

A front and a network's graph are joined at the value `x`, and a written file is split there again: whatever is proved
of a network is proved of the network behind its front, and the front is proved by itself (`raw`).

An event's place goes through a table of places, made by tonic's transforms themselves on one event of each place: what
moves or drops events by their place alone is exact so, whatever it is. What looks at other events cannot be so. The one
exception is the alignment to a recording's first event, which a state remembers: frames are then counted from there.

Shapes: T time, B batch, N events of all recordings of a batch.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hstnn_deploy.data.events.events import make_events
from hstnn_deploy.data.events.transforms import (
    CenterCrop,
    CropTime,
    Downsample,
    MergePolarities,
    Pick,
    TimeAlignment,
    chain,
    sensor_after,
)
from hstnn_deploy.data.preprocessing import Frames, Pixels, Preprocessing, Whole, Words
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.forms import Form, time_axis
from hstnn_deploy.export.graph.interface import State, state_after
from hstnn_deploy.export.graph.nodes import CONSTANT, OPSET, Nodes, Opset

X, FRAMES = "x", "frames"
"""What a network takes; and how many frames to make."""
SEEN, BEGAN = "frames_seen", "began"
"""States: where a recording stands, and when it began."""
_NEVER = 2**62
"""Later than any event."""
_LEAST_OPSET_ALIGNED: Opset = 18
"""What knows the least of several values by place."""

_CONSTANTS = f"{CONSTANT}preprocessing/"
"""Its stored numbers go by names of their own: those of a network may be made smaller."""
_IN_A_GRAPH = (CropTime, TimeAlignment, Downsample, Pick, CenterCrop, MergePolarities)
_DROPS = (CropTime, CenterCrop, Pick)
_WHY_NOT = {
    "denoise": "drops an event that lacks neighbours in place and time",
    "refractory-period": "drops an event because of an earlier one",
    "decimation": "counts the events of each pixel",
    "hot-pixels": "needs the rate of each pixel over the whole recording",
}
_WITHOUT = "leave out --preprocess: `hstnn run` and the runtime's readers then preprocess"


class Input(NamedTuple):
    """An input of a front."""

    name: str
    dtype: str
    shape: list[int | str]
    meaning: str


def possible(how: Preprocessing, formats: Collection[str] = ("onnx",)) -> Pixels | Frames:
    """Return a preprocessing if a graph can hold it, in all of the formats.

    Raises:
        ExportError: says which and why.
    """
    match how:
        case Words():
            raise ExportError("--preprocess: a graph cannot look up a text's words in a vocabulary", _WITHOUT)
        case Whole():
            raise ExportError("--preprocess: a graph does not encode whole images (data.images)", _WITHOUT)
        case Pixels():
            pass
        case Frames():
            if how.frames is not None:
                raise ExportError(
                    f"--preprocess: a graph makes frames at fixed times, and frames by {how.frames.by} "
                    f"{how.frames.whole}",
                    _WITHOUT,
                )
            dropped = ""
            for each in how.transforms:
                if not isinstance(each, _IN_A_GRAPH):
                    raise ExportError(f"--preprocess: the transform {each.name} {_WHY_NOT[each.name]}", _WITHOUT)
                if isinstance(each, TimeAlignment) and dropped:
                    raise ExportError(
                        f"--preprocess: time-alignment knows the first event only after {dropped}", _WITHOUT
                    )
                if isinstance(each, _DROPS):
                    dropped = each.name
                if how.steps is None and isinstance(each, (*_DROPS, TimeAlignment)):
                    raise ExportError(
                        f"--preprocess: the number of frames of a whole recording is known only after {each.name}",
                        _WITHOUT,
                    )
        case _:
            raise ExportError("--preprocess: the format of the files behind x is unknown", _WITHOUT)
    if wrong := sorted(set(formats) - {"onnx"}):
        raise ExportError(
            f"--preprocess: {wrong[0]} has no front: the proof can separate a front only from an ONNX graph",
            "give only --onnx, or export twice",
        )
    return how


def inputs(how: Pixels | Frames | None, form: Form, steps: int | None = None, inside: bool = False) -> list[Input]:
    """Return what a front takes in the place of x; nothing without one.

    Args:
        how: the preprocessing.
        form: of the graph.
        steps: T of an unrolled graph.
        inside: whether the front's states are inside; it then makes as many frames as in training.
    """
    if how is None:
        return []
    if isinstance(how, Pixels):
        levels = f"0 is black, {how.white} white"
        axes: list[int | str] = ["B", how.height, *time_axis(form, steps), *([3] if how.colours == 3 else [])]
        if form == "step":
            return [Input("column", "uint8", axes, f"a column's raw pixels, {levels}")]
        return [Input("image", "uint8", axes, f"raw pixels of T columns, {levels}")]
    meaning = (
        "raw events, in any order, of all recordings: the recording's number 0 .. B - 1, microseconds since it began, "
        "x, y, polarity"
    )
    if form == "step":
        meaning += "; those of the frame, others do no harm"
    found = [Input("frame_events" if form == "step" else "events", "int64", ["N", 5], meaning)]
    if inside:
        return found
    found += [Input(each.name, each.dtype, ["B"], f"{each.meaning}, before") for each in states(how)]
    if form == "window":
        default = f"{how.steps}, as in training" if how.steps else "0: up to the last event"
        found.append(Input(FRAMES, "int64", [], f"frames T to make; may be left out, then {default}"))
    return found


def states(how: Preprocessing | None) -> list[State]:
    """Return the states that a front has."""
    if not isinstance(how, Frames):
        return []
    found = [State(SEEN, (), "frames seen", "sequence", "int64")]
    if _aligned(how):
        meaning = "microseconds of the recording's first event, plus 1; 0 where there was none yet"
        found.append(State(BEGAN, (), meaning, "sequence", "int64"))
    return found


def build(
    how: Pixels | Frames, form: Form, steps: int | None = None, opset: Opset = OPSET, inside: bool = False
) -> onnx.ModelProto:
    """Return a front as a graph of its own.

    Args:
        how: the preprocessing.
        form: of the graph.
        steps: T of an unrolled graph.
        opset: the version of ONNX's operators.
        inside: whether the front's states are inside.

    Raises:
        ExportError: it needs operators that this version has not.
    """
    if opset < _LEAST_OPSET_ALIGNED and isinstance(how, Frames) and _aligned(how):
        raise ExportError(
            f"--preprocess: time-alignment needs opset {_LEAST_OPSET_ALIGNED} (the least of several values by place), "
            f"not {opset}",
            f"give --opset {_LEAST_OPSET_ALIGNED} or a newer one",
        )
    g = Nodes(constants=_CONSTANTS)
    dtypes = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    for name, dtype, shape, meaning in inputs(how, form, steps, inside):
        g.input(name, shape, dtypes[dtype], meaning)
    if isinstance(how, Pixels):
        _scaled(g, how, form)
    else:
        _framed(g, how, form, steps, inside)
        for each in () if inside else states(how):
            g.output(state_after(each.name), ["B"], f"{each.meaning}, after", TensorProto.INT64)
    # Its axes are the network's to say.
    g.output(X, None)
    return g.model(f"{form} front", {}, opset)


def _scaled(g: Nodes, how: Pixels, form: Form) -> None:
    values = g.add("Cast", [g.inputs[0].name], "preprocessing/levels", to=TensorProto.FLOAT)
    columns = form == "step"
    last = how.colours == 1 and columns
    # As training does it: times the number next to 1 / white in float32.
    scale = g.weight(f"{_CONSTANTS}scale", np.array(1 / how.white, np.float32))
    values = g.add("Mul", [values, scale], X if last else "preprocessing/values")
    if last:
        return
    match how.colours, columns:
        case 1, _:
            g.add("Transpose", [values], X, perm=[2, 0, 1])
        case _, True:
            turned = g.add("Transpose", [values], "preprocessing/colours", perm=[0, 2, 1])
            g.add("Reshape", [turned, g.axes(0, -1)], X)
        case _:
            turned = g.add("Transpose", [values], "preprocessing/columns", perm=[2, 0, 3, 1])
            g.add("Reshape", [turned, g.axes(0, 0, -1)], X)


def _framed(g: Nodes, how: Frames, form: Form, steps: int | None, inside: bool) -> None:
    def add(op: str, values: list[str], name: str, **attributes: Any) -> str:
        return g.add(op, values, f"preprocessing/{name}", **attributes)

    table, sensor = places_after(how)
    events = g.inputs[0].name
    recording = add("Gather", [events, g.index(0)], "recording", axis=1)
    if inside:
        # Of as many recordings as the events say; of one where there are no events.
        last = add("Concat", [recording, g.axes(0)], "recording_or_first", axis=0)
        batch = add("Add", [add("ReduceMax", [last], "last_recording"), g.index(1)], "batch")
        for each in states(how):
            g.add("ConstantOfShape", [batch], each.name, value=helper.make_tensor("zero", TensorProto.INT64, [1], [0]))
    else:
        batch = add("Shape", [SEEN], "batch")
    time = add("Gather", [events, g.index(1)], "time", axis=1)
    place = add("Slice", [events, g.axes(2), g.axes(5), g.axes(1)], "place_before")
    place = add("GatherND", [g.weight(f"{_CONSTANTS}places", table), place], "place")
    if _aligned(how):
        time = _from_the_first(g, recording, time, batch)
    before = add("Gather", [SEEN, recording], "frames_gone")
    frame = add("Sub", [add("Div", [time, g.index(how.frame_time)], "frame_of_all"), before], "frame")
    crops = [each for each in how.transforms if isinstance(each, CropTime)]
    wanted = [
        add("GreaterOrEqual", [place, g.index(0)], "is_on_sensor"),
        add("GreaterOrEqual", [frame, g.index(0)], "is_to_come"),
        # A quotient is cut off towards zero: what lies before the beginning would count into the first frame.
        add("GreaterOrEqual", [time, g.index(max([0, *(each.start for each in crops)]))], "is_late_enough"),
    ]
    if crops:
        wanted.append(add("Less", [time, g.index(min(each.stop for each in crops))], "is_early_enough"))
    fixed = {"step": 1, "unrolled": steps or 1}.get(form)
    length = g.index(fixed) if fixed else _length(g, how, frame, inside)
    wanted.append(add("Less", [frame, length], "is_in_time"))
    kept = wanted[0]
    for number, condition in enumerate(wanted[1:], 1):
        kept = add("And", [kept, condition], f"is_kept_{number}")
    row = add("Add", [add("Mul", [frame, batch], "rows_before"), recording], "row")
    cell = add("Add", [add("Mul", [row, g.index(sensor.places)], "cells_before"), place], "cell_of_all")
    cell = add("Compress", [cell, kept], "cell", axis=0)
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ones = add("ConstantOfShape", [add("Shape", [cell], "count")], "ones", value=one)
    size = add("Mul", [add("Mul", [batch, length], "rows"), g.index(sensor.places)], "cells")
    zeros = add("ConstantOfShape", [size], "zeros")
    # Not ScatterND: ONNX Runtime runs that in parallel, and equal cells would race.
    counts = add("ScatterElements", [zeros, cell, ones], "counts", axis=0, reduction="add")
    if how.binary:
        counts = add("Min", [counts, g.number(1.0)], "seen")
    axes = [batch, g.axes(*sensor.step)]
    if form != "step":
        axes.insert(0, add("Unsqueeze", [length, g.axes(0)], "length_axis"))
    g.add("Reshape", [counts, add("Concat", axes, "shape", axis=0)], X)
    if not inside:
        g.add("Add", [SEEN, length], state_after(SEEN))


def _length(g: Nodes, how: Frames, frame: str, inside: bool) -> str:
    """Add how many frames a window has: what was asked for, else as in training, else up to the last event."""

    def add(op: str, values: list[str], name: str, **attributes: Any) -> str:
        return g.add(op, values, f"preprocessing/{name}", **attributes)

    if not inside:
        g.weight(FRAMES, np.array(how.steps or 0, np.int64))
    if how.steps:
        return g.index(how.steps) if inside else FRAMES
    last = add("Concat", [frame, g.axes(0)], "frame_or_first", axis=0)
    whole = add("Add", [add("ReduceMax", [last], "last_frame", keepdims=0), g.index(1)], "whole_length")
    if inside:
        return whole
    return add("Where", [add("Greater", [FRAMES, g.index(0)], "is_given"), FRAMES, whole], "length")


def _from_the_first(g: Nodes, recording: str, time: str, batch: str) -> str:
    """Add times counted from each recording's first event: the earliest of the call in which there is any."""

    def add(op: str, values: list[str], name: str, **attributes: Any) -> str:
        return g.add(op, values, f"preprocessing/{name}", **attributes)

    never = helper.make_tensor("never", TensorProto.INT64, [1], [_NEVER])
    least = add("ConstantOfShape", [batch], "no_event", value=never)
    least = add("ScatterElements", [least, recording, time], "earliest", axis=0, reduction="min")
    some = add("Less", [least, g.index(_NEVER)], "has_events")
    now = add("Where", [some, add("Add", [least, g.index(1)], "begins"), g.index(0)], "begins_now")
    began = g.add("Where", [add("Greater", [BEGAN, g.index(0)], "has_begun"), BEGAN, now], state_after(BEGAN))
    first = add("Sub", [add("Gather", [began, recording], "began_of_all"), g.index(1)], "first")
    return add("Sub", [time, first], "time_since_first")


def _aligned(how: Frames) -> bool:
    return any(isinstance(each, TimeAlignment) for each in how.transforms)


def places_after(how: Frames) -> tuple[NDArray[np.int64], Any]:
    """Return where each place of the sensor [x, y, p] goes, as a number on the sensor after the transforms, or -1.

    Returns:
        The table, and that sensor.
    """
    x, y, p = (axis.ravel() for axis in np.indices(tuple(how.sensor)))
    by_place = [each for each in how.transforms if not isinstance(each, CropTime | TimeAlignment)]
    table = np.full(len(x), -1, np.int64)
    sensor = sensor_after(by_place, how.sensor)
    # By their times the events that are left are known again.
    left = chain(by_place, how.sensor)(make_events(x, y, np.arange(len(x)), p))
    table[left["t"]] = (left["p"] * sensor.height + left["y"]) * sensor.width + left["x"]
    return table.reshape(tuple(how.sensor)), sensor


def join(front: onnx.ModelProto, network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network's graph behind a front."""
    model = onnx.ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    parts: list[tuple[Any, list[Any]]] = [
        (graph.node, [*front.graph.node, *network.graph.node]),
        (graph.input, [*front.graph.input, *(each for each in network.graph.input if each.name != X)]),
        (graph.output, [*network.graph.output, *(each for each in front.graph.output if each.name != X)]),
        (graph.initializer, [*network.graph.initializer, *front.graph.initializer]),
        (graph.value_info, [*network.graph.value_info, *(each for each in network.graph.input if each.name == X)]),
    ]
    for field, values in parts:
        del field[:]
        field.extend(values)
    return model


def split(model: onnx.ModelProto) -> tuple[onnx.ModelProto | None, onnx.ModelProto]:
    """Return the front of a graph, None where it has none, and the network behind it."""
    graph = model.graph
    about = next((each for each in graph.value_info if each.name == X), None)
    if about is None or any(each.name == X for each in graph.input):
        return None, model
    makers = {name: node for node in graph.node for name in node.output}
    ours_after = {state_after(SEEN), state_after(BEGAN)}
    outputs = [X, *(each.name for each in graph.output if each.name in ours_after)]
    waiting, ours = list(outputs), set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in ours:
            ours.add(node.name)
            waiting += node.input
    used = {name for node in graph.node if node.name in ours for name in node.input}
    front, network = onnx.ModelProto(), onnx.ModelProto()
    for part, inside in ((front, True), (network, False)):
        part.CopyFrom(model)
        del part.graph.node[:], part.graph.input[:], part.graph.output[:], part.graph.initializer[:]
        part.graph.node.extend(node for node in graph.node if (node.name in ours) == inside)
        part.graph.input.extend(each for each in graph.input if (each.name in used) == inside)
        part.graph.output.extend(each for each in graph.output if (each.name in outputs) == inside)
    needed = _names(network.graph)
    front.graph.initializer.extend(each for each in graph.initializer if each.name in used)
    network.graph.initializer.extend(each for each in graph.initializer if each.name in needed)
    front.graph.output.append(about)
    network.graph.input.insert(0, about)
    for part in (front, network):
        part.graph.value_info.remove(about)
    return front, network


def _names(graph: onnx.GraphProto) -> set[str]:
    """Return the names that a graph's nodes take, those inside scans too."""
    found = {name for node in graph.node for name in node.input}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _names(attribute.g)
    return found
