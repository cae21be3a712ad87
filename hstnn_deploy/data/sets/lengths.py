"""How long the longest recordings of the published sets are, for whoever reads a file for a network of one."""

from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.sets.cifar10_dvs import Cifar10DvsConfig
from hstnn_deploy.data.sets.digit_events import DigitEventsConfig
from hstnn_deploy.data.sets.dvs_gesture import DvsGestureConfig
from hstnn_deploy.data.sets.heidelberg import ShdConfig, SscConfig
from hstnn_deploy.data.sets.nmnist import NMnistConfig

_SETS: tuple[type[EventConfig], ...] = (
    DigitEventsConfig,
    NMnistConfig,
    DvsGestureConfig,
    Cifar10DvsConfig,
    ShdConfig,
    SscConfig,
)


def longest(data_set: str) -> int | None:
    """Return the microseconds of the longest recording of a published set, about; None of others."""
    return next((each.longest for each in _SETS if each.model_fields["name"].default == data_set), None)
