"""Tiny networks of every family and kind, for the tests of `export`."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnxruntime
import torch
from torch import Tensor

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.models.hybrid.groups import Outputs, UnitKind
from hstnn_deploy.models.hybrid.language import LanguageModel
from hstnn_deploy.models.hybrid.network import HybridNetwork, as_hybrid
from hstnn_deploy.models.network import Tap
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import Kind, Sizes, layer_sizes
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from tests.conftest import settings

FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "sequence": ("digits", {"network.units": [6, 5]}),
    "language": ("pydoc-text", {"network.units": [6, 5], "network.inputs": 7}),
    "dvs": ("digit-events", {"network.units": [3, 4], "network.hidden": 6}),
    "nmnist": ("digit-events", {"network.units": "[3]", "network.hidden": 6, "network.form": "nmnist"}),
}
"""A shipped recipe for each, and changes that make it tiny. The recipes' data needs no files."""

KINDS: tuple[str, ...] = ("rnn", "lstm", "snn", "ffs", "hybrid", "ffs-lstm", "hybrid-lstm")


class Case(NamedTuple):
    """A network to export."""

    family: str
    kind: str

    def recipe(self) -> Recipe:
        """Return its recipe."""
        name, changes = FAMILIES[self.family]
        kind, _, recurrent = self.kind.partition("-")
        more = {"kind": kind, "network.recurrent": recurrent} if recurrent else {"kind": kind}
        return load_recipe(name, settings({**changes, **more}))

    def sizes(self) -> list[Sizes]:
        """Return its units; a hybrid's are uneven, as selection leaves them, with a layer of either kind alone."""
        kind: Kind = self.recipe().kind
        units = self.recipe().network.units
        if kind == "hybrid" and len(units) > 1:
            return [Sizes(units[0] - 1, 2), Sizes(0 if self.family == "sequence" else 2, units[1])]
        return layer_sizes(kind, units, 0.5)

    def network(self) -> HybridNetwork:
        """Return it, freshly initialised but for currents strong enough to make it spike."""
        torch.manual_seed(0)
        network = as_hybrid(build(self.recipe().network, self.sizes())).eval()
        with torch.no_grad():
            if isinstance(network, LanguageModel):
                network.embedding.weight.mul_(8)
            for layer in network.stack:
                for group in layer.groups.values():
                    for weight in group.ranked():
                        weight.mul_(2 if group.kind == "snn" else 1)
        return network.requires_grad_(False)

    def checkpoint(self, path: Path) -> Path:
        """Write its checkpoint, as if it had been trained."""
        network = self.network()
        vocabulary = ""
        if self.family == "language":
            from hstnn_deploy.data.registry import load

            vocabulary = load(self.recipe().data, "validation").vocabulary
        Checkpoint(
            recipe=self.recipe().dump(),
            architecture=self.recipe().network,
            stage="restore" if self.recipe().kind == "hybrid" else "train",
            sizes=self.sizes(),
            parameters=network.state_dict(),
            epoch=1,
            metrics={"protocol": "validation"},
            vocabulary=vocabulary,
        ).save(path)
        return path


CASES = [
    Case(family, kind)
    for family, kind in product(FAMILIES, KINDS)
    if not (family in {"dvs", "nmnist"} and "lstm" in kind)
]


TAPS: dict[UnitKind, str] = {"snn": "spikes", "rnn": "h"}
"""What each kind of units hands out."""


def as_taps(outputs: list[Outputs]) -> dict[Tap, Tensor]:
    """Return what layers emitted, input side first, by tap."""
    return {Tap(n, TAPS[kind]): values for n, layer in enumerate(outputs, 1) for kind, values in layer.items()}


def unoptimised(model: onnx.ModelProto) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a session that runs the nodes as they are: for convolutions ONNX Runtime may choose others."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: dict(
        zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True)
    )
