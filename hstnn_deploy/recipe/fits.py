"""Whether a recipe's network and loss are made for some data."""

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
"""By what is asked of a network: how data that asks it is described, and the usual loss."""


def check_fits(network: NetworkConfig, loss: LossConfig | None, called: str, family: str, sizes: DataSizes) -> None:
    """Refuse a network or a loss that is not made for the data.

    Args:
        network: of the recipe.
        loss: of the recipe.
        called: what the data is called in a sentence.
        family: which family of networks the data is for.
        sizes: of the data.

    Raises:
        UsageError: another family, a loss of another sort of targets, or a key of the network that the data
            contradicts.
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
            "make the frames square (data.resize, or the transform center-crop), or train a network of layers",
        )
    for key, name in network.data_keys.items():
        wanted, there = getattr(network, key), getattr(sizes, name)
        if wanted != there:
            raise UsageError(f"network.{key} is {wanted}, but {called} has {there}", f"--set network.{key}={there}")


def _check_loss(network: NetworkConfig, loss: LossConfig | None, called: str, family: str, sizes: DataSizes) -> None:
    """Refuse a loss of another sort of answers than the data has: classes or values of samples, or words."""
    there = "words" if family == "language" else sizes.targets
    if task_for(network, loss).asks != there:
        name = loss.name if loss else f"the usual one, {network.usual_loss}"
        has, right = _LOSSES[there]
        raise UsageError(f"loss is {name}, but {called} {has}", f"--set loss={right}")
    names = loss.outputs if loss else []
    if names and len(names) != sizes.classes:
        raise UsageError(
            f"loss.outputs names {len(names)} outputs, but {called} has {sizes.classes} values a sample",
            "name each of them, or leave loss.outputs out",
        )


def _check_shape(network: StackConfig, called: str, family: str, sizes: DataSizes) -> None:
    """Refuse a stack that is not made for the data; see `check_fits`."""
    there = [] if family == "language" else list(sizes.step)
    if (network.readout == "every") != (family == "language"):
        each = "word" if family == "language" else "sample"
        wanted = "every" if family == "language" else "mean"
        raise UsageError(
            f"network.readout is {network.readout}, but {called} asks for one answer for each {each}",
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
            f"network.layers normalise {longest} steps each by itself, but {called} has {steps}",
            f"give norm.steps: {steps}",
        )
    if (given := network.outputs) != sizes.classes:
        raise UsageError(
            f"network.layers give {given} outputs, but {called} has {sizes.classes} {sizes.targets}",
            "the last layer with weights says how many",
        )
