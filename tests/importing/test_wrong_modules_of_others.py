"""What SpikingJelly, sinabs and Norse have that is refused by its name, or taken for what it computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.module import import_module
from tests.importing.networks import installed
from tests.importing.test_wrong_modules import X, chain

snn: Any = pytest.importorskip("snntorch")
Made = tuple[Any, Any]


def spikingjelly(make: Callable[[Any, Any], Made]) -> Made:
    """Return what is made with SpikingJelly's layers and neurons."""
    layer = installed("spikingjelly.activation_based.layer")
    return make(layer, installed("spikingjelly.activation_based.neuron"))


def sinabs(make: Callable[[Any, Any], Made]) -> Made:
    """Return what is made with sinabs' layers and activations."""
    return make(installed("sinabs.layers"), installed("sinabs.activation"))


def norse(make: Callable[[Any], Made]) -> Made:
    """Return what is made with norse."""
    return make(installed("norse.torch"))


def values(**changes: float) -> dict[str, Tensor]:
    """Return numbers as norse takes them."""
    return {name: torch.tensor(value) for name, value in changes.items()}


def norse_example() -> nn.Module:
    """Return its ConvNet, which writes what it gives into a tensor."""
    found: nn.Module = installed("norse.torch.models.conv").ConvNet().eval()
    return found


W = torch.rand(6, 3, 5) * 4
OTHERS: dict[str, tuple[Callable[[], Made], str]] = {
    "step modes mixed": (
        lambda: spikingjelly(
            lambda sj, n: (chain(sj.Linear(5, 5), n.LIFNode(step_mode="m"), sj.Linear(5, 5), n.LIFNode()), W)
        ),
        "layers disagree on their input: 1 takes time-first and 3 takes step",
    ),
    "no spikes": (
        lambda: spikingjelly(
            lambda sj, n: (
                chain(
                    sj.Linear(5, 5),
                    n.LIFNode(
                        surrogate_function=installed("spikingjelly.activation_based.surrogate").ATan(spiking=False)
                    ),
                ),
                X,
            )
        ),
        "1 .LIFNode.: its surrogate function has spiking=False",
    ),
    "another node": (
        lambda: spikingjelly(lambda sj, n: (chain(sj.Linear(5, 5), n.QIFNode()), X)),
        "QIFNode of spiking",
    ),
    "v_reset above": (
        lambda: spikingjelly(lambda sj, n: (chain(sj.Linear(5, 5), n.LIFNode(v_reset=2.0)), X)),
        "v_threshold is not above v_reset",
    ),
    "another spike function": (
        lambda: sinabs(lambda sl, sa: (chain(nn.Linear(5, 5), sl.IAF(spike_fn=sa.MaxSpike(3))), W)),
        "1 .IAF.: spike_fn is MaxSpike",
    ),
    "adaptive": (
        lambda: sinabs(lambda sl, _: (chain(nn.Linear(5, 5), sl.ALIF(tau_mem=5.0, tau_adapt=9.0)), W)),
        "1: hstnn does not support ALIF of sinabs",
    ),
    "a reset to a value": (
        lambda: sinabs(
            lambda sl, sa: (
                chain(nn.Linear(5, 5), sl.IAF(spike_fn=sa.SingleSpike, reset_fn=sa.MembraneReset(reset_value=0.2))),
                W,
            )
        ),
        "1 .IAF.: a reset to 0.2",
    ),
    "rows that are not batch": (
        lambda: sinabs(lambda sl, _: (chain(nn.Linear(5, 5), sl.IAFSqueeze(batch_size=4)), W[0].repeat(2, 1))),
        "fails on the example",
    ),
    "windows and cells": (
        lambda: norse(
            lambda no: (no.SequentialState(nn.Linear(5, 5), no.LIF(), nn.Linear(5, 5), no.LIFCell()).eval(), W)
        ),
        "layers disagree on their input",
    ),
    "another cell": (
        lambda: norse(lambda no: (no.SequentialState(nn.Linear(5, 5), no.LIFAdExCell()).eval(), X)),
        "1: hstnn does not support LIFAdExCell of norse",
    ),
    "a step too long": (
        lambda: norse(lambda no: (no.SequentialState(nn.Linear(5, 5), no.LIFCell(dt=0.02)).eval(), X)),
        "dt . tau_mem_inv is not between 0 and 1",
    ),
    "writes into a tensor": (
        lambda: (
            installed("norse.torch"),
            (installed("norse.torch.models.conv").ConvNet().eval(), torch.rand(3, 1, 1, 28, 28)),
        )[1],
        "ConvNet: its forward depends on values.*item assignment",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_other_libraries_have_is_refused_by_its_name(what: str) -> None:
    make, says = OTHERS[what]
    module, example = make()
    with pytest.raises(ImportRefused, match=says) as error:
        import_module(module, example)
    if "item assignment" in says:
        assert "forward takes one step" in str(error.value.hint)


ALSO: dict[str, Callable[[], Made]] = {
    "store_v_seq": lambda: spikingjelly(
        lambda sj, n: (chain(sj.Linear(5, 5), n.LIFNode(step_mode="m", store_v_seq=True)), W)
    ),
    "one step of one sample": lambda: spikingjelly(
        lambda sj, n: (chain(sj.Linear(5, 5), n.LIFNode(step_mode="m")), W[:1, :1] + 5)
    ),
    "recorded": lambda: sinabs(lambda sl, _: (ran_on(chain(nn.Linear(5, 5), sl.IAF(record_states=True)), W), W)),
    "spikes that grow from step to step": lambda: sinabs(
        lambda sl, _: (chain(nn.Linear(5, 4), sl.IAFRecurrent(rec_connect=nn.Linear(4, 4, bias=False))), 5 * W[:, :4])
    ),
    "repeat, one sample of one channel": lambda: sinabs(
        lambda sl, _: (chain(sl.Repeat(nn.Conv2d(1, 2, 3)), sl.IAF(), nn.Flatten(2)), torch.rand(1, 6, 1, 5, 5) * 3)
    ),
    "repeat": lambda: sinabs(
        lambda sl, _: (chain(sl.Repeat(nn.Conv2d(1, 2, 3)), sl.IAF(), nn.Flatten(2)), torch.rand(3, 6, 1, 5, 5) * 3)
    ),
    "lifted, one sample of one channel": lambda: norse(
        lambda no: (
            no.SequentialState(no.Lift(nn.Conv2d(1, 1, 3)), no.LIF(), nn.Flatten(2)).eval(),
            torch.rand(7, 1, 1, 5, 5) * 60,
        )
    ),
    "a reset above the leak": lambda: norse(
        lambda no: (
            no.SequentialState(nn.Linear(5, 5), no.LIFCell(no.LIFParameters(**values(v_reset=0.4)))).eval(),
            X * 20,
        )
    ),
    "a cell alone": lambda: norse(lambda no: (no.LIFRecurrentCell(5, 4).eval(), X * 30)),
}


def ran_on(net: nn.Module, x: Tensor) -> nn.Module:
    """Return a network that has run on something."""
    net(x)
    return net


@pytest.mark.parametrize("what", ALSO)
def test_what_else_other_libraries_have_is_taken(what: str) -> None:
    module, example = ALSO[what]()
    found = import_module(module, example, readout="every")
    assert found.proof.alone
    assert not [note for note in found.notes if "fine-tuning" not in note], found.notes
