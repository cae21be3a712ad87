"""Data sets of a user's own: a configuration and `load`; see docs/python.md."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, create_model
from torch import Tensor

from hstnn_deploy.data.dataset import Card, DataSet, Protocol, Shape, Source
from hstnn_deploy.data.given.checks import as_tensor, check_finite
from hstnn_deploy.data.splits import (
    PADDING,
    ArraySplit,
    Batch,
    Family,
    Split,
    Splits,
    as_values,
    frame_of,
    with_validation,
)
from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.factories import their_code
from hstnn_deploy.foreign import brief
from hstnn_deploy.plugins import registry as plugins


class Data(BaseModel, ABC):
    """A data set. Its fields are its options in a recipe: `data: {name: …, noise: 0.1}`.

    A subclass writes `load`, and is registered by `@data_set("name")`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    task: ClassVar[str] = "classification"
    """What is asked of a network, for people."""

    @abstractmethod
    def load(self, source: Source) -> Splits:
        """Return the splits; `arrays` makes them of arrays.

        Args:
            source: `source.protocol` says whether validation samples are held out of training; `source.folder` is the
                data folder that was given, or None.
        """

    def shape(self) -> Shape | None:
        """Return its size. Unless written, it is loaded for that."""
        return _shape(loaded(self, Source()))


def arrays(train: tuple[Any, Any], test: tuple[Any, Any], protocol: Protocol = "validation") -> Splits:
    """Return splits of arrays in memory.

    Args:
        train: x[N, T, …] and y: classes [N], whole numbers from 0; or values [N, K], floating-point.
        test: likewise.
        protocol: validation: 10 % of train are held out to choose the epoch on; test: it is chosen on the test split.

    Raises:
        DataError: other shapes or types.
    """
    tested, trained = _split(test, "test"), _split(train, "train")
    if tested.x.shape[2:] != trained.x.shape[2:]:
        steps = [list(each.x.shape[2:]) for each in (trained, tested)]
        raise DataError(f"a time step of train has shape {steps[0]}, one of test has shape {steps[1]}")
    rest, valid = with_validation(trained, protocol)
    step = tuple(trained.x.shape[2:])
    values = trained.target.is_floating_point()
    if values != tested.target.is_floating_point():
        raise DataError("y of train and y of test differ in kind", "give classes in both, or values in both")
    classes = trained.target.shape[1] if values else int(max(trained.target.max(), tested.target.max())) + 1
    size, frame = frame_of(step)
    family: Family = "sequence" if len(step) == 1 else "convolutional"
    return Splits(
        rest, valid or tested, tested, step[0], classes, "arrays in memory",
        family, size=size, frame=frame,
        targets="values" if values else "classes",
    )  # fmt: skip


def _split(given: Any, name: str) -> ArraySplit:
    if not isinstance(given, tuple) or len(given) != 2:
        raise DataError(f"{name} is {brief(type(given).__name__)}, not two arrays", "give (x, y)")
    x, y = as_tensor(given[0], f"x of {name}"), as_tensor(given[1], f"y of {name}")
    if x.ndim < 3 or not len(x) or len(x) != len(y):
        raise DataError(f"{name} has x{list(x.shape)} and y{list(y.shape)}", "give x[N, T, …] and y[N] or y[N, K]")
    if x.is_floating_point():
        check_finite(x, f"x of {name}", "sample")
    if y.is_floating_point():
        return ArraySplit(x.float(), as_values(y, f"y of {name}"))
    if y.ndim != 1 or int(y.min()) < 0:
        raise DataError(
            f"y of {name} has shape {list(y.shape)}, its smallest value is {int(y.min())}", "classes are y[N], from 0"
        )
    return ArraySplit(x.float(), y.long())


def loaded(config: Data, source: Source) -> Splits:
    """Return the splits of a data set.

    Raises:
        UsageError: its `load` raises, or returns something else.
    """
    name = config.name  # type: ignore[attr-defined]
    with their_code(f"data set {name} raises when it is loaded"):
        found = config.load(source)
    if not isinstance(found, Splits):
        raise UsageError(
            f"data set {name} gives {brief(type(found).__name__)}, not Splits", "hd.custom.arrays makes some"
        )
    checked: dict[str, Split] = {}
    for split in ("train", "test", "valid"):
        each: Any = found.split(split)
        if type(each).__module__.startswith("hstnn_deploy."):
            continue
        if not hasattr(each, "batch") or not hasattr(each, "__len__"):
            raise UsageError(f"{split} of data set {name} is {brief(type(each).__name__)}, not a split", _SPLIT)
        # One object used for two splits stays one, so that an epoch chosen on the test split is reported as such.
        same = checked.get("test") if each is found.test else None
        checked[split] = same or _Checked(each, f"{split} of data set {name}", found)
    return replace(found, **checked)  # type: ignore[arg-type]


_SPLIT = "give it __len__ and batch(indices, device), which returns a Batch(x[T, B, …], target[B])"


class _Checked:
    """A split that a user wrote: each of its batches is what it says, or is refused."""

    def __init__(self, split: Any, what: str, splits: Splits) -> None:
        self._split, self._what = split, what
        self._classes = splits.classes if splits.targets == "classes" else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._split, name)

    def __len__(self) -> int:
        with their_code(f"{self._what} raises in __len__"):
            return len(self._split)

    def batch(self, indices: torch.Tensor, device: torch.device) -> Batch:
        """Return a batch after checking it.

        Raises:
            UsageError: it raises.
            DataError: it gives something else than a batch of these samples.
        """
        with their_code(f"{self._what} raises"):
            found = self._split.batch(indices, device)

        def refuse(told: str, hint: str = _SPLIT) -> NoReturn:
            raise DataError(f"{self._what} gives {told}", hint)

        if not isinstance(found, Batch) or not isinstance(found.x, Tensor) or not isinstance(found.target, Tensor):
            refuse(f"{brief(type(found).__name__)}, not a Batch of tensors")
        x, target, lengths = found
        if x.ndim < 2 or x.shape[1] != len(indices) or not len(x):
            refuse(f"x{list(x.shape)} for {len(indices)} samples")
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            refuse("NaN or infinity in x", "numpy.isfinite tells where")
        if len(target) != len(indices) and target.shape[:2] != x.shape[:2]:
            refuse(f"target{list(target.shape)} for {len(indices)} samples")
        if self._classes is not None and (
            target.is_floating_point()
            or not _within(target[target != PADDING] if target.ndim > 1 else target, 0, self._classes - 1)
        ):
            refuse(f"classes other than 0 to {self._classes - 1}", "classes are whole numbers from 0")
        if lengths is not None and (lengths.shape != (len(indices),) or not _within(lengths, 1, len(x))):
            refuse(f"lengths other than 1 to {len(x)}, the steps of its x", "a length is how many steps are valid")
        return found


def _within(value: Tensor, least: int, most: int) -> bool:
    return bool(((value >= least) & (value <= most)).all())


def _shape(splits: Splits) -> Shape:
    first = splits.train.batch(torch.tensor([0]), torch.device("cpu"))
    held = 0 if splits.valid is splits.test else len(splits.valid)
    return Shape(
        len(splits.train) + held, len(splits.test), len(first.x), splits.inputs, splits.classes, splits.size,
        splits.frame, splits.targets,
    )  # fmt: skip


def _read(config: BaseModel) -> Shape | None:
    assert isinstance(config, Data)
    told = config.model_dump_json()
    if told not in _SHAPES:
        with their_code(f"data set {config.name} raises in shape()"):  # type: ignore[attr-defined]
            found = config.shape()
        if found is not None and not isinstance(found, Shape):
            told_name = config.name
            raise UsageError(f"data set {told_name} gives {brief(found)} for its shape", "return a Shape, or None")
        _SHAPES[told] = found
    return _SHAPES[told]


_SHAPES: dict[str, Shape | None] = {}
"""By what a recipe says: a data set may have to be loaded to know."""


def of(config: Data) -> DataSet[Any]:
    """Return the data set of a configuration, as the registry has others."""
    name = config.name  # type: ignore[attr-defined]
    about = (type(config).__doc__ or "").strip().partition("\n")[0]
    return DataSet(name, type(config), Card(about, config.task, "see its provider", ""), loaded, _read)


D = TypeVar("D", bound=Data)


def data_set(name: str) -> Callable[[type[D]], type[D]]:
    """Return a decorator that registers a data set under a name, by which recipes have it: `data: {name: …}`.

    Raises:
        UsageError: the name is another part's, or the class is no `Data` that has a `load`.
    """

    def registered(defined: type[D]) -> type[D]:
        if not (isinstance(defined, type) and issubclass(defined, Data)):
            raise UsageError(f"{name} is {brief(defined)}, not a data set", "derive its class from hd.custom.Data")
        if defined.load is Data.load:
            raise UsageError(f"data set {name} has no load", "write def load(self, source)")
        if "name" in defined.model_fields:
            raise UsageError(
                f"data set {name} has an option called name", "name is the data set's own key; rename the option"
            )
        named: Any = (Literal[name], name)
        config = create_model(defined.__name__, __base__=defined, __doc__=defined.__doc__, name=named)
        plugins.register("data", name, config, defined)
        _SHAPES.clear()
        return defined

    return registered
