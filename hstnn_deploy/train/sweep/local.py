"""Jobs on this machine: one process per slot."""

import queue
import threading
from collections.abc import Callable, Sequence

from typing_extensions import override

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.train.sweep.launch import Failure, Process, Setting, stop_all
from hstnn_deploy.train.sweep.plan import Job
from hstnn_deploy.train.sweep.scheduler import Ended, Executor, Wanted
from hstnn_deploy.train.sweep.slots import Slot, Slots

Launch = Callable[[Job, Slot], Process]


class Local(Executor):
    """Runs jobs in the slots of this machine."""

    def __init__(self, slots: Slots, setting: Setting, launch: Launch | None = None) -> None:
        """Take the slots; nothing is started yet.

        Args:
            slots: where jobs may run.
            setting: see `Setting`.
            launch: what starts a job in a slot, in place of a training.
        """
        self.slots = slots
        self._setting = setting
        self._launch = launch or self._train
        self._running: dict[str, tuple[Slot, Process]] = {}
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    @property
    @override
    def places(self) -> int:
        return len(self.slots)

    @property
    def shares_gpus(self) -> bool:
        """Whether a job may have other jobs beside it on its GPU."""
        return self.slots.per_device > 1 and self.slots.devices[0] != "cpu"

    @override
    def start(self, wanted: Sequence[Wanted]) -> list[tuple[Job, str]]:
        started = []
        for each, slot in zip(wanted, self.slots.assign([each.alone for each in wanted]), strict=True):
            if slot is None:
                continue
            started.append((each.job, str(slot)))
            try:
                process = self._launch(each.job, slot)
            except HstnnError as error:
                self.slots.give_back(slot)
                self._ended.put(Ended(each.job, Failure(error.message)))
                continue
            self._running[each.job.identity] = slot, process
            threading.Thread(target=self._watch, args=(each.job, process), daemon=True).start()
        return started

    @override
    def wait(self, seconds: float) -> list[Ended]:
        found = []
        try:
            found.append(self._ended.get(timeout=seconds))
            while True:
                found.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        for ended in found:
            if at := self._running.pop(ended.job.identity, None):
                self.slots.give_back(at[0])
        return found

    @override
    def stop(self) -> None:
        stop_all([process for _, process in self._running.values()])

    def _train(self, job: Job, slot: Slot) -> Process:
        return Process(job, "cpu" if slot.device == "cpu" else "cuda", self._setting, slot.device)

    def _watch(self, job: Job, process: Process) -> None:
        self._ended.put(Ended(job, process.wait()))
