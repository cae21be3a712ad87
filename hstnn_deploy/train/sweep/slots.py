"""Where jobs may run at once: CPU slots, or a number of slots on each GPU. Pure bookkeeping; starts nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Slot:
    """A place for one job, or for several places' worth where a job has its device alone."""

    device: str
    """`cpu` or `cuda:N`."""
    number: int
    """Which of the device's slots."""
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.device} alone" if self.alone else f"{self.device}/{self.number}"


@dataclass
class Slots:
    """Which slots are free."""

    devices: Sequence[str]
    per_device: int
    _free: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._free = {device: list(range(self.per_device)) for device in self.devices}

    def __len__(self) -> int:
        return len(self.devices) * self.per_device

    def all(self) -> list[Slot]:
        """Return every slot, taken or not."""
        return [Slot(device, number) for device in self.devices for number in range(self.per_device)]

    def assign(self, alone: Sequence[bool]) -> list[Slot | None]:
        """Take and return a slot for each of some jobs, as long as slots are free; the emptiest device comes first.

        A job that must have its device alone goes first. Where no device is empty, one is kept from the other jobs
        until those on it have ended: ask again then.

        Args:
            alone: for each job, in order of preference, whether it must have its device alone.
        """
        kept: set[str] = set()
        found: list[Slot | None] = [None] * len(alone)
        for place in sorted(range(len(alone)), key=lambda each: not alone[each]):
            open_devices = [device for device in self.devices if self._free[device] and device not in kept]
            if alone[place]:
                choice = max(
                    (device for device in self.devices if device not in kept),
                    key=lambda device: len(self._free[device]),
                    default=None,
                )
                if choice is not None and len(self._free[choice]) == self.per_device:
                    self._free[choice] = []
                    found[place] = Slot(choice, 0, alone=True)
                elif choice is not None:
                    kept.add(choice)
            elif open_devices:
                device = max(open_devices, key=lambda each: len(self._free[each]))
                found[place] = Slot(device, self._free[device].pop(0))
        return found

    def give_back(self, slot: Slot) -> None:
        """Make a slot free again."""
        numbers = range(self.per_device) if slot.alone else [slot.number]
        self._free[slot.device] = sorted([*self._free[slot.device], *numbers])
