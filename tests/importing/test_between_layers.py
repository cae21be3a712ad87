"""What stands between the layers of a forward: numbers, devices, what a recurrent layer holds, an input repeated."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import import_module
from hstnn_deploy.importing.stacks import start

Does = Callable[[Any, Tensor], Any]


class Net(nn.Module):
    """Some layers; what its forward does with them is given."""

    def __init__(self, does: Does, **layers: nn.Module) -> None:
        super().__init__()
        self.does = (does,)
        for name, each in layers.items():
            setattr(self, name, each)

    def forward(self, x: Tensor) -> Any:
        """See above."""
        return self.does[0](self, x)


def same(net: nn.Module, example: Tensor, window: Callable[[Tensor], Tensor], readout: str) -> None:
    """Import a network, and compare it with its module on other input, as that reads out itself."""
    found = import_module(net.eval(), example)
    assert found.network.readout == readout
    x = torch.rand(example.shape[0] + 1, *example.shape[1:]) * 2 - 0.5
    with torch.no_grad():
        wanted, given = net(x), found.network(window(x), start(found.network, window(x)))[0]
    assert torch.allclose(given, wanted[0] if isinstance(wanted, tuple) else wanted, atol=1e-5)
    assert wanted[0].std() > 0


def stepped(does: Does) -> Net:
    """Return a network of linear layers, and neurons behind what its forward gives."""
    snn: Any = pytest.importorskip("snntorch")
    net = Net(lambda net, x: net.l(does(net, x)), a=nn.Linear(5, 4), b=nn.Linear(4, 4))
    net.l = snn.Leaky(beta=0.8, threshold=0.1, init_hidden=True)
    return net


X = torch.rand(3, 5)
KINDS: dict[str, tuple[Does, list[str]]] = {
    "/ 2": (lambda net, x: net.b(net.a(x / 2)), ["scale", "linear", "linear"]),
    "/ 3": (lambda net, x: net.b(net.a(x) / 3), ["linear", "scale", "linear"]),
    "torch.div": (lambda net, x: net.b(torch.div(net.a(x), 4)), ["linear", "scale", "linear"]),
    "minus": (lambda net, x: net.b(-net.a(x)), ["linear", "scale", "linear"]),
    "clamp": (lambda net, x: net.b(net.a(x).clamp(min=0)), ["linear", "activation", "linear"]),
    "clamp by place": (lambda net, x: net.b(torch.clamp(net.a(x), 0)), ["linear", "activation", "linear"]),
    "detach": (lambda net, x: net.b(net.a(x).detach().clone()), ["linear", "linear"]),
    "to": (lambda net, x: net.b(net.a(x.to("cpu")).cpu()), ["linear", "linear"]),
    "to the input's": (lambda net, x: net.b(net.a(x).to(x.device, x.dtype)), ["linear", "linear"]),
}


@pytest.mark.parametrize("name", KINDS)
def test_numbers_and_devices_between_layers(name: str) -> None:
    does, kinds = KINDS[name]
    found = import_module(stepped(does).eval(), X)
    assert [layer.kind for layer in found.network.leaves()] == [*kinds, "lif"]


REFUSED: dict[str, tuple[Does, str]] = {
    "a number by a value": (lambda net, x: net.a(1 / (x + x)), "truediv in its forward must divide"),
    "whole part": (
        lambda net, x: torch.div(net.a(x), 2, rounding_mode="floor"),
        "div in its forward must divide",
    ),
    "by a value": (lambda net, x: net.a(x / (x + 1)), "add in its forward adds something that is not a value"),
    "clamp to 1": (lambda net, x: net.a(x).clamp(0, 1), "clamp in its forward must clamp"),
    "whole numbers": (lambda net, x: net.a(x).to(torch.int), "to in its forward converts to a type other than"),
    "half": (lambda net, x: net.a(x).to(dtype=torch.half), "to in its forward converts to a type other than"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_layer_between_them_is_refused(name: str) -> None:
    does, message = REFUSED[name]
    with pytest.raises(ImportRefused, match=message):
        import_module(stepped(does).eval(), X)


def holds(which: Callable[[Any, Any], Any]) -> Does:
    """Return a forward that gives some of what a recurrent layer gives and holds."""

    def does(net: Any, x: Tensor) -> Any:
        y, held = net.r(x)
        return net.fc(which(y, held))

    return does


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_last_state_of_a_recurrent_layer_is_its_output_at_the_last_step(kind: Any, layers: int) -> None:
    does = holds(lambda _y, held: held[0][-1] if kind is nn.LSTM else held[-1])
    net = Net(does, r=kind(5, 6, num_layers=layers, batch_first=True), fc=nn.Linear(6, 4))
    same(net, torch.rand(3, 7, 5), lambda x: x.transpose(0, 1), "last")


def test_the_output_may_be_given_beside_it() -> None:
    def does(net: Any, x: Tensor) -> Any:
        y, (h, _c) = net.r(x)
        return net.fc(h[0]), y

    net = Net(does, r=nn.LSTM(5, 6, batch_first=True), fc=nn.Linear(6, 4))
    same(net, torch.rand(3, 7, 5), lambda x: x.transpose(0, 1), "last")


@pytest.mark.parametrize(
    "which",
    [
        lambda _y, held: held[0][0],
        lambda _y, held: held[1][-1],
        lambda y, held: y[:, -1] + held[0][-1],
        lambda y, held: y + held[0][-1],
    ],
    ids=["first layer", "cell", "beside the last output", "beside all outputs"],
)
def test_other_states_of_a_recurrent_layer_are_refused(which: Callable[[Any, Any], Any]) -> None:
    net = Net(holds(which), r=nn.LSTM(5, 6, num_layers=2, batch_first=True), fc=nn.Linear(6, 4))
    with pytest.raises(ImportRefused):
        import_module(net.eval(), torch.rand(3, 7, 5))


def test_a_window_divided_by_its_steps_is_refused() -> None:
    net = Net(lambda net, x: net.r(x / x.size(1))[0], r=nn.GRU(5, 3, batch_first=True)).eval()
    with pytest.raises(ImportRefused, match="depends on the number of steps in its window"):
        import_module(net, torch.rand(3, 7, 5))


def csnn(does: Does) -> Net:
    """Return SpikingJelly's convolutional network, of a size for tests."""
    layer: Any = pytest.importorskip("spikingjelly.activation_based.layer")
    neuron: Any = pytest.importorskip("spikingjelly.activation_based.neuron")
    functional: Any = pytest.importorskip("spikingjelly.activation_based.functional")
    net = nn.Sequential(
        layer.Conv2d(1, 3, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(3),
        neuron.IFNode(v_threshold=0.2),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Linear(3 * 9, 5),
        neuron.IFNode(v_threshold=0.1),
    )
    functional.set_step_mode(net, step_mode="m")
    return Net(does, net=net)


REPEATS: dict[str, tuple[Does, str]] = {
    "repeat": (lambda net, x: net.net(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0), "mean"),
    "torch.unsqueeze": (lambda net, x: net.net(torch.unsqueeze(x, 0).repeat((4, 1, 1, 1, 1))).mean(dim=0), "mean"),
    "expand": (lambda net, x: net.net(x[None].expand(4, -1, -1, -1, -1)).sum(0), "sum"),
    "sizes": (lambda net, x: net.net(x.expand(4, *x.shape)).sum(0) / 4, "mean"),
    "last": (lambda net, x: net.net(x.repeat(4, 1, 1, 1, 1))[-1], "last"),
}


@pytest.mark.parametrize("name", REPEATS)
def test_an_input_repeated_as_a_window(name: str) -> None:
    does, readout = REPEATS[name]
    reset: Any = pytest.importorskip("spikingjelly.activation_based.functional")
    net = csnn(does).eval()
    found = import_module(net, torch.rand(4, 1, 6, 6) * 3)
    assert found.origin["layout"] == "constant"
    assert found.network.readout == readout
    assert found.proof.fired > 0.01
    x = torch.rand(5, 1, 6, 6) * 3
    reset.reset_net(net)
    window = x.expand(4, *x.shape)
    with torch.no_grad():
        assert torch.allclose(found.network(window, start(found.network, window))[0], net(x), atol=1e-5)


def test_a_row_of_numbers_may_be_repeated_too() -> None:
    net = Net(lambda net, x: net.r(x.unsqueeze(0).repeat(4, 1, 1))[0][-1], r=nn.GRU(5, 3)).eval()
    found = import_module(net, X)
    assert (found.origin["layout"], found.network.readout) == ("constant", "last")


@pytest.mark.parametrize(
    "does",
    [
        lambda net, x: net.net(x.unsqueeze(0).repeat(4, 2, 1, 1, 1)),
        lambda net, x: net.net(x.unsqueeze(1).repeat(1, 4, 1, 1, 1)),
        lambda net, x: net.net(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).sum(0) + x.sum(),
        lambda net, x: net.net(x.unsqueeze(0).repeat(4, 1, 1, 1, 1).repeat(2, 1, 1, 1, 1)),
    ],
    ids=["samples too", "second axis", "used beside", "twice"],
)
def test_other_repeats_are_refused(does: Does) -> None:
    with pytest.raises(ImportRefused, match="in its forward is not a layer of a stack"):
        import_module(csnn(does).eval(), torch.rand(4, 1, 6, 6))
