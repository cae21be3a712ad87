"""The ledger: what a stretch of work uses, kept by a sampler in a process of its own. Also the public `measure`.

    with hstnn_deploy.measure() as m:
        with m.span("load"):
            data = load()
        with m.span("train"):
            train(data)
    print(m["cpu_cores"], m.spans[1].value("rss_peak"))

Standard library only; of torch, the allocator is asked where torch is loaded already: a process's memory is part of the
result.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from hstnn_deploy.errors import UsageError
from hstnn_deploy.profile.meter import accounts, gpu
from hstnn_deploy.profile.meter.watch import Readings, Watch
from hstnn_deploy.profile.record import Span
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.values import Measured, NotMeasured, Value, find
from hstnn_deploy.shown import Sheet, Shown

INTERVAL = 0.1
"""Seconds from one row of the timeline to the next."""


@dataclass
class _Stretch:
    """A span under way, or done."""

    name: str
    first: int
    """The number of the edge where it begins."""
    start: float
    cpu: float
    """Of `time.process_time`: where it begins, then what it took."""
    last: int | None = None
    seconds: float = 0.0
    more: list[Value] = field(default_factory=list)
    """What this process measured itself."""


class Ledger(Shown):
    """Measures this process, and all it starts, between `with` and its end; spans mark what is to be told apart.

    Afterwards `values` hold for the whole, `spans` for each part, `timeline` over time, and `sampler` what measuring
    itself has cost. What could not be measured is `NotMeasured` with the reason; nothing is raised for it. The kernel's
    high-water mark of resident memory (VmHWM) is reset at every edge, so that each span has its own.

    Args:
        device: `cpu`, or a CUDA device as `cuda:N`.
        seconds: from one row of the timeline to the next.
        no_cuda: why there are no CUDA figures, where `device` is `cpu`.

    Raises:
        UsageError: another device, or seconds that are not positive.
    """

    def __init__(
        self, device: str = "cpu", seconds: float = INTERVAL, no_cuda: str = "measured without a CUDA device"
    ) -> None:
        if device != "cpu" and not (device.startswith("cuda:") and device[5:].isdigit()):
            raise UsageError(f"unknown device {device!r}", "give cpu or cuda:N")
        if not seconds > 0:
            raise UsageError(f"seconds is {seconds!r}, not a positive number", "0.05 reads memory 20 times a second")
        self.device, self.seconds, self.no_cuda = device, seconds, no_cuda
        self.values: list[Value] = []
        self.spans: list[Span] = []
        self.timeline: dict[str, Any] = {}
        self.sampler: dict[str, float] = {}
        self._done: list[_Stretch] = []
        self._open: _Stretch | None = None
        self._most: dict[str, Value] = {}

    def __repr__(self) -> str:
        """Return in one line how long it took, and how much memory."""
        if not self.values:
            return "<Ledger: nothing is measured yet>"
        return f"<Ledger: {_shown(self['seconds'])}, peak {_shown(self['rss_peak'])} of main memory>"

    def sheet(self) -> Sheet:
        """Return the values of the whole, then seconds and memory of each span."""
        values = [(value.name, _shown(value), _how(value)) for value in self.values]
        for span in self.spans:
            values += [(f"{span.name}: {name}", _shown(span.value(name)), "") for name in ("seconds", "rss_peak")]
        return Sheet(repr(self).strip("<>"), ("figure", "value", "how it was obtained"), values)

    def __getitem__(self, name: str) -> Value:
        """Return a value of the whole by its name."""
        return find(self.values, name)

    def span_named(self, name: str) -> Span:
        """Return the first span of a name; one without values, where there is none."""
        return next((span for span in self.spans if span.name == name), Span(name, 0.0, 0.0, []))

    def __enter__(self) -> Self:
        self._watch = Watch(self.seconds, self.device.removeprefix("cuda:"))
        self._whole = self._begin("")
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._finish(self._whole)
        self._whole.more = list(self._most.values())
        readings = self._watch.end()
        self.sampler, self.timeline = readings.cost, readings.timeline()
        self.values = self._values(self._whole, readings)
        self.spans = [
            Span(each.name, each.start - self._whole.start, each.seconds, self._values(each, readings))
            for each in self._done
        ]

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Measure a block by itself. Spans follow each other; they do not nest.

        Raises:
            ValueError: a span is open already.
        """
        if self._open is not None:
            raise ValueError(f"the span {name!r} begins inside the span {self._open.name!r}")
        self._open = self._begin(name)
        try:
            yield
        finally:
            self._finish(self._open)
            self._done.append(self._open)
            self._open = None

    def _begin(self, name: str) -> _Stretch:
        gpu.synchronise(self.device)
        self._allocator()
        number = self._watch.mark(name)
        return _Stretch(name, number, time.perf_counter(), time.process_time())

    def _finish(self, stretch: _Stretch) -> None:
        gpu.synchronise(self.device)
        stretch.seconds = time.perf_counter() - stretch.start
        stretch.cpu = time.process_time() - stretch.cpu
        stretch.more = self._allocator()
        stretch.last = self._watch.mark("")

    def _allocator(self) -> list[Value]:
        """Return the allocator's peaks since the last edge, and remember the highest of all for the whole."""
        found = gpu.allocator(self.device)
        for value in found:
            old = self._most.get(value.name)
            if isinstance(value, Measured) and not (isinstance(old, Measured) and old.number >= value.number):
                self._most[value.name] = value
        return found

    def _values(self, stretch: _Stretch, readings: Readings) -> list[Value]:
        assert stretch.last is not None
        before, after, rows = readings.between(stretch.first, stretch.last)
        on_gpu = self.device != "cpu"
        read = accounts.Stretch(
            before,
            after,
            rows,
            stretch.seconds,
            stretch.cpu,
            readings.reasons,
            device=on_gpu,
            sampler_cpu=readings.cost.get("cores", 0.0),
        )
        found = [Measured("seconds", stretch.seconds, "s", "time.perf_counter"), *accounts.values(read)]
        if not on_gpu:
            # Said once, of the whole; a span has none of these.
            absent = [*accounts.no_device(self.no_cuda), *gpu.no_allocator(self.no_cuda)]
            return [*found, *(absent if stretch is self._whole else [])]
        if isinstance(find(found, "cuda_process"), NotMeasured):
            found.append(accounts.device_change(readings.baseline, read))
        torch_absent = "torch is not loaded" if "torch" not in sys.modules else "torch has not used the device"
        return [*found, *(stretch.more or gpu.no_allocator(torch_absent))]


def _shown(value: Value) -> str:
    if not isinstance(value, Measured):
        return "n/a"
    how = {"s": cells.duration, "B": cells.memory}.get(value.unit)
    return str(value) if how is None else how(value.number)


def _how(value: Value) -> str:
    return value.source if isinstance(value, Measured) else value.reason
