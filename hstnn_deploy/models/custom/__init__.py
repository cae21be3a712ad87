"""What a user writes parts of their own with: `hstnn_deploy.custom`. docs/python.md has an example of each.

A part is registered by a decorator, and from then on known by its name: in recipes, in `hd.Stack` and in options.
"""

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.custom.layers import Layer, Options, layer
from hstnn_deploy.models.custom.neurons import Neuron, neuron
from hstnn_deploy.models.surrogates import Surrogate

__all__ = ["Algebra", "Layer", "Neuron", "Options", "Surrogate", "V", "layer", "neuron"]
