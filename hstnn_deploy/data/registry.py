"""The data sets by name. To add one: write its module with a configuration and a `load`, and name both here."""

from pathlib import Path
from typing import Annotated, Literal, assert_never

from pydantic import Field

from hstnn_deploy.data.digits import DigitsConfig, load_digits
from hstnn_deploy.data.mnist import MnistConfig, load_mnist
from hstnn_deploy.data.splits import Splits

DataConfig = Annotated[DigitsConfig | MnistConfig, Field(discriminator="name")]
"""A recipe's `data` section, told apart by its `name`."""

Protocol = Literal["validation", "test"]
"""Where the best epoch is chosen: on a validation split held out of training, or on the test split as the demo does."""


def load(config: DataConfig, protocol: Protocol, folder: Path | None = None) -> Splits:
    """Return a data set's splits.

    Args:
        config: which one, and its options.
        protocol: whether a validation split is held out of training.
        folder: the data folder, or None for `HSTNN_DATA` or the user's cache folder.

    Raises:
        DataError: it is missing and cannot be downloaded, or damaged.
    """
    match config:
        case DigitsConfig():
            return load_digits(protocol)
        case MnistConfig():
            return load_mnist(config, protocol, folder)
        case _:
            assert_never(config)
