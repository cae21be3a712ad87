"""The data sets by name. To add one: write its module with a configuration and a `load`, and name both here."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, assert_never

from pydantic import Field

from hstnn_deploy.data import text
from hstnn_deploy.data.digit_events import FRAMES, SENSOR, DigitEventsConfig, load_digit_events
from hstnn_deploy.data.digits import DigitsConfig, load_digits
from hstnn_deploy.data.mnist import MnistConfig, load_mnist, missing_files
from hstnn_deploy.data.pydoc_text import PydocTextConfig, load_pydoc_text
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import PtbConfig, WikiText2Config

DataConfig = Annotated[
    DigitsConfig | DigitEventsConfig | MnistConfig | PtbConfig | WikiText2Config | PydocTextConfig,
    Field(discriminator="name"),
]
"""A recipe's `data` section, told apart by its `name`."""

Protocol = Literal["validation", "test"]
"""Where the best epoch is chosen: on a validation split held out of training, or on the test split as the demo does."""


class Shape(NamedTuple):
    """How large a data set of equal samples is, known without having it."""

    train: int
    """Samples that are trained or chosen on: the training and the validation split together."""
    test: int
    steps: int
    """Time steps T of a sample."""
    inputs: int
    """Values per time step; of frames, channels."""
    classes: int
    size: int | None = None
    """Height and width of a frame; None where a time step is a plain vector."""

    @property
    def step(self) -> tuple[int, ...]:
        """The shape of one time step of a sample: (inputs,) or (inputs, size, size)."""
        return (self.inputs,) if self.size is None else (self.inputs, self.size, self.size)

    @property
    def family(self) -> Literal["sequence", "convolutional"]:
        """Which family of networks the data is for."""
        return "sequence" if self.size is None else "convolutional"


def shape(config: DataConfig) -> Shape | None:
    """Return the size of a data set from its published description, or None of a text: that depends on its files."""
    match config:
        case DigitsConfig():
            return Shape(train=1437, test=360, steps=8, inputs=8, classes=10)
        case DigitEventsConfig():
            return Shape(train=1437, test=360, steps=FRAMES, inputs=2, classes=10, size=SENSOR)
        case MnistConfig():
            return Shape(train=60_000, test=10_000, steps=28, inputs=28, classes=10)
        case PtbConfig() | WikiText2Config() | PydocTextConfig():
            return None
        case _:
            assert_never(config)


def missing(config: DataConfig, folder: Path | None = None) -> list[str]:
    """Return the names of the data set's files that are not in the data folder; nothing is downloaded.

    Raises:
        DataError: a folder that was given or set does not exist.
    """
    match config:
        case DigitsConfig() | DigitEventsConfig() | PydocTextConfig():
            return []
        case MnistConfig():
            return missing_files(folder)
        case PtbConfig() | WikiText2Config():
            return text.missing_files(config.name, folder)
        case _:
            assert_never(config)


def downloads(config: DataConfig) -> bool:
    """Return whether `load` fetches missing files where the network allows."""
    return isinstance(config, MnistConfig)


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
        case DigitEventsConfig():
            return load_digit_events(protocol)
        case MnistConfig():
            return load_mnist(config, protocol, folder)
        case PtbConfig() | WikiText2Config():
            splits = text.load_text(config, folder)
        case PydocTextConfig():
            splits = load_pydoc_text(config)
        case _:
            assert_never(config)
    # A text has a validation split of its own; under the demo's protocol the epoch is chosen on the test split.
    return replace(splits, valid=splits.test) if protocol == "test" else splits
