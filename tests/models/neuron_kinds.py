"""The neurons that kernels are written for in tests: every way of firing, resetting and learning, by name."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif

SHAPES = ("rectangular", "triangular", "arctan", "sigmoid", "exponential", "fast-sigmoid")


class Bent:
    """A unit with the operations that no neuron of the package has."""

    states: Mapping[str, str] = {"v": "bounded"}
    tap = "v"

    def fresh(self, _: tuple[int, ...]) -> dict[str, Tensor]:
        """Return nothing: it learns nothing."""
        return {}

    def step(self, o: Any, drive: Any, state: Mapping[str, Any], own: Any = None) -> Any:
        """Run one step."""
        v = o.clip(o.add(o.mul(state["v"], 0.5), drive), -0.5, 0.75)
        return o.relu(v), {"v": v}


KINDS: dict[str, Any] = {
    "bent": Bent(),
    "zero": Lif(decay=0.75, threshold=0.5),
    "soft": Lif(reset="subtract", fires="at"),
    "detached": Lif(detach_reset=True, input_decay=True),
    "soft-detached": Lif(reset="subtract", detach_reset=True),
    "several": Lif(reset="subtract", fires="several"),
    "none": Lif(reset="none"),
    "late": Lif(delayed_reset=True),
    "late-soft": Lif(delayed_reset=True, reset="subtract"),
    "late-none": Lif(delayed_reset=True, reset="none"),
    "cancels": Lif(delayed_reset=True, cancels_input=True),
    "again": Lif(reset="subtract", reset_again=True),
    "reset-to": Lif(reset_to=-0.25),
    "lowest": Lif(reset="subtract", lowest=-0.5),
    "current": Lif(current_decay=0.5, reset="subtract"),
    "rest": Lif(rest=0.25, input_decay=True),
    "plif": Lif(learn=["decay"], input_decay=True),
    "all-learned": Lif(learn=["decay", "threshold", "current_decay"], current_decay=0.5, learn_as="value"),
    "each": Lif(each={"decay": "unit", "threshold": "channel", "rest": "unit", "reset_to": "unit"}, rest=0.1),
    "each-learned": Lif(learn=["decay", "threshold"], each={"decay": "unit", "threshold": "unit"}, reset="subtract"),
    "scaled": Lif(surrogate="fast-sigmoid", surrogate_scale=0.5),
    **{f"slope-{shape}": Lif(surrogate=shape, lens=0.75) for shape in SHAPES},
    "adaptive": AdaptiveLif(),
    "adaptive-arctan": AdaptiveLif(surrogate="arctan", growth=0.5),
    "integrator": Integrator(),
    "integrator-current": Integrator(current_decay=0.5, input_decay=True, rest=0.5),
    "integrator-each": Integrator(each={"decay": "unit", "rest": "channel"}, rest=0.5),
    "integrator-reset": Integrator(threshold=0.5),
    "integrator-zero": Integrator(threshold=0.5, reset="zero"),
    "integrator-cancels": Integrator(threshold=0.5, reset="zero", cancels_input=True),
}
