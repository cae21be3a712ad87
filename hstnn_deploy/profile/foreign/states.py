"""Modules that keep states between calls: whose they are, by their classes' names alone, and how they are reset."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from torch import nn


class Reset(NamedTuple):
    """How the states of a network are reset."""

    how: str
    """The functions that do it; "" where no library was recognised."""
    run: Callable[[], None]


def find_reset(network: nn.Module) -> Reset:
    """Return what resets a network's states: of snnTorch, SpikingJelly and sinabs, the library's own function.

    A library is imported only where a module of it is in the network, so that it is loaded already.
    """
    modules = list(network.modules())
    by_library = {
        library: [each for each in modules if any(_is(base, library, name) for base in type(each).__mro__)]
        for library, name in _STATEFUL.items()
    }
    found = [(library, some) for library, some in by_library.items() if some]
    runs = [_RESETS[library](network, some) for library, some in found]

    def run() -> None:
        for each in runs:
            each()

    return Reset(", ".join(_NAMES[library] for library, _ in found), run)


_STATEFUL = {"snntorch": "SpikingNeuron", "spikingjelly": "MemoryModule", "sinabs": "StatefulLayer"}
"""By library, the class that what keeps states descends from."""
_NAMES = {
    "snntorch": "snntorch.utils.reset",
    "spikingjelly": "spikingjelly.activation_based.functional.reset_net",
    "sinabs": "sinabs reset_states",
}


def _is(base: type, library: str, name: str) -> bool:
    return base.__name__ == name and base.__module__.partition(".")[0] == library


def _snntorch(_network: nn.Module, some: list[nn.Module]) -> Callable[[], None]:
    reset = import_module("snntorch.utils").reset
    # It looks at the direct children of what it is given, and no deeper.
    neurons = nn.ModuleList(some)
    return lambda: reset(neurons)


def _spikingjelly(network: nn.Module, _some: list[nn.Module]) -> Callable[[], None]:
    reset = import_module("spikingjelly.activation_based.functional").reset_net
    return lambda: reset(network)


def _sinabs(_network: nn.Module, some: list[nn.Module]) -> Callable[[], None]:
    def run() -> None:
        for each in some:
            each.reset_states()  # type: ignore[operator]

    return run


_RESETS = {"snntorch": _snntorch, "spikingjelly": _spikingjelly, "sinabs": _sinabs}
