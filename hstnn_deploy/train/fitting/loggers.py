"""Observers that write for other programs: TensorBoard (extra `tensorboard`), and those of a user by their name."""

import importlib
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

from hstnn_deploy.errors import UsageError
from hstnn_deploy.factories import FORM, import_module_of, looks_like_factory, their_code
from hstnn_deploy.foreign import brief
from hstnn_deploy.train.observer import Observer


class Writer(Protocol):
    """What writes one folder of TensorBoard's events: torch's `SummaryWriter`, or what does as it does."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write a number at an epoch."""

    def add_text(self, tag: str, text_string: str, global_step: int) -> Any:
        """Write a line at an epoch."""

    def close(self) -> Any:
        """Write what is left."""


def summary_writer() -> Callable[[str], Writer]:
    """Return what makes a writer of a folder.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        found: Callable[[str], Writer] = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard is not installed", "pip install 'hstnn-deploy[tensorboard]', or leave --tensorboard out"
        ) from error
    return found


class TensorBoard(Observer):
    """Writes every number of each epoch as a scalar, and what is noted as text: a folder for each stage."""

    def __init__(self, folder: Path | str, make: Callable[[str], Writer] | None = None) -> None:
        """Take the folder that `tensorboard --logdir` will be given.

        Args:
            folder: where to; a stage has a folder below it.
            make: what makes a writer of a folder; None: torch's.

        Raises:
            UsageError: TensorBoard is not installed, and no `make` is given.
        """
        self._folder, self._make = Path(folder), make or summary_writer()
        self._writer: Writer | None = None
        self._epoch = 0

    def stage_started(self, title: str, epochs: int, done: int) -> None:
        """See `Observer`."""
        self.close()
        self._writer, self._epoch = self._make(str(self._folder / title)), done

    def epoch_done(self, row: dict[str, Any]) -> None:
        """See `Observer`."""
        if self._writer is None:
            return
        self._epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch" and isinstance(value, Real) and not isinstance(value, bool):
                self._writer.add_scalar(_tag(name), float(value), self._epoch)

    def note(self, text: str) -> None:
        """See `Observer`."""
        if self._writer is not None:
            self._writer.add_text("notes", text, self._epoch)

    def stage_finished(self, summary: str) -> None:
        """See `Observer`."""
        if self._writer is not None:
            self._writer.add_text("result", summary, self._epoch)
        self.close()

    def close(self) -> None:
        """See `Observer`."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _tag(name: str) -> str:
    """Return a tag that TensorBoard groups: the same quantity of both splits in one chart's group."""
    for split in ("train", "valid", "test"):
        if name.startswith(f"{split}_"):
            return f"{name.removeprefix(f'{split}_')}/{split}"
    return name.replace(".", "/")


def load_observer(name: str) -> Observer:
    """Return an observer of a user's own, by PACKAGE.MODULE:FACTORY: a class, a function, or an object.

    This runs the user's code: the module, looked for in the current folder first, and then the factory.

    Raises:
        UsageError: the name has another form, there is no such thing, it raises, or gives something else.
    """
    if not looks_like_factory(name):
        hint = "for example --observer my_loggers:ToFile, where my_loggers.py has a class ToFile(hd.Observer)"
        raise UsageError(f"{brief(name)} is not {FORM}", hint)
    module, _, attribute = name.partition(":")
    found: Any = import_module_of(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{name}: there is no {part}", "name a class, a function or an object of that module")
        found = getattr(found, part)
    if not isinstance(found, Observer) and callable(found):
        with their_code(f"{name} raises"):
            found = found()
    if not isinstance(found, Observer):
        raise UsageError(
            f"{name} gives {type(found).__name__}, which is not an observer",
            "give a class that inherits from hstnn_deploy.Observer, or a function that returns an object of one",
        )
    return found
