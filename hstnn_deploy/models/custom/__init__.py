"""What a user writes parts of their own with: `hstnn_deploy.custom`. docs/python.md has an example of each.

A part is registered by a decorator, and from then on known by its name: in recipes, in `hd.Stack` and in options.
"""

from hstnn_deploy.data.custom import Data, arrays, data_set
from hstnn_deploy.data.dataset import Shape, Source
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.custom.layers import Layer, Options, layer
from hstnn_deploy.models.custom.losses import loss, metric
from hstnn_deploy.models.custom.neurons import Neuron, neuron
from hstnn_deploy.models.surrogates import Surrogate

__all__ = [
    "Algebra",
    "Data",
    "Layer",
    "Neuron",
    "Options",
    "Shape",
    "Source",
    "Splits",
    "Surrogate",
    "V",
    "arrays",
    "data_set",
    "layer",
    "loss",
    "metric",
    "neuron",
]
