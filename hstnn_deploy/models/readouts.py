"""What of a stack's last layer over time is the answer, and what is carried from step to step for it."""

from collections.abc import Mapping
from typing import Literal

from hstnn_deploy.models.algebra import Algebra, Strand, V

Readout = Literal["sum", "mean", "last", "max", "every"]
"""What of the last layer's output over time is the answer; `every`: one at every step."""

GATHERED: dict[Readout, dict[str, str]] = {
    "sum": {"total": "outputs of the last layer, summed over the steps seen"},
    "mean": {"total": "outputs of the last layer, summed over the steps seen", "steps": "steps seen"},
    "last": {"latest": "outputs of the last layer at the last step seen"},
    "max": {"largest": "the largest outputs of the last layer over the steps seen", "steps": "steps seen, 1 at most"},
    "every": {},
}
"""What each carries, and its meaning."""


def gathered(readout: Readout, o: Algebra[V], y: V, state: Mapping[str, V]) -> dict[str, V]:
    """Return what the readout carries after a step that gave y[B, n]."""
    match readout:
        case "sum":
            return {"total": o.add(state["total"], y, "total")}
        case "mean":
            return {"total": o.add(state["total"], y, "total"), "steps": o.add(state["steps"], 1.0, "steps")}
        case "last":
            # A value of its own: a graph may not hand out one twice.
            return {"latest": o.mul(y, 1.0, "latest")}
        case "max":
            # The first step is the largest so far, whatever it is: max(0, y - largest) counts from the second on.
            more = o.sub(y, state["largest"], "change")
            later = o.mul(o.relu(more, "rise"), state["steps"], "later")
            first = o.mul(more, o.sub(1.0, state["steps"], "begun"), "first")
            grown = o.add(state["largest"], o.add(later, first, "growth"), "largest")
            return {"largest": grown, "steps": o.clip(o.add(state["steps"], 1.0, "count"), None, 1.0, "steps")}
        case "every":
            return {}


def gathered_over(readout: Readout, o: Algebra[V], y: V, state: Mapping[str, V]) -> dict[str, V]:
    """Return what the readout carries after a window that gave y[T, B, n]."""
    match readout:
        case "sum":
            return {"total": o.add(state["total"], o.total(y, "total_in_window"), "total")}
        case "mean":
            total = o.add(state["total"], o.total(y, "total_in_window"), "total")
            return {"total": total, "steps": o.add(state["steps"], o.length(y, "window"), "steps")}
        case "every":
            return {}
        case _:
            names = list(GATHERED[readout])
            strand = Strand("y", y, lambda o, now, state: (now, gathered(readout, o, now, state)), names)
            return o.loop([strand], state)[1]


def answer(readout: Readout, o: Algebra[V], y: V, after: Mapping[str, V]) -> V:
    """Return the answer, from what the last layer gave (of each step) or from what was gathered."""
    match readout:
        case "sum":
            return o.mul(after["total"], 1.0, "logits")
        case "mean":
            return o.share(after["total"], after["steps"], "logits")
        case "last":
            return o.mul(after["latest"], 1.0, "logits")
        case "max":
            return o.mul(after["largest"], 1.0, "logits")
        case "every":
            return o.mul(y, 1.0, "logits")
