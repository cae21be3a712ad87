"""What would work in a recipe of one's own recordings, where their reader knows the options of `hstnn run` alone."""

import re
import shlex

from hstnn_deploy.data.own.config import OwnEvents
from hstnn_deploy.errors import DataError

_OPTIONS = re.compile(r"--events ([^\s,;()]+(?:,[^\s;()]+)*)")
_SENSOR = re.compile(r"the network was trained on recordings of a sensor of (\d+) x (\d+)$")
_MOST = 2**31
"""Microseconds of one recording: 36 minutes. A recipe takes no larger numbers."""


def said(config: OwnEvents, option: str) -> str:
    """Return how a recipe says an option of `hstnn run --events`, beside those that it says already."""
    keys = {each.partition("=")[0] for each in option.split(",")}
    kept = [each for each in config.events.split(",") if each and each.partition("=")[0].strip() not in keys]
    return "--set " + shlex.quote(f"data.events={','.join([*kept, option])}")


def in_recipe(error: DataError, config: OwnEvents) -> DataError:
    """Return a reader's error with the hint that works for `hstnn train` and for data that nothing was trained on."""
    hint = _OPTIONS.sub(lambda found: said(config, found[1]), error.hint)
    if not config.measured:
        larger = r"if its sensor is larger than \1 x \2: --set data.sensor_size=[WIDTH,HEIGHT]"
        hint = _SENSOR.sub(larger, hint)
    return DataError(error.message.replace("--events ", "data.events "), hint)


def check_length(longest: int, config: OwnEvents) -> None:
    """Refuse recordings that are too long for one sample, as those seem whose unit is another.

    Args:
        longest: microseconds of the longest.
        config: what the recipe says of them.

    Raises:
        DataError: names the length.
    """
    if longest >= _MOST:
        raise DataError(
            f"the longest recording lasts {longest / 1e6:.0f} s, but a sample may last at most {_MOST / 1e6:.0f} s",
            f"if it is shorter, specify the unit of its times: {said(config, 'unit=us')}; else cut it",
        )
