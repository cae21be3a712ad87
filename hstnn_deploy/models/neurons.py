"""What a spiking neuron is: its constants, checked once, passed to every kernel."""

from pydantic import BaseModel, ConfigDict, Field


class Lif(BaseModel):
    """A leaky integrate-and-fire neuron with hard reset (docs/mathematics.md, section 1).

    m_t = decay * m_{t-1} * (1 - s_{t-1}) + I_t,  s_t = 1 where m_t > threshold, else 0.
    Backward, ds/dm is 1/(2*lens) where |m - threshold| < lens, else 0; the gradient flows through the reset too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    decay: float = Field(0.6, ge=0, le=1)
    """The share of the membrane that is left after one step."""
    threshold: float = Field(0.6, gt=0)
    """The membrane above which the neuron fires."""
    lens: float = Field(0.5, gt=0)
    """Half the width of the surrogate's window, in membrane units."""
