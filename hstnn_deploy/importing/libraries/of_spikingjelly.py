"""SpikingJelly's layers and neurons (spikingjelly 0.0.0.0.14 to 2.0, `activation_based`) as layers of a stack.

With v_reset set, membranes leak towards v_reset, are reset to it and begin at it: they are taken as v - v_reset, with
the threshold v_threshold - v_reset. With v_reset None they are reset by subtraction and leak towards 0.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries import plain, surrogates
from hstnn_deploy.importing.libraries.plain import Rule
from hstnn_deploy.importing.parts import Part, Taken, coarse
from hstnn_deploy.models.layers.base import Shape


def _neuron(module: Any) -> tuple[dict[str, Any], str]:
    config, note = _surrogate(module.surrogate_function)
    start = 0.0 if module.v_reset is None else float(module.v_reset)
    config |= {
        "threshold": float(module.v_threshold) - start,
        "fires": "at",
        "reset": "subtract" if module.v_reset is None else "zero",
        "detach_reset": bool(module.detach_reset),
    }
    if not config["threshold"] > 0:
        raise ImportRefused("v_threshold is not above v_reset")
    return config, note


def _surrogate(function: Any) -> tuple[dict[str, Any], str]:
    if not getattr(function, "spiking", True):
        raise ImportRefused("its surrogate function has spiking=False: it gives no spikes")
    match type(function).__name__:
        case "ATan":
            return surrogates.keys("arctan", float(function.alpha)), ""
        case "Sigmoid":
            return surrogates.keys("sigmoid", float(function.alpha)), ""
        case other:
            return surrogates.unknown(other)


def _check_backend(module: Any) -> None:
    if getattr(module, "backend", "torch") != "torch":
        raise ImportRefused(f"backend is {module.backend!r}; set backend='torch'")


def lif(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take LIFNode."""
    _check_backend(module)
    config, note = _neuron(module)
    if not module.tau >= 1:
        raise ImportRefused(f"tau is {module.tau}: a membrane that changes its sign")
    config |= {"decay": 1 - 1 / float(module.tau), "input_decay": bool(module.decay_input)}
    return Taken([Part({"lif": config})], _twin, note)


def integrate(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take IFNode."""
    _check_backend(module)
    config, note = _neuron(module)
    return Taken([Part({"lif": config | {"decay": 1.0}})], _twin, note)


def parametric(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take ParametricLIFNode: 1 / tau = sigmoid(w), which is learned."""
    _check_backend(module)
    config, note = _neuron(module)
    left = 1 - float(torch.sigmoid(module.w.detach().double()))
    if not 0 < left < 1:
        raise ImportRefused(f"w is {float(module.w):g}, so that 1 / tau is 0 or 1")
    config |= {"decay": left, "input_decay": bool(module.decay_input), "learn": ["decay"]}
    return Taken([Part({"lif": config}, {"rate": module.w.detach().clone()})], _twin, note)


def voting(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take VotingLayer."""
    return plain.one({"vote": int(module.voting_size)})


def recurrent(module: Any, shape: Shape, axes: int) -> Taken:
    """Take LinearRecurrentContainer: W (x_t, y_{t-1}) + b goes into a neuron, or through linear layers into one."""
    inner: list[Any] = list(module.sub_module) if isinstance(module.sub_module, nn.Sequential) else [module.sub_module]
    rule = RULES.get(type(inner[-1]).__name__)
    if rule not in (lif, integrate, parametric) or not all(isinstance(each, nn.Linear) for each in inner[:-1]):
        raise ImportRefused("a recurrent container around other layers than linear ones and a neuron at the end")
    weight, bias = module.rc.weight.detach().double(), module.rc.bias
    offset = None if bias is None else bias.detach().double()
    for each in inner[:-1]:
        weight = each.weight.detach().double() @ weight
        if offset is not None:
            offset = each.weight.detach().double() @ offset
        if each.bias is not None:
            offset = each.bias.detach().double() + (0 if offset is None else offset)
    inputs = weight.shape[1] - weight.shape[0]
    if shape != (inputs,):
        raise ImportRefused(f"it takes {inputs} units, but gets {list(shape)}")
    of_input: dict[str, Tensor] = {"weight": weight[:, :inputs].clone()}
    if offset is not None:
        of_input["bias"] = offset.clone()
    neuron = rule(inner[-1], (len(weight),), axes)
    (part,) = neuron.chain
    assert isinstance(part, Part)
    before = Part({"linear": len(weight), "bias": offset is not None}, of_input)
    seen = {"recurrent.weight": weight[:, inputs:].clone()}
    after = Part({"feedback": part.config["lif"]}, part.weights | seen)
    return Taken([before, after], _twin, neuron.note)


def _twin(module: nn.Module) -> None:
    for each in module.modules():
        _twin_of(each)


def _twin_of(module: Any) -> None:
    for value in module.parameters(recurse=False):
        coarse(value)
    for name, number in (("tau", 2.0), ("v_threshold", 1.0)):
        if hasattr(module, name):
            setattr(module, name, number)
    if getattr(module, "v_reset", None) is not None and hasattr(module, "v_threshold"):
        module.v_reset = 0.0
        for memories in (module._memories, module._memories_rv):
            memories["v"] = 0.0
    if type(module).__name__ == "ParametricLIFNode":
        module.w.data.zero_()


RULES: dict[str, Rule] = {
    **{
        name: plain.RULES[name]
        for name in (
            *("Linear", "Conv1d", "Conv2d", "BatchNorm1d", "BatchNorm2d", "MaxPool1d", "MaxPool2d", "AvgPool1d"),
            *("AvgPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d"),
        )
    },
    "Flatten": lambda module, shape, _axes: plain.flatten(module, shape, 1),
    "Dropout": lambda module, shape, axes: plain.dropout(True)(type("P", (), {"p": module.p}), shape, axes),
    "LIFNode": lif,
    "IFNode": integrate,
    "ParametricLIFNode": parametric,
    "VotingLayer": voting,
    "LinearRecurrentContainer": recurrent,
}
"""By the class's name."""
NEURONS = frozenset({"LIFNode", "IFNode", "ParametricLIFNode", "LinearRecurrentContainer"})
CONTAINERS = frozenset({"SeqToANNContainer", "MultiStepContainer", "StepModeContainer"})
