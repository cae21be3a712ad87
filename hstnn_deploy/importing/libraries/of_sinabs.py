"""sinabs' layers (sinabs 2 and 3) as layers of a stack.

i_t = alpha_syn (i_{t-1} + x_t) is a synaptic current of alpha_syn x_t. The membrane's alpha is exp(-1 / tau);
`norm_input` multiplies what comes in by 1 - alpha. Spikes are trunc(v / threshold) (`MultiSpike`), or 0 and 1
(`SingleSpike`).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries import surrogates
from hstnn_deploy.importing.libraries.plain import Rule, held, one
from hstnn_deploy.importing.parts import Chain, Part, Taken, coarse, own_value
from hstnn_deploy.models.layers.base import Shape


def _reset(module: Any, config: dict[str, Any]) -> None:
    """Say how it fires and is reset.

    Raises:
        ImportRefused: a spike function or a reset that has no counterpart.
    """
    fires = getattr(module.spike_fn, "__name__", type(module.spike_fn).__name__)
    if fires not in ("MultiSpike", "SingleSpike"):
        raise ImportRefused(f"spike_fn is {fires}; hstnn takes MultiSpike and SingleSpike")
    config["fires"] = "several" if fires == "MultiSpike" else "at"
    how = module.reset_fn
    match type(how).__name__:
        case "MembraneSubtract":
            if how.subtract_value is not None and float(how.subtract_value) != config["threshold"]:
                raise ImportRefused(f"a reset that subtracts {how.subtract_value}, which is not the threshold")
            config["reset"] = "subtract"
        case "MembraneReset":
            if how.reset_value:
                raise ImportRefused(f"a reset to {how.reset_value}, which sinabs also adds at steps without a spike")
            if config["fires"] == "several":
                raise ImportRefused("MembraneReset with MultiSpike: several spikes and a reset to 0")
            config["reset"] = "zero"
        case other:
            raise ImportRefused(f"reset_fn is {other}; hstnn takes MembraneSubtract and MembraneReset")


def _surrogate(module: Any, threshold: float) -> tuple[dict[str, Any], str]:
    function = module.surrogate_grad_fn
    if type(function).__name__ == "SingleExponential":
        return surrogates.keys("exponential", float(function.grad_width) * threshold, float(function.grad_scale)), ""
    return surrogates.unknown(type(function).__name__)


def _alpha(
    module: Any, which: str, shape: Shape, config: dict[str, Any], weights: dict[str, Tensor], name: str
) -> None:
    found = getattr(module, f"alpha_{which}_calculated").detach()
    own_value(name, found, shape, config, weights)


def _membrane(module: Any, shape: Shape, config: dict[str, Any], weights: dict[str, Tensor]) -> Chain:
    """Say how the membrane and the current decay; return what stands before the neurons."""
    _alpha(module, "mem", shape, config, weights, "decay")
    if module.norm_input:
        config["input_decay"] = True
    if module.alpha_syn_calculated is None:
        return []
    _alpha(module, "syn", shape, config, weights, "current_decay")
    if "current_decay" in weights:
        return [Part({"scale": 1.0, "each": config["each"]["current_decay"]}, {"factors": weights["current_decay"]})]
    return [Part({"scale": config["current_decay"]})]


def spiking(module: Any, shape: Shape, axes: int) -> Taken:
    """Take IAF, LIF, and their Squeeze forms."""
    if module.spike_fn is None:
        return integrator(module, shape, axes)
    config: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    own_value("threshold", module.spike_threshold, shape, config, weights)
    if not bool((module.spike_threshold > 0).all()):
        raise ImportRefused("a spike_threshold that is not above 0")
    surrogate, note = _surrogate(module, config["threshold"])
    config |= surrogate
    _reset(module, config)
    if module.min_v_mem is not None:
        config["lowest"] = float(module.min_v_mem)
        if module.min_v_mem.numel() > 1 or config["lowest"] > 0:
            raise ImportRefused("min_v_mem differs from unit to unit, or is above 0")
    before = _membrane(module, shape, config, weights)
    learned = [name for name in ("tau_mem", "tau_syn", "alpha_mem", "alpha_syn") if _learns(module, name)]
    if learned:
        note = f"{note}; {', '.join(learned)} stays as it is in fine-tuning".removeprefix("; ")
    return Taken([*before, Part({"lif": config}, weights)], _twin, note)


def _learns(module: Any, name: str) -> bool:
    value = getattr(module, name, None)
    return isinstance(value, nn.Parameter) and value.requires_grad


def recurrent(module: Any, shape: Shape, axes: int) -> Taken:
    """Take LIFRecurrent and IAFRecurrent, whose recurrent connection is a linear layer."""
    taken = spiking(module, shape, axes)
    inner = module.rec_connect
    while isinstance(inner, nn.Sequential) and len(inner) == 1:
        inner = inner[0]
    if isinstance(inner, nn.Sequential):
        rest = [each for each in inner if not isinstance(each, nn.Flatten | nn.Identity | nn.Unflatten)]
        inner = rest[0] if len(rest) == 1 and len(shape) == 1 else inner
    if not isinstance(inner, nn.Linear) or len(shape) != 1:
        raise ImportRefused("rec_connect is not one linear layer over units")
    if inner.bias is not None and bool(inner.bias.any()):
        raise ImportRefused("rec_connect has a bias, which sinabs omits only at the first step", "give bias=False")
    *before, part = taken.chain
    assert isinstance(part, Part)
    seen = held(inner, **{"recurrent.weight": "weight"})
    if before:
        # The spikes that come back go into the same current as the input, so they have the same factor.
        (scale,) = before
        assert isinstance(scale, Part)
        factors = scale.weights.get("factors", torch.tensor(scale.config["scale"], dtype=torch.float64))
        seen = {name: value * (factors[:, None] if factors.ndim else factors) for name, value in seen.items()}
    layer = {"feedback": part.config["lif"]}
    return Taken([*before, Part(layer, part.weights | seen)], _twin, taken.note)


def integrator(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take ExpLeak."""
    config: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    if module.min_v_mem is not None:
        raise ImportRefused("a membrane that never fires with min_v_mem")
    before = _membrane(module, shape, config, weights)
    return Taken([*before, Part({"integrator": config}, weights)], _twin)


def sum_pool(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take SumPool2d."""
    size = [int(each) for each in _pair(module.kernel_size)]
    stride = size if module.stride is None else [int(each) for each in _pair(module.stride)]
    if getattr(module, "ceil_mode", False):
        raise ImportRefused("a sum pool with ceil_mode")
    return one({"pool": "sum", "size": size, "stride": stride})


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _twin(module: Any) -> None:
    for name in ("alpha_mem", "alpha_syn"):
        if isinstance(getattr(module, name, None), Tensor):
            getattr(module, name).data.fill_(0.5)
    for name in ("tau_mem", "tau_syn"):
        value = getattr(module, name, None)
        if isinstance(value, Tensor) and bool(torch.isfinite(value).all()):
            value.data.fill_(1 / math.log(2))
    if isinstance(getattr(module, "spike_threshold", None), Tensor):
        module.spike_threshold.data.fill_(1.0)
    if isinstance(getattr(module, "min_v_mem", None), Tensor):
        coarse(module.min_v_mem)
    if isinstance(getattr(module, "rec_connect", None), nn.Module):
        for parameter in module.rec_connect.parameters():
            coarse(parameter)


RULES: dict[str, Rule] = {
    "IAF": spiking,
    "LIF": spiking,
    "IAFSqueeze": spiking,
    "LIFSqueeze": spiking,
    "IAFRecurrent": recurrent,
    "LIFRecurrent": recurrent,
    "ExpLeak": integrator,
    "ExpLeakSqueeze": integrator,
    "SumPool2d": sum_pool,
}
"""By the class's name."""
NEURONS = frozenset(RULES) - {"SumPool2d"}
CONTAINERS = frozenset({"Repeat"})
