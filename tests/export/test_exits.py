"""An exit as an output of the step graph: proved, refused where there can be none, and run."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch

from hstnn_deploy.data.registry import load
from hstnn_deploy.errors import BundleError, ExportError, UsageError
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import Bundle, export_bundle
from hstnn_deploy.export.bundle.standalone import write_standalone
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.graph.forms import FORMS, Form
from hstnn_deploy.export.graph.nodes import OPSETS
from hstnn_deploy.export.graph.write import STEP_ONNX, build_onnx, write_graphs
from hstnn_deploy.export.proof.checks import run_checks
from hstnn_deploy.export.proof.comparisons import Check, Subject
from hstnn_deploy.export.proof.engines import onnxruntime_session, reference_session
from hstnn_deploy.export.proof.samples import make_subject
from hstnn_deploy.export.runtime.manifest import read_manifest
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.exits import EXIT, Exit, Rule
from tests.export.cases import Case
from tests.export.test_runtime import clean_environment, isolated
from tests.export.whole_images import STEPS, checkpoint, network, recipe

EXITS: dict[Rule, Exit] = {"confidence": Exit("confidence", 0.55), "scale": Exit("scale", 1.1)}
CPU = torch.device("cpu")
STEP: list[Form] = ["step"]


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("exits") / "best.pt")


@pytest.fixture(scope="module")
def bundles(ckpt: Path) -> dict[Rule, Bundle]:
    return {rule: export_bundle(ckpt, ckpt.parent / rule, forms=STEP, exit=exit) for rule, exit in EXITS.items()}


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    """Sixty samples of the test split, [8, 60, 1, 8, 8]."""
    return load(recipe().data, "validation").test.batch(torch.arange(60), CPU).x


def by_steps(rule: Rule, x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the network's own answers and exits after every step."""
    made, state, found = network(), None, []
    made.leave_by(EXITS[rule])
    for now in x:
        logits, state = made(now[None], state)
        found.append((logits, made.may_leave(Eager(), logits, state)))
    return found


@pytest.mark.parametrize("rule", get_args(Rule))
def test_an_exit_is_proved(bundles: dict[Rule, Bundle], rule: Rule) -> None:
    bundle = bundles[rule]
    assert bundle.failed == []
    assert bundle.manifest["exit"] == EXITS[rule].plain()
    figures = {check.name.partition(",")[0]: check.figure for check in bundle.checks}
    assert "512 exits equal" in figures["exit after every step"]
    assert "2880 of 2880 equal" in figures["exits on the test split"]
    assert bundle.manifest["files"][STEP_ONNX]["outputs"][-1] == {
        "name": "exit",
        "dtype": "float32",
        "shape": ["B"],
        "meaning": "1 where the answer after this step may be given, else 0",
    }
    assert verify_bundle(bundle.folder).failed == []


@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_session_answers_each_sample_at_its_exit(bundles: dict[Rule, Bundle], rule: Rule, x: torch.Tensor) -> None:
    session = Session(bundles[rule].folder)
    found = session.run_early(x.numpy())
    own, stopped = by_steps(rule, x), torch.full((60,), STEPS)
    for t, (_, exits) in reversed(list(enumerate(own))):
        stopped[exits > 0] = t + 1
    assert 1 < float(stopped.float().mean()) < STEPS
    assert found.steps.tolist() == stopped.tolist()
    expected = torch.stack([logits for logits, _ in own])[stopped - 1, torch.arange(60)]
    np.testing.assert_allclose(found.logits, expected.numpy(), atol=1e-4)
    # One by one, and by hand, it is the same.
    alone = session.run_early(x[:, 7:8].numpy())
    assert alone.steps.tolist() == [stopped[7]]
    stream = session.stream(60)
    for now, (_, exits) in zip(x.numpy(), own, strict=True):
        stream.step(now)
        assert stream.exit is not None
        assert stream.exit.tolist() == exits.tolist()


def test_no_step_is_taken_once_all_have_left(bundles: dict[Rule, Bundle], x: torch.Tensor) -> None:
    """What comes after the last exit is not even looked at."""
    session = Session(bundles["scale"].folder)
    assert set(session.run_early(x.numpy()).steps.tolist()) == {7}
    broken = x.clone()
    broken[7:] = torch.nan
    assert set(session.run_early(broken.numpy()).steps.tolist()) == {7}


def test_a_bundle_without_an_exit_says_how_to_get_one(ckpt: Path, x: torch.Tensor, tmp_path: Path) -> None:
    for form in FORMS[:2]:
        folder = export_bundle(ckpt, tmp_path / form, forms=[form], verify=False).folder
        session = Session(folder)
        assert session.exit is None
        with pytest.raises(UsageError, match="has no early exit") as refused:
            session.run_early(x.numpy())
        assert "--exit confidence=0.9" in (refused.value.hint or "")


def checked(folder: Path, rule: Rule, written: Exit) -> list[Check]:
    """Return the checks of a graph that was written with another exit than it should have."""
    made = network()
    made.leave_by(written)
    names = [path.name for path in write_graphs(made, folder, ("onnx",), of_onnx=STEP)]
    made.leave_by(EXITS[rule])
    subject: Subject = replace(make_subject(made, folder, recipe(), "", None), batch=60)
    checks: list[Check] = []
    run_checks(subject, names, checks.append)
    return checks


@pytest.mark.parametrize(
    ("rule", "written"),
    [
        ("confidence", Exit("confidence", 0.551)),
        ("confidence", Exit("confidence", 0.9)),
        ("confidence", Exit("scale", 1.1)),
        ("scale", Exit("scale", 1.2)),
        ("scale", Exit("scale", 0.2)),
    ],
)
def test_another_threshold_fails_the_proof(rule: Rule, written: Exit, tmp_path: Path) -> None:
    failed = {
        check.name.partition(",")[0]: check.figure
        for check in checked(tmp_path, rule, written)
        if check.outcome != "passed"
    }
    assert "exits on the test split" in failed
    assert "differ without a reason" in failed["exits on the test split"]
    if written != Exit("confidence", 0.551):
        assert "exit, step" in failed["exit after every step"]


def test_a_threshold_within_rounding_is_counted_as_borderline(tmp_path: Path, x: torch.Tensor) -> None:
    made = network()
    chances = Eager().likeliest(made(x)[0])
    made.leave_by(Exit("confidence", float(chances[5])))
    names = [path.name for path in write_graphs(made, tmp_path, ("onnx",), of_onnx=STEP)]
    subject = make_subject(made, tmp_path, recipe(), "", None)
    checks: list[Check] = []
    run_checks(subject, names, checks.append)
    assert {check.outcome for check in checks} == {"passed"}
    (figure,) = (check.figure for check in checks if check.name.startswith("exit after every step"))
    assert "(0 borderline)" not in figure


def test_verify_builds_the_rule_of_the_manifest(bundles: dict[Rule, Bundle], tmp_path: Path) -> None:
    folder = shutil.copytree(bundles["scale"].folder, tmp_path / "bundle")
    for change, said in (
        # No sample tells these two thresholds apart.
        ({"rule": "scale", "threshold": 1.1000001}, "graph = built again"),
        ({"rule": "confidence", "threshold": 2.0}, "holds the network"),
        (None, "follows from recipe and weights"),
    ):
        facts = read_manifest(bundles["scale"].folder)
        facts.pop("seal")
        facts.pop("exit")
        write_manifest(folder, facts | ({"exit": change} if change else {}))
        assert said in {check.name for check in verify_bundle(folder).failed}
    write_manifest(folder, facts | {"exit": {"rule": "never", "threshold": 1.0}})
    with pytest.raises(BundleError, match="exit"):
        Session(folder)


def test_what_cannot_have_an_exit_is_refused(ckpt: Path, tmp_path: Path) -> None:
    confidence = EXITS["confidence"]
    for forms in (("window",), "auto"):
        with pytest.raises(UsageError, match="output of the step graph"):
            export_bundle(ckpt, tmp_path / "bundle", forms=forms, exit=confidence)  # type: ignore[arg-type]
    every = checkpoint(tmp_path / "every.pt", readout="every")
    with pytest.raises(ExportError, match="one answer per sample"):
        export_bundle(every, tmp_path / "bundle", exit=confidence)
    with pytest.raises(ExportError, match="one answer per sample"):
        export_bundle(Case("language", "ffs").checkpoint(tmp_path / "text.pt"), tmp_path / "bundle", exit=confidence)
    bare = checkpoint(tmp_path / "bare.pt", norm=False)
    with pytest.raises(ExportError, match="normalises each step by itself"):
        export_bundle(bare, tmp_path / "bundle", exit=EXITS["scale"])
    assert not (tmp_path / "bundle").exists()


def test_a_hybrid_network_may_leave_too(tmp_path: Path) -> None:
    """Behind its preprocessing as well."""
    ckpt = Case("sequence", "hybrid").checkpoint(tmp_path / "best.pt")
    bundle = export_bundle(ckpt, tmp_path / "bundle", exit=Exit("confidence", 0.12), preprocess=True)
    assert bundle.failed == []
    assert {"exit after every step", "exits on the test split"} <= {
        check.name.partition(",")[0] for check in bundle.checks if check.outcome == "passed"
    }
    raw = np.random.default_rng(0).integers(0, 17, (3, 8, 8)).astype(np.uint8)
    found = Session(bundle.folder).run_early(raw)
    assert found.logits.shape == (3, 10)
    assert found.steps.min() >= 1


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("rule", get_args(Rule))
def test_all_versions_of_the_operators_say_the_same(rule: Rule, opset: int, x: torch.Tensor) -> None:
    made = network()
    made.leave_by(EXITS[rule])
    model = build_onnx(made, "step", {}, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    own = by_steps(rule, x)
    for session in (onnxruntime_session(model), reference_session(model)):
        state = {name: np.zeros((60, *shape), np.float32) for name, shape in made.state_shapes().items()}
        for now, (_, exits) in zip(x.numpy(), own, strict=True):
            found = session({"x": now, **state})
            state = {name: found[f"{name}_next"] for name in state}
            assert np.asarray(found[EXIT]).shape == (60,)
            assert np.asarray(found[EXIT]).tolist() == exits.tolist()


def test_smaller_graphs_keep_the_exit(ckpt: Path, x: torch.Tensor, tmp_path: Path) -> None:
    bundle = export_bundle(
        ckpt,
        tmp_path / "bundle",
        forms=STEP,
        exit=EXITS["confidence"],
        verify=False,
        max_drop=100,
        smaller=("int8-dynamic", "fp16"),
        keep_all=True,
    )
    whole = Session(bundle.folder).run_early(x.numpy())
    for how in ("int8-dynamic", "fp16"):
        found = Session(bundle.folder, smaller=how).run_early(x.numpy())
        assert (found.steps == whole.steps).mean() > 0.5


def test_the_standalone_runner_leaves_early(bundles: dict[Rule, Bundle], x: torch.Tensor, tmp_path: Path) -> None:
    folder = write_standalone(bundles["confidence"].folder, tmp_path / "alone")
    assert "--early-exit" in (folder / "README.md").read_text(encoding="utf-8")
    np.save(tmp_path / "x.npy", x[:, :5].numpy())
    start = f"import runpy; runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__')"
    command: list[Any] = [*isolated(clean_environment(tmp_path)), start, "--input", tmp_path / "x.npy", "--early-exit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = Session(bundles["confidence"].folder).run_early(x[:, :5].numpy())
    said = [line.rpartition("after ")[2] for line in done.stdout.splitlines()]
    assert said == [f"{steps} steps" for steps in wanted.steps]
