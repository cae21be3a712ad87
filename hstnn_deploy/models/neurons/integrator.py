"""A leaky integrator: a membrane that never fires, and is handed out as it is."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from torch import Tensor

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.neurons.numbers import Each, Extended, share_left, spread, towards_rest


class Integrator(Extended):
    """m_t = decay * m_{t-1} + I_t, or with `input_decay` decay * m_{t-1} + (1 - decay) * I_t.

    With `rest`, (1 - decay) * rest is added. `current_decay` puts a synaptic current before the membrane, as in `Lif`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tap: ClassVar[str] = "m"
    later: ClassVar[dict[str, Any]] = {"current_decay": None, "rest": 0.0, "each": {}}
    fast: ClassVar[bool] = False

    type: Literal["integrator"] = "integrator"
    decay: float = Field(0.9, ge=0, le=1)
    """The share of the membrane that is left after one step; 1: all of it."""
    input_decay: bool = False
    """Whether the input is multiplied by 1 - decay."""

    current_decay: float | None = Field(None, ge=0, lt=1)
    """The share of a synaptic current that is left after one step; null: there is none."""
    rest: float = 0.0
    """What the membrane leaks towards."""
    each: dict[Literal["decay", "current_decay", "rest"], Each] = Field({})
    """What each unit, or each channel, has of its own, at first as said above."""

    @property
    def states(self) -> dict[str, str]:
        """What it carries from step to step, and its meaning."""
        found = {"m": "membrane of layer {layer}'s units, which never fire"}
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
        m = o.tap(o.add(o.mul(state["m"], decay, "left"), drive, "m"), "m")
        return m, after | {"m": m}
