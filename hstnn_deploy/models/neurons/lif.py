"""A spiking neuron: its constants, checked once, and its one equation."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from hstnn_deploy.models.algebra import Algebra, Fires, V
from hstnn_deploy.models.neurons.numbers import RATE, Each, Extended, number, share_left, spread, towards_rest
from hstnn_deploy.models.surrogates import Shape, Surrogate, spelt_out

Reset = Literal["zero", "subtract", "none"]
"""What a spike does to the membrane: sets it to zero (hard), takes the threshold from it (soft), or nothing."""

Learned = Literal["decay", "threshold", "current_decay"]

Own = Literal["decay", "threshold", "current_decay", "rest", "reset_to"]
"""What each unit or channel may have of its own."""


_LATER: dict[str, Any] = {
    "surrogate_scale": 1.0,
    "input_decay": False,
    "current_decay": None,
    "fires": "above",
    "delayed_reset": False,
    "cancels_input": False,
    "reset_again": False,
    "reset_to": 0.0,
    "lowest": None,
    "learn": [],
    "learn_as": "rate",
    "rest": 0.0,
    "each": {},
}
"""Keys that recipes, bundles and run folders did not always have, and what they meant then."""


class Lif(Extended):
    """A leaky integrate-and-fire neuron (docs/mathematics.md, section 1).

    m_t = decay * v_{t-1} + I_t,  s_t = 1 where m_t > threshold, else 0,
    v_t = m_t * (1 - s_t) (reset to zero), or m_t - threshold * s_t (by subtraction).
    Backward, ds/dm is the surrogate, itself a constant to second derivatives; unless detached, the gradient flows
    through the reset too.

    A membrane leaks towards `rest`: (1 - decay) * rest is added to m_t. `each` names the numbers that every unit or
    channel has of its own; they stand in the layer's weights.

    `input_decay` multiplies I_t with 1 - decay. `current_decay` puts a synaptic current before the membrane:
    i_t = current_decay * i_{t-1} + I_t takes the place of I_t. `fires` says whether a membrane at the threshold fires,
    and whether one far above it fires several times. With `delayed_reset` the step *after* a spike is reset, without a
    gradient: m_t = decay * v_{t-1} (1 - s_{t-1}) + I_t, or decay * v_{t-1} + I_t - threshold * s_{t-1}, and v_t = m_t.
    With `reset_again` a membrane that is still above the threshold after its reset is reset at the next step instead of
    at its spike, without a gradient: r_t = 1 where v_{t-1} > threshold, else 0,
    m_t = decay * v_{t-1} + I_t - threshold * r_t, v_t = m_t - threshold * (s_t - r_t).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tap: ClassVar[str] = "spikes"
    later: ClassVar[dict[str, Any]] = _LATER

    # Left out of what is written down: recipes and bundles had it when there was no other type.
    type: Literal["lif"] = Field("lif", exclude=True)
    decay: float = Field(0.6, ge=0, le=1)
    """The fraction of the membrane that remains after one step; `tau` can be given instead: decay = 1 - 1 / tau."""
    threshold: float = Field(0.6, gt=0)
    """The membrane above which the neuron fires."""
    lens: float = Field(0.5, gt=0)
    """The surrogate's width, in membrane units."""
    reset: Reset = "zero"
    """What a spike does to the membrane."""
    detach_reset: bool = False
    """Whether the backward pass treats the reset as a constant."""
    surrogate: Shape = "rectangular"
    """The shape of ds/dm in the backward pass; `{arctan: 2.0}` gives shape and width, as the shape's library does."""
    surrogate_scale: float = Field(1.0, gt=0)
    """A factor of the surrogate."""
    input_decay: bool = False
    """Whether the input is multiplied by 1 - decay."""
    current_decay: float | None = Field(None, ge=0, lt=1)
    """The fraction of a synaptic current that remains after one step; null: no synaptic current."""
    fires: Fires = "above"
    """When the neuron fires: `above` the threshold; `at` it too; or `several` times, once for each whole threshold in
    the membrane."""
    delayed_reset: bool = False
    """Whether the reset happens one step after the spike."""
    cancels_input: bool = False
    """Whether a delayed reset to zero also cancels its step's input: m_t = (decay * v_{t-1} + I_t) (1 - s_{t-1})."""
    reset_again: bool = False
    """Whether a membrane that is above the threshold after its reset is reset again in the next step, instead of the
    reset for that step's spike."""
    reset_to: float = 0.0
    """The membrane after a reset to zero, instead of 0."""
    lowest: float | None = Field(None, le=0)
    """The lowest membrane after a reset; null: no limit."""
    learn: list[Learned] = Field([])
    """What is learned, starting from the value above: one number per layer, unless `each` sets more."""
    learn_as: Literal["rate", "value"] = "rate"
    """How the decay is learned: as w in decay = 1 - sigmoid(w), like PLIF; or directly, clipped between 0 and 1."""
    rest: float = 0.0
    """The value that the membrane decays to."""
    each: dict[Own, Each] = Field({})
    """Constants with their own value for each unit or channel, starting from the value above."""

    @model_validator(mode="before")
    @classmethod
    def _spelt_out(cls, given: Any) -> Any:
        """Convert `tau`, a surrogate with its width, and a single name to learn to the fields' own form."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        if (tau := given.pop("tau", None)) is not None:
            if "decay" in given:
                raise ValueError("tau and decay both set how much is left after a step: give one of them")
            if not isinstance(tau, int | float) or not tau >= 1:
                raise ValueError(f"tau is {tau}: it must be 1 step or more")
            given["decay"] = 1 - 1 / tau
        if isinstance(given.get("learn"), str):
            given["learn"] = [given["learn"]]
        return spelt_out(given)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.delayed_reset and self.reset_to:
            raise ValueError("a delayed reset sets the membrane to zero, so it does not take reset_to")
        if self.delayed_reset and self.lowest is not None:
            raise ValueError("lowest bounds a membrane after its reset, so a delayed reset does not take it")
        if self.reset_again and (self.reset != "subtract" or self.delayed_reset or self.fires != "above"):
            raise ValueError("reset_again needs reset 'subtract' and fires 'above', without a delayed reset")
        if self.reset != "zero" and self.reset_to:
            raise ValueError(f"reset_to is for a reset to zero; this one is {self.reset!r}")
        if self.fires == "several" and self.reset == "zero":
            raise ValueError("a neuron that fires several times a step is reset by subtraction: reset 'subtract'")
        if self.current_decay is None and ("current_decay" in self.learn or "current_decay" in self.each):
            raise ValueError("learn and each name current_decay, but there is no synaptic current: give current_decay")
        if self.cancels_input and not (self.delayed_reset and self.reset == "zero"):
            raise ValueError("cancels_input needs a delayed reset to zero: delayed_reset true, reset 'zero'")
        if "reset_to" in self.each and (self.reset != "zero" or self.delayed_reset):
            raise ValueError("each names reset_to, which needs a reset to zero in the step of the spike")
        if "decay" in self.learn and self.learn_as == "rate" and not 0 < self.decay < 1:
            raise ValueError(f"a learned decay must start between 0 and 1, not at {self.decay:g}")
        return self

    @property
    def states(self) -> dict[str, str]:
        """What a neuron carries from step to step, and its meaning."""
        after = "before its reset" if self.delayed_reset else "after reset"
        what = ", m * (1 - s)" if self.reset == "zero" and not self.delayed_reset else ""
        found = {"v": f"membrane of layer {{layer}}'s spiking units {after}{what}"}
        if self.delayed_reset and self.reset != "none":
            found["s"] = "spikes of layer {layer}'s units at the step before"
        if self.current_decay is not None:
            found["i"] = "synaptic current of layer {layer}'s spiking units"
        return found

    @property
    def slope(self) -> Surrogate:
        """The surrogate."""
        return Surrogate(self.surrogate, self.lens, self.surrogate_scale)

    def fresh(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the numbers that a layer of a shape holds itself, as they start: what is learned as parameters.

        A decay that is learned as PLIF does is there as w of 1 / tau = sigmoid(w), under the name `rate`.
        """
        found: dict[str, Tensor] = {}
        for name in dict.fromkeys([*self.learn, *self.each]):
            value = float(getattr(self, name))
            rated = name == "decay" and name in self.learn and self.learn_as == "rate"
            start = spread(math.log((1 - value) / value) if rated else value, self.each.get(name), shape)
            found[RATE if rated else name] = nn.Parameter(start) if name in self.learn else start
        return found

    def step(
        self, o: Algebra[V], drive: V, state: Mapping[str, V], own: Mapping[str, Tensor] | None = None
    ) -> tuple[V, dict[str, V]]:
        """Run one step: the only place with this equation.

        Args:
            o: a reading.
            drive: the input current I_t, [B, n, ...].
            state: v after the step before, [B, n, ...], and the other states.
            own: what the layer has learned; see `fresh`.

        Returns:
            The spikes, and the states.
        """
        own, after = own or {}, {}
        decay, gain = share_left(o, self, own)
        threshold = number(o, self, own, "threshold")
        if self.current_decay is not None:
            left, _ = share_left(o, self, own, "current_decay")
            drive = after["i"] = o.add(o.mul(state["i"], left, "current_left"), drive, "i")
        if self.input_decay:
            drive = o.mul(drive, gain, "scaled")
        drive = towards_rest(o, self, own, drive, gain)
        before = state["v"]
        if self.delayed_reset and self.reset == "zero" and not self.cancels_input:
            before = o.mul(before, o.sub(1.0, state["s"], "silent"), "reset")
        late = self.delayed_reset and (self.reset == "subtract" or self.cancels_input)
        # What is handed on as it is bears the state's name already.
        stays = (self.reset == "none" and self.lowest is None) or (self.delayed_reset and not late)
        m = o.add(o.mul(before, decay, "left"), drive, "v" if stays else "membrane")
        if self.cancels_input:
            m = o.mul(m, o.sub(1.0, state["s"], "silent"), "v")
        elif late:
            m = o.sub(m, o.mul(state["s"], threshold, "taken"), "v")
        again: V | None = None
        if self.reset_again:
            again = o.exceeds(state["v"], threshold, "again")
            m = o.sub(m, o.mul(again, threshold, "taken_again"), "membrane_again")
        s = o.tap(o.spike(m, threshold, self.slope, "spikes", self.fires), "spikes")
        if self.delayed_reset:
            # A value of its own: a graph may not hand out one twice.
            return s, after | {"v": m} | ({} if self.reset == "none" else {"s": o.mul(o.fixed(s), 1.0, "s")})
        fired = o.fixed(s) if self.detach_reset else s
        if again is not None:
            fired = o.sub(fired, again, "new")
        return s, after | {"v": self._reset(o, m, fired, threshold, own)}

    def _reset(self, o: Algebra[V], m: V, fired: V, threshold: V | float, own: Mapping[str, Tensor]) -> V:
        """Return v of m after a step in which neurons fired."""
        bounded = "above" if self.lowest is not None else "v"
        match self.reset:
            case "zero":
                elsewhere = bool(self.reset_to) or "reset_to" in own
                v = o.mul(m, o.sub(1.0, fired, "silent"), "kept" if elsewhere else bounded)
                if elsewhere:
                    v = o.add(v, o.mul(fired, number(o, self, own, "reset_to"), "set"), bounded)
            case "subtract":
                v = o.sub(m, o.mul(fired, threshold, "taken"), bounded)
            case "none":
                v = m
        return v if self.lowest is None else o.clip(v, self.lowest, None, "v")
