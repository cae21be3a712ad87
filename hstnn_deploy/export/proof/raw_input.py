"""The proof of a graph's front: it makes of raw pixels or events what training makes of them, to the bit.

It is asked for hard cases, and for the raw samples of the test split; what training makes of those is what the split
itself hands out. Shapes: T time, B batch, N events.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data.dataset import Recordings
from hstnn_deploy.data.events.events import Events, event_rows, make_events
from hstnn_deploy.data.events.frames import EventSplit
from hstnn_deploy.data.events.transforms import CropTime, TimeAlignment
from hstnn_deploy.data.preprocessing import Frames, Pixels, Preprocessing, framed
from hstnn_deploy.data.splits import ArraySplit, Split
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.interface import state_after
from hstnn_deploy.export.graph.write import states_in
from hstnn_deploy.export.proof.comparisons import Check, Subject, asked, numbers_asked, part_asked
from hstnn_deploy.export.proof.engines import (
    Session,
    graph_engine,
    in_chunks,
    onnxruntime_session,
    open_network,
    read_model,
    reference_session,
)
from hstnn_deploy.export.proof.partings import differing
from hstnn_deploy.export.runtime.inputs import Images, RawEvents, Taking
from hstnn_deploy.export.runtime.ort import open_graph

Array = NDArray[Any]

Samples = Callable[[Sequence[int]], Array]
"""Returns samples of a split by number, raw, as a graph takes them."""

_MANY, _RANDOM = 300, 2000
"""Events at one place and time, and events anywhere, of the hard cases."""
_VALUES = 4_000_000
"""Of raw samples that are taken at once."""
_STEPS = 5
"""Frames of the hard cases, where training takes whole recordings."""


def check_front(path: Path, subject: Subject, form: Form, provider: str = "cpu") -> Iterator[Check]:
    """Check the front of an ONNX file, by itself and with the network behind it; nothing of a file without one.

    Args:
        path: the file.
        subject: its network and data.
        form: its form.
        provider: what runs it in ONNX Runtime.
    """
    head, _ = raw_input.split(read_model(path))
    if head is None:
        return
    how = subject.how
    assert isinstance(how, Pixels | Frames), "what has no front was refused"
    inside = states_in(path.name) == "inside"
    steps = head.graph.output[-1].type.tensor_type.shape.dim[0].dim_value if form == "unrolled" else None
    if steps and isinstance(how, Frames):
        how = how.model_copy(update={"steps": steps})
    yield _declared(path, head, raw_input.inputs(how, form, steps, inside))
    takes = _taking(how)
    cases = list(_hard_cases(how, steps))
    where = "" if provider == "cpu" else f" on {provider}"
    for engine, session in (
        (f"ONNX Runtime{where}", onnxruntime_session(head, provider)),
        ("onnx's reference evaluator", reference_session(head)),
    ):
        run = _front_alone(session, head, form, takes)
        different = [name for name, raw, x in cases if not _equal(run(raw, x.shape[1]), x)]
        figure = ", ".join(name for name, _, _ in cases) + ": equal to the bit"
        if different:
            figure = f"{', '.join(different)}: differs from training"
        yield Check(path.name, f"preprocessing in {engine}", "failed" if different else "passed", figure)
    yield _on_test_split(path, subject, head, form, takes, steps, provider)


def raw_samples(how: Preprocessing, split: Split, recordings: Callable[[], Mapping[str, Recordings]]) -> Samples | None:
    """Return what gives the samples of a test split as they were before preprocessing; None where nothing does."""
    match how, split:
        case Pixels(), ArraySplit():
            images = split.x.unflatten(2, (how.colours, how.height))

            def pixels(numbers: Sequence[int]) -> Array:
                # [B, T = column, colour, row] -> [B, row, column(, colour)]
                found = images[list(numbers)].permute(0, 3, 1, 2)
                return np.ascontiguousarray((found if how.colours == 3 else found[..., 0]).numpy())

            return pixels
        case Frames(), EventSplit():
            chosen = split.numbers
            # The recordings of a large set take a while to list.
            read = cache(lambda: recordings()["test"].read)

            def events(numbers: Sequence[int]) -> Array:
                return _together([read()(int(chosen[number])) for number in numbers])

            return events
        case _:
            return None


def _together(recordings: list[Events]) -> Array:
    return np.concatenate([event_rows(events, number) for number, events in enumerate(recordings)])


def _taking(how: Pixels | Frames) -> Taking:
    plain = how.model_dump(mode="json")
    return Images(plain) if isinstance(how, Pixels) else RawEvents(plain)


def _declared(path: Path, head: onnx.ModelProto, inputs: Sequence[raw_input.Input]) -> Check:
    """Compare the written inputs with what the front's are."""
    name = "raw inputs"
    wanted = {each.name: each.shape for each in inputs}
    written = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in head.graph.input
    }
    shown = ", ".join(f"{each} {shape}" for each, shape in written.items()).replace("'", "")
    return Check(path.name, name, "passed" if written == wanted else "failed", shown)


def _front_alone(session: Session, head: onnx.ModelProto, form: Form, takes: Taking) -> Callable[[Array, int], Array]:
    """Return what takes raw samples and their number B through a front, to x[T, B, …]."""
    name = head.graph.input[0].name
    names = {each.name for each in head.graph.input} & {raw_input.SEEN, raw_input.BEGAN}

    def run(raw: Array, batch: int) -> Array:
        raw = takes.checked(raw, batch=batch)
        state: dict[str, Array] = {each: np.zeros(batch, np.int64) for each in names}
        if form != "step":
            whole: Array = session({name: raw, **state})[raw_input.X]
            return whole
        made = []
        for now in takes.split(raw):
            found = session({name: now, **state})
            state = {each: found[state_after(each)] for each in state}
            made.append(found[raw_input.X])
        return np.stack(made)

    return run


def _equal(found: Array, wanted: Tensor) -> bool:
    return found.dtype == np.float32 and found.shape == wanted.shape and np.array_equal(found, wanted.numpy())


def _on_test_split(
    path: Path,
    subject: Subject,
    head: onnx.ModelProto,
    form: Form,
    takes: Taking,
    steps: int | None,
    provider: str,
) -> Check:
    """Take what is asked of the test split, raw, through the front alone and through the file as it ships."""
    name = "answers on the test split, from raw samples"
    if subject.test is None or subject.raw is None:
        return Check(path.name, name, "not run", subject.no_test or "the raw samples are not available")
    run = _front_alone(onnxruntime_session(head, provider), head, form, takes)
    behind = graph_engine(open_network(path, provider), subject.face)
    if form == "step":
        behind = in_chunks(behind, (1,), subject.face)
    shipped = open_graph(path, provider)
    count = same = answers = unexplained = 0
    worst = 0.0
    numbers: list[int] = numbers_asked(subject).tolist()
    known = subject.logits_of.get(path.name, [])
    for place, batch in enumerate(asked(subject, False, f"{path.name}: {name}")):
        x, begun = batch.x, count
        if steps and len(x) != steps:
            return Check(path.name, name, "not run", f"samples have {len(x)} steps; the graph takes {steps}")
        # Raw recordings may be large: a batch holds about this number of values, judged by the first recording.
        few = max(1, _VALUES // max(1, subject.raw(numbers[count : count + 1]).size))
        for part in x.split(few, dim=1):
            size = part.shape[1]
            raw = takes.checked(subject.raw(numbers[count : count + size]), batch=size)
            made = torch.from_numpy(run(raw, size))
            count += size
            if made.shape != part.shape:
                continue
            same += int((made == part).transpose(0, 1).flatten(1).all(1).sum())
            state: Any = shipped.zeros(size)
            for now in takes.split(raw) if form == "step" else (raw,):
                found, state = shipped.step(now, state)
            logits = torch.from_numpy(found)
            # The network behind the front has answered to the same samples before, unless the file has no such check.
            first = count - size - begun
            wanted = known[place][first : first + size] if known else behind(part.contiguous(), None).logits
            differs, difference = differing(logits, wanted, subject.face)
            values = subject.task.asks == "values"
            answers += int((~differs if values else logits.argmax(-1) == wanted.argmax(-1)).sum())
            unexplained += int(differs.sum())
            worst = max(worst, difference)
    passed = same == count and not unexplained
    figure = (
        f"{same} of {count} samples equal training's to the bit; "
        f"{answers} of {count} answers equal (logits to {worst:.1e})"
    )
    return Check(path.name, name + part_asked(subject, count), "passed" if passed else "failed", figure)


# -------------------------------------------------------------------------------------------------------- hard cases


def _hard_cases(how: Pixels | Frames, steps: int | None) -> Iterator[tuple[str, Array, Tensor]]:
    """Yield names, raw samples, and what training makes of them, x[T, B, …]."""
    if isinstance(how, Pixels):
        yield from _images(how, steps or how.width)
        return
    recordings = _recordings(how)
    if how.steps is None:
        for name, events in recordings.items():
            yield name, event_rows(events), framed(events, how)[:, None]
        return
    # In one batch, and out of order.
    raw = _together(list(recordings.values()))
    raw = raw[np.random.default_rng(0).permutation(len(raw))]
    yield ", ".join(recordings), raw, torch.stack([framed(events, how) for events in recordings.values()], 1)


def _images(how: Pixels, width: int) -> Iterator[tuple[str, Array, Tensor]]:
    generator = np.random.default_rng(0)
    shape = (how.height, width, how.colours)
    levels = np.resize(np.arange(how.white + 1), (-(-(how.white + 1) // (how.height * width * how.colours)), *shape))
    cases = {
        "black": np.zeros((1, *shape)),
        "white": np.full((1, *shape), how.white),
        "every level": levels,
        "random pixels": generator.integers(0, how.white + 1, (3, *shape)),
    }
    for name, images in cases.items():
        raw = images.astype(np.uint8)
        # [B, row, column, colour] -> [B, T = column, I = colour and row], as it lies in memory for training.
        kept = torch.from_numpy(np.ascontiguousarray(raw.transpose(0, 2, 3, 1))).flatten(2)
        split = ArraySplit(kept, torch.zeros(len(kept)), 1 / how.white)
        x = split.batch(torch.arange(len(kept)), torch.device("cpu")).x
        yield name, raw if how.colours == 3 else raw[..., 0], x


def _recordings(how: Frames) -> dict[str, Events]:
    """Return recordings that are hard to frame."""
    generator = np.random.default_rng(0)
    frame, steps = how.frame_time, how.steps or _STEPS
    width, height, polarities = how.sensor
    times = [time for n in (0, 1, 2, steps, steps + 2) for time in (n * frame - 1, n * frame, n * frame + 1)]
    for each in how.transforms:
        if isinstance(each, CropTime):
            times += [time + offset for time in (each.start, each.stop) for offset in (-1, 0, 1)]
    borders = np.array(sorted(time for time in times if 0 <= time <= (steps + 2) * frame + 1))
    numbers = np.arange(len(borders))
    x, y, p = (axis.ravel() for axis in np.indices((width, height, polarities)))
    some = np.sort(generator.integers(frame // 3, (steps + 1) * frame, _RANDOM))
    anywhere = [generator.integers(0, size, _RANDOM) for size in (width, height, polarities)]
    # An alignment to the first event cannot be asked for without one.
    aligned = any(isinstance(each, TimeAlignment) for each in how.transforms)
    nothing = {} if aligned else {"no events": make_events([], [], [], [])}
    return nothing | {
        "frame borders": make_events(
            (numbers * 7) % width, (numbers * 5 + height - 1) % height, borders, numbers % polarities
        ),
        "equal events": make_events(np.full(_MANY, width - 1), height - 1, frame, polarities - 1),
        "every place": make_events(x, y, 0, p),
        "random events": make_events(anywhere[0], anywhere[1], some, anywhere[2]),
    }
