"""Weights on devices against numbers of the RRAM/SRAM code (tests/golden/fork_rram.npz), and by hand."""

import pytest
import torch
from torch.nn import functional

from hstnn_deploy.models import rram
from hstnn_deploy.models.rram import SIGMA, Weights
from tests.models.test_stack_golden import apart, golden


@pytest.mark.parametrize("bits", SIGMA)
def test_levels_and_variation_are_those_of_the_code(bits: int) -> None:
    numbers = golden("fork_rram")
    w = numbers["w"]
    quantised = rram.uniform(w, bits)
    assert torch.equal(quantised, numbers[f"quant.{bits}"])
    sigma = float(numbers[f"var.{bits}.sigma"])
    assert Weights(step="vat", bits=bits).sigma == pytest.approx(sigma)
    drawn = numbers[f"var.{bits}.normal"]  # of N(0, sigma)
    assert apart(rram.varied_by(quantised, drawn), numbers[f"var.{bits}.out"]) < 1e-6
    assert apart(rram.varied_by(w, drawn), numbers[f"var.{bits}.unquantised_out"]) < 1e-6
    whole = Weights(step="vat", bits=bits).effective(w, None, 0, drawn / sigma)
    assert apart(whole, numbers[f"var.{bits}.out"]) < 1e-6


def test_ternary_weights_and_their_gradient() -> None:
    numbers = golden("fork_rram")
    w = numbers["w"].clone().requires_grad_()
    out = rram.quantised(w, "ternary", 2)
    assert apart(out.detach(), numbers["tern.out"]) < 1e-6
    assert torch.equal(out.detach() == 0, numbers["tern.out"] == 0)
    out.backward(numbers["tern.grad_out"])
    assert torch.equal(w.grad, numbers["tern.grad_in"])  # type: ignore[arg-type]


def test_signs_stay_where_all_weights_are_negative_and_nan_is_not_hidden() -> None:
    w = -torch.rand(4, 4, 3, 3)
    found = Weights(step="vat", bits=1).effective(w, None, 0, torch.randn_like(w))
    assert bool((found < 0).all())
    w[0, 0, 0, 0] = float("nan")
    assert rram.ternary(w).isnan().any()
    assert Weights(step="prune").sparsity([w]) == (0.0, 0.0)


@pytest.mark.parametrize("threshold", [0.005, 0.1])
def test_what_is_pruned(threshold: float) -> None:
    numbers = golden("fork_rram")
    assert torch.equal(rram.kept(numbers["w"], threshold), numbers[f"prune.{threshold}.mask"])


@pytest.mark.parametrize("ratio", ["0.5", "1.0"])
def test_the_group_lasso_and_its_gradient(ratio: str) -> None:
    numbers = golden("fork_rram")
    w = numbers["w"].clone().requires_grad_()
    weights = Weights.model_validate({"step": "prune", "prune": {"ratio": float(ratio)}})
    loss = weights.penalty([torch.ones(1), w])
    assert loss is not None
    loss.backward()
    assert apart(loss.detach(), numbers[f"glasso.{ratio}.loss"]) < 1e-6
    assert apart(w.grad, numbers[f"glasso.{ratio}.grad"]) < 4e-6  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [0, 1, -1, -3])
def test_sram_beside_rram(shift: int) -> None:
    numbers = golden("fork_rram")
    fixed, w = numbers["sram.WR"], numbers["sram.W"]
    weights = Weights.model_validate({"step": "recover", "sram": {"shift": shift}, "bits": 4})
    total = (fixed + 2.0**shift * w) / 2
    found = functional.conv2d(numbers["sram.x"], total, padding=1)
    assert apart(found, numbers[f"sram.shift.{shift}"]) < 1e-6
    ours = weights.effective(w, fixed, 1, varied=False)
    assert torch.equal(ours, (rram.uniform(fixed, 4) + 2.0**shift * rram.uniform(w, 4)) / 2)
