"""The shapes of a foreign network's inputs: what its file says, what the user says with --input, and what is guessed.

    x=28,1,28         of an ONNX file, the input x
    28,B,28           of a torch module, its first argument; B stands for the batch, T for the time steps
    28,1:int64        whole numbers; without a type float32, or what the file says

Standard library only, as measured processes use it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hstnn_deploy.errors import OutOfMemoryError, UsageError, nearest
from hstnn_deploy.foreign import brief, one_line

TYPES = {
    "float32": 4,
    "float16": 2,
    "float64": 8,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "bool": 1,
}
"""What an input may hold, by numpy's names, and the bytes of one value."""

BATCH, STEPS = 1, 10
"""The batch and the time steps if they are not given."""
_OPTIONS = {"B": "--batch", "T": "--steps"}
_WORDS = {"B": "the batch axis", "T": "the time axis"}
_NAMES = {
    "B": {"b", "n", "bs", "batch", "batchsize", "batchdim", "numbatch", "nbatch"},
    "T": {
        *("t", "time", "timestep", "timesteps", "steps", "nsteps", "numsteps", "timedim"),
        *("seq", "seqlen", "seqlength", "sequence", "sequencelength", "frames", "numframes"),
    },
}
"""Names of axes, in small letters without separators, that say which of the two an axis is."""

Axis = int | str | None
"""A fixed size, a name, or neither."""


@dataclass(frozen=True)
class Input:
    """An input as it is measured."""

    name: str
    """Of a torch module's positional argument: ""."""
    shape: list[int]
    type: str = "float32"

    @property
    def bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * TYPES[self.type]

    def __str__(self) -> str:
        """Return it as people read it, such as "x [28, 1, 28] float32"."""
        return f"{self.name} {self.shape} {self.type}".lstrip()

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"name": self.name, "shape": self.shape, "type": self.type}


@dataclass(frozen=True)
class Declared:
    """An input as a file declares it."""

    name: str
    axes: Sequence[Axis] | None
    """None where it does not even say how many there are."""
    type: str = "float32"


@dataclass(frozen=True)
class Given:
    """An input as the user gives it."""

    text: str
    name: str
    axes: Sequence[int | str]
    """Sizes; "B" and "T" for those that --batch and --steps say."""
    type: str = ""
    """"" where it is not said."""


@dataclass
class Resolved:
    """Inputs whose sizes are all known."""

    inputs: list[Input]
    batch: int = 0
    """0 where nothing says which axis is the batch."""
    steps: int = 0
    """0 where nothing says which axis is time."""
    notes: list[str] = field(default_factory=list)
    """What was guessed."""


def parse(texts: Sequence[str]) -> list[Given]:
    """Return the inputs of `--input` options; a semicolon stands between several of one option.

    Raises:
        UsageError: one has another form.
    """
    found = [_parse(part.strip()) for text in texts for part in text.split(";") if part.strip()]
    names = [each.name for each in found if each.name]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--input {name} is given twice", "give each input once")
    return found


def _parse(text: str) -> Given:
    example = "for example --input x=28,1,28, or --input 28,B,28 where B stands for --batch"
    name, equals, rest = text.rpartition("=")
    sizes, colon, kind = rest.partition(":")
    if equals and not name.strip():
        raise UsageError(f"--input {brief(text)} has no name before the =", example)
    if colon and kind.strip() not in TYPES:
        raise UsageError(f"--input {brief(text)}: unknown type {brief(kind)}", nearest(kind.strip(), TYPES))
    axes: list[int | str] = []
    for word in (word.strip() for word in sizes.split(",")) if sizes.strip() else ():
        if word in _OPTIONS:
            axes.append(word)
        elif word.isascii() and word.isdigit() and 0 < len(word) < 19 and int(word) > 0:
            axes.append(int(word))
        else:
            raise UsageError(f"--input {brief(text)}: {brief(word)} is neither a size, B nor T", example)
    return Given(text, name.strip(), axes, kind.strip())


def role(name: str) -> str:
    """Return which axis a name says it is: "B", "T", or "" where it says neither."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return next((each for each, names in _NAMES.items() if plain in names), "")


def of_module(given: Sequence[Given], batch: int | None, steps: int | None) -> Resolved:
    """Return the inputs of a torch module: as they are given, since nothing else says them.

    Args:
        given: what the user says.
        batch, steps: what B and T stand for; None: `BATCH` and `STEPS`.

    Raises:
        UsageError: none is given; or a batch or steps are given that no input has.
    """
    if not given:
        raise UsageError("a torch module does not state its inputs", "give --input SHAPE, for example --input 28,1,28")
    for each in given:
        if each.name and not each.name.isidentifier():
            raise UsageError(f"--input {brief(each.text)}: {brief(each.name)} is not the name of an argument")
    solver = _Solver(batch, steps)
    inputs = [
        Input(
            each.name,
            [axis if isinstance(axis, int) else solver.take(axis) for axis in each.axes],
            each.type or "float32",
        )
        for each in given
    ]
    return solver.done(inputs, [])


def of_file(declared: Sequence[Declared], given: Sequence[Given], batch: int | None, steps: int | None) -> Resolved:
    """Return the inputs of a file: fixed sizes as they are, others as the user says, batch and time by their names.

    Args:
        declared: what the file says.
        given: what the user says.
        batch, steps: sizes of the axes that are the batch and time; None: `BATCH` and `STEPS`, which a note says.

    Raises:
        UsageError: an unknown input, a shape that does not fit the file's, or an axis whose size is not given.
    """
    by_name = _named(declared, given)
    solver = _Solver(batch, steps)
    for each in declared:
        if each.name in by_name:
            _match(each, by_name[each.name], solver)
    inputs: list[Input] = []
    notes: list[str] = []
    for each in declared:
        said = by_name.get(each.name)
        if each.axes is None:
            if said is None:
                hint = f"give its shape: --input {each.name}=SIZE,SIZE,…"
                raise UsageError(f"the file does not say how many axes its input {one_line(each.name)} has", hint)
            shape = [axis if isinstance(axis, int) else solver.take(axis) for axis in said.axes]
        else:
            shape = [_size(each, place, said, solver, notes) for place in range(len(each.axes))]
        inputs.append(Input(each.name, shape, each.type))
    return solver.done(inputs, notes)


def _named(declared: Sequence[Declared], given: Sequence[Given]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    names = [each.name for each in declared]
    for each in given:
        name = each.name or (names[0] if len(names) == 1 else "")
        if not name:
            hint = f"write --input NAME={each.text}; the inputs are {one_line(', '.join(names))}"
            raise UsageError(f"--input {brief(each.text)} does not say which of {len(names)} inputs it is", hint)
        if name not in names:
            raise UsageError(f"the file has no input {brief(name)}", nearest(name, map(one_line, names)))
        kind = declared[names.index(name)].type
        if each.type and each.type != kind:
            raise UsageError(f"--input {brief(each.text)}: the file says that {name} is {kind}", "leave out the type")
        found[name] = each
    return found


def _match(declared: Declared, given: Given, solver: "_Solver") -> None:
    """Compare a given shape with the declared one, and learn what named axes are."""
    if declared.axes is None:
        return
    name = one_line(declared.name)
    shown = f"[{', '.join(one_line(str(axis)) if axis is not None else '?' for axis in declared.axes)}]"
    if len(given.axes) != len(declared.axes):
        raise UsageError(
            f"--input {brief(given.text)} has {len(given.axes)} axes, but {name} in the file has {len(declared.axes)}",
            f"its shape is {shown}",
        )
    for place, (wanted, said) in enumerate(zip(declared.axes, given.axes, strict=True)):
        size = said if isinstance(said, int) else solver.take(said)
        if isinstance(wanted, int) and wanted != size:
            raise UsageError(f"axis {place} of {name} is {wanted} in the file, not {size}", f"its shape is {shown}")
        if isinstance(wanted, str):
            solver.learn(wanted, size, said if isinstance(said, str) else role(wanted))


def _size(declared: Declared, place: int, given: Given | None, solver: "_Solver", notes: list[str]) -> int:
    assert declared.axes is not None
    axis, name = declared.axes[place], one_line(declared.name)
    if isinstance(axis, int):
        return axis
    if axis is None and given is not None:
        said = given.axes[place]
        return said if isinstance(said, int) else solver.take(said)
    if axis in solver.sizes:
        return solver.sizes[axis]
    kind = role(axis or "")
    called = f"axis {place} of the input {name}" + (f", {one_line(axis)}," if axis else "")
    if not axis or not kind:
        shape = ",".join(str(each) if isinstance(each, int) else "SIZE" for each in declared.axes)
        raise UsageError(f"{called} has no size in the file", f"give the whole shape: --input {name}={shape}")
    size = solver.take(kind)
    solver.sizes[axis] = size
    if solver.guessed(kind):
        notes.append(f"{called} is {_WORDS[kind]} by its name: {size} ({_OPTIONS[kind]} changes it)")
    return size


class _Solver:
    """What is known of sizes so far."""

    def __init__(self, batch: int | None, steps: int | None) -> None:
        self.sizes: dict[str, int] = {}
        """By the names of axes."""
        self._asked = {"B": batch, "T": steps}
        self._known: dict[str, int] = {}

    def take(self, kind: str) -> int:
        """Return the size of the batch or of time: as asked for, as learned, or the usual one."""
        asked = self._asked[kind]
        size = asked if asked is not None else self._known.get(kind, BATCH if kind == "B" else STEPS)
        return self._known.setdefault(kind, size)

    def guessed(self, kind: str) -> bool:
        """Return whether the size was not given."""
        return self._asked[kind] is None

    def learn(self, name: str, size: int, kind: str) -> None:
        """Note the size of a named axis.

        Raises:
            UsageError: it was another one before.
        """
        if self.sizes.setdefault(name, size) != size:
            raise UsageError(
                f"the axis {one_line(name)} is both {self.sizes[name]} and {size}",
                "give it the same size in each --input",
            )
        asked = self._asked.get(kind)
        if kind and asked is not None and asked != size:
            raise UsageError(
                f"{_OPTIONS[kind]} {asked}, and --input makes the axis {one_line(name)} {size}",
                f"mark the axis with {kind} instead",
            )
        if kind:
            self._known.setdefault(kind, size)

    def done(self, inputs: list[Input], notes: list[str]) -> Resolved:
        """Return what is known.

        Raises:
            UsageError: a batch or steps were asked for that no axis is.
        """
        for kind, asked in self._asked.items():
            if asked is not None and kind not in self._known:
                raise UsageError(
                    f"{_OPTIONS[kind]} {asked}: it is unknown which one is {_WORDS[kind]}",
                    f"mark it with {kind} in --input, for example --input 28,{kind},28",
                )
        return Resolved(inputs, self._known.get("B", 0), self._known.get("T", 0), notes)


def check_size(inputs: Sequence[Input], free: int) -> None:
    """Refuse inputs that do not fit into memory, before anything is made of them.

    Args:
        inputs: see `of_file`.
        free: bytes that there are.

    Raises:
        OutOfMemoryError: with the largest input.
    """
    if sum(each.bytes for each in inputs) <= free:
        return
    most = max(inputs, key=lambda each: each.bytes)
    raise OutOfMemoryError(
        f"the input {one_line(str(most))} is {most.bytes / 1e9:.4g} GB; {free / 1e9:.3g} GB of memory is available",
        "give smaller sizes with --input for the axes that the file leaves open",
    )


def values(inputs: Sequence[Input], seed: int = 0) -> dict[str, Any]:
    """Return random arrays for inputs, by their names; those without one by their place, such as "0". See `RANGES`."""
    import numpy as np

    generator = np.random.default_rng(seed)
    makers: dict[str, Callable[[Input], Any]] = {
        "f": lambda each: generator.random(each.shape, dtype=np.float64 if each.type == "float64" else np.float32),
        "b": lambda each: generator.integers(0, 2, each.shape, dtype=np.int8),
        "i": lambda each: generator.integers(0, 2, each.shape, dtype=each.type),
        "u": lambda each: generator.integers(0, 2, each.shape, dtype=each.type),
    }
    return {
        each.name or str(place): np.asarray(makers[each.type[0]](each)).astype(each.type, copy=False)
        for place, each in enumerate(inputs)
    }


RANGES = "random: floating point uniform in [0, 1), integers 0 and 1, seed 0"
"""What `values` returns."""
