"""The layers of a stack, written in Python: each function returns the plain data that a recipe has for it.

    net = hd.Stack([hd.layers.linear(64), hd.layers.lif(tau=2.0), hd.layers.linear(10)], input=[8], readout="sum")

`hd.Stack` takes these and plain data alike: `hd.layers.linear(64)` is `{"linear": 64}`. docs/layers.md explains every
layer, its equation and its defaults, under the same names; `hd.Stack` checks them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypedDict, Unpack

LayerSpec = dict[str, object]
"""One layer as plain data, such as {"linear": 64}."""

Layer = str | Mapping[str, object] | Collection[str]
"""A layer as a list of layers takes it: a bare name stands for one with its defaults.

The last is what a type checker takes a list of both for: `[linear(8), "lif"]`.
"""

Size = int | list[int]
"""One number, or one for each axis."""

Surrogate = Literal["rectangular", "triangular", "arctan", "sigmoid", "exponential", "fast-sigmoid"]

Learned = Literal["decay", "threshold", "current_decay"]

Own = Literal["decay", "threshold", "current_decay", "rest", "reset_to"]

Each = Literal["unit", "channel"]


class NeuronOptions(TypedDict, total=False):
    """What a `lif` neuron may be told; see docs/layers.md."""

    decay: float
    tau: float
    threshold: float
    fires: Literal["above", "at", "several"]
    reset: Literal["zero", "subtract", "none"]
    reset_to: float
    delayed_reset: bool
    cancels_input: bool
    reset_again: bool
    detach_reset: bool
    lowest: float | None
    input_decay: bool
    current_decay: float | None
    surrogate: Surrogate | dict[Surrogate, float]
    surrogate_scale: float
    lens: float
    rest: float
    learn: Learned | list[Learned]
    learn_as: Literal["rate", "value"]
    each: dict[Own, Each]


class AdaptiveOptions(TypedDict, total=False):
    """What an `adaptive` neuron may be told; see docs/layers.md."""

    decay: float
    threshold: float
    growth: float
    recovery: float
    surrogate: Surrogate | dict[Surrogate, float]
    lens: float


class IntegratorOptions(TypedDict, total=False):
    """What an `integrator` may be told; see docs/layers.md."""

    decay: float
    input_decay: bool
    current_decay: float | None
    rest: float
    each: dict[Literal["decay", "current_decay", "rest", "threshold"], Each]
    threshold: float | None
    reset: Literal["subtract", "zero"]
    cancels_input: bool


def linear(
    outputs: int, *, bias: bool = True, init: Literal["torch", "xavier", "kaiming"] = "torch", gain: float = 1.0
) -> LayerSpec:
    """Return a fully connected layer, y = x W^T + b."""
    return {"linear": outputs, "bias": bias, "init": init, "gain": gain}


def conv(
    channels: int,
    kernel: Size = 3,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    init: Literal["torch", "xavier", "kaiming"] = "torch",
    gain: float = 1.0,
) -> LayerSpec:
    """Return a convolution of maps [C, H, W] or rows [C, L]."""
    how: LayerSpec = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {"conv": channels, **how, "bias": bias, "init": init, "gain": gain}


def embedding(length: int, *, words: int) -> LayerSpec:
    """Return a table with a row for each word, which replaces each token by its row."""
    return {"embedding": length, "words": words}


def norm(
    over: Literal["all", "step"] = "all",
    *,
    steps: int | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
    scale: bool = True,
    shift: bool = True,
) -> LayerSpec:
    """Return batch normalisation of each channel."""
    return {"norm": {"over": over, "steps": steps, "eps": eps, "momentum": momentum, "scale": scale, "shift": shift}}


def pool(
    what: Literal["mean", "max", "sum"],
    size: Size | None = None,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    to: int | None = None,
) -> LayerSpec:
    """Return the mean, maximum or sum of each window of a map or row. Give the size or the number of windows."""
    return {"pool": what, "size": size, "stride": stride, "padding": padding, "to": to}


def flatten() -> LayerSpec:
    """Return maps as units."""
    return {"flatten": True}


def vote(units: int) -> LayerSpec:
    """Return the mean of each group of neighbouring units."""
    return {"vote": units}


def activation(what: Literal["relu", "tanh", "sigmoid"]) -> LayerSpec:
    """Return a function of each value."""
    return {"activation": what}


def scale(factor: float, *, each: Literal["unit", "channel"] | None = None) -> LayerSpec:
    """Return x times a factor, which is not learned."""
    return {"scale": factor, "each": each}


def delay(steps: int) -> LayerSpec:
    """Return the input of an earlier step."""
    return {"delay": steps}


def dropout(probability: float, *, shared_over_time: bool = False) -> LayerSpec:
    """Return x with values set to zero by chance, in training alone."""
    return {"dropout": probability, "shared_over_time": shared_over_time}


def lif(**options: Unpack[NeuronOptions]) -> LayerSpec:
    """Return a leaky integrate-and-fire neuron for each value."""
    return {"lif": dict(options)}


def adaptive(**options: Unpack[AdaptiveOptions]) -> LayerSpec:
    """Return a neuron whose threshold grows with each spike, for each value."""
    return {"adaptive": dict(options)}


def integrator(**options: Unpack[IntegratorOptions]) -> LayerSpec:
    """Return a leaky membrane for each value, which never fires and is handed on."""
    return {"integrator": dict(options)}


def feedback(
    *,
    bias: bool = False,
    through: Literal["all", "own"] = "all",
    kernel: int | None = None,
    **options: Unpack[NeuronOptions],
) -> LayerSpec:
    """Return LIF neurons that see their own spikes of the step before, through weights."""
    return {"feedback": dict(options), "bias": bias, "through": through, "kernel": kernel}


def rnn(units: int, *, bias: bool = False, nonlinearity: Literal["sigmoid", "tanh", "relu"] = "sigmoid") -> LayerSpec:
    """Return plain recurrent units."""
    return {"rnn": units, "bias": bias, "nonlinearity": nonlinearity}


def lstm(units: int, *, bias: bool = False) -> LayerSpec:
    """Return LSTM units."""
    return {"lstm": units, "bias": bias}


def gru(units: int, *, bias: bool = False) -> LayerSpec:
    """Return GRU units."""
    return {"gru": units, "bias": bias}


def residual(layers: Sequence[Layer], *, shortcut: Sequence[Layer] = ()) -> LayerSpec:
    """Return what layers give, plus their input, or plus what the layers of a shortcut give."""
    return {"residual": list(layers), "shortcut": list(shortcut)}


def parallel(branches: Sequence[Sequence[Layer]]) -> LayerSpec:
    """Return lists of layers side by side: they see the same input, and their outputs are joined."""
    return {"parallel": [list(each) for each in branches]}


def repeat(times: int, layers: Sequence[Layer]) -> LayerSpec:
    """Return a sequence of layers, repeated; each repetition has its own weights."""
    return {"repeat": times, "layers": list(layers)}
