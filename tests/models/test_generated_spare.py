"""A current that nobody else needs is written over: with the same results, and only where that is safe."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.groups import SpikingGroup
from hstnn_deploy.models.kernels.generated import compiled
from hstnn_deploy.models.neurons import Lif
from tests.models.neuron_kinds import KINDS
from tests.models.test_generated import case

pytestmark = pytest.mark.skipif(not compiled.available(), reason=compiled.problem())


def _run(kind: str, spare: bool, lengths: list[int] | None, grad: bool, again: bool) -> tuple[list[Tensor], bool]:
    """Return all results over a fresh current, and whether that has changed."""
    given = case(kind, (5, 3, 4), lengths=lengths)
    x = given.current.float().requires_grad_(grad)
    state = {name: value.float().requires_grad_(grad) for name, value in given.state.items()}
    own = {
        name: value.detach().float().requires_grad_(grad and value.requires_grad) for name, value in given.own.items()
    }
    with torch.set_grad_enabled(grad):
        current = x * 1.5
        before = current.detach().clone()
        out, after = kernels.spiking(current, state, given.neuron, given.lengths, own, spare)
    changed = not torch.equal(current.detach(), before)
    found = [out.detach().clone(), *(each.detach() for each in after.values())]
    if grad:
        loss = (out * given.cotangent.float()).sum() + sum(each.sum() for each in after.values())
        wanted = [x, *state.values(), *(each for each in own.values() if each.requires_grad)]
        for retain in (True, False) if again else (False,):
            more = torch.autograd.grad(loss, wanted, retain_graph=retain, allow_unused=True, materialize_grads=True)
            found += more
    return found, changed


@pytest.mark.parametrize("lengths", [None, [0, 3, 5]])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_same(kind: str, lengths: list[int] | None) -> None:
    for grad in (False, True):
        expected, changed = _run(kind, False, lengths, grad, True)
        assert not changed
        found, changed = _run(kind, True, lengths, grad, True)
        assert changed or grad
        assert all(map(torch.equal, found, expected))


def test_the_membrane_takes_the_place_of_the_current() -> None:
    for grad in (False, True):
        assert _run("zero", True, None, grad, False)[1]


def test_what_is_kept_on_the_way_back_is_the_current_itself_where_that_is_needed() -> None:
    """A neuron whose way back reads its input keeps it as it is."""
    assert not _run("plif", True, None, True, False)[1]


def test_who_keeps_the_current_is_told_that_it_changed() -> None:
    x = torch.randn(4, 2, 3, requires_grad=True)
    current = x.tanh()  # whose way back reads what came out
    out, _ = kernels.spiking(current, {"v": torch.zeros(2, 3)}, Lif(), spare=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(out.sum(), x)


class _Seeing(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if function in (torch.Tensor.matmul, torch.Tensor.__matmul__):
            self.seen.append((found, found.detach().clone()))
        return found


def test_a_group_gives_its_current_away_unless_somebody_sees_it() -> None:
    group = SpikingGroup(nn.Parameter(torch.randn(5, 7)), Lif())
    x, state = torch.randn(6, 2, 5), {"v": torch.zeros(2, 7)}
    with kernels.using("plain"):
        expected, _ = group(x, state, None)
    with _Seeing() as mode:
        found, _ = group(x, state, None)
    assert torch.equal(found, expected)
    assert len(mode.seen) == 1
    assert torch.equal(*mode.seen[0])
    with torch.inference_mode():
        found, _ = group(x, state, None)
    assert torch.equal(found, expected)


def test_spikes_may_be_changed_in_place() -> None:
    group = SpikingGroup(nn.Parameter(torch.randn(5, 7)), Lif())
    x = torch.randn(6, 2, 5)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            spikes, _ = group(x, {"v": torch.zeros(2, 7)}, None)
            expected = spikes.detach() * 2
            assert torch.equal(spikes.mul_(2), expected)
