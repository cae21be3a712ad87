"""Pools that pad: known answers, what torch computes, and what is refused."""

from typing import Any

import pytest
import torch
from torch import nn

import hstnn_deploy as hd
from hstnn_deploy.models.algebra import Pooling
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.maps import PoolConfig

L = hd.layers
TORCH: dict[Pooling, Any] = {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}


@pytest.mark.parametrize(("how", "expected"), [("max", -1.0), ("mean", -0.25), ("sum", -1.0)])
def test_a_mean_counts_zeros_and_a_maximum_leaves_them_out(how: Pooling, expected: float) -> None:
    for shape, axes in (((1, 1, 1, 1), 2), ((1, 1, 1), 1)):
        x = torch.full(shape, -1.0)
        pooled = Eager().pool(x, how, (2,) * axes, (1,) * axes, padding=(1,) * axes)
        number = expected * 2 if how == "mean" and axes == 1 else expected
        assert pooled.equal(torch.full((1, 1, *(2,) * axes), number))


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (2, 2, 1), ((3, 2), (2, 1), (1, 0)), (2, 1, 1)])
def test_values_and_gradients_are_torch_s(how: Pooling, size: Any, stride: Any, padding: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, 7, 8, requires_grad=True)
    layer, shape = PoolConfig(pool=how, size=size, stride=stride, padding=padding).build((3, 7, 8))
    given = layer.apply_to(Eager(), x, True)
    expected = TORCH[how](size, stride, padding)(x.flatten(0, 1)).unflatten(0, (5, 2))
    assert given.shape[2:] == shape
    torch.testing.assert_close(given, expected)
    found, wanted = (torch.autograd.grad((y * y).sum(), x, retain_graph=True)[0] for y in (given, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (L.pool("max", 3, padding=2), r"a padding of \[2, 2\] is more than half of a pool of \[3, 3\]"),
        (L.pool("mean", to=1, padding=1), "takes stride and padding with size, not with to"),
        (L.pool("mean", 3, padding=[1]), r"\[1\]: give one number, or one for each axis \(2 here\)"),
        (L.pool("max", 12, padding=1), "larger than"),
    ],
)
def test_a_padding_that_makes_no_sense_is_refused(layer: Any, said: str) -> None:
    with pytest.raises(hd.HstnnError, match=said):
        hd.Stack([layer, L.flatten(), L.linear(2)], input=[2, 8, 8])
