"""`hstnn import PACKAGE.MODULE:FACTORY`: a module of another library as a checkpoint."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from tests.conftest import Hstnn

pytest.importorskip("snntorch")

NETS = """
import snntorch as snn
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    first = snn.Leaky(beta=0.83, threshold=0.3, init_hidden=True)
    last = snn.Leaky(beta=0.7, threshold=0.2, init_hidden=True, output=True)
    return nn.Sequential(nn.Linear(8, 20), first, nn.Linear(20, 10), last)

def odd():
    return nn.Sequential(nn.Linear(8, 4), nn.Softshrink())
"""
MAKE = "own_nets:make"


@pytest.fixture(autouse=True)
def own_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user's own module in the folder that the commands run in."""
    (tmp_path / "own_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_nets", None)


def test_a_module_becomes_a_checkpoint_that_is_exported_with_proof(hstnn: Hstnn) -> None:
    result = hstnn("import", MAKE, "--input", "4,8")
    assert (result.code, result.err) == (0, "")
    for part in ("proved in float64", "5400 spikes equal", "exactly at the threshold", "runs/imported/make/best.pt"):
        assert part in result.out
    found = Checkpoint.load(Path("runs/imported/make/best.pt"))
    assert found.origin is not None
    assert found.origin["libraries"].keys() == {"snntorch", "torch"}
    assert found.origin["proof"]["spikes"] == 5400
    assert hstnn("export", "--ckpt", "runs/imported/make/best.pt", "--onnx", "--out", "bundle").code == 0
    changed = ["--set", "train.epochs=1", "--out", "trained"]
    assert hstnn("train", "stack-digits", "--init", "runs/imported/make/best.pt", *changed).code == 0


def test_weights_come_from_a_file_and_must_be_those_of_the_module(hstnn: Hstnn) -> None:
    import own_nets  # type: ignore[import-not-found]

    module = own_nets.make()
    with torch.no_grad():
        module[0].weight.mul_(2)
    torch.save({"model": module.state_dict(), "epoch": 3}, "own.pt")
    assert hstnn("import", MAKE, "--input", "4,8", "--weights", "own.pt", "--json").code == 0
    held = Checkpoint.load(Path("runs/imported/make/best.pt")).parameters
    torch.testing.assert_close(held["layers.0.weight"], module[0].weight.detach(), rtol=0, atol=0)
    around: dict[str, object] = {}
    around["model"] = around
    torch.save(around, "own.pt")
    assert "contains no state dict" in hstnn("import", MAKE, "--input", "4,8", "--weights", "own.pt").error
    wrong = module.state_dict()
    del wrong["2.bias"]
    torch.save(wrong, "own.pt")
    result = hstnn("import", MAKE, "--input", "4,8", "--weights", "own.pt")
    assert result.code == 15
    assert "own.pt has no 2.bias" in result.error.replace("'", "")
    Path("own.pt").write_bytes(b"PK\x03\x04 no archive")
    assert hstnn("import", MAKE, "--input", "4,8", "--weights", "own.pt").code == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([MAKE], 2, "neither is given"),
        ([MAKE, "--input", "4,8", "--example", "x.npy"], 2, "both are given"),
        ([MAKE, "--input", "4,-8"], 2, "positive numbers"),
        ([MAKE, "--input", "4,9"], 15, ""),
        ([MAKE, "--input", "4,8", "--dt", "0.1"], 2, "for NIR graphs"),
        ([MAKE, "--example", "none.npy"], 3, "does not exist"),
        (["own_nets:mak", "--input", "4,8"], 2, "has no mak"),
        (["own_nets:odd", "--input", "4,8"], 15, "Softshrink"),
        (["own.nir", "--input", "4,8"], 2, "for torch modules"),
    ],
)
def test_what_cannot_be_imported_is_one_line(hstnn: Hstnn, words: list[str], code: int, said: str) -> None:
    result = hstnn("import", *words)
    assert result.code == code, result.err
    assert said in result.error
    assert "Traceback" not in result.err


def test_an_example_from_a_file(hstnn: Hstnn) -> None:
    np.save("x.npy", np.random.default_rng(0).random((3, 8)))
    assert hstnn("import", MAKE, "--example", "x.npy", "--json").code == 0
    told = json.loads(hstnn("import", MAKE, "--example", "x.npy", "--json").out)
    assert told["origin"]["options"]["input"] == [3, 8]
