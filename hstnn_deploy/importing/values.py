"""What flows through a traced forward: values of the network, and what neurons carry."""

from dataclasses import dataclass, field

from torch import fx

from hstnn_deploy.importing.parts import Chain
from hstnn_deploy.models.layers.base import Shape


@dataclass(eq=False)
class State:
    """What neurons carry: given back to them at the next step."""

    membrane_of: "Value | None" = None
    """What neurons give whose membrane it is; None: it is something else, or the sizes of a value."""


@dataclass
class Value:
    """A value that flows through the network."""

    node: fx.Node
    shape: Shape
    before: list["Value"]
    how: str = "chain"
    chain: Chain = field(default_factory=list)
    """Behind the value before, of `chain`."""
    pieces: bool = False
    """Whether it is still a tuple: what neurons give, and their states; or the largest values, and where they are."""
    largest: bool = False
    """Whether it is those largest values."""
