"""manifest.json: what a bundle says of itself."""

import time
from pathlib import Path
from typing import Any

from hstnn_deploy import environment, files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.export.comparisons import Check
from hstnn_deploy.export.graphs import PT2, STEP_ONNX, TORCHSCRIPT, WINDOW_ONNX, state_after
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceClassifier
from hstnn_deploy.train.evaluation import PROTOCOLS

VERSION = 1

_STATES = {
    "v": "membrane of the spiking units of layer {layer} after reset, m * (1 - s)",
    "h": "output of the recurrent units of layer {layer}",
    "spike_sum": "spikes of the last layer's spiking units, summed over the steps seen",
    "steps": "steps seen",
}


def manifest(ckpt: Path, checkpoint: Checkpoint, checks: list[Check], verified: bool) -> dict[str, Any]:
    """Return the manifest of the bundle of a checkpoint file, its files still to be added."""
    recipe = checkpoint.resolved_recipe()
    failed = any(check.outcome == "failed" for check in checks)
    return {
        "format": "hstnn-deploy bundle",
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "checkpoint": {"file": str(ckpt), "sha256": files.sha256(ckpt)},
        "network": {
            "family": recipe.network.family,
            "kind": recipe.kind,
            "stage": checkpoint.stage,
            "units": [{"layer": n, "snn": size.snn, "rnn": size.rnn} for n, size in enumerate(checkpoint.sizes, 1)],
            "neuron": recipe.network.neuron.model_dump(),
            "states": "zeros at the start of each sequence; carried from step to step within it",
        },
        "files": {},
        "recipe": checkpoint.recipe,
        "selection": checkpoint.selection,
        "metrics": {**checkpoint.metrics, "epoch": checkpoint.epoch, "protocol_meaning": PROTOCOLS[recipe.protocol]},
        "trained_with": checkpoint.environment,
        "tools": environment.versions(),
        "verification": {
            "result": ("failed" if failed else "passed") if verified else "not run",
            "checks": [check.plain() for check in checks],
        },
    }


def describe_file(path: Path, network: HybridNetwork) -> dict[str, Any]:
    """Return hash, size, and inputs and outputs of one written file."""
    facts = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
    return facts | _interface(path.name, network)


def _interface(name: str, network: HybridNetwork) -> dict[str, Any]:
    assert isinstance(network, SequenceClassifier)
    inputs, classes = network.stack[0].input_size, network.readout.out_features
    window = _tensor("x", ["T", "B", inputs], "the sequence, one row per time step")
    step = _tensor("x", ["B", inputs], "one time step")
    logits = _tensor("logits", ["B", classes], "a score per class of everything seen; the largest is the answer")
    state = network.initial_state(network.readout.weight.new_zeros(1, 1, inputs))
    before = [_tensor(key, ["B", value.shape[1]], _meaning(key)) for key, value in state.items()]
    after = [_tensor(state_after(key), ["B", value.shape[1]], _meaning(key)) for key, value in state.items()]
    return {
        WINDOW_ONNX: {"form": "window", "engine": "ONNX", "inputs": [window], "outputs": [logits]},
        STEP_ONNX: {"form": "step", "engine": "ONNX", "inputs": [step, *before], "outputs": [logits, *after]},
        TORCHSCRIPT: {
            "form": "logits, state = module(x, state): a window, a chunk or a step; without state, from zeros",
            "engine": "TorchScript",
            "inputs": [window, {"name": "state", "dict of": before}],
            "outputs": [logits, {"name": "state", "dict of": before}],
        },
        PT2: {"form": "window", "engine": "torch.export", "inputs": [window], "outputs": [logits]},
    }[name]


def _tensor(name: str, shape: list[str | int], meaning: str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": shape, "meaning": meaning}


def _meaning(state: str) -> str:
    if state in _STATES:
        return _STATES[state]
    return _STATES[state.rstrip("0123456789")].format(layer=state.lstrip("vh"))
