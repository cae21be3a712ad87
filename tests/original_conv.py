"""The original implementation's numbers of convolutional networks in this project's names and shapes."""

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.models.hybrid.convolutional import ConvClassifier, ConvolutionalConfig, Form
from hstnn_deploy.models.hybrid.shrink import Kept
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.train.traces import Probe, RankedGroup
from tests.original import FOLDER


def ours(name: str) -> str:
    """Return this project's name of one of the original's parameters."""
    if name.startswith("linear_layers."):
        return name.replace("linear_layers.0", "hidden").replace("linear_layers.1", "readout")
    _, layer, group, parameter = name.split(".")
    inside = {"scnn_fc": "snn.conv_input", "rcnn_fc": "rnn.conv_input", "rcnn_fv": "rnn.conv_recurrent"}[group]
    return f"layers.{layer}.{inside}.{parameter}"


class ConvGolden:
    """One file of golden numbers of a convolutional network."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.values = {key: file[key] for key in file.files}
        self.form: Form = "nmnist" if name.startswith("nmnist") else "dvs"

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.values[key])

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Return what stands under `prefix`, by this project's parameter names."""
        return {ours(key.removeprefix(prefix)): self[key] for key in self.values if key.startswith(prefix)}

    @property
    def x(self) -> Tensor:
        """The frames, [T, B, 2, H, W]; dvs_selection has them time-major, the others time last."""
        frames = self["frames"]
        return frames if frames.shape[2] == 2 else frames.permute(4, 0, 1, 2, 3).contiguous()

    @property
    def labels(self) -> Tensor:
        """The labels, [B]."""
        return self["onehot"].argmax(1)

    def network(self) -> ConvClassifier:
        """Return the network with the original's parameters."""
        parameters = self.named("param.")

        def channels(layer: int, kind: str) -> int:
            return len(parameters[f"layers.{layer}.{kind}.conv_input.bias"])

        sizes = [Sizes(channels(layer, "snn"), channels(layer, "rnn")) for layer in range(3)]
        neuron = Lif(decay=0.3, threshold=0.3, lens=0.25) if self.form == "nmnist" else Lif(decay=0.3, threshold=0.5)
        config = ConvolutionalConfig(
            form=self.form,
            classes=self["onehot"].shape[1],
            units=[1, 1, 1],
            size=self.x.shape[-1],
            hidden=len(parameters["hidden.bias"]),
            neuron=neuron,
        )
        network = config.build(sizes)
        network.load_state_dict(parameters)
        return network

    @staticmethod
    def key(layer: int, kind: str) -> str:
        """Return how the original calls a group's input convolution; `layer` counts from 0."""
        return f"hcnn_layers.{layer}.{'scnn' if kind == 'snn' else 'rcnn'}_fc"

    def probe(self, groups: list[RankedGroup], number: int) -> Probe:
        """Return one of the stored probes."""
        return [[self[f"probe.{self.key(group.layer, group.kind)}.weight"][number]] for group in groups]

    def selected(self, ratio: str) -> Kept:
        """Return the stored kept indices of a ratio."""
        return [
            {
                "snn": self[f"select.{ratio}.{self.key(layer, 'snn')}"].tolist(),
                "rnn": self[f"select.{ratio}.{self.key(layer, 'rnn')}"].tolist(),
            }
            for layer in range(3)
        ]
