"""Time and memory of a network of your own: any torch module, and a stretch of your own code."""

import torch
from torch import nn

import hstnn_deploy as hd

module = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16 * 16, 10))
found = hd.profile_network(module, torch.rand(8, 2, 16, 16), seconds=1.0)
print(found)
print("a call takes", found.latency)
print("a training step takes", found.step)

with hd.measure() as ledger:
    with ledger.span("draw"):
        x = torch.rand(64, 2, 16, 16)
    with ledger.span("run"):
        module(x)
print(ledger)
for span in ledger.spans:
    print(span.name, span.value("seconds"), span.value("rss_peak"))
