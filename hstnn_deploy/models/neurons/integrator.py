"""A leaky integrator: a membrane that never fires, and is handed out as it is."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from hstnn_deploy.models.algebra import Algebra, V


class Integrator(BaseModel):
    """m_t = decay * m_{t-1} + I_t, or with `input_decay` decay * m_{t-1} + (1 - decay) * I_t."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tap: ClassVar[str] = "m"
    fast: ClassVar[bool] = False
    states: ClassVar[dict[str, str]] = {"m": "membrane of layer {layer}'s units, which never fire"}

    type: Literal["integrator"] = "integrator"
    decay: float = Field(0.9, ge=0, le=1)
    """The share of the membrane that is left after one step; 1: all of it."""
    input_decay: bool = False
    """Whether the input is multiplied by 1 - decay."""

    def fresh(self) -> dict[str, Tensor]:
        """Return {}: nothing is learned."""
        return {}

    def step(
        self, o: Algebra[V], drive: V, state: Mapping[str, V], own: Mapping[str, Tensor] | None = None
    ) -> tuple[V, dict[str, V]]:
        """Run one step: the only place with this equation. See `Lif.step`; what is handed out is the membrane."""
        if self.input_decay:
            drive = o.mul(drive, 1 - self.decay, "scaled")
        m = o.tap(o.add(o.mul(state["m"], self.decay, "left"), drive, "m"), "m")
        return m, {"m": m}
