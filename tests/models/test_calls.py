"""A call of a network with something that it does not take: one line and a hint, never torch's own error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import hstnn_deploy as hd
from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import Sizes

L = hd.layers
X = torch.rand(5, 3, 8)


def network() -> hd.Stack:
    torch.manual_seed(0)
    return hd.Stack([L.linear(6), L.lif(), L.linear(4)], input=[8], readout="sum").eval()


def state(batch: int = 3) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = network()(torch.rand(2, batch, 8))[1]
    return found


WRONG: dict[str, tuple[Callable[[], tuple[Any, ...]], str, str]] = {
    "no batch": (lambda: (X[:, 0],), "x has shape [5, 8], but the network takes [T, B, 8]", "x[:, None]"),
    "one step of one": (lambda: (X[0, 0],), "x has shape [8]", "x[None, None]"),
    "another width": (lambda: (X[..., :1],), "x has shape [5, 3, 1]", "x.swapaxes(0, 1)"),
    "no step": (lambda: (X[:0],), "x has shape [0, 3, 8]", "it is empty"),
    "an array": (lambda: (X.numpy(),), "x is ndarray, but the network takes a tensor", "torch.from_numpy"),
    "float64": (
        lambda: (X.double(),),
        "x has type float64, but the network computes in float32",
        "x.to(torch.float32)",
    ),
    "bytes": (lambda: (X.byte(),), "x has type uint8, but the network computes in float32", "x.to(torch.float32)"),
    "another device": (lambda: (X.to("meta"),), "x is on meta, but the network is on cpu", "x.to(network.device)"),
    "a state of others": (lambda: (X, state(1)), "the state v2 is [1, 6], but this x needs [3, 6]", "or None"),
    "a narrow state": (lambda: (X, state() | {"v2": torch.zeros(3, 1)}), "the state v2 is [3, 1]", "or None"),
    "no state": (lambda: (X, {}), "the state lacks v2, which the network carries", "or None"),
    "a state of numbers": (lambda: (X, state() | {"v2": 3}), "the state v2 is int", "or None"),
    "a state elsewhere": (
        lambda: (X, {name: value.to("meta") for name, value in state().items()}),
        "is on meta, but the network is on cpu",
        "move",
    ),
    "no dict": (lambda: (X, 3), "state is int, not a dict of tensors", "or None"),
    "lengths of others": (lambda: (X, None, torch.tensor([2])), "lengths is [1], but x has a batch of 3", "tensor("),
    "a list of lengths": (lambda: (X, None, [1, 2, 3]), "lengths is [1, 2, 3]", "torch.tensor("),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_network_does_not_take_is_one_line(name: str) -> None:
    make, said, hint = WRONG[name]
    with pytest.raises(hd.HstnnError) as found:
        network()(*make())
    assert said in found.value.message
    assert hint in found.value.hint
    assert "\n" not in found.value.message


def test_tokens() -> None:
    words = hd.Stack([L.embedding(4, words=9), "lif"], input=[], readout="sum")
    with pytest.raises(hd.HstnnError, match="the network takes tokens, which are whole numbers"):
        words(torch.rand(5, 3))
    with pytest.raises(hd.HstnnError, match=r"tokens from 0 to 9, but the network knows"):
        words(torch.arange(10)[:, None])
    assert words(torch.arange(9)[:, None])[0].shape == (1, 4)


@pytest.mark.parametrize(
    "made",
    [
        lambda: build(SequenceConfig(inputs=3, classes=2, units=[2, 2]), [Sizes(2, 1), Sizes(1, 2)]),
        lambda: build(ConvolutionalConfig(inputs=2, classes=2, units=[2, 2], size=16), [Sizes(2, 0), Sizes(2, 0)]),
    ],
)
def test_hybrid_networks_too(made: Callable[[], Network]) -> None:
    net = made().eval()
    x = torch.rand(4, 2, *net.input_shape)
    _, after = net(x)
    assert torch.isfinite(net(x, after)[0]).all()
    with pytest.raises(hd.HstnnError, match="but this x needs"):
        net(x[:, :1], after)
    with pytest.raises(hd.HstnnError, match=r"but the network takes \[T, B, "):
        net(x[..., :1])


def test_an_error_of_the_network_itself_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("of its own")

    net = network()
    monkeypatch.setattr(net, "forward", fails)
    with pytest.raises(ValueError, match="of its own"):
        net(X)
