"""Bits of RRAM and SRAM, counted by hand."""

from typing import Any

import pytest
import torch

from hstnn_deploy.models.device_memory import DeviceMemory
from hstnn_deploy.models.stack import Stack, StackConfig

FIRST, SECOND = 8 * 1 * 9, 4 * 8 * 9
"""Weights of the two convolutions below."""


def stack(**weights: Any) -> Stack:
    layers = [
        {"conv": 8, "padding": 1},
        "lif",
        {"conv": 4, "padding": 1, "bias": False},
        "lif",
        "flatten",
        {"linear": 3},
    ]
    given = {"family": "stack", "input": [1, 4, 4], "layers": layers, "weights": {"prune": {"group": 4}, **weights}}
    torch.manual_seed(0)
    return StackConfig.model_validate(given).build([])


def device_memory(network: Stack) -> DeviceMemory:
    found = network.device_memory()
    assert found is not None
    return found


def test_rram_alone_takes_its_bits_and_the_rest_is_in_float32() -> None:
    found = device_memory(stack(step="vat", bits=2))
    assert (found.weights, found.rram) == (FIRST + SECOND, 2 * (FIRST + SECOND))
    assert (found.sram, found.sram_groups, found.reads_sram) == (0, 0, 0)
    assert found.other == 32 * (8 + 4 * 16 * 3 + 3)  # a bias, and the linear layer
    assert found.devices == found.rram
    assert found.plain()["reads_rram"] == 2


def test_sram_has_bits_of_its_own() -> None:
    found = device_memory(stack(step="recover", bits=1, sram={"bits": 4}))
    assert (found.rram, found.sram, found.sram_groups) == (360, 4 * 360, 4 * 360)
    assert (found.reads_rram, found.reads_sram, found.devices) == (1, 4, 5 * 360)


def test_pruned_layers_store_groups_that_are_not_zero_and_which_they_are() -> None:
    network = stack(step="prune", bits=4)
    weight = network.convolutions()[1].weight
    with torch.no_grad():
        weight.fill_(0.5)
        weight[0, :4] = 0.0  # one group of 4 channels of the 8 groups of 36 weights
        weight[1, 0, 0, 0] = 0.0  # and one weight of another
    found = device_memory(network)
    # No level of the uniform quantiser is zero: a bit a weight says which are.
    assert found.sram == 4 * FIRST + 5 * SECOND
    assert found.sram_groups == 4 * FIRST + 7 * 36 * 5 + 8
    assert found.devices == found.rram + found.sram_groups
    assert network.sparsity() == pytest.approx((37 / 288, 1 / 8))


def test_what_the_first_layer_is_spared() -> None:
    spared, not_spared = (
        device_memory(stack(step="prune", prune={"group": 4, "first": first})) for first in (False, True)
    )
    assert not_spared.sram - spared.sram == FIRST
    assert not_spared.sram_groups - spared.sram_groups == FIRST + 8


def test_ternary_weights_take_two_bits_and_have_a_zero_of_their_own() -> None:
    found = device_memory(stack(step="prune", bits=4, quantiser="ternary", sram={"bits": 8}))
    assert (found.rram, found.sram) == (2 * 360, 2 * 360)


def test_weights_beyond_the_levels_of_so_many_bits_are_counted() -> None:
    network = stack(step="vat", bits=1)
    assert device_memory(network).beyond == 0
    with torch.no_grad():
        network.convolutions()[0].weight[0, 0, 0, 0] = 2.0  # comes to 3 at one bit
    assert device_memory(network).beyond == 1
    dorefa = stack(step="vat", bits=1, quantiser="dorefa")
    with torch.no_grad():
        dorefa.convolutions()[0].weight[0, 0, 0, 0] = 2.0
    assert device_memory(dorefa).beyond == 0
