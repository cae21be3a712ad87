"""The user's own parts of a training: what a checkpoint records of them, and whether they are available.

A checkpoint names a part and its provider, and contains a checksum of its equation. It contains no code, and loading it
imports nothing: a part is available if it is registered, or an installed distribution offers it (see `plugins`).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from hstnn_deploy.foreign import one_line
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.stack import Stack, StackConfig, as_stack
from hstnn_deploy.plugins import registry as plugins

PARTS = "parts"
"""Their key in a checkpoint's environment."""

OF_NETWORK: tuple[plugins.Group, ...] = ("neurons", "layers")
"""Needed to rebuild a network; the others are needed to train or evaluate it."""


def recorded(recipe: Mapping[str, Any], architecture: Any) -> list[dict[str, str]]:
    """Return a checkpoint's records of the parts of its network and recipe: name, provider, module, checksum.

    Args:
        recipe: as plain data; {} without a recipe.
        architecture: the network's configuration.
    """
    found = []
    for (group, name), equation in sorted(_equations(architecture).items()):
        if part := plugins.find(group, name):
            found.append(part.plain() | {"equation": equation})
    for group, name in _named(recipe):
        if part := plugins.find(group, name):
            asks = {"asks": part.value.asks} if group == "losses" else {}
            found.append(part.plain() | asks)
    return found


def _named(recipe: Mapping[str, Any]) -> Iterator[tuple[plugins.Group, str]]:
    """Yield the parts that a recipe names in addition to those of its network; some may be built in."""
    for group, key in (("losses", "loss"), ("data", "data")):
        told = recipe.get(key)
        name = told.get("name") if isinstance(told, Mapping) else None
        if isinstance(name, str):
            yield group, name  # type: ignore[misc]
    metrics = recipe.get("metrics")
    for name in metrics if isinstance(metrics, list) else ():
        if isinstance(name, str):
            yield "metrics", name


def _equations(architecture: Any) -> dict[tuple[plugins.Group, str], str]:
    """Return the checksums of the equations of a network's own neurons and layers, joined by name."""
    if not isinstance(architecture, StackConfig):
        return {}
    with torch.device("meta"):
        return _of_leaves(architecture.build([]))


def _of_leaves(network: Stack) -> dict[tuple[plugins.Group, str], str]:
    found: dict[tuple[plugins.Group, str], str] = {}
    for layer in network.leaves():
        if (equation := getattr(layer, "equation", None)) is not None:
            group: plugins.Group = "neurons" if plugins.find("neurons", layer.kind) else "layers"
            found[group, layer.kind] = f"{found.get((group, layer.kind), '')} {equation()}".strip()
    return found


def redefined(network: Network) -> tuple[str, str] | None:
    """Return message and hint for the first part of a network whose name now means something else; None if none does.

    Training and export rebuild a network from its configuration, which has names.
    """
    stack = as_stack(network)
    if stack is None:
        return None
    now = _equations(stack.config)
    for (group, name), equation in _of_leaves(stack).items():
        if now.get((group, name)) != equation:
            return (
                f"the {plugins.ONE[group]} {name} was redefined after the network was made, and is different now",
                "make the network again, or give the new definition another name",
            )
    return None


def missing(recorded: Any, groups: Collection[plugins.Group], source: str) -> tuple[str, str] | None:
    """Return message and hint for the first recorded part that is not available; None if all are.

    Args:
        recorded: from an untrusted file.
        groups: the groups that are needed.
        source: named in the message.
    """
    part = plugins.missing(recorded, groups)
    return None if part is None else plugins.not_here(source, part)


def altered(recorded: Any, architecture: Any, source: str) -> tuple[str, str] | None:
    """Return message and hint for the first part that computes something else than when it was recorded, or None.

    Equations without a checksum, then or now, are not compared.
    """
    now = _equations(architecture) if recorded else {}
    for each in recorded if isinstance(recorded, list) else ():
        if not isinstance(each, dict):
            continue
        theirs = each.get("equation")
        ours = next((value for (group, name), value in now.items() if each.get("name") == name), None)
        if ours and theirs and ours != theirs:
            came = one_line(str(each.get("from") or ""))
            name, _, version = came.partition(" ")
            back = f"get it back: pip install {name}=={version}" if came else "undo the change"
            one = next(plugins.ONE[group] for group, name in now if name == each["name"])
            return (
                f"{source}: the {one} {each['name']} computes something else than when this network was trained"
                + (f" with {came}" if came else ""),
                f"{back}, or train again",
            )
    return None
