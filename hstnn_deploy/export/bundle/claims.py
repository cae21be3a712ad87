"""Compare a bundle's manifest with the recipe, weights, data and checkpoint."""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.preprocessing import Frames, Pixels, parse
from hstnn_deploy.data.text import vocabulary_hash
from hstnn_deploy.errors import BundleError, ExportError, HstnnError
from hstnn_deploy.export.bundle.description import IN_PYTHON, described, following, recorded
from hstnn_deploy.export.bundle.extras import NIR
from hstnn_deploy.export.bundle.quantise import parse_name
from hstnn_deploy.export.graph.nodes import BUILDER, OPSET
from hstnn_deploy.export.proof.comparisons import Check, Subject, own_answers, part_asked
from hstnn_deploy.export.runtime.manifest import MANIFEST, VOCABULARY
from hstnn_deploy.foreign import brief, one_line
from hstnn_deploy.metrics import shown
from hstnn_deploy.models.network import Network
from hstnn_deploy.recipe.adopted import no_data
from hstnn_deploy.recipe.recipe import Recipe

_SAMPLES, _SHARE, _LOOSE = 2, 0.002, 10
"""How far a measured accuracy may be from the manifest's: answers, or their share of all; `_LOOSE` times as far where
it was measured in another precision than float32. Another processor adds in another order."""
_RELATIVE = 0.005
"""The same of a perplexity or an error, as a share of it."""


def check_follows(facts: dict[str, Any], recipe: Recipe, network: Network, how: Pixels | Frames | None) -> Check:
    """Compare what follows from recipe and network: units, thresholds, states, preprocessing, inputs and outputs."""
    files = {name: each for name, each in facts["files"].items() if "unverified" not in name}
    shapes = {
        name: described(name, network, each.get("steps"), how, each.get("opset", OPSET)) for name, each in files.items()
    }
    wanted = json.loads(json.dumps(following(recipe, network, how) | {"files": shapes}))
    there = {"input": facts.get("input"), "network": facts["network"], "metrics": facts["metrics"], "files": files}
    if facts["graphs"]["builder"] != BUILDER:
        there, wanted = _as_of_now(there, recipe), _unexplained(wanted)
    answer, asked = facts["network"].get("answer"), wanted["network"].get("answer")
    difference = unlike(answer, asked, "network.answer") or unlike(there, wanted, "", more=True)
    difference = difference or unlike(there["input"], wanted["input"], "input")
    figure = f"network, states, preprocessing, inputs and outputs of {len(files)} files"
    return Check(
        MANIFEST, "follows from recipe and weights", "failed" if difference else "passed", difference or figure
    )


def _as_of_now(there: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what an older manifest says, with what did not exist yet as it was meant then."""
    if recipe.network.neuron is None:
        return there
    neuron, network = type(recipe.network.neuron), there["network"]
    try:
        whole = neuron.model_validate(network["neuron"]).model_dump()
        how = parse(there["input"] or {"kind": "values"}).model_dump(mode="json")
    except (ValidationError, BundleError):
        return there
    return there | {"network": network | {"neuron": whole}, "input": how}


def _unexplained(value: Any) -> Any:
    """Return plain data without the texts that explain it, which another version may word in another way."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if key not in {"meaning", "reset_meaning", "protocol_meaning"}}
        return {key: _unexplained(each) for key, each in kept.items()}
    return [_unexplained(each) for each in value] if isinstance(value, list) else value


def check_checkpoint(facts: dict[str, Any], recipe: Recipe, ckpt: Path | None, checkpoint: Checkpoint | None) -> Check:
    """Compare what only a checkpoint can say with the one that is given, if any."""
    if checkpoint is None or ckpt is None:
        what = "stage, epoch, selection, where and how well it was trained: give --ckpt (ckpt= in Python)"
        return Check(MANIFEST, "says what the training said", "not run", what)
    if checkpoint.recipe and no_data(checkpoint.resolved_recipe()) and not no_data(recipe):
        # Trained on data that is not at hand; it was exported under a recipe whose data is.
        checkpoint = checkpoint.under(recipe)
    alone = facts["checkpoint"]["file"] == IN_PYTHON
    wanted = json.loads(json.dumps(recorded(None if alone else ckpt, checkpoint)))
    metrics = {key: value for key, value in facts["metrics"].items() if key != "protocol_meaning"}
    difference = (
        unlike(facts["checkpoint"]["sha256"], wanted["checkpoint"]["sha256"], "checkpoint.sha256")
        or _other_recipe(recipe, checkpoint)
        or unlike(facts.get("origin"), wanted.get("origin"), "origin")
        or unlike(facts["network"], wanted["network"], "network", more=True)
        or unlike(metrics, wanted["metrics"], "metrics")
        or unlike(facts["selection"], wanted["selection"], "selection")
        or unlike(facts["trained_with"], wanted["trained_with"], "trained_with")
    )
    figure = "SHA-256, recipe, stage, selection, metrics and environment"
    return Check(MANIFEST, f"says what {ckpt} says", "failed" if difference else "passed", difference or figure)


def _other_recipe(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """Return how a bundle's recipe differs from a checkpoint's, which has perhaps none."""
    if checkpoint.recipe:
        return "" if recipe == checkpoint.resolved_recipe() else "the recipe differs"
    # It was exported alone, or under a recipe that only gave the data of the proof.
    return "" if recipe.network == checkpoint.architecture else "the network differs"


def check_metric(facts: dict[str, Any], subject: Subject) -> Iterator[Check]:
    """Compare the metric that the manifest has of the test split with the network's own; nothing where it has none."""
    task, said = subject.task, facts["metrics"].get("test")
    name = f"test {task.metric} = measured"
    if said is None:
        return
    value, count = (said.get(key) for key in (task.metric, task.counts))
    if value is None or not count:
        yield Check(MANIFEST, name, "failed", f"the manifest lacks the {task.metric} and the number of {task.counts}")
        return
    if subject.test is None:
        yield Check(MANIFEST, name, "not run", subject.no_test)
        return
    measured = own_answers(subject, False)
    answered = measured.answered
    if part_asked(subject, answered):
        yield Check(
            MANIFEST, name, "not run", "only a part of the test split was evaluated; --whole-test evaluates all of it"
        )
        return
    loose = _LOOSE if facts["metrics"].get("precision", "fp32") != "fp32" else 1
    if task.higher_is_better:
        allowed = loose * 100 * max(_SAMPLES / count, _SHARE)
    else:
        allowed = loose * _RELATIVE * measured.value
    same = answered == count and abs(value - measured.value) <= allowed
    figure = (
        f"manifest {shown(task.metric, value)}{task.unit} of {count} {task.counts}, measured "
        f"{shown(task.metric, measured.value)}{task.unit} of {answered}; at most {shown(task.metric, allowed)} apart"
    )
    yield Check(MANIFEST, name, "passed" if same else "failed", figure)


def check_record(facts: dict[str, Any], ran: Sequence[Check], complete: bool) -> Check:
    """Compare what the manifest says was checked with what had to be.

    Args:
        facts: the manifest.
        ran: the checks of the bundle's files, as they are done now.
        complete: whether an export by this builder did the same ones.
    """
    name = "checks on record"
    checks, result = facts["verification"]["checks"], facts["verification"]["result"]
    there = facts["files"].keys() | facts["carried"].keys()
    known = there | {VOCABULARY}
    failed = [each for each in checks if each["outcome"] == "failed"]
    done = {(each["file"], _kind(each["name"])) for each in checks}
    wanted = {(each.file, _kind(each.name)) for each in ran} if complete else set()
    stray = [file for file, _ in done if not {file, _unverified(file)} & known and not parse_name(file)]
    if result != "not run" and result != ("failed" if failed else "passed"):
        wrong = f"the result is {result}, but {len(failed)} of {len(checks)} checks failed"
    elif stray:
        wrong = f"a check names {brief(min(stray))}, which is not in the bundle"
    elif result == "not run":
        return Check(MANIFEST, name, "passed", "the bundle was exported without a proof, as its manifest says")
    elif missing := sorted(there - {name for file, _ in done for name in (file, _unverified(file))}):
        wrong = f"it has no check of {missing[0]}"
    elif lacking := sorted(wanted - done):
        wrong = f"it has no check {lacking[0][1]!r} of {lacking[0][0]}"
    else:
        return Check(MANIFEST, name, "passed", f"{len(checks)} checks of {len(there)} files, result {result}")
    return Check(MANIFEST, name, "failed", wrong)


def _kind(name: str) -> str:
    """Return a check's name without how much was asked."""
    return name.partition(",")[0]


def _unverified(name: str) -> str:
    """Return the name under which a file that failed lies in a bundle."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.unverified.{suffix}"


def check_carried(folder: Path, facts: dict[str, Any], network: Network) -> Iterator[Check]:
    """Compare what lies beside the graphs with vocabulary and network."""
    if VOCABULARY in facts["carried"]:
        words, why = _words(folder / VOCABULARY), "it is not a list of words"
        if words is not None:
            right = vocabulary_hash(words) == facts["network"]["vocabulary"]
            why = "" if right else "its words differ from the network's (SHA-256)"
        figure = why or f"{len(words or ())} words, equal to the network's (SHA-256)"
        yield Check(VOCABULARY, "words of the network", "failed" if why else "passed", figure)
    if NIR in facts["carried"]:
        yield _nir(folder, facts["carried"][NIR].get("options"), network)


def _words(path: Path) -> list[str] | None:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _nir(folder: Path, options: Any, network: Network) -> Check:
    from hstnn_deploy.export.graph.neuromorphic import write_nir
    from hstnn_deploy.export.graph.nir_apart import read_apart
    from hstnn_deploy.export.graph.nir_file import differs, read_graph

    name = "graph = written again"
    if not isinstance(options, dict):
        return Check(NIR, name, "not run", "an earlier hstnn wrote it, with unknown options")
    if find_spec("nir") is None:
        return Check(NIR, name, "not run", "the package nir is not installed")
    try:
        with TemporaryDirectory() as there:
            wanted = read_graph(write_nir(network, Path(there) / NIR, **options))
    except (ExportError, TypeError) as error:  # no such options
        return Check(NIR, name, "failed", f"cannot write it again: {error}")
    try:
        difference = differs(wanted, read_apart(folder / NIR))
    except HstnnError as error:
        return Check(NIR, name, "failed", f"cannot read it: {one_line(str(error))}")
    return Check(NIR, name, "failed" if difference else "passed", difference or "every number is equal to the bit")


def unlike(found: Any, wanted: Any, where: str, more: bool = False) -> str:
    """Return where plain data first differs from what is wanted of it, in words; `more` may be in objects, or not."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        if missing := [key for key in wanted if key not in found]:
            return f"{_at(where, missing[0])} is missing"
        if strange := [key for key in found if key not in wanted and not more]:
            return f"{_at(where, brief(strange[0]))} should not be there"
        pairs = ((found[key], value, _at(where, key)) for key, value in wanted.items())
        return next((text for one, other, at in pairs if (text := unlike(one, other, at, more))), "")
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = ((one, wanted[place], f"{where}.{place}") for place, one in enumerate(found))
        return next((text for one, other, at in pairs if (text := unlike(one, other, at, more))), "")
    if type(found) is type(wanted) and found == wanted:
        return ""
    return f"{where} is {brief(found)}; it should be {brief(wanted)}"


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
