"""An exit as what TorchScript and .pt2 return beside answer and states: proved, and a wrong one found."""

from pathlib import Path

import pytest
import torch

from hstnn_deploy.data.registry import load
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.graph.write import PT2, TORCHSCRIPT, write_graphs
from hstnn_deploy.export.proof.checks import module_of, run_checks
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.proof.samples import make_subject
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.exits import Exit
from tests.export.whole_images import checkpoint, network, recipe


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_programs_return_an_exit_and_it_is_proved(format: str, tmp_path: Path) -> None:
    exit = Exit("scale", 1.1)
    bundle = export_bundle(checkpoint(tmp_path / "best.pt"), tmp_path / "bundle", (format,), exit=exit)
    assert bundle.failed == []
    figures = {check.name.partition(",")[0]: check.figure for check in bundle.checks}
    assert "512 exits equal" in figures["exit after every step"]
    assert "2880 of 2880 equal" in figures["exits on the test split"]
    name = {"torchscript": TORCHSCRIPT, "pt2": PT2}[format]
    assert bundle.manifest["files"][name]["form"].startswith("logits, state, exit = module(x, state)")
    assert bundle.manifest["files"][name]["outputs"][-1]["name"] == "exit"
    check_answers(bundle.folder / name, exit)


@pytest.mark.parametrize("name", [TORCHSCRIPT, PT2])
def test_a_program_of_the_other_rule_is_opened_too(name: str, tmp_path: Path) -> None:
    made, exit = network(), Exit("confidence", 0.55)
    made.leave_by(exit)
    write_graphs(made, tmp_path, ("torchscript" if name == TORCHSCRIPT else "pt2",))
    check_answers(tmp_path / name, exit)


def check_answers(path: Path, exit: Exit) -> None:
    """Compare what a file returns of windows with the network's own."""
    made = network()
    made.leave_by(exit)
    x = load(recipe().data, "validation").test.batch(torch.arange(40), torch.device("cpu")).x
    for steps in (3, 8):
        logits, state, left = module_of(path)(x[:steps], made.initial_state(x))
        own, after = made(x[:steps])
        assert torch.allclose(logits, own, atol=1e-4)
        assert left.tolist() == made.may_leave(Eager(), own, after).tolist()
        assert state.keys() == after.keys()


@pytest.mark.parametrize(
    ("format", "by"), [("torchscript", "exit after every step"), ("pt2", "shipped file = replayed file")]
)
def test_a_program_with_another_threshold_fails_the_proof(format: str, by: str, tmp_path: Path) -> None:
    made = network()
    made.leave_by(Exit("confidence", 0.7))
    names = [path.name for path in write_graphs(made, tmp_path, (format,))]
    made.leave_by(Exit("confidence", 0.55))
    checks: list[Check] = []
    run_checks(make_subject(made, tmp_path, recipe(), "", None), names, checks.append)
    failed = {each.name.partition(",")[0] for each in checks if each.outcome == "failed"}
    assert {"graph = fresh build", "exits on the test split", by} <= failed
