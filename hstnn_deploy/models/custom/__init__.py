"""The tools for custom parts: `hstnn_deploy.custom`. docs/python.md has an example of each.

A part is registered by a decorator, and from then on known by its name: in recipes, in `hd.Stack` and in options.
"""

from collections.abc import Mapping

from torch import Tensor

from hstnn_deploy.data.custom import Data, arrays, data_set
from hstnn_deploy.data.dataset import Shape, Source
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.custom.layers import Layer, Options, layer
from hstnn_deploy.models.custom.losses import loss, metric
from hstnn_deploy.models.custom.neurons import Neuron, neuron
from hstnn_deploy.models.surrogates import Surrogate

Values = Mapping[str, V]
"""The states before a step, by name."""

Numbers = Mapping[str, Tensor]
"""What a layer of neurons holds, by name."""

Stepped = tuple[V, dict[str, V]]
"""What goes out of a step, and the states after it."""

__all__ = [
    "Algebra",
    "Data",
    "Layer",
    "Neuron",
    "Numbers",
    "Options",
    "Shape",
    "Source",
    "Splits",
    "Stepped",
    "Surrogate",
    "V",
    "Values",
    "arrays",
    "data_set",
    "layer",
    "loss",
    "metric",
    "neuron",
]
