"""A network is one call that carries its state: chunks add up, padding is ignored, states have names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.groups import RecurrentUnit
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier, SequenceConfig
from hstnn_deploy.models.kernels import Form
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes

INPUTS, CLASSES = 3, 4
sizes_of_a_layer = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any).map(lambda size: Sizes(*size))
sizes_of_a_network = st.lists(sizes_of_a_layer, min_size=1, max_size=3)
forms = st.sampled_from(["plain", "fused"])
recurrents = st.sampled_from(["rnn", "lstm"])


def make(sizes: list[Sizes], seed: int, recurrent: RecurrentUnit = "rnn") -> SequenceClassifier:
    torch.manual_seed(seed)
    config = SequenceConfig(
        inputs=INPUTS, classes=CLASSES, units=[1] * len(sizes), neuron=Lif(decay=0.7), recurrent=recurrent
    )
    # float64: no spike hangs on the order in which a product is summed.
    return config.build(sizes).double()


def sequence(steps: int, batch: int) -> Tensor:
    return torch.randn(steps, batch, INPUTS, dtype=torch.float64)


def by_the_book(network: SequenceClassifier, x: Tensor) -> Tensor:
    """Compute the equations for one sample [T, I], unit by unit: an implementation of its own."""
    p = {name: value.detach() for name, value in network.named_parameters()}
    neuron = Lif(decay=0.7)
    count = len(network.layers)
    nothing = torch.zeros(0, dtype=x.dtype)
    m = [nothing] * count
    s = [nothing] * count
    h = [nothing] * count
    c = [nothing] * count
    for layer, size in enumerate(network.sizes):
        m[layer], s[layer] = x.new_zeros(size.snn), x.new_zeros(size.snn)
        h[layer], c[layer] = x.new_zeros(size.rnn), x.new_zeros(size.rnn)
    total = s[-1].clone()
    for now in x:
        seen = now
        for layer, size in enumerate(network.sizes):
            for unit in range(size.snn):
                current = sum(seen[i] * p[f"layers.{layer}.snn.weight"][i, unit] for i in range(len(seen)))
                m[layer][unit] = neuron.decay * m[layer][unit] * (1 - s[layer][unit]) + current
            s[layer] = (m[layer] > neuron.threshold).to(x.dtype)
            if size.rnn and p[f"layers.{layer}.rnn.weight_input"].dim() == 3:
                inward, own = (p[f"layers.{layer}.rnn.weight_{name}"] for name in ("input", "recurrent"))
                i, f, g, o = (inward[:, gate].T @ seen + own[:, gate].T @ h[layer] for gate in range(4))
                c[layer] = c[layer] / (1 + torch.exp(-f)) + torch.tanh(g) / (1 + torch.exp(-i))
                h[layer] = torch.tanh(c[layer]) / (1 + torch.exp(-o))
            elif size.rnn:
                own = p[f"layers.{layer}.rnn.weight_recurrent"].T @ h[layer]
                h[layer] = 1 / (1 + torch.exp(-(p[f"layers.{layer}.rnn.weight_input"].T @ seen + own)))
            seen = torch.cat([s[layer], h[layer]])
        total = total + s[-1]
    return p["readout.weight"] @ torch.cat([total / len(x), h[-1]]) + p["readout.bias"]


@given(sizes_of_a_network, st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31), forms, recurrents)
def test_logits_follow_the_equations(
    sizes: list[Sizes], steps: int, batch: int, seed: int, form: Form, recurrent: RecurrentUnit
) -> None:
    network = make(sizes, seed, recurrent)
    x = sequence(steps, batch)
    with kernels.using(form):
        logits, _ = network(x)
    expected = torch.stack([by_the_book(network, sample) for sample in x.unbind(1)])
    torch.testing.assert_close(logits, expected)


@given(
    sizes_of_a_network, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**31), forms, recurrents
)
def test_chunks_add_up_to_the_whole(
    sizes: list[Sizes], chunks: list[int], seed: int, form: Form, recurrent: RecurrentUnit
) -> None:
    network = make(sizes, seed, recurrent)
    x = sequence(sum(chunks), 2)
    with kernels.using(form):
        whole, final = network(x)
        state = None
        for chunk in x.split(chunks):
            logits, state = network(chunk, state)
    torch.testing.assert_close(logits, whole)
    torch.testing.assert_close(state, final)


@given(sizes_of_a_network, st.integers(1, 5), st.data(), st.integers(0, 2**31), forms, recurrents)
def test_a_padded_sample_answers_as_it_does_alone(
    sizes: list[Sizes], steps: int, data: st.DataObject, seed: int, form: Form, recurrent: RecurrentUnit
) -> None:
    network = make(sizes, seed, recurrent)
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=1, max_size=4), label="lengths")
    x = sequence(steps, len(lengths))
    earlier = network(sequence(2, len(lengths)))[1] if data.draw(st.booleans(), label="with a state") else None
    with kernels.using(form):
        logits, state = network(x, earlier, torch.tensor(lengths))
        for sample, length in enumerate(lengths):
            before = earlier or network.initial_state(x)
            mine = {name: value[sample : sample + 1] for name, value in before.items()}
            after = {name: value[sample : sample + 1] for name, value in state.items()}
            if length == 0:
                torch.testing.assert_close(after, mine)
                continue
            alone, expected = network(x[:length, sample : sample + 1], mine)
            torch.testing.assert_close(logits[sample : sample + 1], alone)
            torch.testing.assert_close(after, expected)


@given(sizes_of_a_network, st.integers(2, 5), st.integers(0, 2**31), forms, recurrents)
def test_gradients_of_padded_samples_are_those_of_each_alone(
    sizes: list[Sizes], steps: int, seed: int, form: Form, recurrent: RecurrentUnit
) -> None:
    network = make(sizes, seed, recurrent)
    lengths = [steps - 1, 1, 0]
    x = sequence(steps, len(lengths))
    weights = list(network.parameters())

    def gradients(total: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True))

    with kernels.using(form):
        padded = gradients((network(x, None, torch.tensor(lengths))[0] ** 2).sum())
        alone = [
            gradients((network(x[:length, b : b + 1])[0] ** 2).sum()) for b, length in enumerate(lengths) if length
        ]
        empty = gradients((network.readout(x.new_zeros(1, network.readout.in_features)) ** 2).sum())
    for found, *parts in zip(padded, *alone, empty, strict=True):
        torch.testing.assert_close(found, torch.stack(parts).sum(0))


def test_states_are_named_by_layer_and_shaped_by_units() -> None:
    network = make([Sizes(2, 3), Sizes(4, 0), Sizes(5, 1)], 0)
    expected = {"v1": 2, "h1": 3, "v2": 4, "v3": 5, "h3": 1, "spike_sum": 5, "steps": 1}
    x = sequence(4, 7)
    for state in (network.initial_state(x), network(x)[1]):
        assert {name: value.shape for name, value in state.items()} == {
            name: (7, width) for name, width in expected.items()
        }


def test_lstm_units_carry_their_cells_too() -> None:
    network = make([Sizes(2, 3), Sizes(0, 4)], 0, "lstm")
    state = network(sequence(4, 7))[1]
    assert {name: value.shape for name, value in state.items()} == {
        "v1": (7, 2),
        **dict.fromkeys(("h1", "c1"), (7, 3)),
        **dict.fromkeys(("h2", "c2"), (7, 4)),
    }


def test_fresh_lstm_weights_are_uniform_as_in_torch() -> None:
    p = dict(make([Sizes(0, 400)], 0, "lstm").named_parameters())
    for name, shape in (("weight_input", (INPUTS, 4, 400)), ("weight_recurrent", (400, 4, 400))):
        weight = p[f"layers.0.rnn.{name}"]
        assert weight.shape == shape
        assert 0.99 / 20 < weight.abs().max() <= 1 / 20
        assert abs(weight.mean()) < 0.002


def test_a_last_layer_without_spiking_units_carries_no_spike_sum() -> None:
    network = make([Sizes(3, 2), Sizes(0, 2)], 0)
    assert set(network.initial_state(sequence(1, 1))) == set(network(sequence(1, 1))[1]) == {"v1", "h1", "h2"}


def test_the_initial_state_is_zero_and_is_what_none_means() -> None:
    network = make([Sizes(2, 2), Sizes(2, 2)], 0)
    x = sequence(3, 2)
    initial = network.initial_state(x)
    assert all(not value.any() for value in initial.values())
    assert torch.equal(network(x)[0], network(x, initial)[0])


def test_a_call_changes_neither_its_input_nor_the_state_it_was_given() -> None:
    network = make([Sizes(2, 2)], 0)
    x = sequence(3, 2)
    _, state = network(x)
    kept, given_x = {name: value.clone() for name, value in state.items()}, x.clone()
    network(x, state)
    assert torch.equal(x, given_x)
    assert all(torch.equal(value, kept[name]) for name, value in state.items())


def test_the_order_of_states_does_not_matter() -> None:
    network = make([Sizes(2, 2), Sizes(1, 1)], 0)
    x = sequence(3, 2)
    _, state = network(x)
    assert torch.equal(network(x, state)[0], network(x, dict(reversed(state.items())))[0])


def test_fresh_weights_are_kaiming_uniform_over_the_matrix_as_it_stands() -> None:
    torch.manual_seed(0)
    network = SequenceConfig(inputs=50, classes=10, units=[400]).build([Sizes(400, 300)])
    p = dict(network.named_parameters())
    # kaiming_uniform_ of an (in, out) matrix takes `out` for the fan-in: bound sqrt(6 / out).
    for name, out in (("snn.weight", 400), ("rnn.weight_input", 300), ("rnn.weight_recurrent", 300)):
        bound = (6 / out) ** 0.5
        largest = p[f"layers.0.{name}"].abs().max().item()
        assert 0.99 * bound < largest <= bound
    assert 0.099 < p["readout.weight"].abs().max() <= 0.1
    assert not p["readout.bias"].any()


@pytest.mark.parametrize("steps", [1, 28])
def test_one_step_and_a_whole_window_are_the_same_call(steps: int) -> None:
    logits, state = make([Sizes(3, 3)], 0)(sequence(steps, 5))
    assert logits.shape == (5, CLASSES)
    assert state["steps"].tolist() == [[steps]] * 5
