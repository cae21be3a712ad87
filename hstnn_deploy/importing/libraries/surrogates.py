"""What takes the place of a spike's slope while training, as each library writes it down."""

from typing import Any

from hstnn_deploy.models.surrogates import SHARPNESS

NOTE = "its surrogate {what} has no counterpart: fine-tuning takes {taken}, spikes are not affected"
USUAL = ("arctan", 2.0)


def keys(shape: str, number: float, scale: float = 1.0) -> dict[str, Any]:
    """Return a neuron's keys of a surrogate, by the number that its library gives it."""
    lens = 1 / number if shape in SHARPNESS else number
    return {"surrogate": shape, "lens": lens} | ({} if scale == 1 else {"surrogate_scale": scale})


def unknown(what: str) -> tuple[dict[str, Any], str]:
    """Return the keys of the surrogate that takes the place of one without a counterpart, and what to say of it."""
    return keys(*USUAL), NOTE.format(what=what, taken=f"{USUAL[0]} of {USUAL[1]:g}")


def of_closure(function: Any) -> dict[str, Any]:
    """Return what a function made by another holds, by name."""
    names, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    return dict(zip(names.co_freevars, (cell.cell_contents for cell in cells), strict=True)) if names else {}
