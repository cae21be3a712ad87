"""Events of one's own, here of dots that move left or right, become a trained network in a proved bundle."""

import numpy as np

import hstnn_deploy as hd

STEPS, SIZE, COUNT = 8, 12, 200
draw = np.random.default_rng(0)
frames = np.zeros((COUNT, STEPS, 2, SIZE, SIZE), dtype=np.float32)
direction = draw.integers(0, 2, COUNT)
for sample in range(COUNT):
    row, start = draw.integers(0, SIZE, 2)
    # Of a recording: when (in steps), where, and whether brighter (1) or darker (0).
    time = np.sort(draw.integers(0, STEPS, 60))
    column = (start + np.where(direction[sample], time, -time)) % SIZE
    brighter = draw.integers(0, 2, 60)
    np.add.at(frames[sample], (time, brighter, row, column), 1.0)

L = hd.layers
neuron = L.lif(tau=2.0, threshold=0.5, surrogate={"arctan": 2.0})
net = hd.Stack(
    [L.conv(8, 3, padding=1), neuron, L.pool("max", 4), L.flatten(), L.linear(32), neuron, L.linear(2)],
    input=[2, SIZE, SIZE], readout="sum",
)  # fmt: skip
train, test = (frames[:160], direction[:160]), (frames[160:], direction[160:])
history = hd.fit(net, train, test=test, epochs=8, lr=0.01, batch=16)
bundle = hd.export_bundle(history, "moving-dots", test=test)
answers = hd.Session("moving-dots").run(frames[160:].swapaxes(0, 1)).argmax(1)
print(history, bundle, f"right in ONNX Runtime: {100 * (answers == direction[160:]).mean():.1f} %", sep="\n")
