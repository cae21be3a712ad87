"""snnTorch's neurons (snntorch 0.9 to 1.0) as layers of a stack.

A reset is decided by the membrane of the step before, so it comes a step after the spike (`delayed_reset`); with
`reset_delay=False` it comes with the spike (`reset_again`). Leaky's reset to zero lets the input of that step in; those
of Lapicque, Synaptic, RLeaky and RSynaptic take it along (`cancels_input`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries import plain, surrogates
from hstnn_deploy.importing.libraries.plain import Rule, held
from hstnn_deploy.importing.parts import Part, Taken, coarse, own_value
from hstnn_deploy.models.layers.base import Shape


def _neuron(module: Any, shape: Shape, takes_input: bool) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Return the keys that all have in common, the numbers of each unit, and what is not taken over."""
    for name, what in (("inhibition", "inhibition"), ("state_quant", "quantised states")):
        if getattr(module, name, False):
            raise ImportRefused(f"{what} ({name}) has no counterpart")
    if getattr(module, "surrogate_disable", False):
        said: tuple[dict[str, Any], str] = surrogates.unknown("(surrogate_disable)")
    else:
        said = _surrogate(module.spike_grad)
    config, note = said
    weights: dict[str, Tensor] = {}
    learn = []
    own_value("decay", module.beta.detach().clamp(0, 1), shape, config, weights)
    own_value("threshold", module.threshold, shape, config, weights)
    if not bool((module.threshold > 0).all()):
        raise ImportRefused("a threshold that is not above 0")
    learn += [ours for ours, theirs in (("decay", "beta"), ("threshold", "threshold")) if _learns(module, theirs)]
    reset = ("subtract", "zero", "none")[int(module.reset_mechanism_val)]
    config["reset"] = reset
    delayed = getattr(module, "reset_delay", True)
    if delayed and reset != "none":
        config["delayed_reset"] = True
        if reset == "zero" and takes_input:
            config["cancels_input"] = True
    elif not delayed and reset == "subtract":
        config["reset_again"] = True
    if learn:
        config |= {"learn": learn, "learn_as": "value"}
    _parameters(config, weights)
    return config, weights, note


def _learns(module: Any, name: str) -> bool:
    return isinstance(getattr(module, name), nn.Parameter)


def _parameters(config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Put learned numbers that are one for all into the weights too, where the layer holds them."""
    for name in config.get("learn", []):
        weights.setdefault(name, torch.tensor(config[name]))


def _surrogate(function: Any) -> tuple[dict[str, Any], str]:
    name = getattr(function, "__qualname__", "").partition(".")[0]
    own = surrogates.of_closure(function)
    match name:
        case "fast_sigmoid":
            return surrogates.keys("fast-sigmoid", float(own["slope"])), ""
        case "atan":
            return surrogates.keys("arctan", float(own["alpha"])), ""
        case "sigmoid":
            return surrogates.keys("sigmoid", float(own["slope"])), ""
        case "SSO" | "StochasticSpikeOperator" | "LSO":
            raise ImportRefused(f"spikes of {name} are not 0 or 1, or are drawn at random")
    return surrogates.unknown(name or repr(function))


def _behind(module: Any, chain: list[Part]) -> list[Part]:
    factor = module.graded_spikes_factor.detach()
    if factor.numel() != 1:
        raise ImportRefused("graded_spikes_factor differs from unit to unit")
    return [*chain, Part({"scale": float(factor)})] if float(factor) != 1 else chain


def leaky(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take Leaky."""
    config, weights, note = _neuron(module, shape, takes_input=False)
    return Taken([*_behind(module, [Part({"lif": config}, weights)])], _twin, note)


def lapicque(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take Lapicque: decay 1 - dt / (R C), and the input times dt / C."""
    config, weights, note = _neuron(module, shape, takes_input=True)
    if _learns(module, "beta"):
        note = f"{note}; beta, which Lapicque does not compute with, is not learned".removeprefix("; ")
    passed = (module.time_step / (module.R * module.C)).detach()
    for values in (config.get("learn", []), config.get("each", {}), weights):
        if "decay" in values:
            values.remove("decay") if isinstance(values, list) else values.pop("decay")
    own_value("decay", 1 - passed.double(), shape, config, weights)
    gain: dict[str, Any] = {}
    gains: dict[str, Tensor] = {}
    own_value("scale", (module.R * passed).double(), shape, gain, gains)
    each = gain.pop("each", {}).get("scale")
    before = Part(gain | ({"each": each} if each else {}), {"factors": gains["scale"]} if gains else {})
    if not config.get("learn", True):
        config.pop("learn"), config.pop("learn_as")
    if not config.get("each", True):
        config.pop("each")
    return Taken([before, *_behind(module, [Part({"lif": config}, weights)])], _twin_lapicque, note)


def synaptic(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take Synaptic."""
    config, weights, note = _neuron(module, shape, takes_input=True)
    _current(module, shape, config, weights)
    return Taken([*_behind(module, [Part({"lif": config}, weights)])], _twin, note)


def _current(module: Any, shape: Shape, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    alpha = module.alpha.detach().clamp(0, 1)
    if bool((alpha >= 1).any()):
        raise ImportRefused("alpha is 1: a synaptic current that never decays")
    own_value("current_decay", alpha, shape, config, weights)
    if _learns(module, "alpha"):
        config |= {"learn": [*config.get("learn", []), "current_decay"], "learn_as": "value"}
        _parameters(config, weights)


def recurrent(with_current: bool) -> Rule:
    """Return the rule of RLeaky and RSynaptic."""

    def take(module: Any, shape: Shape, _axes: int) -> Taken:
        config, weights, note = _neuron(module, shape, takes_input=True)
        if with_current:
            _current(module, shape, config, weights)
            if not module.reset_delay:
                raise ImportRefused("RSynaptic with reset_delay=False, which fails in snnTorch itself")
        layer: dict[str, Any] = {"feedback": config}
        match module.recurrent:
            case nn.Linear():
                layer["bias"] = module.recurrent.bias is not None
                weights |= held(module.recurrent, **{"recurrent.weight": "weight", "recurrent.bias": "bias"})
            case nn.Conv2d():
                size = module.recurrent.kernel_size
                if len(set(size)) > 1:
                    raise ImportRefused(f"a recurrent kernel of {list(size)}: it must be square")
                layer |= {"kernel": size[0], "bias": module.recurrent.bias is not None}
                weights |= held(module.recurrent, **{"recurrent.weight": "weight", "recurrent.bias": "bias"})
            case _:
                layer["through"] = "own"
                weights["own_weight"] = module.recurrent.V.detach().expand(shape).clone()
        return Taken([Part(layer, weights)], _twin, note)

    return take


def slstm(module: Any, _shape: Shape, axes: int) -> Taken:
    """Take SLSTM without a reset: an LSTM whose output, the membrane, fires above the threshold.

    snnTorch sets its states to zero at every step where input_size and hidden_size differ: such a layer remembers
    nothing.
    """
    if module.reset_mechanism_val != 2:
        raise ImportRefused(
            "a reset of an LSTM's output, which feeds back into it", "use reset_mechanism='none', the default"
        )
    if module.input_size != module.hidden_size:
        said = f"input_size {module.input_size} and hidden_size {module.hidden_size} differ"
        raise ImportRefused(f"{said}: snnTorch then forgets its states at every step", "give both the same size")
    size = (module.hidden_size,)
    found = leaky(_Threshold(module), size, axes)
    cell = plain.recurrent("lstm")(_Lstm(module.lstm_cell), size, axes)
    return Taken([*cell.chain, *found.chain], _twin_slstm if module.bias else None, found.note)


def slstm_membrane(module: Any, shape: Shape, axes: int) -> Taken:
    """Take the membrane of SLSTM: its LSTM."""
    return Taken(slstm(module, shape, axes).chain[:1])


class _Lstm:
    """An LSTM cell under the names of nn.LSTM with one layer."""

    bidirectional, num_layers, dropout = False, 1, 0.0

    def __init__(self, cell: nn.LSTMCell) -> None:
        self.hidden_size, self.bias = cell.hidden_size, cell.bias
        for name, value in cell.named_parameters():
            setattr(self, f"{name}_l0", value)


class _Threshold:
    """The threshold of neurons whose membrane another layer computes, under the names of Leaky."""

    beta = torch.zeros(())

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _twin(module: nn.Module) -> None:
    for name, value in module.named_parameters():
        coarse(value)
        if name in ("beta", "alpha", "threshold"):
            value.data.fill_(1.0 if name == "threshold" else 0.5)
    for name, stored in module.named_buffers():
        if name in ("beta", "alpha", "threshold"):
            stored.fill_(1.0 if name == "threshold" else 0.5)
    inner: Any = getattr(module, "recurrent", None)
    if isinstance(getattr(inner, "V", None), Tensor):
        coarse(inner.V.data)


@torch.no_grad()
def _twin_slstm(module: Any) -> None:
    """Let all gates be open, whatever comes in: the cell is the number of steps, and its tanh comes to be 1."""
    for name, value in module.lstm_cell.named_parameters():
        value.fill_(100.0 if name == "bias_ih" else 0.0)
    module.threshold.fill_(1.0)


def _twin_lapicque(module: Any) -> None:
    _twin(module)
    for name, number in (("R", 1.0), ("C", 2.0), ("time_step", 1.0)):
        setattr(module, name, torch.full_like(getattr(module, name).double(), number))


def membrane(rule: Rule) -> Rule:
    """Return the rule of neurons' membrane: of those whose reset comes a step late, or never, spikes have no part."""

    def take(module: Any, shape: Shape, axes: int) -> Taken:
        found = rule(module, shape, axes)
        place = next(n for n, part in enumerate(found.chain) if isinstance(part, Part) and "lif" in part.config)
        part = found.chain[place]
        assert isinstance(part, Part)
        lif = part.config["lif"]
        if lif["reset"] != "none" and not lif.get("delayed_reset"):
            raise ImportRefused("its membrane as the answer, with reset_delay=False", "use reset_delay=True")
        names = ["decay", "current_decay"] + ([] if lif["reset"] == "none" else ["threshold", "reset", "cancels_input"])
        config = {name: lif[name] for name in names if name in lif}
        if each := {name: how for name, how in lif.get("each", {}).items() if name in names}:
            config["each"] = each
        weights = {name: value for name, value in part.weights.items() if name in each}
        learned = [theirs for ours, theirs in _LEARNED.items() if ours in lif.get("learn", [])]
        note = f"{', '.join(learned)} of a membrane stay as they are in fine-tuning" if learned else ""
        # What follows it multiplies spikes.
        return Taken([*found.chain[:place], Part({"integrator": config}, weights)], found.twin, note)

    return take


_LEARNED = {"decay": "beta", "threshold": "threshold", "current_decay": "alpha"}
"""Ours and snnTorch's names of what can be learned."""

RULES: dict[str, Rule] = {
    "Leaky": leaky,
    "Lapicque": lapicque,
    "Synaptic": synaptic,
    "RLeaky": recurrent(False),
    "RSynaptic": recurrent(True),
    "SLSTM": slstm,
}
"""By the class's name."""
MEMBRANES: dict[str, Rule] = {
    "Leaky": membrane(leaky),
    "Lapicque": membrane(lapicque),
    "Synaptic": membrane(synaptic),
    "SLSTM": slstm_membrane,
}
"""Of those whose membrane is taken too, by the class's name."""
GIVEN = {"Leaky": 2, "Lapicque": 2, "Synaptic": 3, "RLeaky": 2, "RSynaptic": 3, "SLSTM": 3}
"""How many values each gives: spikes first, and the membrane last."""
NEURONS = frozenset(RULES)
