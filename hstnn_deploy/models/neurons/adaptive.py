"""A leaky integrate-and-fire neuron that tires: its threshold grows with each spike and decays back to rest."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.surrogates import Shape, Surrogate, spelt_out


class AdaptiveLif(BaseModel):
    """LIF whose threshold adapts (docs/mathematics.md, section 1).

    m_t = decay * v_{t-1} + I_t,  s_t = 1 where m_t > threshold + a_{t-1}, else 0,  v_t = m_t * (1 - s_t),
    a_t = recovery * a_{t-1} + growth * s_t.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tap: ClassVar[str] = "spikes"
    fast: ClassVar[bool] = False
    states: ClassVar[dict[str, str]] = {
        "v": "membrane of layer {layer}'s spiking units after reset, m * (1 - s)",
        "a": "how far the thresholds of layer {layer}'s spiking units are above their rest",
    }

    type: Literal["adaptive-lif"] = "adaptive-lif"
    decay: float = Field(0.6, ge=0, le=1)
    """The fraction of the membrane that remains after one step."""
    threshold: float = Field(0.6, gt=0)
    """The membrane above which a rested neuron fires."""
    growth: float = Field(0.2, ge=0)
    """By how much a spike raises the threshold."""
    recovery: float = Field(0.9, ge=0, le=1)
    """The fraction of that rise that remains after one step."""
    lens: float = Field(0.5, gt=0)
    """Half the width of the surrogate's window, in membrane units."""
    surrogate: Shape = "rectangular"
    """The shape of ds/dm in the backward pass."""

    @model_validator(mode="before")
    @classmethod
    def _spelt_out(cls, given: Any) -> Any:
        """Take a surrogate with its width."""
        return spelt_out(given) if isinstance(given, dict) else given

    @property
    def slope(self) -> Surrogate:
        """The surrogate."""
        return Surrogate(self.surrogate, self.lens)

    def fresh(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return {}: nothing is learned."""
        return {}

    def step(
        self, o: Algebra[V], drive: V, state: Mapping[str, V], own: Mapping[str, Tensor] | None = None
    ) -> tuple[V, dict[str, V]]:
        """Run one step: the only place with this equation. See `Lif.step`; the states are v and a, [B, n, ...]."""
        m = o.add(o.mul(state["v"], self.decay, "left"), drive, "membrane")
        threshold = o.add(state["a"], self.threshold, "threshold")
        s = o.tap(o.spike(m, threshold, self.slope), "spikes")
        v = o.mul(m, o.sub(1.0, s, "silent"), "v")
        tired = o.mul(s, self.growth, "tired")
        return s, {"v": v, "a": o.add(o.mul(state["a"], self.recovery, "rested"), tired, "a")}
