"""Files of weights that look like a state dict and hold something else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.importing.weights import load_weights

CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "complex": (lambda value: value + 1j, "'0.weight' has type torch.complex64, but the module's has torch.float32"),
    "whole numbers": (lambda value: (value * 100).to(torch.int8), "'0.weight' has type torch.int8"),
    "sparse": (lambda value: value.to_sparse(), "is sparse, quantised or empty"),
    "meta": (lambda value: value.to("meta"), "is sparse, quantised or empty"),
}


def net() -> nn.Module:
    """Return a network with one layer."""
    return nn.Sequential(nn.Linear(3, 2))


@pytest.mark.parametrize("name", CHANGES)
def test_weights_of_another_kind_are_refused_before_any_is_taken(name: str, tmp_path: Path) -> None:
    change, message = CHANGES[name]
    module = net()
    before = module.get_parameter("0.weight").clone()
    torch.save({key: change(value) for key, value in net().state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(HstnnError, match=message.replace(".", r"\.")):
        load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.get_parameter("0.weight"), before)


def test_half_precision_is_taken(tmp_path: Path) -> None:
    module, other = net(), net()
    torch.save({key: value.half() for key, value in other.state_dict().items()}, tmp_path / "w.pt")
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.get_parameter("0.weight"), other.get_parameter("0.weight").half().float())


@pytest.mark.parametrize("how", ["a whole module", "an old file", "text"])
def test_what_is_no_state_dict_is_refused_with_what_to_save(how: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    saves: dict[str, Callable[[], Any]] = {
        "a whole module": lambda: torch.save(net(), path),
        "an old file": lambda: torch.save(net().state_dict(), path, _use_new_zipfile_serialization=False),
        "text": lambda: path.write_text("weights"),
    }
    saves[how]()
    with pytest.raises(HstnnError) as caught:
        load_weights(net(), path)
    assert "torch.save(module.state_dict(), FILE)" in caught.value.hint
    assert "checkpoint" not in caught.value.message
