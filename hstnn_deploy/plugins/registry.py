"""Custom parts: neurons, layers, losses, data sets and metrics that users register from outside the package.

A part is known by its name. A decorator of `hstnn_deploy.custom` registers it, in a module that somebody imports:

- the user's script;
- a module that the environment variable `HSTNN_PLUGINS` names; `hstnn --plugin MODULE` sets it;
- an installed distribution that has an entry point of that name, in a group such as `hstnn.neurons`.

The last two are imported only when an unknown name is looked up. Nothing that a file says is
imported: it can only name a part.
"""

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from hstnn_deploy.errors import HstnnError, UsageError
from hstnn_deploy.factories import import_module_of
from hstnn_deploy.foreign import brief, first_line, one_line

Group = Literal["neurons", "layers", "losses", "data", "metrics"]
"""Groups of parts. Their entry points are in the groups `hstnn.neurons`, …"""

ONE: dict[Group, str] = {
    "neurons": "neuron",
    "layers": "layer",
    "losses": "loss",
    "data": "data set",
    "metrics": "metric",
}
"""The name of a single part of each group, for messages."""

VARIABLE = "HSTNN_PLUGINS"
"""The environment variable with modules to import, separated by commas."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SHARED: dict[Group, tuple[Group, ...]] = {"neurons": ("layers",), "layers": ("neurons",)}
"""Groups whose names share one key of a recipe."""


@dataclass(frozen=True)
class Part:
    """A part that is registered."""

    group: Group
    name: str
    value: Any
    """The object from which the part is built."""
    module: str
    """Where it was defined."""
    qualified: str
    """Its name there."""

    @cached_property
    def provider(self) -> str:
        """Its distribution, such as "my-neurons 1.2"; "" for a plain file or a notebook."""
        top = self.module.partition(".")[0]
        for name in metadata.packages_distributions().get(top, ()):
            return f"{name} {metadata.version(name)}"
        return ""

    @property
    def told(self) -> str:
        """Its origin, in words."""
        return self.provider or f"the module {self.module}"

    def plain(self) -> dict[str, str]:
        """Return the plain data that a checkpoint records of it."""
        module = self.module
        if module == "__main__":
            # A script that was run: by this name another program imports it.
            module = Path(getattr(sys.modules["__main__"], "__file__", None) or "a notebook").stem
        return {"group": self.group, "name": self.name, "from": self.provider, "module": module}


_parts: dict[tuple[Group, str], Part] = {}
_built_in: dict[Group, set[str]] = {}
_imported: set[str] = set()
"""Modules named by the environment variable that are already imported."""
_under_way: ContextVar[frozenset[str]] = ContextVar("plug-ins under way", default=frozenset())
"""The ones that this thread is importing: their own look-ups do not import them again."""


def reserve(group: Group, names: Iterable[str]) -> None:
    """Reserve the names of the package's own parts."""
    _built_in.setdefault(group, set()).update(names)


def register(group: Group, name: str, value: Any, defined: Any) -> None:
    """Register a part.

    Args:
        group: which sort.
        name: what recipes call it.
        value: what it is built from.
        defined: the class or function that the user wrote.

    Raises:
        UsageError: the name has another form, is built in, or is another part's. The same definition may come again, as
            when a cell of a notebook is run twice.
    """
    one = ONE[group]
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 60:
        raise UsageError(
            f"{brief(name)} is not a valid name for a {one}", "use letters a-z, digits and hyphens: my-neuron"
        )
    # An object that is neither a class nor a plain function, such as a partial, may have neither.
    module, called = (getattr(defined, key, None) for key in ("__module__", "__qualname__"))
    part = Part(group, name, value, module or "__main__", called or type(defined).__qualname__)
    for other in (group, *_SHARED.get(group, ())):
        if name in _built_in.get(other, ()):
            raise UsageError(f"{name} is built in, so your own {one} needs another name", f"for example my-{name}")
        before = _parts.get((other, name))
        if before and (before.group, before.module, before.qualified) != (group, part.module, part.qualified):
            raise UsageError(
                f"{part.module} registers the {one} {name}, and {before.module} has registered a {ONE[other]} {name}",
                "give one of them another name",
            )
    _parts[group, name] = part


def find(group: Group, name: str) -> Part | None:
    """Return a part by its name; None if there is no such part.

    Raises:
        UsageError: a plug-in that has it cannot be imported, or two distributions have one of that name.
    """
    if (known := _parts.get((group, name))) is not None:
        return known
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _built_in.get(group, ()):
        return None
    _import_named()
    if (group, name) not in _parts:
        _load(group, name)
    return _parts.get((group, name))


def names(group: Group) -> list[str]:
    """Return the names of all parts of a group, without importing those of installed distributions."""
    _import_named()
    offered = {each.name for each in metadata.entry_points(group=f"hstnn.{group}")}
    return sorted({name for own, name in _parts if own == group} | offered - _built_in.get(group, set()))


def survey() -> list[dict[str, str]]:
    """Return every part that is registered or offered: group, name, origin, and why it is unavailable, if so.

    The modules of the environment variable are imported for it, and of installed distributions all that offer parts.
    """
    try:
        _import_named()
        problem = ""
    except HstnnError as error:
        problem = error.message
    found = (
        [{"group": VARIABLE, "name": os.environ.get(VARIABLE, ""), "from": "", "problem": problem}] if problem else []
    )
    for group in ONE:
        offered = {each.name for each in metadata.entry_points(group=f"hstnn.{group}")}
        for name in sorted({name for own, name in _parts if own == group} | offered):
            told = {"group": group, "name": one_line(name), "from": "", "problem": ""}
            try:
                part = _parts.get((group, name))
                if part is None and not _NAME.fullmatch(name):
                    told["problem"] = "not a valid name: use letters a-z, digits and hyphens"
                elif part is None and name in _built_in.get(group, ()):
                    told["problem"] = "the name is built in"
                elif part is None:
                    _load(group, name)
                    part = _parts.get((group, name))
                told["from"] = part.told if part else ""
            except HstnnError as error:
                told["problem"] = error.message
            found.append(told)
    return found


def hint(group: Group) -> str:
    """Return a hint on how to register an unknown part."""
    return f"for a {ONE[group]} of your own, import its module first, or give --plugin MODULE"


def missing(recorded: Any, groups: Collection[Group] = tuple(ONE)) -> dict[str, str] | None:
    """Return the first part that a file records (see `Part.plain`) and that is not available; None if all are.

    Args:
        recorded: from the file. Entries of another form are skipped: the part will be missed when its name is used.
        groups: the groups that are needed.
    """
    for each in recorded if isinstance(recorded, list) else ():
        if not isinstance(each, dict) or each.get("group") not in groups or not isinstance(each.get("name"), str):
            continue
        if find(each["group"], each["name"]) is None:
            return each
    return None


def not_here(source: str, part: Mapping[str, str]) -> tuple[str, str]:
    """Return message and hint for a file that needs a part that is not available."""
    came, module = (one_line(str(part.get(key) or "")) for key in ("from", "module"))
    told = f" from {came}" if came else f" from the module {module}" if module else ""
    name, _, version = came.partition(" ")
    install = f"pip install {name}=={version}" if came else f"import {module or 'its module'} first"
    group = part.get("group")
    one = next((word for key, word in ONE.items() if key == group), "part")
    more = "" if came else f", or give --plugin {module or 'MODULE'}"
    return f"{source} needs the {one} {one_line(str(part.get('name')))}{told}, which is not available", install + more


def _import_named() -> None:
    """Import the modules that the environment names."""
    for name in os.environ.get(VARIABLE, "").split(","):
        name = name.strip()
        if not name or name in _imported or name in _under_way.get():
            continue
        token = _under_way.set(_under_way.get() | {name})
        try:
            import_module_of(name)  # waits for another thread that is importing it
        except HstnnError as error:
            raise type(error)(f"plug-in {error.message}", error.hint) from error
        finally:
            _under_way.reset(token)
        _imported.add(name)


def _load(group: Group, name: str) -> None:
    """Import the entry point of a name, if an installed distribution has one."""
    found = list({each.value: each for each in metadata.entry_points(group=f"hstnn.{group}", name=name)}.values())
    if not found:
        return
    told = [_told(each) for each in found]
    if len(found) > 1:
        raise UsageError(f"{' and '.join(told)} both provide a {ONE[group]} {name}", "uninstall one of them")
    try:
        found[0].load()
    except HstnnError as error:
        raise type(error)(f"{told[0]}: {error.message}", error.hint) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(
            f"{told[0]} provides the {ONE[group]} {name}, but importing it fails: {reason}",
            f"update it or uninstall it; its entry point is {one_line(found[0].value)}",
        ) from error
    if (group, name) not in _parts:
        decorator = {"data": "data_set", "losses": "loss"}.get(group, ONE[group])
        raise UsageError(
            f"{told[0]} says that {one_line(found[0].value)} is the {ONE[group]} {name}, but that registers nothing",
            f"decorate it with @hstnn_deploy.custom.{decorator}({name!r})",
        )


def _told(point: metadata.EntryPoint) -> str:
    """Return the distribution of an entry point."""
    return one_line(f"{point.dist.name} {point.dist.version}") if point.dist else "a distribution"
