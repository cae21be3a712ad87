"""A user's own network, named by the function that makes it: PACKAGE.MODULE:FACTORY.

This runs the user's own code: the top level of the module, and then the factory.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hstnn_deploy.errors import HstnnError, OutOfMemoryError, UsageError, nearest, out_of_memory
from hstnn_deploy.foreign import brief, first_line

if TYPE_CHECKING:
    from torch import nn

FORM = "PACKAGE.MODULE:FACTORY"
_EXAMPLE = "for example nets.conv:make, where nets/conv.py has a function make that returns the network"


def looks_like_module(text: str) -> bool:
    """Return whether a word has the form PACKAGE.MODULE; the module need not exist."""
    return all(part.isidentifier() for part in text.split("."))


def looks_like_factory(text: str) -> bool:
    """Return whether a word has the form PACKAGE.MODULE:FACTORY; neither need exist."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])


def load_factory(name: str) -> "nn.Module":
    """Import a module, call its factory without arguments, and return the network that it makes.

    The module is looked for in the current folder first, then wherever Python looks. The current folder stays where
    Python looks, for what the network imports later. A network that stands in the module already is returned as it is.

    Args:
        name: `PACKAGE.MODULE:FACTORY`: the module as an `import` names it, and a function or class in it.

    Raises:
        UsageError: the name has another form; there is no such module, or it raises when it is imported; it has no such
            attribute; the factory needs arguments, raises, or returns no `torch.nn.Module`.
        OutOfMemoryError: the module or the factory asks for more memory than there is.
    """
    module_name, attribute = _parts(name)
    module = import_module_of(module_name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            where = module_name if found is module else f"{module_name}:{getattr(found, '__name__', attribute)}"
            raise UsageError(f"{name}: {where} has no {part}", _hint(found, part))
        found = getattr(found, part)
    return _made(name, found)


def _parts(name: str) -> tuple[str, str]:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise UsageError(f"{brief(name)} has no colon: a factory is {FORM}", _EXAMPLE)
    if looks_like_factory(name):
        return module, attribute
    if module.endswith(".py") or "/" in module or "\\" in module:
        dotted = module.removesuffix(".py").replace("\\", "/").strip("./").replace("/", ".")
        hint = f"write {dotted}:{attribute or 'FACTORY'}, and run this in the folder that contains {dotted}"
        raise UsageError(f"{brief(name)} names a file, not a module", hint)
    raise UsageError(f"{brief(name)} is not {FORM}", _EXAMPLE)


def import_module_of(name: str) -> ModuleType:
    """Import a user's module, looked for in the current folder first.

    Raises:
        UsageError: the module or the factory does not exist, or it raises when it is imported.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    with their_code(f"{name} raises when it is imported"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not error.name:
                raise
            raise _not_found(name, error.name, here) from error


def _not_found(name: str, missing: str, here: str) -> UsageError:
    """Return the error for a module that is not there: the one that was named, or one that it imports."""
    if missing != name and not name.startswith(f"{missing}."):
        return UsageError(
            f"{name} imports {missing or 'a module'}, which is not installed",
            f"install it into this Python ({sys.executable}), or run this in the folder that contains {missing}",
        )
    parent, _, last = missing.rpartition(".")
    package = sys.modules.get(parent) if parent else None
    if package is not None and not hasattr(package, "__path__"):
        return UsageError(f"there is no module {name}: {parent} is one file, not a package", _EXAMPLE)
    places = list(getattr(package, "__path__", [])) if package else [here]
    searched = ", ".join(places) + ("" if package else " (the current folder) and where Python looks")
    wanted = f"there is no module {missing}" + ("" if missing == name else f", the first part of {name}")
    known = sorted({found for place in places for found in _modules(Path(place))})
    hint = nearest(last, known) if known else "run this in the folder that contains it"
    return UsageError(f"{wanted}: searched {searched}", hint)


def _modules(folder: Path) -> Iterator[str]:
    """Yield the modules and packages of a folder."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.stem.isidentifier() and (path.suffix == ".py" or (path / "__init__.py").is_file()):
            yield path.stem


def _hint(found: Any, part: str) -> str:
    names = [each for each in vars(found) if not each.startswith("_")] if hasattr(found, "__dict__") else []
    own = [each for each in names if callable(getattr(found, each, None))]
    return nearest(part, own or names) if own or names else "it defines nothing"


def _made(name: str, found: Any) -> "nn.Module":
    from torch import nn

    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        hint = "name a function without arguments that returns the network"
        raise UsageError(f"{name} is {_kind(found)}, not a callable", hint)
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        hint = "name a function without arguments: def make(): return Net(64)"
        raise UsageError(f"{name} requires arguments: {first_line(error)}", hint) from error
    except ValueError:
        pass  # functions written in C have no signature
    with their_code(f"{name} raises"):
        network = found()
    if not isinstance(network, nn.Module):
        hint = "let the factory return the network" if network is None else "let the factory return the network alone"
        raise UsageError(f"{name} returns {_kind(network)}, not a torch.nn.Module", hint)
    return network


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


@contextmanager
def their_code(what: str) -> Iterator[None]:
    """Turn what the user's code raises into one error, in one line that says where."""
    try:
        yield
    except (KeyboardInterrupt, HstnnError):
        raise
    except BaseException as error:  # SystemExit too, of a script that reads the command line
        if full := out_of_memory(error):
            raise OutOfMemoryError(f"{what}: {full.message}", "make a smaller network") from error
        said = first_line(error)
        kind = type(error).__name__
        reason = said if said == kind else f"{kind}: {said}"
        raise UsageError(f"{what}: {reason}{_place(error)}", "--traceback shows where it was raised") from error


def _place(error: BaseException) -> str:
    """Return the last line of code below the current folder that an error went through, such as " (net.py, line 3)"."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    here = Path.cwd()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(here) and "site-packages" not in path.parts:
            return f" ({path.relative_to(here)}, line {frame.lineno})"
    return ""
