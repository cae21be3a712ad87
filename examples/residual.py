"""A spiking network with shortcuts: blocks whose spikes are added to what went in."""

import torch

import hstnn_deploy as hd
from hstnn_deploy.data.registry import load

L = hd.layers
neuron = L.lif(tau=2.0, threshold=0.5, detach_reset=True, surrogate={"arctan": 2.0})
block = L.residual([L.linear(64), L.norm(), neuron])
torch.manual_seed(0)
net = hd.Stack([L.linear(64), neuron, block, block, L.linear(10)], input=[8], readout="mean")
print(net)
digits = load(hd.load_recipe("digits").data, "validation")
history = hd.fit(net, digits, epochs=5, lr=5e-3, schedule={"name": "cosine", "factor": 0.01})
print(history)
print(hd.export_bundle(history, "residual", test=digits.test))
