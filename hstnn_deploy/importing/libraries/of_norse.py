"""Norse's neurons (norse 1.0 and 1.1) as layers of a stack.

J_t = (1 - dt tau_syn_inv) J_{t-1} + x_t, and v_t = v_{t-1} + dt tau_mem_inv (v_leak - v_{t-1} + J_t). Membranes begin
at v_leak; they are taken as v - v_leak.
"""

from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries import surrogates
from hstnn_deploy.importing.libraries.plain import Rule
from hstnn_deploy.importing.parts import Chain, Part, Taken, coarse, own_value
from hstnn_deploy.models.layers.base import Shape


def _surrogate(p: Any) -> tuple[dict[str, Any], str]:
    if p.method == "super":
        return surrogates.keys("fast-sigmoid", float(p.alpha)), ""
    if p.method == "adjoint":
        raise ImportRefused("the method adjoint")
    return surrogates.unknown(str(p.method))


def _decays(module: Any, shape: Shape, config: dict[str, Any], weights: dict[str, Tensor], current: bool) -> None:
    left = 1 - module.dt * torch.as_tensor(module.p.tau_mem_inv).detach().double()
    if bool(((left < 0) | (left > 1)).any()):
        raise ImportRefused("dt * tau_mem_inv is not between 0 and 1")
    own_value("decay", left, shape, config, weights)
    config["input_decay"] = True
    if current:
        share = 1 - module.dt * torch.as_tensor(module.p.tau_syn_inv).detach().double()
        if bool(((share < 0) | (share >= 1)).any()):
            raise ImportRefused("dt * tau_syn_inv is not between 0 and 1")
        own_value("current_decay", share, shape, config, weights)


def _threshold(p: Any, leak: Tensor, shape: Shape, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    above = torch.as_tensor(p.v_th).detach().double() - leak
    if bool((above <= 0).any()):
        raise ImportRefused("v_th is not above v_leak")
    own_value("threshold", above, shape, config, weights)
    back = torch.as_tensor(p.v_reset).detach().double() - leak
    if getattr(getattr(p, "reset_method", None), "__name__", "reset_value") == "reset_subtract":
        config["reset"] = "subtract"
        return
    config["reset"] = "zero"
    if bool((back != 0).any()):
        own_value("reset_to", back, shape, config, weights)


def spiking(current: bool) -> Rule:
    """Return the rule of LIF, LIFCell and, without a current, LIFBoxCell."""

    def take(module: Any, shape: Shape, _axes: int) -> Taken:
        config, note = _surrogate(module.p)
        weights: dict[str, Tensor] = {}
        _decays(module, shape, config, weights, current)
        _threshold(module.p, torch.as_tensor(module.p.v_leak).detach().double(), shape, config, weights)
        return Taken([Part({"lif": config}, weights)], _twin, note)

    return take


def integrate(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take IAF and IAFCell."""
    config, note = _surrogate(module.p)
    weights: dict[str, Tensor] = {}
    _threshold(module.p, torch.zeros(()), shape, config, weights)
    return Taken([Part({"lif": config | {"decay": 1.0}}, weights)], _twin, note)


def recurrent(module: Any, shape: Shape, axes: int) -> Taken:
    """Take LIFRecurrent and LIFRecurrentCell: input weights, and weights from the layer's own spikes."""
    if shape != (int(module.input_size),):
        raise ImportRefused(f"it takes {int(module.input_size)} units, but gets {list(shape)}")
    units = int(module.hidden_size)
    (part,) = spiking(True)(module, (units,), axes).chain
    assert isinstance(part, Part)
    # Norse's reset is a constant to the backward pass here, and not where there is no recurrence.
    config = part.config["lif"] | {"detach_reset": True}
    before = Part({"linear": units, "bias": False}, {"weight": module.input_weights.detach().clone()})
    own = {"recurrent.weight": module.recurrent_weights.detach().clone()}
    chain: Chain = [before, Part({"feedback": config}, part.weights | own)]
    return Taken(chain, _twin, _surrogate(module.p)[1])


def integrator(current: bool) -> Rule:
    """Return the rule of LI, LICell and, without a current, LIBoxCell."""

    def take(module: Any, shape: Shape, _axes: int) -> Taken:
        leak = torch.as_tensor(module.p.v_leak).detach()
        if bool((leak != 0).any()):
            raise ImportRefused("a membrane that never fires, with v_leak other than 0")
        config: dict[str, Any] = {}
        weights: dict[str, Tensor] = {}
        _decays(module, shape, config, weights, current)
        return Taken([Part({"integrator": config}, weights)], _twin)

    return take


def linear_integrator(module: Any, _shape: Shape, axes: int) -> Taken:
    """Take LILinearCell."""
    before = Part({"linear": int(module.hidden_size), "bias": False}, {"weight": module.input_weights.detach().clone()})
    after = integrator(True)(module, (int(module.hidden_size),), axes)
    return Taken([before, *after.chain], _twin)


def _twin(module: Any) -> None:
    p = module.p
    # Products of any other dt with its inverse may differ from 1/2 by rounding.
    module.dt = 0.5
    numbers = {"tau_mem_inv": 1.0, "tau_syn_inv": 1.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0}
    changes = {name: torch.as_tensor(number).double() for name, number in numbers.items() if hasattr(p, name)}
    module.p = p._replace(**changes)
    for value in module.parameters():
        coarse(value)


RULES: dict[str, Rule] = {
    "LIF": spiking(True),
    "LIFCell": spiking(True),
    "LIFBoxCell": spiking(False),
    "IAF": integrate,
    "IAFCell": integrate,
    "LIFRecurrent": recurrent,
    "LIFRecurrentCell": recurrent,
    "LI": integrator(True),
    "LICell": integrator(True),
    "LIBoxCell": integrator(False),
    "LILinearCell": linear_integrator,
}
"""By the class's name."""
NEURONS = frozenset(RULES)
CONTAINERS = frozenset({"SequentialState", "Lift"})
