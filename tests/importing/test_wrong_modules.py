"""Modules that are not taken, by name; some that look like others; odd ones that are taken for what they compute."""

import re
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu_
from torch.nn.utils import parametrizations, prune

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import Imported, import_module
from tests.importing.networks import louder

snn: Any = pytest.importorskip("snntorch")
Made = tuple[Any, Any]


def leaky(**options: Any) -> Any:
    """Return neurons that keep their state."""
    return snn.Leaky(beta=0.83, threshold=0.7, init_hidden=True, **options)


def chain(*layers: Any) -> nn.Sequential:
    """Return layers one behind another, in evaluation mode."""
    return louder(nn.Sequential(*layers)).eval()  # type: ignore[return-value]


X = torch.rand(3, 5) * 2


class Net(nn.Module):
    """A linear layer and neurons that keep their state; what its forward does is given."""

    def __init__(self, does: Callable[[Any, Tensor], Any], neurons: Any = None) -> None:
        super().__init__()
        self.a, self.l = nn.Linear(5, 5), neurons or leaky()
        self.w, self.calls = nn.Parameter(torch.rand(5)), 0
        self.does = (does,)

    def forward(self, x: Tensor) -> Any:
        """See above."""
        return self.does[0](self, x)


class Looped(Net):
    """A forward that goes through time, neurons' states beside."""

    def __init__(self, does: Callable[[Any, Tensor], Any]) -> None:
        super().__init__(does, snn.Leaky(beta=0.83, threshold=0.7))


def looped(step: Callable[[Tensor, int], Tensor], rows: Callable[[list[Tensor]], Tensor] = torch.stack) -> nn.Module:
    """Return a network whose forward takes step(x, t) at step t, and gives rows(spikes)."""

    def does(net: Any, x: Tensor) -> Tensor:
        mem, found = net.l.init_leaky(), []
        for t in range(x.size(0)):
            spikes, mem = net.l(net.a(step(x, t)), mem)
            found.append(spikes)
        return rows(found)

    return Looped(does).eval()


def forgets(net: Any, x: Tensor) -> Tensor:
    """Begin anew at every step."""
    return torch.stack([net.l(3 * net.a(x[t]), net.l.init_leaky())[0] for t in range(x.size(0))])


def counts(net: Any, x: Tensor) -> Any:
    """Compute something else from the sixth call on."""
    net.calls += 1
    return net.l(net.a(x) * (2 if net.calls > 5 else 1) * 3)


def writes_over(net: Any, x: Tensor) -> Any:
    """Change a value in place, and take it as it was called before."""
    y = net.a(x)
    relu_(y)
    return net.l(3 * y)


class DerivedLeaky(snn.Leaky):  # type: ignore[misc]
    """Another neuron under a name that the library has too."""

    def forward(self, x: Tensor, mem: Any = None) -> Tensor:
        """Fire at a half."""
        return (x > 0.5).float()


DerivedLeaky.__name__ = DerivedLeaky.__qualname__ = "Leaky"


class DerivedLinear(nn.Linear):
    """A linear layer that is none."""

    def forward(self, input: Tensor) -> Tensor:
        """Double it."""
        return super().forward(input) * 2


class Renamed(snn.Leaky):  # type: ignore[misc]
    """The library's neuron under another name."""

    def __init__(self) -> None:
        super().__init__(beta=0.83, threshold=0.7, init_hidden=True)


class Swapped(nn.Module):
    """Gives its states back in another order than it takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)
        self.l, self.k = snn.Leaky(beta=0.7), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor, one: Any = None, two: Any = None) -> Any:
        """Swap them."""
        y, one = self.l(3 * self.a(x), one)
        z, two = self.k(3 * self.b(y), two)
        return z, two, one


def changed(change: Callable[[nn.Sequential], Any], net: nn.Sequential | None = None) -> nn.Sequential:
    """Return a network after a change."""
    net = net or chain(nn.Linear(5, 5), leaky())
    change(net)
    return net


def set_weight(value: float) -> Callable[[nn.Sequential], None]:
    """Return what sets one weight."""

    def change(net: nn.Sequential) -> None:
        net[0].get_parameter("weight").data[0, 0] = value

    return change


def shared(one: Any, *others: Any) -> nn.Sequential:
    """Return a network with one module in two places."""
    return chain(one, *others, one)


REFUSED: dict[str, tuple[Callable[[], Made], str]] = {
    "unknown": (lambda: (chain(nn.Linear(5, 4), leaky(), nn.Softmax(1)), X), "2: hstnn does not support Softmax"),
    "training": (lambda: (changed(lambda net: net[1].train()), X), "its part 1 is in training mode"),
    "weights that do not fit": (lambda: (chain(nn.Linear(5, 4), leaky(), nn.Linear(5, 3)), X), "fails on the example"),
    "raises": (lambda: (Net(lambda _net, _x: 1 // 0).eval(), X), "Net fails on the example.*division"),
    "exits": (lambda: (Net(lambda _net, _x: sys.exit(3)).eval(), X), "Net fails on the example"),
    "no tensor": (lambda: (Net(lambda _net, x: {"y": x}).eval(), X), "gives dict, not a tensor"),
    "no forward": (lambda: (nn.Module().eval(), X), "fails on the example"),
    "no module": (lambda: (lambda x: x, X), "function is not a torch module"),
    "a class": (lambda: (nn.Linear, X), "type is not a torch module"),
    "depends on values": (
        lambda: (Net(lambda net, x: net.l(net.a(x)) if x.sum() > 0 else net.l(x)).eval(), X),
        "its forward depends on values",
    ),
    "own parameter": (lambda: (Net(lambda net, x: net.l(net.a(x) + net.w)).eval(), X), "uses a parameter or buffer"),
    "counts calls": (lambda: (Net(counts).eval(), X), "the stack differs"),
    "random": (lambda: (Net(lambda net, x: net.l(net.a(x) + torch.randn(5))).eval(), X), "or buffer outside any"),
    "dropout left on": (lambda: (Net(lambda net, x: net.l(dropout(net.a(x), 0.5))).eval(), X), "drops in evaluation"),
    "written over": (lambda: (Net(writes_over).eval(), X), "the stack differs"),
    "one linear layer twice": (lambda: (shared(nn.Linear(5, 5), leaky()), X), "2 .Linear. runs in two places"),
    "neurons twice": (lambda: (shared(leaky(), nn.Linear(5, 5)), X), "2 .Leaky. runs in two places"),
    "derived neurons": (
        lambda: (chain(nn.Linear(5, 5), DerivedLeaky(beta=0.8)), X),
        "1 .Leaky. derives from snntorch's Leaky but computes something else",
    ),
    "derived linear": (lambda: (chain(DerivedLinear(5, 5), leaky()), X), "^0 .DerivedLinear."),
    "forward replaced": (
        lambda: (
            changed(lambda net: setattr(net[0], "forward", types.MethodType(lambda self, x: 2 * x, net[0]))),
            X,
        ),
        "0 .Linear.: its forward was replaced",
    ),
    "hook that changes": (
        lambda: (changed(lambda net: net[0].register_forward_hook(lambda _m, _i, y: y * 1.001)), X),
        "^0 .Linear. alone, on random input",
    ),
    "hook before": (
        lambda: (changed(lambda net: net[1].register_forward_pre_hook(lambda _m, x: (x[0] + 1e-3,))), X),
        "^1 .Leaky. alone",
    ),
    "hook on the whole": (
        lambda: (changed(lambda net: net.register_forward_hook(lambda _m, _i, y: y * 2)), X),
        "the whole .Sequential.: the stack differs",
    ),
    "lazy": (lambda: (nn.Sequential(nn.LazyLinear(4), leaky()).eval(), X), "0.weight has no shape yet"),
    "meta": (lambda: (nn.Sequential(nn.Linear(5, 5, device="meta"), leaky()).eval(), X), "0.weight is on the device"),
    "NaN": (lambda: (changed(set_weight(float("nan"))), X), "0.weight contains NaN"),
    "infinite": (lambda: (changed(set_weight(float("inf"))), torch.zeros(3, 5)), "not finite"),
    "several outputs within": (
        lambda: (chain(nn.Linear(5, 5), leaky(output=True), nn.Linear(5, 4)), X),
        "fails on the example",
    ),
    "inhibition": (lambda: (chain(nn.Linear(5, 4), leaky(inhibition=True)), X), "1 .Leaky.: inhibition"),
    "no batch": (lambda: (chain(nn.Linear(5, 5), leaky()), X[0]), "the example has shape .5."),
    "empty": (lambda: (chain(nn.Linear(5, 5), leaky()), X[:0]), "is empty"),
    "example with NaN": (lambda: (chain(nn.Linear(5, 5), leaky()), X * float("nan")), "not finite"),
    "integers": (lambda: (chain(nn.Linear(5, 5), leaky()), torch.ones(3, 5).long()), "fails on the example"),
    "truth": (lambda: (chain(nn.Linear(5, 5), leaky()), X > 1), "must be a tensor of numbers"),
    "bidirectional": (lambda: (nn.LSTM(5, 4, bidirectional=True).eval(), torch.rand(4, 3, 5)), "sees the future"),
    "projected": (lambda: (nn.LSTM(5, 4, proj_size=2).eval(), torch.rand(4, 3, 5)), "proj_size"),
    "nothing over time": (lambda: (chain(nn.Linear(5, 4), nn.ReLU()), X), "no layer carries anything over time"),
    "maps at the end": (
        lambda: (chain(nn.Conv2d(1, 2, 3), leaky()), torch.rand(2, 1, 6, 6)),
        "an answer is a row of scores",
    ),
    "windows that differ": (
        lambda: (chain(nn.AdaptiveAvgPool2d(3), leaky(), nn.Flatten()), torch.rand(2, 1, 7, 7)),
        "0 .AdaptiveAvgPool2d.: an adaptive pool of .7, 7. to .3, 3.",
    ),
    "reversed in": (lambda: (looped(lambda x, t: x[x.size(0) - 1 - t]), torch.rand(4, 3, 5)), "loops over time"),
    "reversed out": (
        lambda: (looped(lambda x, t: x[t], lambda rows: torch.stack(rows[::-1])), torch.rand(4, 3, 5)),
        "must stack one value of every step in order",
    ),
    "steps left out": (
        lambda: (looped(lambda x, t: x[t], lambda rows: torch.stack(rows[1:])), torch.rand(4, 3, 5)),
        "must stack one value of every step in order",
    ),
    "one step": (lambda: (looped(lambda x, t: x[t]), torch.rand(1, 3, 5)), "needs at least two steps"),
    "forgets": (lambda: (Looped(forgets).eval(), torch.rand(6, 3, 5)), "l .Leaky.: the stack differs"),
    "swapped states": (lambda: (Swapped().eval(), X), "the stack differs"),
    "data parallel": (lambda: (nn.DataParallel(chain(nn.Linear(5, 5), leaky())).eval(), X), "only wraps a module"),
    "scripted": (lambda: (torch.jit.script(chain(nn.Linear(5, 5), nn.ReLU())), X), "only wraps a module"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_taken_is_refused_by_its_name(what: str) -> None:
    make, says = REFUSED[what]
    module, example = make()
    with pytest.raises(ImportRefused, match=says):
        import_module(module, example)


class Pooled(nn.Module):
    """One pool in two places, in a loop or not."""

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self.steps, hidden = steps, {"init_hidden": steps is None}
        self.c, self.d, self.p, self.o = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.MaxPool2d(2), nn.Linear(8, 3)
        self.l, self.m = snn.Leaky(beta=0.7, threshold=0.3, **hidden), snn.Leaky(beta=0.6, threshold=0.2, **hidden)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        if self.steps is None:
            return self.o(self.p(self.m(self.d(self.p(self.l(self.c(x)))))).flatten(1))  # type: ignore[no-any-return]
        one, two, rows = self.l.init_leaky(), self.m.init_leaky(), []
        for _ in range(self.steps):
            y, one = self.l(self.c(self.p(x)), one)
            z, two = self.m(self.d(y), two)
            rows.append(self.o(self.p(z).flatten(1)))
        return torch.stack(rows)


class Steps(Net):
    """How many steps is an argument with a default."""

    def forward(self, x: Tensor, num_steps: int = 6) -> Tensor:
        """See above."""
        mem, found = self.l.init_leaky(), []
        for _ in range(num_steps):
            spikes, mem = self.l(3 * self.a(x), mem)
            found.append(spikes)
        return torch.stack(found)


def ran(net: nn.Module) -> nn.Module:
    """Return a network that has run, with gradients: its states hang on its weights."""
    net(X)
    return net


def looks() -> nn.Sequential:
    """Return a network with a hook that only looks."""
    return changed(lambda net: net[0].register_forward_hook(lambda _m, _i, _y: None))


def scaled_after() -> nn.Sequential:
    """Return a network whose weight norm was loaded after its weight was computed."""
    net = chain(torch.nn.utils.weight_norm(nn.Linear(5, 5)), leaky())
    net[0].get_parameter("weight_g").data.mul_(3)
    return net


def pruned() -> nn.Linear:
    """Return a layer without two fifths of its weights."""
    layer = nn.Linear(5, 5)
    prune.random_unstructured(layer, "weight", 0.4)
    return layer


TAKEN: dict[str, tuple[Callable[[], Made], str]] = {
    "in place": (lambda: (chain(nn.Linear(5, 5), nn.ReLU(inplace=True), leaky()), X), ""),
    "one activation twice": (lambda: (chain(*shared(nn.ReLU(), nn.Linear(5, 5)), leaky()), X), ""),
    "one pool twice": (lambda: (Pooled(None).eval(), torch.rand(2, 1, 14, 14) * 2), ""),
    "one pool twice, in a loop": (lambda: (Pooled(4).eval(), torch.rand(2, 1, 17, 17) * 2), ""),
    "a class that only has another name": (lambda: (chain(nn.Linear(5, 5), Renamed()), X), ""),
    "steps as an argument": (lambda: (Steps(lambda *_: None, snn.Leaky(beta=0.83)).eval(), X), ""),
    "a hook that looks": (lambda: (looks(), X), "0 .Linear.: the stack omits its forward hooks"),
    "weight norm": (lambda: (chain(parametrizations.weight_norm(nn.Linear(5, 5)), leaky()), X), ""),
    "spectral norm": (lambda: (chain(parametrizations.spectral_norm(nn.Linear(5, 5)), leaky()), 3 * X), ""),
    "weight norm of an LSTM": (
        lambda: (chain(parametrizations.weight_norm(nn.LSTM(5, 4), "weight_hh_l0")), torch.rand(6, 3, 5)),
        "",
    ),
    "weight norm as it was": (lambda: (scaled_after(), X), ""),
    "pruned": (lambda: (chain(pruned(), leaky()), X), ""),
    "float16": (lambda: (chain(nn.Linear(5, 5), leaky()).half(), X.half()), "weights of torch.float16 are float32"),
    "bfloat16": (lambda: (chain(nn.Linear(5, 5), leaky()).bfloat16(), X.bfloat16()), "torch.bfloat16"),
    "float64": (lambda: (chain(nn.Linear(5, 5), leaky()).double(), X.double()), "torch.float64 are float32"),
    "ran before": (lambda: (ran(chain(nn.Linear(5, 5), leaky())), X), ""),
    "one sample": (lambda: (chain(nn.Linear(5, 4), leaky()), X[:1]), ""),
    "one step": (lambda: (nn.LSTM(5, 4, batch_first=True).eval(), torch.rand(1, 1, 5)), ""),
    "spikes and membranes": (lambda: (chain(nn.Linear(5, 5), leaky(output=True)), X), ""),
    "tied weights": (
        lambda: (
            changed(
                lambda net: setattr(net[2], "weight", net[0].weight),
                chain(nn.Linear(5, 5), leaky(), nn.Linear(5, 5), leaky()),
            ),
            X,
        ),
        "0.weight and 2.weight share one tensor",
    ),
    "silent": (
        lambda: (chain(nn.Linear(5, 4), snn.Leaky(beta=0.8, threshold=1e6, init_hidden=True)), X),
        "never fired",
    ),
}


@pytest.mark.parametrize("what", TAKEN)
def test_odd_modules_are_taken_for_what_they_compute(what: str) -> None:
    make, note = TAKEN[what]
    module, example = make()
    found = import_module(module, example)
    assert isinstance(found, Imported)
    notes = "; ".join(found.notes)
    assert re.search(note, notes) if note else not notes, notes


def test_the_module_is_left_as_it_was() -> None:
    module = chain(nn.Linear(5, 5), leaky())
    module(X)
    before = {name: value.clone() for name, value in module[0].state_dict().items()}
    import_module(module, X)
    assert all(torch.equal(before[name], value) for name, value in module[0].state_dict().items())
    assert not module[0]._forward_hooks
    assert not module[0]._forward_pre_hooks
    assert next(module.parameters()).requires_grad


def test_an_example_without_steps_is_told_which_shape_would_do() -> None:
    for batch_first, fits in ((False, "20,4,8"), (True, "4,20,8")):
        with pytest.raises(ImportRefused) as refused:
            import_module(nn.LSTM(8, 10, batch_first=batch_first).eval(), torch.rand(4, 8))
        assert f"--input {fits})" in refused.value.hint
