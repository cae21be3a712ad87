"""What is known of torch modules by their class: the library, the rule by which it is taken, and what it runs."""

from typing import Any

import torch
from torch import nn

from hstnn_deploy.errors import ImportRefused, RecipeError
from hstnn_deploy.importing import of_norse, of_sinabs, of_snntorch, of_spikingjelly, plain
from hstnn_deploy.importing.parts import Chain, Part, Taken, configs
from hstnn_deploy.importing.plain import Rule
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
CONTAINERS = {
    "torch": frozenset({"Sequential"}),
    "spikingjelly": of_spikingjelly.CONTAINERS,
    "norse": of_norse.CONTAINERS,
}
"""Classes that run what is inside them, one after another."""


def library(module: nn.Module) -> str:
    """Return the package that a module's class comes from; empty of another than those known here."""
    package = type(module).__module__.partition(".")[0]
    return package if package in RULES else ""


def rule_of(module: nn.Module) -> Rule | None:
    """Return how a module is taken, or None where its class is not known."""
    return RULES.get(library(module), {}).get(type(module).__name__)


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is neurons of a library."""
    return type(module).__name__ in NEURONS.get(library(module), ())


def is_container(module: nn.Module) -> bool:
    """Whether a module runs what is inside it, one after another."""
    plain_sequence = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    return plain_sequence or type(module).__name__ in CONTAINERS.get(library(module), ())


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


def taken(rule: Rule, module: nn.Module, path: str, shape: Shape, axes: int) -> Taken:
    """Apply a rule; what it refuses bears the module's path.

    Raises:
        ImportRefused: see `take`.
    """
    try:
        found = rule(module, shape, axes)
    except ImportRefused as error:
        raise ImportRefused(f"{named(path)} ({type(module).__name__}): {error.message}", error.hint) from error
    except (TypeError, ValueError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ImportRefused(
            f"{named(path)} ({type(module).__name__}) is not as its library makes it: {said}"
        ) from error
    for part in found.chain:
        assert isinstance(part, Part)
        part.path = path
    after(found.chain, shape, path)
    return found


def notes_of(module: nn.Module, shapes: dict[str, Shape], axes: int) -> list[str]:
    """Return what of each module the stack does not take over, by path."""
    found = []
    for path, shape in shapes.items():
        each: Any = module.get_submodule(path)
        rule = rule_of(each)
        if rule is not None and (note := taken(rule, each, path, shape, axes).note):
            found.append(f"{named(path)} ({type(each).__name__}): {note}")
    return found


def named(path: str) -> str:
    """Return how an error calls a module."""
    return path or "the module"
