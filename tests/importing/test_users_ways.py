"""Networks as their users write them: loops over time, readouts, containers of windows, odd shapes of constants."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import Imported, import_module
from hstnn_deploy.importing.stacks import start
from tests.importing.networks import louder

snn: Any = pytest.importorskip("snntorch")
utils: Any = pytest.importorskip("snntorch.utils")


def answer(found: Imported, x: Tensor) -> Tensor:
    """Return what an imported network answers to x[T, B, …]."""
    with torch.no_grad():
        given: Tensor = found.network(x, start(found.network, x))[0]
        return given


class Loop(nn.Module):
    """A linear layer and a neuron at each step; what is done with its spikes is given."""

    def __init__(self, does: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.lif, self.does = nn.Linear(5, 4), snn.Leaky(beta=0.8125, threshold=0.7), (does,)
        louder(self)

    def step(self, x: Tensor, mem: Any) -> Any:
        """Return spikes and the membrane after a step."""
        return self.lif(self.fc(x), mem)

    def forward(self, x: Tensor) -> Any:
        """See above."""
        return self.does[0](self, x)


def spikes(net: Any, rows: Any) -> list[Tensor]:
    """Return the spikes of each step of some rows."""
    mem, found = net.lif.init_leaky(), []
    for now in rows:
        spk, mem = net.step(now, mem)
        found.append(spk)
    return found


def added(begin: Callable[[Tensor], Any], by: float = 1, most: int = 6) -> Callable[[Any, Tensor], Any]:
    """Return a forward that adds up spikes of the same input, and divides."""

    def does(net: Any, x: Tensor) -> Any:
        total = begin(x)
        for spk in spikes(net, [x] * most):
            total = total + spk
        return total if by == 1 else total / by

    return does


def in_place(net: Any, x: Tensor) -> Tensor:
    """Add up spikes of a window in place."""
    total = torch.zeros(x.size(1), 4)
    for spk in spikes(net, x):
        total += spk
    return total


WINDOW, BATCHES, SAME = torch.rand(6, 3, 5) * 2, torch.rand(3, 6, 5) * 2, torch.rand(3, 5) * 2
LOOPS: dict[str, tuple[Callable[[Any, Tensor], Any], Tensor, str]] = {
    "for x in window": (lambda net, x: torch.stack(spikes(net, x)), WINDOW, "every"),
    "x[:, t]": (lambda net, x: torch.stack(spikes(net, [x[:, t] for t in range(x.size(1))]), 1), BATCHES, "every"),
    "x[:, t], T first": (lambda net, x: torch.stack(spikes(net, [x[:, t] for t in range(6)])), BATCHES, "every"),
    "permute": (lambda net, x: torch.stack(spikes(net, x.permute(1, 0, 2))).sum(0), BATCHES, "sum"),
    "transpose": (lambda net, x: sum(spikes(net, x.transpose(0, 1))) / x.size(1), BATCHES, "mean"),
    "torch.transpose": (lambda net, x: sum(spikes(net, torch.transpose(x, 0, 1).unbind())), BATCHES, "sum"),
    "unbind": (lambda net, x: torch.stack(spikes(net, x.unbind(0))), WINDOW, "every"),
    "torch.unbind": (lambda net, x: torch.stack(spikes(net, torch.unbind(x))), WINDOW, "every"),
    "unbind(1)": (lambda net, x: torch.stack(spikes(net, x.unbind(1))).mean(0), BATCHES, "mean"),
    "x[:, t], sum": (lambda net, x: torch.stack(spikes(net, [x[:, t] for t in range(6)])).sum(0), BATCHES, "sum"),
    "0 + ...": (added(lambda _x: 0), SAME, "sum"),
    "zeros + ...": (added(lambda x: torch.zeros(x.size(0), 4)), SAME, "sum"),
    "sum / T": (added(lambda _x: 0.0, by=6), SAME, "mean"),
    "zeros += ...": (in_place, WINDOW, "sum"),
    "max": (lambda net, x: torch.stack(spikes(net, x)).max(0)[0], WINDOW, "max"),
    "amax": (lambda net, x: torch.stack(spikes(net, x)).amax(dim=0), WINDOW, "max"),
    "max values": (lambda net, x: torch.stack(spikes(net, x)).max(dim=0).values, WINDOW, "max"),
    "axes": (lambda net, x: torch.stack(spikes(net, x if x.dim() == x.ndim == 3 else x * 2)), WINDOW, "every"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_over_time_is_taken_for_what_it_answers(name: str) -> None:
    does, example, readout = LOOPS[name]
    net = Loop(does).eval()
    found = import_module(net, example, readout="every")
    assert found.network.readout == readout
    for size in (1, 4):
        x = torch.rand(size, *example.shape[1:]) if example is not WINDOW else torch.rand(6, size, 5)
        with torch.no_grad():
            wanted = net(x)
        window = x if example is WINDOW else x.transpose(0, 1) if example is BATCHES else x.expand(6, *x.shape)
        wanted = wanted.transpose(0, 1) if name == "x[:, t]" else wanted
        assert torch.allclose(answer(found, window), wanted, atol=1e-6), name
        assert wanted.any()


def test_a_loop_that_is_for_some_number_of_steps_is_said_to_be() -> None:
    ways: dict[str, Callable[[Any, Tensor], Any]] = {
        "always 6": lambda net, x: sum(spikes(net, [x[t] for t in range(6)])) / 6,
        "no others": lambda net, x: sum(spikes(net, x[:6] if len(x) > 6 else x)),
        "all": lambda net, x: sum(spikes(net, x)) / len(x),
    }
    for name, does in ways.items():
        notes = import_module(Loop(does).eval(), WINDOW).notes
        assert any("for windows of 6 steps" in note for note in notes) == (name != "all"), name


def twice(net: Any, x: Tensor) -> Tensor:
    """Add each step's spikes twice."""
    total: Any = 0
    for spk in spikes(net, x):
        total = total + spk
        total = total + spk
    return total  # type: ignore[no-any-return]


REFUSED_LOOPS: dict[str, tuple[Callable[[Any, Tensor], Any], Tensor, str]] = {
    "skips": (lambda net, x: sum(spikes(net, x)[2:]), WINDOW, "step 3 differs from the first"),
    "twice": (twice, WINDOW, "add in its forward adds something that is not a value"),
    "begins at 1": (added(lambda _x: 1), SAME, "step 2 differs from the first"),
    "another divisor": (added(lambda _x: 0, by=5), SAME, "truediv in its forward comes after the sum"),
    "divides a window": (lambda net, x: in_place(net, x) / 6, WINDOW, "truediv in its forward comes after the sum"),
    "where it was most": (lambda net, x: torch.stack(spikes(net, x)).max(0)[1].float(), WINDOW, "in its forward"),
    "both axes": (
        lambda net, x: torch.stack(spikes(net, [x[0], x[:, 1]])),
        torch.rand(3, 3, 5),
        "along both of the first axes",
    ),
    "divides by the batch": (
        lambda net, x: torch.stack(spikes(net, x)).sum(0) / x.size(1),
        torch.rand(3, 3, 5) * 2,
        "truediv in its forward comes after the sum",
    ),
    "divides each step": (
        lambda net, x: sum(spk / len(x) for spk in spikes(net, x)),
        WINDOW,
        "depends on the number of steps in its window",
    ),
    "permute otherwise": (
        lambda net, x: torch.stack(spikes(net, x.permute(2, 1, 0))),
        torch.rand(5, 5, 5),
        "cannot be iterated",
    ),
    "both, turned": (
        lambda net, x: torch.stack(spikes(net, [now + x[0] for now in x.transpose(0, 1)])),
        torch.rand(3, 3, 5),
        "along both of the first axes",
    ),
    "turned": (lambda net, x: torch.stack(spikes(net, x), 1), WINDOW, "returns .B, T, .... for a window"),
    "softmax": (lambda net, x: torch.stack(spikes(net, x)).sum(0).softmax(1), WINDOW, "softmax in its forward"),
    "repeats itself": (lambda net, x: net.fc(x.unsqueeze(0).repeat(4, 2, 1)), SAME, "unsqueeze in its forward"),
    "another batch": (
        lambda net, x: torch.stack(spikes(net, x if x.size(1) == 3 else x * 3)),
        WINDOW,
        "the stack differs",
    ),
}


@pytest.mark.parametrize("name", REFUSED_LOOPS)
def test_a_loop_that_does_other_things_is_refused(name: str) -> None:
    does, example, message = REFUSED_LOOPS[name]
    with pytest.raises(ImportRefused, match=message):
        import_module(Loop(does).eval(), example)


class Recurrent(nn.Module):
    """An LSTM, and what is done with its output."""

    def __init__(self, does: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.lstm, self.fc, self.does = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 4), (does,)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        return self.does[0](self, self.lstm(x.float())[0])


def test_the_last_step_of_a_window_is_told_from_the_last_sample() -> None:
    net = Recurrent(lambda net, y: net.fc(y[:, -1, :])).eval()
    found = import_module(net, torch.randn(3, 3, 5))
    x = torch.randn(4, 7, 5)
    assert found.network.readout == "last"
    assert torch.allclose(answer(found, x.transpose(0, 1)), net(x).detach(), atol=1e-5)
    for other in (lambda net, y: net.fc(y)[-1], lambda net, y: net.fc(y)[()], lambda net, y: net.fc(y)[:, -2]):
        with pytest.raises(ImportRefused, match="takes a part of a value"):
            import_module(Recurrent(other).eval(), torch.randn(3, 3, 5))


def keeps(**options: Any) -> Any:
    """Return neurons that keep their state."""
    return snn.Leaky(threshold=0.7, init_hidden=True, **options)


class Forgets(nn.Module):
    """Sets its neurons to their start at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(5, 5), keeps(beta=0.8)
        louder(self)

    def forward(self, x: Tensor) -> Any:
        """See above."""
        utils.reset(self)
        return self.lif(self.fc(x))


def test_a_forward_that_resets_its_neurons_is_found_out() -> None:
    known = len(snn.Leaky.instances)
    with pytest.raises(ImportRefused, match=r"^lif \(Leaky\): the stack differs"):
        import_module(Forgets().eval(), SAME)
    # Nothing but the module's own neurons is left on the library's list.
    assert len(snn.Leaky.instances) == known + 1


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 4, 1), (4, 1, 1), (1, 4, 4, 4), (4, 4, 4)])
def test_constants_of_a_map_spread_as_the_module_spreads_them(shape: tuple[int, ...]) -> None:
    net = louder(nn.Sequential(nn.Conv2d(1, 4, 3), keeps(beta=torch.rand(shape)), nn.Flatten())).eval()
    found = import_module(net, torch.rand(2, 1, 6, 6))
    assert found.proof.spikes


@pytest.mark.parametrize("kind", ["RLeaky", "RSynaptic"])
def test_recurrent_weights_that_are_not_learned_are_taken(kind: str) -> None:
    options: dict[str, Any] = {"alpha": 0.7} if kind == "RSynaptic" else {}
    options |= {"V": torch.rand(5), "all_to_all": False, "learn_recurrent": False}
    net = nn.Sequential(nn.Linear(5, 5), getattr(snn, kind)(beta=0.8, init_hidden=True, **options))
    assert import_module(louder(net).eval(), SAME).proof.alone == 1


def test_a_module_of_one_batch_size_is_compared_with_that_alone() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(5, 5), keeps(beta=0.8)

        def forward(self, x: Tensor) -> Any:
            return self.lif(self.fc(x.view(3, -1)))

    found = import_module(Fixed().eval(), SAME)
    assert any("fails with batches other than 3" in note for note in found.notes)


def test_another_default_precision_changes_nothing() -> None:
    net = nn.Sequential(nn.Linear(5, 5), keeps(beta=0.8)).eval()
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = import_module(net, SAME)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(usual)
    assert {each.dtype for each in found.network.parameters()} == {torch.float32}
