"""The table of a network's layers, shared by all commands that show one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hstnn_deploy.cli import console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hstnn_deploy.models.network import Network, Part
    from hstnn_deploy.screen import Table

_MOST_STATES = 4
"""States of a layer that the table shows, at most; JSON has all."""
_OF_TRAINING = {"lens", "surrogate", "surrogate_scale", "detach_reset", "learn", "type"}
"""Constants that matter only in training."""


def layer_table(parts: "Sequence[Part]", title: str = "", neurons: dict[int, str] | None = None) -> "Table":
    """Return a table of layers: number, kind, parameters, output, states, and the constants of neurons if given."""
    rows = [
        (
            "" if part.layer is None else part.layer,
            part.kind,
            f"{part.parameters:,}" if part.parameters else "",
            "" if part.output is None else part.output,
            _states(part.states),
            *([] if neurons is None else [neurons.get(part.layer or 0, "")]),
        )
        for part in parts
    ]
    columns = [">layer", "kind", ">parameters", "output", "states", *([] if neurons is None else ["neurons"])]
    return console.table(title, columns, rows)


def print_network(network: "Network", title: str, neurons: dict[int, str] | None = None) -> None:
    """Print a network's layers and the totals."""
    from hstnn_deploy.models import overview

    parts = overview.parts(network)
    console.out.print(title, markup=False, soft_wrap=True)
    console.out.print(layer_table(parts, neurons=neurons))
    facts = overview.plain(parts)
    console.out.print(
        f"{facts['parameters']:,} parameters; {facts['carried']:,} values carried from step to step for each sample",
        markup=False,
    )


def neuron_text(constants: "Mapping[str, object]") -> str:
    """Return the constants of a layer's neurons in one line, without those that matter only in training."""
    kept = {key: value for key, value in constants.items() if key not in _OF_TRAINING and value is not False}
    return ", ".join(map(_constant, kept, kept.values()))


def _constant(key: str, value: object) -> str:
    """Return one constant in words; an option that is on is shown as its name."""
    words = key.replace("_", " ")
    if value is True:
        return words
    return f"{words} {value:.6g}" if isinstance(value, float) else f"{words} {value}"


def _states(states: dict[str, list[int]]) -> str:
    """Return states with their shapes, one per line; only the first and the last of many."""
    told = [f"{name} {shape}" for name, shape in states.items()]
    if len(told) > _MOST_STATES:
        told = [told[0], f"… {len(told) - 2} more", told[-1]]
    return "\n".join(told)
