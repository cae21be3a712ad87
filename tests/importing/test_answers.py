"""Forwards that go through time: the answer is spikes or membranes, of every step, summed, averaged or the largest."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import import_module
from hstnn_deploy.models.eager import Eager

snn: Any = pytest.importorskip("snntorch")


class Net(nn.Module):
    """A linear layer and neurons; what its forward does is given."""

    def __init__(self, does: Callable[[Any, Tensor], Any], neurons: nn.Module) -> None:
        super().__init__()
        self.a, self.l, self.does = nn.Linear(5, 5), neurons, (does,)

    def forward(self, x: Tensor) -> Any:
        """See above."""
        return self.does[0](self, x)


def gives(last: nn.Module, answer: Callable[[list[Tensor], list[Tensor]], Any]) -> nn.Module:
    """Return a network whose forward goes through time, and gives answer(spikes, membranes) of all steps."""

    def does(net: Any, x: Tensor) -> Any:
        state, spikes, membranes = net.l.reset_mem(), [], []
        for now in x:
            given = net.l(3 * net.a(now), *(state if isinstance(state, tuple) else (state,)))
            match net.l:
                case snn.Synaptic() | snn.SLSTM():
                    out, current, mem = given
                    state = current, mem
                case snn.RLeaky():
                    out, mem = given
                    state = out, mem
                case _:
                    out, mem = given
                    state = mem
            spikes.append(out)
            membranes.append(mem)
        return answer(spikes, membranes)

    return Net(does, last).eval()


ANSWERS: dict[str, tuple[Callable[[list[Tensor], list[Tensor]], Any], str, str]] = {
    "spikes and membranes": (lambda s, m: (torch.stack(s), torch.stack(m)), "lif", "sum"),
    "membranes and spikes": (lambda s, m: (torch.stack(m), torch.stack(s)), "integrator", "sum"),
    "membranes": (lambda _, m: torch.stack(m), "integrator", "sum"),
    "last membrane": (lambda _, m: m[-1], "integrator", "last"),
    "largest membrane": (lambda _, m: torch.stack(m).max(0)[0], "integrator", "max"),
    "largest membrane, amax": (lambda _, m: torch.stack(m).amax(dim=0), "integrator", "max"),
    "mean membrane": (lambda _, m: sum(m) / len(m), "integrator", "mean"),
    "sum of spikes, and membranes": (lambda s, m: (torch.stack(s).sum(0), torch.stack(m).sum(0)), "lif", "sum"),
    "sum": (lambda s, _: sum(s), "lif", "sum"),
    "sum from zeros": (lambda s, _: sum(s, torch.zeros(4, 5)), "lif", "sum"),
    "sum from zeros like them": (lambda s, _: sum(s, torch.zeros_like(s[0])), "lif", "sum"),
    "sum from the first": (lambda s, _: s[0] + s[1] + s[2] + s[3] + s[4] + s[5], "lif", "sum"),
    "sum from the other side": (lambda s, _: s[5] + (s[4] + (s[3] + (s[2] + (s[1] + s[0])))), "lif", "sum"),
    "mean": (lambda s, _: sum(s) / len(s), "lif", "mean"),
    "mean of a stack": (lambda s, _: torch.stack(s).sum(0) / len(s), "lif", "mean"),
}
"""What a forward with a loop gives, and the last layer and the readout that it is taken as."""


@pytest.mark.parametrize("what", ANSWERS)
def test_answers_of_a_loop(what: str) -> None:
    answer, kind, readout = ANSWERS[what]
    found = import_module(gives(snn.Leaky(beta=0.8), answer), torch.rand(6, 4, 5), readout="sum")
    assert list(found.network.leaves())[-1].kind == kind
    assert found.network.readout == readout
    left = [note for note in found.notes if "behind" in note]
    assert len(left) == ("," in what or " and " in what) - ("amax" in what)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("kind", ["Leaky", "Lapicque", "Synaptic"])
def test_membranes_of_every_reset(kind: str, reset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"Leaky": {"beta": 0.8}, "Lapicque": {"R": 1.3, "C": 4.1, "time_step": 0.7}}
    keys |= {"Synaptic": {"alpha": 0.3, "beta": 0.8}}

    def network() -> nn.Module:
        last = getattr(snn, kind)(**keys[kind], threshold=0.7, reset_mechanism=reset, learn_threshold=True)
        return gives(last, lambda _, m: torch.stack(m))

    found = import_module(network(), torch.rand(6, 4, 5), readout="every")
    assert found.proof.spikes == 0 < found.proof.values
    assert (found.proof.met > 100) == (reset != "none")
    assert not found.proof.weak
    if reset == "none":
        return
    assert found.notes == ["l (" + kind + "): threshold of a membrane stay as they are in fine-tuning"]
    # A membrane at its threshold, taken wrongly, is found.
    monkeypatch.setattr(Eager, "exceeds", lambda _o, a, threshold, _name="": (a >= threshold).to(a.dtype))
    with pytest.raises(ImportRefused, match=r"^l .* alone, with constants that meet the threshold exactly"):
        import_module(network(), torch.rand(6, 4, 5), readout="every")


def test_a_recurrent_layer_has_no_membrane_to_give() -> None:
    module = gives(snn.RLeaky(beta=0.8, linear_features=5), lambda _, m: torch.stack(m))
    with pytest.raises(ImportRefused, match=r"l .RLeaky.: its membrane is the answer") as refused:
        import_module(module, torch.rand(6, 4, 5))
    assert "reset_mechanism='none'" in refused.value.hint


Answer = Callable[[list[Tensor], list[Tensor]], Any]
REFUSED: dict[str, tuple[Answer, str]] = {
    "membranes and spikes added up": (lambda s, m: torch.stack(m) + torch.stack(s), "l .Leaky. runs in two places"),
    "membrane of one step": (lambda _, m: m[1], "returns only the output of step 2"),
    "sum of some steps": (lambda s, _: sum(s[:-1]), "step 4 differs from the first"),
    "sum of some steps, from the second on": (lambda s, _: sum(s[1:]), "step 2 differs from the first"),
    "sum in parts": (lambda s, _: s[0] + s[1] + s[2] * 2 + s[3], "step 3 differs from the first"),
    "one step twice": (lambda s, _: s[0] + s[1] + s[1] + s[3], "step 2 differs from the first"),
    "sum that begins with 1": (lambda s, _: sum(s, 1), "step 2 differs from the first"),
    "sum that begins with ones": (lambda s, _: sum(s, torch.ones(3, 5)), "uses a parameter or buffer"),
    "sum over another number of steps": (lambda s, _: sum(s) / 5, "truediv in its forward comes after the sum"),
    "sum over the steps of this window alone": (lambda s, _: sum(s) / 4, "truediv in its forward comes after the sum"),
    "two sums": (lambda s, _: sum(s) + sum(s), "comes after another readout"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_answer_is_refused(what: str) -> None:
    answer, says = REFUSED[what]
    with pytest.raises(ImportRefused, match=says):
        import_module(gives(snn.Leaky(beta=0.8), answer), torch.rand(4, 3, 5))


def test_a_membrane_that_is_reset_with_its_spike_is_refused() -> None:
    module = gives(snn.Leaky(beta=0.8, reset_delay=False), lambda _, m: torch.stack(m))
    with pytest.raises(ImportRefused, match=r"l .Leaky.: its membrane as the answer, with reset_delay=False"):
        import_module(module, torch.rand(4, 3, 5))


def test_the_membrane_of_a_spiking_lstm_is_the_output_of_its_lstm() -> None:
    found = import_module(gives(snn.SLSTM(5, 5, threshold=0.2), lambda _, m: sum(m)), torch.rand(6, 4, 5))
    assert [layer.kind for layer in found.network.leaves()] == ["linear", "scale", "lstm"]
    assert found.network.readout == "sum"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reset_mechanism": "subtract"}, "a reset of an LSTM's output"),
        ({"reset_mechanism": "zero"}, "a reset of an LSTM's output"),
        ({"hidden_size": 4}, "input_size 5 and hidden_size 4 differ"),
        ({"inhibition": True}, "inhibition"),
    ],
)
def test_spiking_lstms_that_are_refused(options: dict[str, Any], says: str) -> None:
    module = nn.Sequential(snn.SLSTM(**{"input_size": 5, "hidden_size": 5, "init_hidden": True} | options)).eval()
    with pytest.raises(ImportRefused, match=rf"0 .SLSTM.: .*{says}"):
        import_module(module, torch.rand(4, 5))


def batch_first(answer: Callable[[list[Tensor]], Any]) -> nn.Module:
    """Return a network whose forward goes through time along the second axis."""

    def does(net: Any, x: Tensor) -> Any:
        mem, spikes = net.l.reset_mem(), []
        for t in range(x.shape[1]):
            out, mem = net.l(3 * net.a(x[:, t]), mem)
            spikes.append(out)
        return answer(spikes)

    return Net(does, snn.Leaky(beta=0.8)).eval()


@pytest.mark.parametrize(
    ("answer", "readout"),
    [
        (lambda s: torch.stack(s, 1), "every"),
        (torch.stack, "every"),
        (lambda s: torch.stack(s, dim=1).sum(1), "sum"),
        (lambda s: torch.stack(s, dim=1).mean(-2), "mean"),
        (lambda s: torch.stack(s).mean(-3), "mean"),
        (lambda s: sum(s) / len(s), "mean"),
        (lambda s: s[-1], "last"),
    ],
)
def test_a_loop_over_the_second_axis(answer: Callable[[list[Tensor]], Any], readout: str) -> None:
    found = import_module(batch_first(answer), torch.rand(4, 6, 5), readout="every")
    assert found.origin["layout"] == "batch-first"
    assert found.network.readout == readout
    assert found.proof.fired > 0.01


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda s: torch.stack(s, 2), "must stack one value"),
        (lambda s: torch.stack(s, 1).sum(0), "sum in its forward is not a layer"),
        (lambda s: torch.stack(s).sum(-2), "sum in its forward is not a layer"),
    ],
)
def test_other_axes_are_refused(answer: Callable[[list[Tensor]], Any], says: str) -> None:
    with pytest.raises(ImportRefused, match=says):
        import_module(batch_first(answer), torch.rand(4, 6, 5))
