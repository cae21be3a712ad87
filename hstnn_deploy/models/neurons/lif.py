"""What a spiking neuron is: its constants, checked once, and its one equation."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.surrogates import Shape, Surrogate

Reset = Literal["zero", "subtract"]
"""What a spike does to the membrane: sets it to zero (hard), or takes the threshold from it (soft)."""


class Lif(BaseModel):
    """A leaky integrate-and-fire neuron (docs/mathematics.md, section 1).

    m_t = decay * v_{t-1} + I_t,  s_t = 1 where m_t > threshold, else 0,
    v_t = m_t * (1 - s_t) (reset to zero), or m_t - threshold * s_t (by subtraction).
    Backward, ds/dm is the surrogate, itself a constant to second derivatives; unless detached, the gradient flows
    through the reset too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    states: ClassVar[dict[str, str]] = {"v": "membrane of layer {layer}'s spiking units after reset, m * (1 - s)"}
    """What a neuron carries from step to step, and its meaning."""

    # Left out of what is written down: recipes and bundles had it when there was no other type.
    type: Literal["lif"] = Field("lif", exclude=True)
    decay: float = Field(0.6, ge=0, le=1)
    """The share of the membrane that is left after one step."""
    threshold: float = Field(0.6, gt=0)
    """The membrane above which the neuron fires."""
    lens: float = Field(0.5, gt=0)
    """Half the width of the surrogate's window, in membrane units."""
    reset: Reset = "zero"
    """What a spike does to the membrane."""
    detach_reset: bool = False
    """Whether the reset counts as a constant in the backward pass."""
    surrogate: Shape = "rectangular"
    """The shape of ds/dm in the backward pass."""

    @property
    def slope(self) -> Surrogate:
        """The surrogate."""
        return Surrogate(self.surrogate, self.lens)

    def step(self, o: Algebra[V], drive: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step: the only place with this equation.

        Args:
            o: a reading.
            drive: the input current I_t, [B, n, ...].
            state: v after the step before, [B, n, ...].

        Returns:
            The spikes, and v.
        """
        m = o.add(o.mul(state["v"], self.decay, "left"), drive, "membrane")
        s = o.tap(o.spike(m, self.threshold, self.slope), "spikes")
        fired = o.fixed(s) if self.detach_reset else s
        if self.reset == "zero":
            return s, {"v": o.mul(m, o.sub(1.0, fired, "silent"), "v")}
        return s, {"v": o.sub(m, o.mul(fired, self.threshold, "taken"), "v")}
