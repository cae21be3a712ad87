"""Parts of a user's own, as a user writes them in a module beside a recipe."""

import numpy as np
import torch
from torch import Tensor, nn

import hstnn_deploy as hd

C = hd.custom


def register() -> None:
    """Register all of them."""
    C.neuron("quadratic")(Quadratic)
    C.neuron("low-pass")(LowPass)
    C.layer("gated")(Gated)
    C.layer("mirrored")(Mirrored)
    C.loss("focal")(focal)
    C.loss("absolute", asks="values")(absolute)
    C.metric("macro-recall")(macro_recall)
    C.data_set("blobs")(Blobs)


class Quadratic(C.Neuron):
    """m = v + rate v (v - critical) + gain I, with a gain that each unit learns; a spike sets v to 0."""

    rate: float = 0.3
    critical: float = 0.2
    threshold: float = 1.0
    states = {"v": "membrane after its reset"}

    def fresh(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the gains."""
        return {"gain": nn.Parameter(torch.ones(shape))}

    def step(self, o: C.Algebra[C.V], drive: C.V, state: C.Values[C.V], own: C.Numbers) -> C.Stepped[C.V]:
        """Run one step."""
        v = state["v"]
        grown = o.mul(o.mul(v, self.rate), o.sub(v, self.critical))
        m = o.add(o.add(v, grown), o.mul(drive, o.parameter(own["gain"])))
        s = o.spike(m, self.threshold, C.Surrogate("arctan", 0.5))
        return s, {"v": o.mul(m, o.sub(1.0, s))}


class LowPass(C.Neuron):
    """y = keep y + (1 - keep) I, handed out as it is; and how often it was above 0.5."""

    keep: float
    states = {"y": "what is handed out", "often": "how often it was above 0.5"}
    spikes = False

    def step(self, o: C.Algebra[C.V], drive: C.V, state: C.Values[C.V], own: C.Numbers) -> C.Stepped[C.V]:
        """Run one step."""
        y = o.add(o.mul(state["y"], self.keep), o.mul(drive, 1 - self.keep))
        return y, {"y": y, "often": o.add(state["often"], o.exceeds(y, 0.5))}


class Gated(C.Layer):
    """y = h + sigmoid(x W + b + h U) (tanh(x W + b) - h), h = y of the step before."""

    class Options(C.Options):
        """Its options."""

        units: int = 16

    def __init__(self, options: Options, shape: tuple[int, ...]) -> None:
        super().__init__(options, shape)
        self.units = options.units
        self.inward = nn.Linear(shape[0], options.units)
        self.back = nn.Linear(options.units, options.units, bias=False)
        self.carries = {"h": ((options.units,), "what layer {layer} gave at the step before")}

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of units."""
        if len(shape) != 1:
            raise ValueError(f"it takes units, not the shape {list(shape)}: put flatten before it")
        return (self.units,)

    def step(self, o: C.Algebra[C.V], x: C.V, state: C.Values[C.V]) -> C.Stepped[C.V]:
        """Run one step."""
        h, seen = state["h"], o.linear(x, self.inward)
        gate = o.sigmoid(o.add(seen, o.linear(h, self.back)))
        y = o.add(h, o.mul(gate, o.sub(o.tanh(seen), h)))
        return y, {"h": y}


class Mirrored(C.Layer):
    """y = x beside -x."""

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return twice as many channels."""
        return (2 * shape[0], *shape[1:])

    def step(self, o: C.Algebra[C.V], x: C.V, state: C.Values[C.V]) -> C.Stepped[C.V]:
        """Run one step."""
        return o.concat([x, o.mul(x, -1.0)], 1), {}


def focal(output: Tensor, target: Tensor, steps: int, gamma: float = 2.0) -> Tensor:
    """Return the focal loss."""
    log = output.log_softmax(1).gather(1, target[:, None])[:, 0]
    return -((1 - log.exp()) ** gamma * log).mean()


def absolute(output: Tensor, target: Tensor, steps: int) -> Tensor:
    """Return the mean absolute error."""
    return (output - target).abs().mean()


def macro_recall(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean over classes of the share of right answers."""
    right = outputs.argmax(1) == targets
    return float(torch.stack([right[targets == each].float().mean() for each in targets.unique()]).mean())


class Blobs(C.Data):
    """Rows with one large value and noise."""

    noise: float = 0.3

    def load(self, source: C.Source) -> C.Splits:
        """Return the splits."""
        draw = np.random.default_rng(0)
        y = draw.integers(0, 4, 160)
        x = np.eye(4, dtype=np.float32)[y][:, None] + self.noise * draw.random((160, 5, 4), dtype=np.float32)
        return C.arrays((x[:120], y[:120]), (x[120:], y[120:]), source.protocol)


RECIPE = """\
name: mine
data: {name: blobs, noise: 0.2}
network:
  family: stack
  input: [4]
  layers: [{gated: {units: 8}}, {linear: 12}, {quadratic: {rate: 0.1}}, {linear: 4}]
  readout: sum
loss: {name: focal, options: {gamma: 1.5}}
metrics: [macro-recall]
batch: 40
train: {epochs: 2, lr: 0.02}
"""
"""A recipe of them."""
