"""The numbers of the original implementation (tests/golden/*.npz) in this project's names and shapes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.models.hybrid.language import LanguageConfig, LanguageModel
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier, SequenceConfig
from hstnn_deploy.models.hybrid.shrink import Kept
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.train.traces import Probe, RankedGroup

FOLDER = Path(__file__).parent / "golden"


def ours(name: str) -> str:
    """Return this project's name of one of the original's parameters."""
    head, _, rest = name.partition(".")
    if rest:
        named = {"all_fc": "readout", "encoder": "embedding", "decoder": "decoder"}
        return f"{named[head]}.{rest}"
    stem, number = name[:-1], int(name[-1])
    inside = {"snn_fc": "snn.weight", "rnn_fc": "rnn.weight_input", "rnn_fv": "rnn.weight_recurrent"}[stem]
    return f"layers.{number - 1}.{inside}"


class Golden:
    """One file of golden numbers of an S-MNIST or PTB network."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.values = {key: file[key] for key in file.files}

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.values[key])

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Return what stands under `prefix`, by this project's parameter names."""
        return {ours(key.removeprefix(prefix)): self[key] for key in self.values if key.startswith(prefix)}

    @property
    def x(self) -> Tensor:
        """The images as a sequence, step t being column t: [T, B, I]."""
        return self["images"][:, 0].permute(2, 0, 1).contiguous()

    @property
    def labels(self) -> Tensor:
        """The labels, [B]."""
        return self["labels"]

    def network(self) -> SequenceClassifier:
        """Return the network with the original's parameters."""
        sizes = self._sizes()
        network = SequenceConfig(inputs=28, classes=10, units=[sum(size) for size in sizes]).build(sizes)
        network.load_state_dict(self.named("param."))
        return network

    def language_model(self) -> LanguageModel:
        """Return the language model with the original's parameters."""
        sizes, (vocabulary, inputs) = self._sizes(), self["param.encoder.weight"].shape
        config = LanguageConfig(vocabulary=vocabulary, inputs=inputs, units=[sum(size) for size in sizes])
        network = config.build(sizes)
        network.load_state_dict(self.named("param."))
        return network

    def _sizes(self) -> list[Sizes]:
        parameters = self.named("param.")

        def width(name: str) -> int:
            return parameters[name].shape[1] if name in parameters else 0

        return [Sizes(width(f"layers.{n}.snn.weight"), width(f"layers.{n}.rnn.weight_input")) for n in (0, 1)]

    def probe(self, groups: list[RankedGroup], number: int) -> Probe:
        """Return one of the stored probes; the original stacks a recurrent unit's two weights."""
        return [
            list(self[f"probe.{group.kind}{group.layer + 1}"][number].split([len(weight) for weight in group.weights]))
            for group in groups
        ]

    def selected(self, ratio: str) -> Kept:
        """Return the stored kept indices of a ratio."""
        return [
            {"snn": self[f"select.{ratio}.snn{layer}"].tolist(), "rnn": self[f"select.{ratio}.rnn{layer}"].tolist()}
            for layer in (1, 2)
        ]

    @property
    def ratios(self) -> list[str]:
        """The ratios of which kept indices are stored, as written in the keys."""
        return sorted({key.split(".")[1] + "." + key.split(".")[2] for key in self.values if key.startswith("select.")})
