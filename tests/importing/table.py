"""Networks of other libraries by name: which library each is of, and what makes it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Tensor]
NETWORKS: dict[str, tuple[str, Callable[[], Made]]] = {}
"""The library of each, and what makes it and an example."""


def of(library: str) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Enter a network of a library into the table."""

    def enter(make: Callable[[], Made]) -> Callable[[], Made]:
        NETWORKS[make.__name__] = (library, make)
        return make

    return enter


def made(name: str) -> Made:
    """Return a network in evaluation mode, with weights that let it spike, and its example."""
    torch.manual_seed(3)
    module, example = NETWORKS[name][1]()
    return module.eval(), example


def louder(module: nn.Module, factor: float = 3.0) -> nn.Module:
    """Return a module with larger weights: those a library starts from hardly make a neuron spike."""
    for value in module.parameters():
        if value.ndim > 1:
            value.data *= factor
    return module


def statistics(module: nn.Module) -> None:
    """Give normalisations statistics, scales and shifts that are not 0 and 1."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            assert each.running_mean is not None
            assert each.running_var is not None
            each.running_mean.normal_(0, 0.2)
            each.running_var.uniform_(0.3, 1.7)
            if each.affine:
                each.weight.data.uniform_(0.6, 1.9)
                each.bias.data.normal_(0.3, 0.3)
