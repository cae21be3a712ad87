"""Networks of each library become stacks, and what ONNX Runtime computes of their files is what the modules compute."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.export.graph.forms import build
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.proof.engines import onnxruntime_session, opened_up, window_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.importing.module import Imported, carries_states, import_module
from hstnn_deploy.importing.proof import window_of
from hstnn_deploy.importing.running import run
from tests.importing.networks import NETWORKS, made


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The libraries warn of themselves; answers need no gradients."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def own_answer(module: nn.Module, imported: Imported, example: Tensor) -> tuple[Tensor, Tensor]:
    """Return a window and what the module itself gives on it: at every step, or as it reads out."""
    layout = imported.origin["layout"]
    x = window_of(module, example, layout, 8)
    x = x.float() if x.is_floating_point() else x
    reads = imported.network.readout != "every"
    wanted = run(module, x, layout, layout == "step" and carries_states(module), reads)
    return (x[:1].expand(len(wanted), *x.shape[1:]) if layout == "constant" else x), wanted


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_proved_and_its_onnx_file_computes_what_the_module_does(name: str, tmp_path: Path) -> None:
    module, example = made(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    imported = import_module(module, example, readout="every", steps=8)
    proof, network = imported.proof, imported.network
    assert proof.modules + proof.values > 0
    if NETWORKS[name][0] != "torch":
        assert proof.alone > 0 < proof.spikes, proof
        assert proof.met > 100, proof
        assert 0.01 < proof.fired < 1.5, "silent layers, or such that always fire, show nothing"
        assert proof.silent == proof.weak == (), proof
    assert proof.single <= proof.spikes / 1000
    for key, value in module.state_dict().items():
        if key in before and before[key].shape == value.shape and not key.endswith(("mem", "spk", "syn", "v_mem")):
            assert torch.equal(before[key], value), key
    kept = Checkpoint.of_network(network, imported.origin)
    kept.save(tmp_path / "best.pt")
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            network.state_dict().values(),
            Checkpoint.load(tmp_path / "best.pt").network().state_dict().values(),
            strict=True,
        )
    )
    x, wanted = own_answer(module, imported, example)
    path = tmp_path / "window.onnx"
    onnx.save(build(network, "window", {}, len(x)), str(path))
    onnx.checker.check_model(str(path), full_check=True)
    opened = opened_up(path, "window", network)
    found = window_engine(onnxruntime_session(opened.model), interface(network), opened.values)(x, None)
    certificate = replay(network, x, found)
    assert certificate.passed, str(certificate)
    torch.testing.assert_close(found.logits.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)
