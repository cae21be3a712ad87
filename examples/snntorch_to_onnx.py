"""A network of snnTorch becomes an ONNX file that is proved to give the same spikes."""

import snntorch
import torch
from torch import nn

import hstnn_deploy as hd


class Mine(nn.Module):
    """Two layers of leaky neurons, as snnTorch's tutorials write them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.lif1 = nn.Linear(8, 32), snntorch.Leaky(beta=0.9, init_hidden=True)
        self.outside, self.lif2 = nn.Linear(32, 10), snntorch.Leaky(beta=0.9, init_hidden=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run one step x[B, 8]."""
        spikes: torch.Tensor = self.lif2(self.outside(self.lif1(self.inside(x))))
        return spikes


net = hd.from_torch(Mine().eval(), torch.rand(4, 8))
print(net)
bundle = hd.export_bundle(net, "from-snntorch")
print(bundle)
