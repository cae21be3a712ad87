"""Measure a bundle under disturbances of its input: the same samples, draws and metric, through ONNX Runtime.

The network itself is read from the bundle's weights too, for what only it says: its states, and how many steps it
takes. What it answers is asked of the bundle's graph alone.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from pydantic import ValidationError
from typing_extensions import override

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.splits import Split, Splits
from hstnn_deploy.disturbances.disturbance import INPUTS, Disturbance
from hstnn_deploy.errors import BundleError, DataError, ExportError, UsageError
from hstnn_deploy.export.bundle.description import recipe_of
from hstnn_deploy.export.bundle.rebuilt import read_alone
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import (
    STEP_ONNX,
    UNROLLED_INSIDE_ONNX,
    UNROLLED_ONNX,
    VARIANTS,
    WINDOW_INSIDE_ONNX,
    WINDOW_ONNX,
)
from hstnn_deploy.export.proof.comparisons import Score, Subject
from hstnn_deploy.export.proof.engines import Engine, network_alone, step_engine, window_engine
from hstnn_deploy.export.proof.inside import answering
from hstnn_deploy.export.proof.weights import network_of
from hstnn_deploy.export.runtime.manifest import MANIFEST, check_files, read_manifest
from hstnn_deploy.export.runtime.ort import open_graph
from hstnn_deploy.foreign import one_line, rule_broken
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.recipe.adopted import no_data
from hstnn_deploy.robustness.measure import Bench
from hstnn_deploy.train.evaluation import batches, unpadded
from hstnn_deploy.train.loading import Loader

_ORDER = (WINDOW_ONNX, STEP_ONNX, UNROLLED_ONNX, WINDOW_INSIDE_ONNX, UNROLLED_INSIDE_ONNX)
"""Which graph is measured: the first that is there. Those that take any number of steps come before those of one."""
_CPU = torch.device("cpu")
_OWN = {
    "adversary": "an attack goes through the network's gradient",
    "weights": "it acts on the network's weights",
    "neurons": "it acts on the network's neurons",
    "spikes": "it acts on the network's spikes",
}
_LENGTHS = ("stretch", "compress")
"""What changes the number of steps."""


@dataclass(frozen=True)
class Deployed:
    """A bundle that is to be measured: its network, and the graph that answers."""

    folder: Path
    checkpoint: Checkpoint
    """Recipe and weights, as the bundle holds them."""
    engine: Engine
    steps: int
    """T that the graph takes; 0: any."""

    def data(self, loader: Loader) -> Splits:
        """Return the data of its recipe; see `Loader.of`."""
        try:
            return loader.of(self.checkpoint)
        except DataError as error:
            raise DataError(f"{self.folder}: {error.message}", error.hint) from error


def open_deployed(folder: Path, provider: str = "cpu", threads: int | None = None) -> Deployed:
    """Open a bundle to be measured.

    Where its preprocessing is in the graph, the network's part behind it is opened: a split holds preprocessed samples.

    Args:
        folder: the bundle.
        provider: of ONNX Runtime: cpu, cuda or cuda:n.
        threads: CPU threads; None: ONNX Runtime's own choice.

    Raises:
        BundleError: no bundle, one that is damaged or changed, or without an ONNX graph that passed its checks.
        UsageError: it says no data; ONNX Runtime is not installed; or a language model has its states inside.
        RecipeError: this version of hstnn cannot read its recipe.
        ExportError: the graph cannot be read or loaded, or does not hold the network of the manifest.
        DeviceError: the provider does not load.
    """
    if find_spec("onnxruntime") is None:
        raise UsageError(
            "--bundle runs bundles in ONNX Runtime, which is not installed",
            "pip install onnxruntime, or measure the checkpoint with --ckpt",
        )
    facts = read_manifest(folder)
    name = next((each for each in _ORDER if each in facts["files"]), None)
    if name is None:
        there = ", ".join(facts["files"]) or "no graph"
        raise BundleError(
            f"{folder} contains no verified ONNX graph; it contains {there}",
            "export the checkpoint with --onnx, or measure the checkpoint with --ckpt",
        )
    check_files(folder, facts, [name])
    recipe = recipe_of(folder, facts)
    if no_data(recipe):
        raise UsageError(
            f"{folder} names no data to measure it on: {no_data(recipe)}",
            "export its network with a recipe that names data: --recipe NAME, recipe= in Python",
        )
    form, states = VARIANTS[name]
    read_alone(folder / name)
    sizes = [Sizes(each["snn"], each["rnn"]) for each in facts["network"]["units"]]
    network = network_of(folder / name, recipe.network, sizes)
    try:
        checkpoint = Checkpoint(
            recipe=recipe.dump(),
            architecture=recipe.network,
            stage=facts["network"]["stage"],
            sizes=sizes,
            parameters=network.state_dict(),
            epoch=0,
            metrics={},
            environment=facts["trained_with"],
            vocabulary=facts["network"]["vocabulary"],
            origin=facts.get("origin"),
        )
    except ValidationError as error:
        what = one_line(rule_broken(error.errors()[0]["msg"]))
        raise BundleError(
            f"{folder / MANIFEST} is not as hstnn writes it: {what}", "export the bundle again"
        ) from error
    face = interface(network)
    if states == "inside" and face.every_step:
        raise UsageError(
            f"the graphs of {folder} have their states inside, but measuring perplexity needs states carried "
            "from window to window",
            "export it with --states named, or measure the checkpoint with --ckpt",
        )
    with network_alone(folder / name) as alone:
        graph = open_graph(alone, provider, threads)
    wanted = {each.name for each in face.states} if states == "named" else set()
    if graph.x != "x" or set(graph.states) != wanted or "logits" not in graph.outputs:
        raise ExportError(f"{folder / name} has other inputs or outputs than its network", "export the bundle again")
    if states == "inside":
        engine = answering(graph)
    else:
        engine = (step_engine if form == "step" else window_engine)(graph.call, face, {})
    return Deployed(folder, checkpoint, engine, graph.steps if form == "unrolled" else 0)


@dataclass
class BundleBench(Bench):
    """A bundle and the split that its input is disturbed on; see `Bench`. What it answers is float32."""

    engine = "onnxruntime"
    deployed: Deployed = field(kw_only=True)

    @classmethod
    def of(cls, deployed: Deployed, splits: Splits, split: str, batch: int, data_folder: Path | None) -> "BundleBench":
        """Return what measures a bundle on a split of its recipe's data; see `Bench`."""
        return cls(deployed.checkpoint, splits, split, batch, _CPU, data_folder, deployed=deployed)

    def check(self, disturbance: Disturbance) -> None:
        """Refuse what a bundle cannot be measured under.

        Raises:
            UsageError: the disturbance does not act on the input, makes samples that the graph does not take, or does
                not fit the data.
        """
        if why := self._cannot(disturbance):
            raise UsageError(
                f"--disturb {disturbance.name} does not work with the bundle {self.deployed.folder}: {why}",
                "measure the checkpoint instead, with --ckpt",
            )
        super().check(disturbance)

    @override
    def why_not(self, disturbance: Disturbance) -> str:
        return self._cannot(disturbance) or super().why_not(disturbance)

    def _cannot(self, disturbance: Disturbance) -> str:
        steps = self.deployed.steps
        if disturbance.where not in INPUTS:
            return f"{_OWN[disturbance.where]}, but ONNX Runtime runs the graph as it is"
        if steps and disturbance.name in _LENGTHS:
            return f"it changes the number of steps, but the graph takes {steps}"
        return ""

    @torch.no_grad()
    def _answers(self, network: Network, split: Split) -> tuple[float, float]:
        """Return the loss and the metric of the bundle; a language model carries its states from window to window."""
        score = Score(Subject(network, self.deployed.folder, [], self.task, split))
        steps = self.deployed.steps
        for batch in unpadded(batches(split, self.batch, None, _CPU)):
            if steps and len(batch.x) != steps:
                raise UsageError(
                    f"a sample has {len(batch.x)} steps, but the only graph of {self.deployed.folder} takes {steps}",
                    "export it with --form window or step too",
                )
            score.take(self.deployed.engine(batch.x, score.start(batch.x)), batch)
        return score.loss, score.value()
