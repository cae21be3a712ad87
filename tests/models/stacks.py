"""Small stacks, one for each layer and each option of a neuron, for tests."""

from typing import Any

import torch

from hstnn_deploy.models.layers.maps import Scale
from hstnn_deploy.models.layers.norm import Norm
from hstnn_deploy.models.layers.units import Feedback, Spiking, held
from hstnn_deploy.models.stack import Stack, StackConfig

SJ = {"tau": 2.0, "threshold": 1.0, "input_decay": True, "fires": "at", "surrogate": {"arctan": 2.0}}
LEAKY = {"decay": 0.5, "threshold": 1.0, "delayed_reset": True, "surrogate": {"fast-sigmoid": 25.0}}
IAF = {"decay": 1.0, "threshold": 1.0, "fires": "several", "reset": "subtract", "surrogate": {"exponential": 0.5}}

NEURONS: dict[str, dict[str, Any]] = {
    "lif": {"lif": {}},
    "tau": {"lif": SJ},
    "detached": {"lif": SJ | {"detach_reset": True}},
    "plif": {"lif": SJ | {"learn": "decay"}},
    "learned threshold": {"lif": {"learn": ["decay", "threshold"], "reset": "subtract"}},
    "soft": {"lif": {"reset": "subtract"}},
    "no reset": {"lif": {"reset": "none", "threshold": 1.0}},
    "reset to": {"lif": {"reset_to": -0.25}},
    "lowest": {"lif": {"lowest": -0.5, "reset": "subtract"}},
    "lowest, to zero": {"lif": {"lowest": -0.25, "threshold": 0.5}},
    "lowest, no reset": {"lif": {"lowest": -0.25, "threshold": 1.0, "reset": "none"}},
    "at": {"lif": {"fires": "at"}},
    "several": {"lif": IAF},
    "several, bounded": {"lif": IAF | {"lowest": -1.0, "threshold": 0.7}},
    "delayed, zero": {"lif": LEAKY},
    "delayed, subtract": {"lif": LEAKY | {"reset": "subtract"}},
    "delayed, cancels": {"lif": LEAKY | {"cancels_input": True}},
    "reset again": {"lif": {"decay": 0.9, "threshold": 0.5, "reset": "subtract", "reset_again": True}},
    "synaptic": {"lif": {"current_decay": 0.5}},
    "adaptive": {"adaptive": {}},
    "integrator": {"integrator": {"decay": 0.5}},
    "integrator, scaled": {"integrator": {"decay": 0.75, "input_decay": True}},
    "feedback": {"feedback": {}},
    "feedback, own": {"feedback": {"reset": "subtract", "delayed_reset": True}, "through": "own"},
    "feedback, synaptic": {"feedback": {"current_decay": 0.5, "each": {"decay": "unit"}}, "bias": True},
    "rest": {"lif": {"rest": 0.3, "input_decay": True}},
    "each": {
        "lif": {
            "current_decay": 0.3,
            "rest": -0.1,
            "reset_to": -0.2,
            "each": dict.fromkeys(("decay", "threshold", "current_decay", "rest", "reset_to"), "unit"),
        }
    },
    "each learned": {
        "lif": SJ
        | {"learn": ["decay", "threshold"], "learn_as": "value", "each": {"decay": "unit", "threshold": "unit"}}
    },
    "each rate learned": {"lif": SJ | {"learn": ["decay"], "each": {"decay": "channel"}, "reset": "subtract"}},
    "current learned": {
        "lif": LEAKY | {"current_decay": 0.7, "learn": ["current_decay", "decay"], "learn_as": "value"}
    },
    "integrator, synaptic": {
        "integrator": {"current_decay": 0.6, "rest": 0.2, "each": {"decay": "unit", "current_decay": "unit"}}
    },
    "integrator, soft reset": {"integrator": {"decay": 0.8, "threshold": 0.5, "each": {"threshold": "unit"}}},
    "integrator, reset": {"integrator": {"decay": 0.8, "threshold": 0.5, "reset": "zero"}},
    "integrator, cancels": {
        "integrator": {"current_decay": 0.4, "threshold": 0.5, "reset": "zero", "cancels_input": True}
    },
    "rnn": {"rnn": 5},
    "rnn, tanh": {"rnn": 5, "nonlinearity": "tanh", "bias": True},
    "rnn, relu": {"rnn": 5, "nonlinearity": "relu"},
    "rnn, bias": {"rnn": 5, "bias": True},
    "lstm": {"lstm": 5},
    "lstm, bias": {"lstm": 5, "bias": True},
    "gru": {"gru": 5},
    "gru, bias": {"gru": 5, "bias": True},
}
READOUTS = ("sum", "mean", "last", "max", "every")
MAPS: dict[str, list[Any]] = {
    "conv": [{"conv": 4}, {"lif": {}}],
    "conv, strided": [{"conv": 4, "kernel": 3, "stride": 2, "padding": 1, "bias": False}, {"lif": {}}],
    "conv, dilated groups": [{"conv": 4, "kernel": [3, 2], "dilation": 2, "groups": 2}, {"lif": {}}],
    "norm": [{"conv": 4, "bias": False}, {"norm": {}}, {"lif": SJ}],
    "norm, bare": [{"conv": 4, "bias": False}, {"norm": {"scale": False, "shift": False}}, {"lif": SJ}],
    "norm of each step": [{"conv": 4}, {"norm": {"over": "step"}}, {"lif": SJ}],
    "norm a step": [{"conv": 4}, {"norm": {"over": "step", "steps": 20, "shift": False, "eps": 1e-4}}, {"lif": SJ}],
    "max pool": [{"conv": 4}, {"lif": {}}, {"pool": "max", "size": 2}],
    "max pool of currents": [{"conv": 4}, {"pool": "max", "size": 2}, {"lif": {}}],
    "mean pool": [{"conv": 4}, {"lif": {}}, {"pool": "mean", "size": 2}],
    "mean pool of three": [{"conv": 4}, {"lif": {}}, {"pool": "mean", "size": 3, "stride": 1}],
    "sum pool": [{"conv": 4}, {"lif": {}}, {"pool": "sum", "size": [2, 3]}],
    "padded max pool of currents": [{"conv": 4}, {"pool": "max", "size": 3, "stride": 2, "padding": 1}, {"lif": {}}],
    "max pool, padded at two sides": [
        {"conv": 4},
        {"pool": "max", "size": 3, "stride": 1, "padding": [1, 0]},
        {"lif": {}},
    ],
    "padded mean pool": [{"conv": 4}, {"lif": {}}, {"pool": "mean", "size": 3, "stride": 2, "padding": [1, 0]}],
    "padded sum pool": [{"conv": 4}, {"lif": {}}, {"pool": "sum", "size": 2, "padding": 1}],
    "adaptive pool": [{"conv": 4}, {"lif": {}}, {"pool": "mean", "to": 1}],
    "residual": [{"conv": 2}, {"lif": {}}, {"residual": [{"conv": 2, "padding": 1}, {"lif": {}}]}],
    "shortcut": [{"residual": [{"conv": 4, "padding": 1}, {"lif": {}}], "shortcut": [{"conv": 4, "kernel": 1}]}, "lif"],
    "parallel": [{"parallel": [[{"conv": 2}, {"lif": {}}], [{"conv": 3}, {"lif": SJ}]]}],
    "repeated": [{"repeat": 2, "layers": [{"conv": 2, "padding": 1}, {"lif": {}}]}],
    "delay": [{"conv": 4}, {"lif": {}}, {"delay": 2}],
    "each channel": [
        {"conv": 4},
        {"lif": {"each": {"decay": "channel", "threshold": "unit"}}},
        {"scale": 1, "each": "channel"},
    ],
    "feedback of maps": [{"conv": 3}, {"feedback": {"threshold": 0.5}, "kernel": 3, "bias": True}],
    "feedback of maps, own": [{"conv": 3}, {"feedback": {"threshold": 0.5}, "through": "own"}],
    "dropout": [{"conv": 4}, {"lif": {}}, {"dropout": 0.5, "shared_over_time": True}],
}
STACKS: dict[str, dict[str, Any]] = {
    **{
        f"neuron: {name}": {"input": [6], "layers": [{"linear": 5}, layer, {"linear": 3}], "readout": "mean"}
        for name, layer in NEURONS.items()
    },
    **{
        f"maps: {name}": {"input": [2, 7, 8], "layers": [*layers, "flatten", {"linear": 3}], "readout": "sum"}
        for name, layers in MAPS.items()
    },
    **{
        f"readout: {name}": {
            "input": [6],
            "layers": [{"linear": 5, "bias": False}, "lif", {"linear": 3}],
            "readout": name,
        }
        for name in READOUTS
    },
    **{
        f"readout of maps: {name}": {
            "input": [2, 5, 5],
            "layers": [{"conv": 4}, "lif", "flatten", {"linear": 3}],
            "readout": name,
        }
        for name in READOUTS
    },
    "rows": {
        "input": [2, 12],
        "layers": [
            {"conv": 3, "kernel": 3},
            "lif",
            {"pool": "max", "size": 2},
            {"pool": "sum", "size": 2},
            "flatten",
            {"linear": 3},
        ],
    },
    "rows, padded": {
        "input": [2, 12],
        "layers": [
            {"conv": 3, "kernel": 3},
            {"pool": "max", "size": 2, "padding": 1},
            {"pool": "max", "size": 3, "stride": 1, "padding": 1},
            "lif",
            {"pool": "mean", "size": 3, "stride": 1, "padding": 1},
            {"pool": "sum", "size": 2, "padding": 1},
            "flatten",
            {"linear": 3},
        ],
    },
    "norm of units": {"input": [6], "layers": [{"linear": 5}, {"norm": {}}, "lif", {"linear": 3}]},
    "vote": {"input": [6], "layers": [{"linear": 12}, {"lif": SJ}, {"vote": 4}], "readout": "mean"},
    "scale and delay": {"input": [6], "layers": [{"scale": 0.5}, {"linear": 5}, "lif", {"delay": 1}, {"linear": 3}]},
    **{
        f"activation: {name}": {
            "input": [6],
            "layers": [{"linear": 5}, "lif", {"linear": 5}, {"activation": name}, {"linear": 3}],
        }
        for name in ("relu", "tanh", "sigmoid")
    },
    "tokens": {
        "input": [],
        "layers": [{"embedding": 6, "words": 9}, {"linear": 5}, "lif", {"linear": 9}],
        "readout": "every",
    },
}


def stack(name: str, seed: int = 0) -> Stack:
    """Return a stack in evaluation mode, its weights large enough that everything fires, its statistics not at rest."""
    torch.manual_seed(seed)
    network = StackConfig.model_validate(STACKS[name]).build([])
    with torch.no_grad():
        for label, value in network.named_parameters():
            if value.ndim > 1 and "recurrent" not in label:
                value.mul_(2)
            if label.endswith((".own_weight", "bias", "bias_recurrent")) and not value.any():
                value.uniform_(-0.5, 0.5)
        for layer in network.leaves():
            for own in held(layer).values() if isinstance(layer, Spiking | Feedback | Scale) else ():
                # Each unit's own, within what each may be.
                if own.ndim:
                    own.mul_(torch.empty_like(own).uniform_(0.8, 1.2))
            if isinstance(layer, Norm):
                layer.mean.normal_(0, 0.3)
                layer.variance.uniform_(0.5, 1.5)
                if layer.scale is not None:
                    layer.scale.uniform_(0.5, 1.5)
                if layer.shift is not None:
                    layer.shift.normal_(0, 0.3)
    return network.eval()


def example(network: Stack, steps: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Return an input [steps, batch, …]."""
    generator = torch.Generator().manual_seed(seed)
    if network.tokens:
        return torch.randint(network.outputs, (steps, batch), generator=generator)
    values = torch.randn((steps, batch, *network.input_shape), generator=generator)
    return values if len(network.input_shape) == 1 else (values * 1.5).round().abs()
