"""Pooling of others' modules: padding, windows that are not whole, and the functional form."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import import_module
from tests.importing.test_between_layers import same

snntorch: Any = pytest.importorskip("snntorch")


class Net(nn.Module):
    """Currents, pooled before they reach neurons: many are negative, so that padding by zeros shows."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool, self.flatten = nn.Conv2d(2, 4, 3), pool, nn.Flatten()
        nn.init.constant_(self.conv.get_parameter("bias"), -0.05)
        self.neurons = snntorch.Leaky(beta=0.8, threshold=0.1, init_hidden=True)
        self.out = nn.LazyLinear(5)
        self.last = snntorch.Leaky(beta=0.8, threshold=0.1, init_hidden=True)
        self.out(self.flatten(self.pool(self.conv(X))))

    def forward(self, x: Tensor) -> Any:
        """Take one step."""
        currents = self.conv(x)
        pooled = functional.max_pool2d(currents, 3, 2, 1) if isinstance(self.pool, Functional) else self.pool(currents)
        return self.last(self.out(self.flatten(self.neurons(pooled))))


class Functional(nn.MaxPool2d):
    """Stands for the functional form in a forward."""


X = torch.rand(3, 2, 10, 9)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AvgPool2d(2, 2, padding=1, divisor_override=1, count_include_pad=False),
        nn.MaxPool2d((4, 2), ()),
        nn.MaxPool2d(2, (2, 1), ceil_mode=True),
        Functional(3, 2, 1),
    ],
    ids=str,
)
def test_a_pool_that_pads_is_taken_and_proved(pool: nn.Module) -> None:
    same(Net(pool), X, lambda x: x[None], "sum")


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), "count_include_pad"),
        (nn.MaxPool2d(3, 2, ceil_mode=True), "ceil_mode"),
        (nn.MaxPool2d(3, 2, dilation=2), "dilation"),
    ],
    ids=str,
)
def test_what_would_be_another_pool_is_refused(pool: nn.Module, said: str) -> None:
    with pytest.raises(ImportRefused, match=said):
        import_module(Net(pool).eval(), X)
