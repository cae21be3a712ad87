"""Write manifest.json, a bundle's description; see `contents` for how it is read."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hstnn_deploy import environment, files, yaml_text
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.preprocessing import Frames, Pixels, preprocessing
from hstnn_deploy.errors import RecipeError
from hstnn_deploy.export.bundle.quantise import parse_name
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.graph.forms import time_axis
from hstnn_deploy.export.graph.interface import State, interface, state_after
from hstnn_deploy.export.graph.nodes import BUILDER, OPSET
from hstnn_deploy.export.graph.write import PT2, TORCHSCRIPT, VARIANTS, Variant
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.runtime.manifest import FORMAT, MANIFEST, VERSION, seal
from hstnn_deploy.metrics import shown
from hstnn_deploy.models.exits import EXIT, EXIT_MEANING
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.plugins import registry as plugins
from hstnn_deploy.recipe import parts
from hstnn_deploy.recipe.adopted import bare, is_bare
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.evaluation import PROTOCOLS

PRODUCER = "producer"
"""Among the facts in a file: which version of hstnn wrote it."""

_RESETS = {
    "sequence": "zeros at the start of each sequence; carried from step to step within it",
    "window": "zeros at the start of each window of {steps} words, as in training; carried within it",
}


_RESETS_ALONE = {
    "sequence": _RESETS["sequence"],
    "window": "zeros at the start of each window, however long; carried within it",
}
"""Steps of a window of a network whose windows have no given length."""


IN_PYTHON = "(a network in Python)"
"""The entry for the checkpoint's file in the manifest of a network without one."""


def manifest(ckpt: Path | None, checkpoint: Checkpoint, how: Pixels | Frames | None = None) -> dict[str, Any]:
    """Return the manifest of the bundle of a checkpoint, its files and verification still to be added.

    The checkpoint is of a file, or of none (`ckpt` is None). `how` is the preprocessing that its graphs begin with.
    """
    follows = following(checkpoint.recipe_or_bare(), checkpoint.network(), how)
    of_checkpoint = recorded(ckpt, checkpoint)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **follows,
        **of_checkpoint,
        "network": follows["network"] | of_checkpoint["network"],
        "metrics": of_checkpoint["metrics"] | follows["metrics"],
        "graphs": {"builder": BUILDER, "preprocess": how is not None},
        "files": {},
        "tools": environment.versions(),
    }


def following(recipe: Recipe, network: Network, how: Pixels | Frames | None) -> dict[str, Any]:
    """Return what of a manifest follows from recipe and network, whoever trained them."""
    window = getattr(recipe.data, "bptt", None)
    # A network without a recipe is described by what it is made of alone.
    alone: dict[str, Any] = {"architecture": recipe.network.model_dump(mode="json")} if is_bare(recipe) else {}
    if recipe.asks == "values":
        alone = {"answer": {"kind": "values", "names": recipe.loss.outputs if recipe.loss else []}}
    return {
        "network": {
            "family": recipe.network.family,
            "kind": recipe.kind,
            "recurrent": recipe.network.recurrent,
            "units": [{"layer": n, "snn": size.snn, "rnn": size.rnn} for n, size in enumerate(network.sizes, 1)],
            "neuron": recipe.network.neuron.model_dump() if recipe.network.neuron else {},
            "layers": [each._asdict() for each in network.described()],
            "taps": [str(tap) for tap in network.taps],
            "window_steps": window,
            **named_classes(recipe),
            "states": [_state(state, window) for state in (*raw_input.states(how), *interface(network).states)],
            **alone,
        },
        "input": preprocessing(recipe.data).model_dump(mode="json"),
        "metrics": {} if is_bare(recipe) else {"protocol_meaning": PROTOCOLS[recipe.protocol]},
    }


def named_classes(recipe: Recipe) -> dict[str, list[str]]:
    """Return the names of the classes as a manifest has them; nothing where the recipe does not say them."""
    names = list(recipe.data.found.classes) if recipe.data.name == "own" and recipe.data.found else []
    return {"classes": names} if names else {}


def recorded(ckpt: Path | None, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what of a manifest only a checkpoint can say: the SHA-256 of its file, or of its weights alone."""
    return {
        "checkpoint": {"file": IN_PYTHON, "sha256": checkpoint.fingerprint}
        if ckpt is None
        else {"file": str(ckpt), "sha256": files.sha256(ckpt)},
        "network": {"stage": checkpoint.stage, "vocabulary": checkpoint.vocabulary},
        "recipe": checkpoint.recipe,
        "selection": checkpoint.selection,
        "metrics": {**checkpoint.metrics, "epoch": checkpoint.epoch},
        "trained_with": checkpoint.environment,
        **({"origin": checkpoint.origin} if checkpoint.origin else {}),
    }


def metadata(recipe: Recipe, stage: str, network: Network, metrics: dict[str, Any]) -> dict[str, str]:
    """Return the facts that are stored inside each file."""
    units = [f"layer {n}: {size.snn} spiking, {size.rnn} recurrent" for n, size in enumerate(network.sizes, 1)]
    units = units or [f"layer {each.layer}: {each.kind} {each.output}" for each in network.described()]
    producer = f"hstnn-deploy {environment.versions()['hstnn-deploy']}"
    if is_bare(recipe):
        architecture = yaml_text.dump(recipe.network.model_dump(mode="json"))
        return {PRODUCER: producer, "architecture": architecture, "kind": recipe.kind, "units": "; ".join(units)}
    facts = {
        PRODUCER: producer,
        "recipe": recipe.yaml(),
        "kind": recipe.kind,
        "stage": stage,
        "units": "; ".join(units),
        "protocol": PROTOCOLS[recipe.protocol],
    }
    test, task = metrics.get("test") or {}, task_for(recipe.network, recipe.loss)
    # A checkpoint is anybody's file.
    if all(isinstance(test.get(key), int | float) for key in (task.metric, task.counts)):
        facts[f"test {task.metric}"] = (
            f"{shown(task.metric, test[task.metric])}{task.unit} of {test[task.counts]} {task.counts}"
        )
    return facts


def result_of(checks: Sequence[Check]) -> str:
    """Return the result of a verification from all its checks."""
    return "failed" if any(check.outcome == "failed" for check in checks) else "passed"


def _state(state: State, window: int | None) -> dict[str, Any]:
    return {
        "name": state.name,
        "dtype": state.dtype,
        "shape": ["B", *state.shape],
        "meaning": state.meaning,
        "reset": state.reset,
        "reset_meaning": _RESETS[state.reset].format(steps=window) if window else _RESETS_ALONE[state.reset],
    }


def describe_file(
    path: Path,
    network: Network,
    steps: int | None = None,
    how: Pixels | Frames | None = None,
    opset: int = OPSET,
) -> dict[str, Any]:
    """Return hash, size, and inputs and outputs of one written file.

    Args:
        path: the file.
        network: the network.
        steps: T of an unrolled graph.
        how: the preprocessing that ONNX graphs begin with.
        opset: the version of ONNX's operators.
    """
    facts = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
    return facts | described(path.name, network, steps, how, opset)


def described(
    name: str, network: Network, steps: int | None, how: Pixels | Frames | None, opset: int
) -> dict[str, Any]:
    """Return inputs and outputs of a file of a bundle by its name; see `describe_file`."""
    face, reduced = interface(network), parse_name(name)
    name = reduced[0] if reduced else name
    form, states = VARIANTS.get(name, Variant("window", "named"))
    time = time_axis(form, steps)
    x = _tensor("x", [*time, "B", *face.step], face.x_meaning, "int64" if face.tokens else "float32")
    logits = _tensor("logits", [*(time if face.every_step else []), "B", face.classes], face.logits_meaning)
    before = [_tensor(state.name, ["B", *state.shape], state.meaning) for state in face.states]
    after = [_tensor(state_after(state.name), ["B", *state.shape], state.meaning) for state in face.states]
    left = [_tensor(EXIT, ["B"], EXIT_MEANING)] if face.leaves and (form == "step" or name not in VARIANTS) else []
    if name in {TORCHSCRIPT, PT2}:
        what = "a window, a chunk or, with T = 1, a step"
        returned = "logits, state" + (f", {EXIT}" if left else "")
        zero = "; a state that is not given is zero" if name == TORCHSCRIPT else "; all states are given"
        return {
            "form": f"{returned} = module(x, state): {what}{zero}",
            "engine": "TorchScript" if name == TORCHSCRIPT else "torch.export",
            "inputs": [x, {"name": "state", "dict of": before}],
            "outputs": [logits, {"name": "state", "dict of": before}, *left],
        }
    inside = states == "inside"
    given = raw_input.inputs(how, form, steps, inside)
    raw = [_tensor(each.name, each.shape, each.meaning, each.dtype) for each in given]
    seen = [_tensor(state_after(each.name), ["B"], each.meaning, each.dtype) for each in raw_input.states(how)]
    length = {"steps": steps} if form == "unrolled" else {}
    facts = {"form": form, "states": states, "engine": "ONNX", "opset": opset, **length}
    if inside:
        return facts | {"inputs": raw if how else [x], "outputs": [logits]}
    return facts | {"inputs": [*(raw if how else [x]), *before], "outputs": [logits, *after, *left, *seen]}


def _tensor(name: str, shape: list[str | int], meaning: str, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "meaning": meaning}


def write_manifest(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest into a folder, sealed; return it as written."""
    sealed = facts | {"seal": seal(facts)}
    files.write_json(folder / MANIFEST, sealed)
    return sealed


def recipe_of(folder: Path, facts: dict[str, Any]) -> Recipe:
    """Return the recipe of a bundle; of a network without one, what stands for it.

    Raises:
        RecipeError: this version of hstnn cannot read it.
    """
    if lacks := parts.missing(facts["trained_with"].get(parts.PARTS), tuple(plugins.ONE), str(folder)):
        raise RecipeError(*lacks)
    if not facts["recipe"]:
        return bare(facts["network"].get("architecture"), source=f"{folder / MANIFEST}: network.architecture")
    return parse(facts["recipe"], f"{folder / MANIFEST}: recipe")
