"""What flows through a traced forward: values of the network, and what neurons carry."""

from dataclasses import dataclass, field

from torch import fx

from hstnn_deploy.importing.parts import Chain
from hstnn_deploy.models.layers.base import Shape


class State:
    """What neurons carry: given back to them at the next step, and nothing else."""


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
    """Whether it is still a tuple: what neurons give, and their states."""
