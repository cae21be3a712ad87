"""Check that a recipe's network and loss fit its data."""

from hstnn_deploy.data.splits import DataSizes
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.models.tasks import LossConfig, task_for

_LOSSES: dict[str, tuple[str, str]] = {
    "classes": ("has a class for each sample", "cross-entropy"),
    "words": ("is a text", "next-word"),
    "values": ("has values for each sample, not a class", "regression"),
}
"""For each kind of answer: how an error describes such data, and the usual loss."""


def check_fits(network: NetworkConfig, loss: LossConfig | None, called: str, family: str, sizes: DataSizes) -> None:
    """Refuse a network or a loss that does not fit the data.

    Args:
        network: of the recipe.
        loss: of the recipe.
        called: the name of the data in a sentence.
        family: the family of networks that the data is for.
        sizes: of the data.

    Raises:
        UsageError: the family differs, the loss is for other targets, or the data contradicts a key of the network.
    """
    if isinstance(network, StackConfig):
        _check_loss(network, loss, called, family, sizes)
        _check_shape(network, called, family, sizes)
        return
    if network.family != family:
        raise UsageError(
            f"network.family is {network.family}, but {called} is for the family {family}",
            "`hstnn recipes` lists recipes to start from",
        )
    _check_loss(network, loss, called, family, sizes)
    if family == "convolutional" and sizes.size is None:
        raise UsageError(
            f"network.family is convolutional, but a time step of {called} has the shape {list(sizes.step)}",
            "make the frames square (data.resize, or the transform center-crop), or train a stack of layers",
        )
    for key, name in network.data_keys.items():
        wanted, there = getattr(network, key), getattr(sizes, name)
        if wanted != there:
            raise UsageError(f"network.{key} is {wanted}, but {called} has {there}", f"--set network.{key}={there}")


def _check_loss(network: NetworkConfig, loss: LossConfig | None, called: str, family: str, sizes: DataSizes) -> None:
    """Refuse a loss for other answers than the data has: classes or values of samples, or words."""
    there = "words" if family == "language" else sizes.targets
    if task_for(network, loss).asks != there:
        name = loss.name if loss else f"{network.usual_loss} by default"
        has, right = _LOSSES[there]
        raise UsageError(f"loss is {name}, but {called} {has}", f"--set loss={right}")
    names = loss.outputs if loss else []
    if names and len(names) != sizes.classes:
        raise UsageError(
            f"loss.outputs names {len(names)} outputs, but {called} has {sizes.classes} values per sample",
            "name each of them, or leave loss.outputs out",
        )


def _check_shape(network: StackConfig, called: str, family: str, sizes: DataSizes) -> None:
    """Refuse a stack that does not fit the data; see `check_fits`."""
    there = [] if family == "language" else list(sizes.step)
    if (network.readout == "every") != (family == "language"):
        each = "word" if family == "language" else "sample"
        wanted = "every" if family == "language" else "mean"
        raise UsageError(
            f"network.readout is {network.readout}, but {called} needs one answer per {each}",
            f"--set network.readout={wanted}",
        )
    if network.input != there:
        raise UsageError(
            f"network.input is {network.input}, but a time step of {called} has the shape {there}",
            f"--set 'network.input={there}'",
        )
    steps, longest = sizes.steps, network.longest
    if steps is not None and longest is not None and steps > longest:
        raise UsageError(
            f"network.layers has norms for {longest} steps, one each, but {called} has {steps}",
            f"give norm.steps: {steps}",
        )
    if (given := network.outputs) != sizes.classes:
        raise UsageError(
            f"network.layers give {given} outputs, but {called} has {sizes.classes} {sizes.targets}",
            "the last layer with weights sets the number",
        )
