"""What a spiking neuron is: its constants, checked once, passed to every kernel."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Reset = Literal["zero", "subtract"]
"""What a spike does to the membrane: sets it to zero (hard), or takes the threshold from it (soft)."""

Surrogate = Literal["rectangular", "triangular", "arctan"]
"""The shape of ds/dm in the backward pass, of area 1; x = (m - threshold) / lens.

    rectangular   1 / (2 * lens) where |x| < 1, else 0             (the published networks')
    triangular    max(0, 1 - |x|) / lens
    arctan        1 / (2 * lens) / (1 + (pi / 2 * x)^2)            (SpikingJelly's ATan with alpha = 1 / lens)
"""


class Lif(BaseModel):
    """A leaky integrate-and-fire neuron (docs/mathematics.md, section 1).

    m_t = decay * v_{t-1} + I_t,  s_t = 1 where m_t > threshold, else 0,
    v_t = m_t * (1 - s_t) (reset to zero), or m_t - threshold * s_t (by subtraction).
    Backward, ds/dm is the surrogate, itself a constant to second derivatives; unless detached, the gradient flows
    through the reset too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    surrogate: Surrogate = "rectangular"
    """The shape of ds/dm in the backward pass."""

    @property
    def surrogate_peak(self) -> float:
        """The largest value of the surrogate, at the threshold."""
        return 1 / self.lens if self.surrogate == "triangular" else 1 / (2 * self.lens)
