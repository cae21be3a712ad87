"""The floor under a step: its matrix products alone, in float32, into memory that is already there.

Nothing else of a step is counted: no neuron, no copy, no allocation. Whatever runs these networks through the same
library does at least these products, so floor / ours says how much is left to gain.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.networks import BATCH, CLASSES, INPUTS, STEPS
from hstnn_deploy.models.sizes import Sizes

Product = tuple[Tensor, Tensor, Tensor]
"""Left operand, right operand, where the result goes."""


def flops(products: list[Product]) -> int:
    """Return the floating-point operations of some products, a multiplication and an addition counted as two."""
    return sum(2 * left.shape[0] * left.shape[1] * right.shape[1] for left, right, _ in products)


def runner(products: list[Product]) -> Callable[[], None]:
    """Return what runs the products one after another."""

    def run() -> None:
        for left, right, out in products:
            torch.mm(left, right, out=out)

    return run


def network_products(sizes: Sizes, train: bool) -> list[Product]:
    """Return the products of a two-layer network's forward and, for training, backward pass."""
    products: list[Product] = []
    inputs = INPUTS
    for number in range(2):
        for units in filter(None, sizes):
            # The gradient with respect to the network's input is not needed.
            products += dense(STEPS * BATCH, inputs, units, train, input_gradient=number > 0)
        if sizes.rnn:
            products += recurrent(sizes.rnn, train)
        inputs = sum(sizes)
    return products + dense(BATCH, inputs, CLASSES, train, input_gradient=True)


def probe_products(sizes: Sizes) -> list[Product]:
    """Return the products of one Hessian-vector product with a gradient whose graph is at hand.

    Each product of the forward and backward pass has two of its own in the backward pass through both: those of a train
    step, twice. Less in the first layer, whose input does not depend on the weights. The readout is not ranked.
    """
    products: list[Product] = []
    inputs = INPUTS
    for number in range(2):
        for units in filter(None, sizes):
            for _ in range(2 if number else 1):
                products += dense(STEPS * BATCH, inputs, units, train=True, input_gradient=number > 0)
        for _ in range(2 if sizes.rnn else 0):
            products += recurrent(sizes.rnn, train=True)
        inputs = sum(sizes)
    return products


def dense(rows: int, inputs: int, units: int, train: bool, input_gradient: bool) -> list[Product]:
    """Return the products of y = x @ W and of its backward."""
    x, weight, y = torch.rand(rows, inputs), torch.rand(inputs, units), torch.rand(rows, units)
    products = [(x, weight, y)]
    if train:
        products.append((x.t(), y, torch.zeros_like(weight)))
        if input_gradient:
            products.append((y, weight.t(), torch.zeros_like(x)))
    return products


def recurrent(units: int, train: bool, batch: int = BATCH, gates: int = 1) -> list[Product]:
    """Return the products of h_t = f(h_{t-1} @ W), step by step, and of its backward; W is (units, gates * units)."""
    # So scaled that a vector keeps its length from step to step: nothing overflows.
    weight = torch.randn(units, gates * units) / units**0.5
    h, out = torch.rand(STEPS, batch, units), torch.zeros(STEPS, batch, gates * units)
    products = [(h[t], weight, out[t]) for t in range(STEPS)]
    if train:
        products += [(out[t], weight.t(), h[t - 1]) for t in range(STEPS - 1, 0, -1)]
        rows = h.flatten(0, 1)
        products.append((rows.t(), out.flatten(0, 1), torch.zeros_like(weight)))
    return products
