"""The networks compute what the original implementation computes, in both kernel forms."""

import pytest
import torch
from torch.nn import functional

from hstnn_deploy.models import kernels
from hstnn_deploy.models.kernels import Form
from tests.original import Golden

HYBRID, RNN, SNN = "smnist_hybrid_uneven", "smnist_rnn_only", "smnist_snn_only"
each_network = pytest.mark.parametrize("name", [HYBRID, RNN, SNN])
each_form = pytest.mark.parametrize("form", ["plain", "fused"])


@each_form
@each_network
def test_logits_loss_and_final_states_match(name: str, form: Form) -> None:
    golden = Golden(name)
    with kernels.using(form), torch.no_grad():
        logits, state = golden.network()(golden.x)
    torch.testing.assert_close(logits, golden["logits"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        functional.cross_entropy(logits, golden.labels), golden["loss"].squeeze(), rtol=1e-5, atol=1e-6
    )
    recurrent = [layer for layer in (1, 2) if golden[f"h{layer}"].numel()]
    assert [f"h{layer}" for layer in recurrent] == [key for key in state if key.startswith("h")]
    for layer in recurrent:
        torch.testing.assert_close(state[f"h{layer}"], golden[f"h{layer}"], rtol=1e-5, atol=1e-6)


@each_form
@pytest.mark.parametrize("name", [HYBRID, SNN])
def test_every_spike_matches_to_the_bit(name: str, form: Form) -> None:
    golden = Golden(name)
    network = golden.network()
    with kernels.using(form), torch.no_grad():
        outputs, _ = network.run_layers(golden.x, network.initial_state(golden.x))
    for number, output in enumerate(outputs, 1):
        spikes = golden[f"spikes{number}"]
        assert spikes.sum() > 0
        assert torch.equal(output[..., : spikes.shape[-1]], spikes)


@each_form
@pytest.mark.parametrize("name", [HYBRID, SNN])
def test_the_membrane_of_every_step_matches(name: str, form: Form) -> None:
    golden = Golden(name)
    network = golden.network()
    state = None
    with kernels.using(form), torch.no_grad():
        for t, step in enumerate(golden.x.split(1)):
            _, state = network(step, state)
            for layer in (1, 2):
                # The state is the membrane after its reset, v = m * (1 - s).
                left = golden[f"membrane{layer}"][t] * (1 - golden[f"spikes{layer}"][t])
                torch.testing.assert_close(state[f"v{layer}"], left, rtol=1e-5, atol=2e-6)


@each_form
@each_network
def test_gradients_match(name: str, form: Form) -> None:
    golden = Golden(name)
    network = golden.network()
    with kernels.using(form):
        logits, _ = network(golden.x)
        functional.cross_entropy(logits, golden.labels).backward()
    expected = golden.named("grad.")
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-7, msg=key)
