"""A neuron of your own: its equation written once, trained, exported to ONNX, TorchScript and .pt2 with proof."""

import hstnn_deploy as hd
from hstnn_deploy.data.registry import load

C = hd.custom


@C.neuron("quadratic")
class Quadratic(C.Neuron):
    """Quadratic integrate-and-fire: m = v + rate v (v - critical) + I; a spike sets v to 0."""

    rate: float = 0.3
    critical: float = 0.2
    states = {"v": "membrane after its reset"}

    def step(self, o: C.Algebra[C.V], drive: C.V, state: C.Values[C.V], own: C.Numbers) -> C.Stepped[C.V]:
        grown = o.mul(o.mul(state["v"], self.rate), o.sub(state["v"], self.critical))
        m = o.add(o.add(state["v"], grown), drive)
        s = o.spike(m, 1.0, C.Surrogate("arctan", 0.5))
        return s, {"v": o.mul(m, o.sub(1.0, s))}


digits = load(hd.load_recipe("digits").data, "validation")
net = hd.Stack([{"linear": 64}, {"quadratic": {"rate": 0.2}}, {"linear": 10}], input=[8], readout="sum")
history = hd.fit(net, digits, epochs=5, lr=5e-3)
print(history)
print(hd.export_bundle(history, "quadratic", ["onnx", "torchscript", "pt2"], test=digits.test))
