"""A leaky integrator: a membrane that never fires, and is handed out as it is."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.neurons.numbers import Each, Extended, number, share_left, spread, towards_rest


class Integrator(Extended):
    """m_t = decay * m_{t-1} + I_t, or with `input_decay` decay * m_{t-1} + (1 - decay) * I_t.

    With `rest`, (1 - decay) * rest is added. `current_decay` puts a synaptic current before the membrane, as in `Lif`.

    With `threshold`, a membrane that was above it at the step before is reset, without a gradient: it is that of a
    neuron whose spikes stay inside. With r_t = 1 where m_{t-1} > threshold, else 0, threshold * r_t is taken from m_t;
    with `reset` zero, m_{t-1} (1 - r_t) takes the place of m_{t-1}; with `cancels_input`, m_t is multiplied by 1 - r_t.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tap: ClassVar[str] = "m"
    later: ClassVar[dict[str, Any]] = {
        "current_decay": None,
        "rest": 0.0,
        "each": {},
        "threshold": None,
        "reset": "subtract",
        "cancels_input": False,
    }
    fast: ClassVar[bool] = False
    learn: ClassVar[tuple[str, ...]] = ()
    """Nothing."""

    type: Literal["integrator"] = "integrator"
    decay: float = Field(0.9, ge=0, le=1)
    """The fraction of the membrane that remains after one step; 1: all of it."""
    input_decay: bool = False
    """Whether the input is multiplied by 1 - decay."""

    current_decay: float | None = Field(None, ge=0, lt=1)
    """The fraction of a synaptic current that remains after one step; null: no synaptic current."""
    rest: float = 0.0
    """The value that the membrane decays to."""
    each: dict[Literal["decay", "current_decay", "rest", "threshold"], Each] = Field({})
    """Constants with their own value for each unit or channel, starting from the value above."""
    threshold: float | None = Field(None, gt=0)
    """The membrane above which the next step resets it; null: it is never reset."""
    reset: Literal["subtract", "zero"] = "subtract"
    """What such a step does: takes the threshold from the membrane, or forgets the membrane before."""
    cancels_input: bool = False
    """Whether a reset to zero takes its step's input too."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.threshold is None and (self.reset != "subtract" or "threshold" in self.each):
            raise ValueError("reset and each refer to a threshold, but there is none: give threshold")
        if self.cancels_input and (self.threshold is None or self.reset != "zero"):
            raise ValueError("cancels_input needs a reset to zero: give threshold and reset 'zero'")
        return self

    @property
    def states(self) -> dict[str, str]:
        """What it carries from step to step, and its meaning."""
        what = "which never fire" if self.threshold is None else "before its reset at the next step"
        found = {"m": f"membrane of layer {{layer}}'s units, {what}"}
        return found if self.current_decay is None else found | {"i": "synaptic current of layer {layer}'s units"}

    def fresh(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the numbers that a layer of a shape holds itself, as they start; nothing is learned."""
        return {name: spread(float(getattr(self, name)), each, shape) for name, each in self.each.items()}

    def step(
        self, o: Algebra[V], drive: V, state: Mapping[str, V], own: Mapping[str, Tensor] | None = None
    ) -> tuple[V, dict[str, V]]:
        """Run one step: the only place with this equation. See `Lif.step`; what is handed out is the membrane."""
        own, after = own or {}, {}
        decay, gain = share_left(o, self, own)
        if self.current_decay is not None:
            left, _ = share_left(o, self, own, "current_decay")
            drive = after["i"] = o.add(o.mul(state["i"], left, "current_left"), drive, "i")
        if self.input_decay:
            drive = o.mul(drive, gain, "scaled")
        drive = towards_rest(o, self, own, drive, gain)
        before = state["m"]
        if self.threshold is None:
            m = o.add(o.mul(before, decay, "left"), drive, "m")
        else:
            threshold = number(o, self, own, "threshold")
            over = o.exceeds(before, threshold, "over")
            if self.reset == "zero" and not self.cancels_input:
                before = o.mul(before, o.sub(1.0, over, "silent"), "reset")
            late = self.reset == "subtract" or self.cancels_input
            m = o.add(o.mul(before, decay, "left"), drive, "membrane" if late else "m")
            if self.cancels_input:
                m = o.mul(m, o.sub(1.0, over, "silent"), "m")
            elif late:
                m = o.sub(m, o.mul(over, threshold, "taken"), "m")
        m = o.tap(m, "m")
        return m, after | {"m": m}
