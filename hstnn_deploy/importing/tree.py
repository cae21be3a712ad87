"""What is known of torch modules by their class: the library, the rule by which it is taken, and what it runs."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from hstnn_deploy.errors import ImportRefused, RecipeError
from hstnn_deploy.importing.libraries import of_norse, of_sinabs, of_snntorch, of_spikingjelly, plain
from hstnn_deploy.importing.libraries.plain import Rule
from hstnn_deploy.importing.parts import Chain, Part, Taken, configs
from hstnn_deploy.models.layers import build_chain, checked
from hstnn_deploy.models.layers.base import Shape

RULES: dict[str, dict[str, Rule]] = {
    "torch": plain.RULES,
    "snntorch": of_snntorch.RULES,
    "spikingjelly": of_spikingjelly.RULES,
    "sinabs": of_sinabs.RULES,
    "norse": of_norse.RULES,
}
"""Of each package, the rules by the class's name."""
NEURONS = {
    "snntorch": of_snntorch.NEURONS,
    "spikingjelly": of_spikingjelly.NEURONS,
    "sinabs": of_sinabs.NEURONS,
    "norse": of_norse.NEURONS,
}
MEMBRANES: dict[str, dict[str, Rule]] = {"snntorch": of_snntorch.MEMBRANES}
"""The same of neurons that give their membrane last, where that is the answer."""
CONTAINERS = {
    "torch": frozenset({"Sequential"}),
    "spikingjelly": of_spikingjelly.CONTAINERS,
    "norse": of_norse.CONTAINERS,
    "sinabs": of_sinabs.CONTAINERS,
}
"""Classes that run what is inside them, one after another."""


NETWORKS = ("spikingjelly.activation_based.model.", "norse.torch.models.", "sinabs.network", "torch.fx.")
"""Modules of the libraries with whole networks, which are read as those of users are."""

_SAME = {"__init__", "__module__", "__doc__", "__qualname__", "__annotations__", "__static_attributes__"} | {
    "__firstlineno__",
    "__parameters__",
    "__orig_bases__",
    "__repr__",
    "extra_repr",
}
"""What a derived class may define and still compute what its base does."""


def class_of(module: nn.Module) -> type[nn.Module]:
    """Return a module's class; of one that a known class was derived to without another computation, the known one.

    torch derives a class from that of a module whose weights are parametrised; it computes the same from them.
    """
    classes = [each for each in type(module).__mro__ if issubclass(each, nn.Module)]
    if parametrize.is_parametrized(module):
        classes = classes[1:]
    for each in classes:
        if _known(each):
            return each
        if not vars(each).keys() <= _SAME:
            break
    return classes[0]


def _known(kind: type) -> bool:
    package, name = _package(kind), kind.__name__
    if package == "torch":
        # Quantised layers, say, have the same names.
        return (name in RULES[package] or name == "Sequential") and getattr(nn, name, None) is kind
    return name in RULES.get(package, {}) or name in CONTAINERS.get(package, ())


def _package(kind: type) -> str:
    return "" if kind.__module__.startswith(NETWORKS) else kind.__module__.partition(".")[0]


def kind_of(module: nn.Module) -> str:
    """Return the name of a module's class; see `class_of`."""
    return class_of(module).__name__


def library(module: nn.Module) -> str:
    """Return the package that a module's class comes from; empty of another than those known here."""
    package = _package(class_of(module))
    return package if package in RULES else ""


def rule_of(module: nn.Module, membrane: bool = False) -> Rule | None:
    """Return how a module is taken, or its membrane instead of its spikes; None where its class is not known."""
    kind = class_of(module)
    rules = MEMBRANES.get(library(module), {}) if membrane else RULES.get(library(module), {})
    return rules.get(kind.__name__) if _known(kind) else None


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is neurons of a library."""
    return kind_of(module) in NEURONS.get(library(module), ())


def is_container(module: nn.Module) -> bool:
    """Whether a module runs what is inside it, one after another."""
    plain_sequence = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    return plain_sequence or kind_of(module) in CONTAINERS.get(library(module), ())


def is_bare(module: nn.Module) -> bool:
    """Whether a module holds no weights and carries nothing on, so that it may run in several places."""
    held = [*module.parameters(), *module.buffers()]
    return not held and not any(is_neuron(each) or isinstance(each, nn.RNNBase) for each in module.modules())


def derived_from(module: nn.Module) -> str:
    """Return which neurons of a library a class was derived from to compute something else; empty: from none."""
    for each in type(module).__mro__[1:]:
        if each.__name__ in NEURONS.get(_package(each), ()):
            return f"{_package(each)}'s {each.__name__}"
    return ""


def unknown(module: nn.Module, path: str = "") -> ImportRefused | None:
    """Return why the first layer of a library that has no rule is not taken; None: all layers have one."""
    if rule_of(module):
        return None
    lists = isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict)
    if library(module) and not is_container(module) and not lists:
        return not_taken(module, path)
    below = (unknown(child, f"{path}.{name}" if path else name) for name, child in module.named_children())
    return next((each for each in below if each), None)


def not_taken(module: nn.Module, path: str) -> ImportRefused:
    """Return why a module of a library without a rule for it is not taken."""
    package, kind = library(module), class_of(module)
    known = [name for name in RULES[package] if name not in plain.RULES or package == "torch"]
    if kind.__name__ in known:
        said = f"{kind.__module__}.{kind.__name__} is not the {kind.__name__} that hstnn supports"
        return ImportRefused(f"{named(path)}: {said}")
    return ImportRefused(
        f"{named(path)}: hstnn does not support {kind.__name__} of {package}",
        f"known: {', '.join(sorted(known))}; docs/python.md says how to add neurons and layers of your own",
    )


def after(chain: Chain, shape: Shape, path: str) -> Shape:
    """Return the shape behind a chain.

    Raises:
        ImportRefused: its layers do not fit together.
    """
    if not chain:
        return shape
    try:
        layers = checked(configs(chain), path or "network")
        with torch.device("meta"):
            return build_chain(layers, shape, path or "network")[1]
    except RecipeError as error:
        raise ImportRefused(f"{named(path)}: {error.message}", error.hint) from error


def taken(rule: Rule, module: nn.Module, path: str, shape: Shape, axes: int, membrane: bool = False) -> Taken:
    """Apply a rule; what it refuses bears the module's path.

    Raises:
        ImportRefused: see `take`.
    """
    try:
        found = rule(module, shape, axes)
    except ImportRefused as error:
        raise ImportRefused(f"{named(path)} ({kind_of(module)}): {error.message}", error.hint) from error
    except (TypeError, ValueError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ImportRefused(f"{named(path)} ({kind_of(module)}) is not as its library makes it: {said}") from error
    for part in found.chain:
        assert isinstance(part, Part)
        part.path, part.shape, part.axes, part.membrane = path, shape, axes, membrane
        for name, value in part.weights.items():
            if not bool(value.isfinite().all()):
                raise ImportRefused(f"{named(path)} ({kind_of(module)}): {name} contains a value that is not finite")
    after(found.chain, shape, path)
    return found


def notes_of(module: nn.Module, parts: dict[str, list[Part]]) -> list[str]:
    """Return what of each module the stack does not take over, by path."""
    found = []
    for path, (part, *_) in parts.items():
        each: Any = module.get_submodule(path)
        rule = rule_of(each, part.membrane)
        if rule is None or part.shape is None:
            continue
        if note := taken(rule, each, path, part.shape, part.axes).note:
            found.append(f"{named(path)} ({kind_of(each)}): {note}")
    return found


def named(path: str) -> str:
    """Return how an error calls a module."""
    return path or "the module"
