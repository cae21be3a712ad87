"""The data sets by name. To add one: write its module with a configuration and a `DataSet`, and name both here."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    FieldSerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)

from hstnn_deploy.data import custom
from hstnn_deploy.data.dataset import Cache, DataSet, Progress, Protocol, Shape, Source
from hstnn_deploy.data.mistakes import mistake
from hstnn_deploy.data.own.config import OwnConfig
from hstnn_deploy.data.own.resolve import own
from hstnn_deploy.data.sets.cifar import CIFAR10, CIFAR100, Cifar10Config, Cifar100Config
from hstnn_deploy.data.sets.cifar10_dvs import CIFAR10_DVS, Cifar10DvsConfig
from hstnn_deploy.data.sets.digit_events import DIGIT_EVENTS, DigitEventsConfig
from hstnn_deploy.data.sets.digits import DIGITS, DigitsConfig
from hstnn_deploy.data.sets.dvs_gesture import DVS_GESTURE, DvsGestureConfig
from hstnn_deploy.data.sets.heidelberg import SHD, SSC, ShdConfig, SscConfig
from hstnn_deploy.data.sets.mnist import MNIST, MnistConfig
from hstnn_deploy.data.sets.nmnist import NMNIST, NMnistConfig
from hstnn_deploy.data.sets.nothing import NO_DATA, AbsentConfig, NoDataConfig, PythonDataConfig
from hstnn_deploy.data.sets.pydoc_text import PYDOC_TEXT, PydocTextConfig
from hstnn_deploy.data.sets.text_files import PTB, WIKITEXT2, PtbConfig, WikiText2Config
from hstnn_deploy.data.sets.tiny_imagenet import TINY_IMAGENET, TinyImageNetConfig
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import RecipeError
from hstnn_deploy.plugins import registry as plugins


def _of_own(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Accept a custom data set, which the union does not know."""
    name = given.get("name") if isinstance(given, dict) else None
    if isinstance(given, custom.Data):
        return given
    if isinstance(name, str) and name not in BUILT_IN and (part := plugins.find("data", name)):
        try:
            return part.value.model_validate(given)
        except ValidationError as error:
            raise RecipeError(*mistake(error, part.value.model_fields.keys() - {"name"})) from error
    return handler(given)


def _dumped(config: Any, handler: SerializerFunctionWrapHandler, info: FieldSerializationInfo) -> Any:
    return config.model_dump(mode=info.mode) if isinstance(config, custom.Data) else handler(config)


DataConfig = Annotated[
    DigitsConfig
    | DigitEventsConfig
    | PydocTextConfig
    | MnistConfig
    | Cifar10Config
    | Cifar100Config
    | TinyImageNetConfig
    | NMnistConfig
    | DvsGestureConfig
    | Cifar10DvsConfig
    | ShdConfig
    | SscConfig
    | PtbConfig
    | WikiText2Config
    | NoDataConfig
    | OwnConfig
    | PythonDataConfig,
    Field(discriminator="name"),
    WrapValidator(_of_own),
    WrapSerializer(_dumped),
]
"""A recipe's `data` section, told apart by its `name`. A user may have registered more: see `custom`."""

DATA_SETS: dict[str, DataSet[Any]] = {
    each.name: each
    for each in (
        DIGITS,
        DIGIT_EVENTS,
        PYDOC_TEXT,
        MNIST,
        CIFAR10,
        CIFAR100,
        TINY_IMAGENET,
        NMNIST,
        DVS_GESTURE,
        CIFAR10_DVS,
        SHD,
        SSC,
        PTB,
        WIKITEXT2,
    )
}
"""Data sets that users can choose by name."""

BUILT_IN = {*DATA_SETS, "own", "none", "python"}
plugins.reserve("data", BUILT_IN)


def data_set(config: DataConfig) -> DataSet[Any]:
    """Return the data set of a recipe's `data` section; where none is at hand, the one that holds nothing."""
    if isinstance(config, custom.Data):
        return custom.of(config)
    if config.name == "own":
        return own(config)
    return NO_DATA if isinstance(config, AbsentConfig) else DATA_SETS[config.name]


def called(config: DataConfig) -> str:
    """Return what a recipe's data is called in a sentence: `digits`; or, of one's own, `the images in pets`."""
    if config.name != "own":
        return config.name
    return f"the {'recordings' if config.kind == 'events' else config.kind} in {config.path}"


def shape(config: DataConfig) -> Shape | None:
    """Return the size of a data set from its published description, or None of a text: that depends on its files."""
    return data_set(config).shape(config)


def missing(config: DataConfig, folder: Path | None = None) -> list[str]:
    """Return the names of the data set's files that are not in the data folder; nothing is downloaded.

    Raises:
        DataError: a folder that was given or set does not exist.
    """
    return data_set(config).missing(config, folder)


def downloads(config: DataConfig) -> bool:
    """Return whether `load` fetches missing files where the network allows."""
    return data_set(config).downloads


def load(
    config: DataConfig,
    protocol: Protocol,
    folder: Path | None = None,
    cache: Cache = "disk",
    progress: Progress | None = None,
) -> Splits:
    """Return a data set's splits.

    Args:
        config: which one, and its options.
        protocol: whether a validation split is held out of training.
        folder: the data folder, or None for `HSTNN_DATA` or the user's cache folder.
        cache: where samples that have to be computed are kept.
        progress: told how many of them are prepared.

    Raises:
        DataError: it is missing and cannot be downloaded, or damaged.
    """
    source = Source(protocol, folder, cache)
    return data_set(config).load(config, source if progress is None else source._replace(progress=progress))
