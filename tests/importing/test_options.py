"""The proof fails on every option that is taken wrongly: each is changed in what a module was taken as."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing import alone, proof, tree
from hstnn_deploy.importing.alone import compare_alone
from hstnn_deploy.importing.module import import_module
from hstnn_deploy.importing.parts import Part, Taken, every_part
from hstnn_deploy.importing.stacks import built
from tests.conftest import in_part
from tests.importing.networks import NETWORKS, made


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The libraries warn of themselves; answers need no gradients."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


Change = Callable[[Part], None]
FLIPS: dict[str, tuple[Any, ...]] = {
    "fires": ("above", "at", "several"),
    "reset": ("subtract", "zero", "none"),
    "delayed_reset": (True, False),
    "cancels_input": (True, False),
    "reset_again": (True, False),
    "input_decay": (True, False),
}
"""Keys of a neuron, and what each may be."""
CHANGED = ("decay", "threshold", "current_decay", "reset_to", "lowest")
"""Numbers of a neuron, each tried a thousandth off, and left out."""
SMALL = {
    "snntorch": (
        "snntorch_membranes",
        "snntorch_slstm",
        "snntorch_currents",
        "snntorch_recurrent",
        "snntorch_step",
        "snntorch_sequential",
    ),
    "spikingjelly": ("spikingjelly_learned", "spikingjelly_recurrent", "spikingjelly_window"),
    "sinabs": ("sinabs_lif", "sinabs_recurrent", "sinabs_squeeze"),
    "norse": ("norse_cells", "norse_states", "norse_sequential"),
    "torch": ("torch_lstm", "torch_gru", "torch_rnn", "torch_mean", "torch_tokens"),
}


def neuron_of(part: Part) -> dict[str, Any] | None:
    """Return the keys of a part's neurons, to be changed, or None."""
    kind = next((each for each in ("lif", "feedback", "integrator") if each in part.config), None)
    if kind is None:
        return None
    part.config = part.config | {kind: dict(part.config[kind])}
    keys: dict[str, Any] = part.config[kind]
    return keys


def key(name: str, value: Any) -> Change:
    """Return what sets one key of neurons, to a value that they can have with the others."""

    def change(part: Part) -> None:
        keys = neuron_of(part)
        assert keys is not None
        keys[name] = value
        if keys.get("reset") != "zero" or not keys.get("delayed_reset"):
            keys.pop("cancels_input", None)
        if keys.get("reset") != "zero":
            keys.pop("reset_to", None)
        if keys.get("delayed_reset"):
            keys.pop("reset_to", None)
            keys.pop("lowest", None)
        if name != "reset_again" and (keys.get("reset") != "subtract" or keys.get("delayed_reset")):
            keys.pop("reset_again", None)

    return change


def cancels(part: Part) -> None:
    """Let a reset to zero of a membrane without spikes take its input along, or not."""
    keys = neuron_of(part)
    assert keys is not None
    keys |= {"reset": "zero", "cancels_input": not keys.get("cancels_input", False)}


def off(name: str, which: int = 0) -> Change:
    """Return what changes one weight, or one number of neurons, by a thousandth."""

    def change(part: Part) -> None:
        if name in part.weights:
            value = part.weights[name] = part.weights[name].clone()
            flat = value.view(-1)
            flat[which % flat.numel()] += 1e-3 * (flat[which % flat.numel()] or 1.0)
            return
        keys = neuron_of(part)
        number = (keys if keys is not None else part.config)[name]
        (keys if keys is not None else part.config)[name] = number * (
            1.001 if name != "decay" or number < 0.9 else 0.999
        )

    return change


def turned(name: str) -> Change:
    """Return what puts the gates, or the units, of a weight in another order."""

    def change(part: Part) -> None:
        part.weights[name] = part.weights[name].roll(1, -2 if part.weights[name].ndim > 1 else 0).contiguous()

    return change


def changes(part: Part) -> Iterator[tuple[str, Change]]:
    """Yield every way in which a part may be taken wrongly, with its name."""
    keys = neuron_of(part)
    if keys is not None and "integrator" not in part.config:
        for name, values in FLIPS.items():
            for value in values:
                usual = {"fires": "above", "reset": "zero"}.get(name, False)
                if value != keys.get(name, usual) and possible(keys, name, value):
                    yield f"{name}={value}", key(name, value)
    elif keys is not None and keys.get("threshold"):
        other = "zero" if keys.get("reset", "subtract") == "subtract" else "subtract"
        yield f"reset={other}", key("reset", other)
        yield "cancels_input", cancels
    for name in CHANGED:
        if keys is not None and keys.get(name) and name not in part.weights and not learned(part, name):
            yield f"{name} off", off(name)
    if "scale" in part.config and not part.weights:
        yield "scale off", off("scale")
    for name, value in part.weights.items():
        # Next to the diagonal: what a unit hears of its own spike may be cancelled by its reset.
        yield f"{name} off", off(name, value.numel() // 2 + 1)
        if isinstance(value, Tensor) and value.ndim > 2 and {"lstm", "gru"} & part.config.keys():
            yield f"{name}: order of gates", turned(name)
        elif value.ndim == 1 and value.numel() > 1 and bool((value != value[0]).any()):
            yield f"{name}: order of units", turned(name)
    for name in ("padding", "stride", "dilation"):
        if isinstance(part.config.get(name), int):
            yield f"{name} + 1", lambda part, name=name: part.config.update({name: part.config[name] + 1})  # type: ignore[misc]
    if "norm" in part.config:
        yield "eps", lambda part: part.config.update(norm=part.config["norm"] | {"eps": 2e-5})
    if part.config.get("pool") in ("mean", "max", "sum"):
        for how in {"mean", "max", "sum"} - {part.config["pool"]}:
            yield f"pool {how}", lambda part, how=how: part.config.update(pool=how)  # type: ignore[misc]
    if "rnn" in part.config:
        other = "tanh" if part.config["nonlinearity"] == "relu" else "relu"
        yield f"nonlinearity {other}", lambda part: part.config.update(nonlinearity=other)
    if "activation" in part.config:
        yield "activation", lambda part: part.config.update(activation="sigmoid")


def learned(part: Part, name: str) -> bool:
    """Whether a number stands in the weights under another name."""
    return name == "decay" and "rate" in part.weights


def possible(keys: dict[str, Any], name: str, value: Any) -> bool:
    """Whether a neuron may have an option with its others."""
    now = {"reset": "zero", "fires": "above"} | keys | {name: value}
    delayed = bool(now.get("delayed_reset"))
    if keys.get("decay") == 0.0 and name != "fires":
        # Nothing is left of a membrane to be reset.
        return False
    if now["fires"] == "several" and now["reset"] == "zero":
        return False
    if now.get("reset_again") and (now["reset"] != "subtract" or delayed or now["fires"] != "above"):
        return name in ("reset", "delayed_reset") and now["fires"] == "above"
    if name == "delayed_reset":
        # Reset a step later, before the leak: to zero that is the same, and by subtraction without a leak.
        same = now["reset"] == "zero" and not now.get("reset_to") and not now.get("lowest")
        if now["reset"] == "none" or (same and not now.get("cancels_input")) or now.get("decay") == 1.0:
            return False
    if "reset_to" in now.get("each", {}) and (now["reset"] != "zero" or delayed):
        return False
    return name != "cancels_input" or (delayed and now["reset"] == "zero")


CASES = [(library, name) for library, names in SMALL.items() for name in names]


def parts(module: nn.Module, example: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, Part]]:
    """Return every part that a module is taken as: the path of its module, its place there, and itself."""
    found: dict[str, Taken] = {}
    right = tree.taken

    def seen(rule: Any, each: Any, path: str, *others: Any) -> Taken:
        taken = right(rule, each, path, *others)
        found[path] = taken
        return taken

    with monkeypatch.context() as patch:
        patch.setattr("hstnn_deploy.importing.graph.taken", seen)
        import_module(module, example, steps=8)
    return [(path, place, part) for path, taken in found.items() for place, part in enumerate(every_part(taken.chain))]


def only(path: str) -> Callable[..., Any]:
    """Return the comparison of modules alone, of one of them."""
    return lambda module, at, *others: compare_alone(module, at, *others) if at == path else None


@pytest.mark.parametrize(("library", "name"), in_part(CASES, 3))
def test_each_option_taken_wrongly_is_found(library: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert NETWORKS[name][0] == library
    module, example = made(name)
    right, passed, count = tree.taken, [], 0
    for path, place, part in parts(module, example, monkeypatch):
        for what, change in changes(part):

            def wrong(
                rule: Any,
                each: Any,
                at: str,
                *others: Any,
                change: Change = change,
                path: str = path,
                place: int = place,
                membrane: bool = part.membrane,
            ) -> Taken:
                taken = right(rule, each, at, *others)
                if at == path and any(other is True for other in others) == membrane:
                    change(list(every_part(taken.chain))[place])
                return taken

            with monkeypatch.context() as patch:
                # Wrong for the whole and alone, as a mistake in a rule is.
                patch.setattr("hstnn_deploy.importing.graph.taken", wrong)
                patch.setattr(alone, "taken", wrong)
                patch.setattr(proof, "compare_alone", only(path))
                count += 1
                try:
                    import_module(module, example, steps=8)
                    passed.append(f"{path}: {what}")
                except ImportRefused as error:
                    # What changes the shape is noticed by the first layer that it does not fit.
                    if path and not str(error).startswith(path) and not what.startswith(("padding", "stride", "dil")):
                        passed.append(f"{path}: {what} is called {error}")
    assert count > 3
    assert not passed, passed


def test_a_network_with_another_weight_than_was_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module, example = made("snntorch_step")

    def wrong(*given: Any, **named: Any) -> Any:
        network = built(*given, **named)
        next(network.parameters()).data[0, 0] *= 1.001
        return network

    monkeypatch.setattr("hstnn_deploy.importing.module.built", wrong)
    with pytest.raises(ImportRefused, match="differs from what was compared with the module"):
        import_module(module, example)


@pytest.mark.parametrize(("library", "name"), CASES)
def test_wrong_at_the_threshold_is_found_where_only_that_is_looked_at(
    library: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a membrane at its threshold fires: with random input alone, it would not be seen."""
    module, example = made(name)
    right, tried = tree.taken, 0
    for path, place, part in parts(module, example, monkeypatch):
        keys = neuron_of(part)
        if keys is None or "integrator" in part.config or keys.get("fires") == "several" or keys.get("reset_again"):
            continue
        other = "above" if keys.get("fires") == "at" else "at"

        def wrong(
            rule: Any, each: Any, at: str, *others: Any, path: str = path, place: int = place, other: str = other
        ) -> Taken:
            taken = right(rule, each, at, *others)
            if at == path:
                key("fires", other)(list(every_part(taken.chain))[place])
            return taken

        tried += 1
        with monkeypatch.context() as patch:
            patch.setattr("hstnn_deploy.importing.graph.taken", wrong)
            patch.setattr(alone, "taken", wrong)
            with pytest.raises(ImportRefused, match=f"^{path or 'the module'} .*meet the threshold exactly"):
                import_module(module, example, steps=8)
            # Without the probes it passes: they are what finds it.
            patch.setattr(alone, "_neurons", lambda *_: None)
            import_module(module, example, steps=8)
    assert tried or library in ("torch", "sinabs"), name
