"""Find the largest batch that fits: by doubling, then by halving what is left, every trial in a fresh process.

On the CPU a trial may use the memory that is free when it starts, and no more: it fails before the machine does.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from typing_extensions import override

from hstnn_deploy.data import registry
from hstnn_deploy.profile.phases.networks import recipe_of
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.run import launch
from hstnn_deploy.profile.values import Measured, NotMeasured, Value

_FIRST, MOST = 64, 65_536
"""The batch that is tried first, and that beyond which none is."""
_FINENESS = 16
"""The search ends when the first batch that does not fit is at most 1/16 above one that does."""
_FREE = 0.9
"""Of the main memory that is free, what a trial may take."""
_RULE = (
    f"it starts at {_FIRST} and doubles until a batch does not fit (if {_FIRST} does not, it tries 1), then bisects"
    f" until the two are at most 1/{_FINENESS} apart; each trial is a few steps, or calls, in its own process; a trial"
    f" that exceeds the time limit counts as not fitting; on the CPU a trial may use {100 * _FREE:g} % of the main"
    " memory that is free when it starts. Memory is that of the largest batch that fits"
)


def searches(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return one search for each way of running; batches given are of no account."""
    found: list[Configuration] = []
    for each in configurations:
        if each.phase in {"train", "restore", "infer"} and each.instances == 1 and not each.at_once:
            search = _with_batch(replace(each, find_batch=True, max_steps=1, seconds=min(each.seconds, 1.0)), 1)
            if search not in found:
                found.append(search)
    return found


def run(
    configurations: Sequence[Configuration],
    observer: launch.Observer | None = None,
    time_limit: float = launch.TIME_LIMIT,
) -> Iterator[Record]:
    """Search for each configuration in turn; yield a record with the value `largest_batch`.

    Args:
        configurations: see `searches`.
        observer: is told of each trial.
        time_limit: seconds that one trial may take; a batch that takes longer counts as one that does not fit.
    """
    listener = observer or launch.Observer()
    for number, configuration in enumerate(configurations, 1):
        begin = time.monotonic()
        trials = _Trials(configuration, _Trial(listener, number, len(configurations)), time_limit)
        record = _record(configuration, trials.records, *search(trials.fits, _most(configuration)))
        listener.finished(record, number, len(configurations), time.monotonic() - begin)
        yield record


class _Trials:
    """Runs one step, or one call, at one batch size after another."""

    def __init__(self, configuration: Configuration, observer: "_Trial", time_limit: float) -> None:
        self._configuration, self._observer, self._time_limit = configuration, observer, time_limit
        self.records: list[Record] = []

    def fits(self, batch: int) -> bool:
        """Return whether a batch fits."""
        trial = _limited(_with_batch(self._configuration, batch))
        self._observer.batch = batch
        self.records += launch.run([trial], self._observer, self._time_limit)
        return self.records[-1].status == "measured"


def search(fits: Callable[[int], bool], most: int) -> tuple[int, int | None]:
    """Return the largest batch found to fit (0: none), and the smallest found not to (None: none was)."""
    low, high = 0, None
    batch = min(_FIRST, most)
    while high is None and batch <= most:
        if fits(batch):
            low = batch
            if batch == most:
                break
            batch = min(2 * batch, most)
        else:
            high = batch
    if high is not None and high > 1 and low == 0:
        if not fits(1):
            return 0, 1  # not for the batch's sake: no other need be tried
        low = 1
    while high is not None and high - low > max(1, low // _FINENESS):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low, high


class _Trial(launch.Observer):
    """Tells a listener of a trial as part of a search."""

    def __init__(self, listener: launch.Observer, number: int, total: int) -> None:
        self._listener, self._number, self._total = listener, number, total
        self.batch = 0

    @override
    def started(self, what: str, number: int, total: int) -> None:
        self._listener.started(f"{what}: does batch {self.batch} fit?", self._number, self._total)


def _record(configuration: Configuration, tried: list[Record], largest: int, smallest_not: int | None) -> Record:
    trials = [
        {"batch": each.configuration.batch, "fits": each.status == "measured", "reason": each.reason} for each in tried
    ]
    best = next(
        (each for each in tried if each.configuration.batch == largest and each.status == "measured"), tried[-1]
    )
    facts = {key: value for key, value in best.facts.items() if key not in _OF_A_TRIAL}
    facts |= {"search": _RULE, "trials": trials}
    if tried[0].configuration.memory_limit is not None:
        facts["memory_limit"] = [each.configuration.memory_limit for each in tried]
    if not largest:
        return Record(configuration, best.status, facts=facts, reason=best.reason)
    source = f"{len(trials)} trials, each in its own process"
    if smallest_not is None:
        why = f"larger batches were not tried: {_why(configuration)}"
        values: list[Value] = [
            Measured("largest_batch", largest, "samples", source, why),
            NotMeasured("smallest_batch_not", why),
        ]
    else:
        reason = next(each.reason for each in tried if each.configuration.batch == smallest_not)
        values = [
            Measured("largest_batch", largest, "samples", source, f"{smallest_not} does not fit"),
            Measured("smallest_batch_not", smallest_not, "samples", source, reason),
        ]
    values += [value for value in best.values if value.name.startswith(("host_", "cuda_"))]
    return Record(configuration, "measured", values, facts)


_OF_A_TRIAL = {
    "warm_up",
    "calls",
    *(f"{name}_steps{end}" for name in ("train", "eval") for end in ("", "_of", "_repeats")),
}
"""Facts that say how long a trial measured, which is of no account."""


def _why(configuration: Configuration) -> str:
    most = _most(configuration)
    return f"{most} is the largest size tried" if most == MOST else f"there are {most} samples to train on"


def _most(configuration: Configuration) -> int:
    """Return the largest batch worth trying: a training batch has no sample twice."""
    recipe = recipe_of(configuration)
    shape = registry.shape(recipe.data)
    if configuration.phase == "infer" or shape is None:
        return MOST
    return min(MOST, shape.train if recipe.protocol == "test" else shape.train * 9 // 10)


def _with_batch(configuration: Configuration, batch: int) -> Configuration:
    return replace(configuration, batch=batch, recipe={**configuration.recipe, "batch": batch})


def _limited(configuration: Configuration) -> Configuration:
    limit = int(_FREE * memory.free()) if configuration.device == "cpu" else None
    return replace(configuration, memory_limit=limit)
