"""The language model computes what the original computes, carries its state, and drops out where it should."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.groups import RecurrentUnit
from hstnn_deploy.models.hybrid.language import LanguageConfig, LanguageModel
from hstnn_deploy.models.hybrid.shrink import shrink
from hstnn_deploy.models.kernels import Form
from hstnn_deploy.models.sizes import Sizes
from tests.original import Golden

each_form = pytest.mark.parametrize("form", ["plain", "fused"])
each_unit = pytest.mark.parametrize("recurrent", ["rnn", "lstm"])


def golden_model() -> tuple[Golden, LanguageModel, dict[str, Tensor]]:
    """Return the numbers, the network in evaluation mode, and the state it starts from: h carried, v reset."""
    golden = Golden("ptb_hybrid_uneven")
    model = golden.language_model().eval()
    state = model.initial_state(golden["tokens"]) | {f"h{layer}": golden[f"h{layer}_in"] for layer in (1, 2)}
    return golden, model, state


@each_form
def test_logits_loss_and_final_states_are_the_originals(form: Form) -> None:
    golden, model, state = golden_model()
    with kernels.using(form), torch.no_grad():
        logits, after = model(golden["tokens"], state)
    torch.testing.assert_close(logits, golden["logits"], rtol=1e-5, atol=1e-6)
    loss = functional.cross_entropy(logits.flatten(0, 1), golden["targets"])
    torch.testing.assert_close(loss, golden["loss"].squeeze(), rtol=1e-5, atol=1e-6)
    for layer in (1, 2):
        torch.testing.assert_close(after[f"h{layer}"], golden[f"h{layer}"], rtol=1e-5, atol=1e-6)


@each_form
def test_gradients_are_the_originals(form: Form) -> None:
    golden, model, state = golden_model()
    with kernels.using(form):
        logits, _ = model(golden["tokens"], state)
        functional.cross_entropy(logits.flatten(0, 1), golden["targets"]).backward()
    expected = golden.named("grad.")
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-7, msg=key)


def make(recurrent: RecurrentUnit = "rnn", dropout: float = 0.0) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageConfig(vocabulary=11, inputs=4, units=[3, 3], recurrent=recurrent, dropout=dropout)
    return config.build([Sizes(3, 2), Sizes(2, 3)]).double()


def tokens(steps: int, batch: int) -> Tensor:
    return torch.randint(0, 11, (steps, batch), generator=torch.Generator().manual_seed(steps))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from(["rnn", "lstm"]))
def test_chunks_add_up_to_the_whole(chunks: list[int], recurrent: RecurrentUnit) -> None:
    model, x = make(recurrent), tokens(sum(chunks), 2)
    whole, final = model(x)
    state, parts = None, []
    for chunk in x.split(chunks):
        logits, state = model(chunk, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.testing.assert_close(state, final)


@each_unit
def test_a_padded_sample_answers_as_it_does_alone(recurrent: RecurrentUnit) -> None:
    model, x = make(recurrent), tokens(5, 3)
    logits, state = model(x, None, torch.tensor([5, 2, 1]))
    for sample, length in enumerate((5, 2, 1)):
        alone, after = model(x[:length, sample : sample + 1])
        torch.testing.assert_close(logits[:length, sample : sample + 1], alone)
        torch.testing.assert_close({name: value[sample : sample + 1] for name, value in state.items()}, after)


def test_dropout_is_of_training_alone_and_before_the_layers_and_the_decoder() -> None:
    model, x = make(dropout=0.5), tokens(6, 5)
    seen: list[Tensor] = []
    model.dropout.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    model.train()(x)
    assert [each.shape for each in seen] == [(6, 5, 4), (6, 5, 5)]
    assert 0.3 < (seen[0] == 0).double().mean() < 0.7
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])
    assert not (seen[2] == 0).any()


def test_fresh_weights_start_as_published() -> None:
    config = LanguageConfig(vocabulary=500, inputs=40, units=[50])
    model = config.build([Sizes(25, 25)])
    for weight in (model.embedding.weight, model.decoder.weight):
        assert 0.099 < weight.abs().max() <= 0.1
    assert not model.decoder.bias.any()
    assert model.embedding.weight.shape == (500, 40)


@each_unit
def test_cutting_it_down_keeps_embedding_and_the_kept_units_rows(recurrent: RecurrentUnit) -> None:
    model = make(recurrent)
    before = copy.deepcopy(model.state_dict())
    small = shrink(model, [{"snn": [0, 2], "rnn": [1]}, {"snn": [1], "rnn": [0, 2]}])
    assert torch.equal(small.embedding.weight, model.embedding.weight)
    assert torch.equal(small.decoder.weight, model.decoder.weight[:, [1, 2, 4]])
    assert torch.equal(small.decoder.bias, model.decoder.bias)
    assert small(tokens(3, 2))[0].shape == (3, 2, 11)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
