"""Slots: never two jobs in one, and a device kept for a job that must have it alone."""

from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.train.sweep.slots import Slot, Slots


def test_devices_fill_evenly_and_no_further() -> None:
    slots = Slots(["cuda:0", "cuda:1"], 2)
    taken = slots.assign([False] * 5)
    assert [str(slot) for slot in taken[:4]] == ["cuda:0/0", "cuda:1/0", "cuda:0/1", "cuda:1/1"]
    assert taken[4] is None
    assert taken[1] is not None
    slots.give_back(taken[1])
    assert slots.assign([False, False]) == [Slot("cuda:1", 0), None]
    assert len(slots) == 4


def test_a_job_that_must_be_alone_gets_a_whole_device_and_others_wait_for_it() -> None:
    slots = Slots(["cuda:0", "cuda:1"], 2)
    first = slots.assign([False] * 3)  # both on 0, one on 1
    assert slots.assign([False, True]) == [None, None]  # 1 is kept, 0 is full
    assert first[1] == Slot("cuda:1", 0)
    slots.give_back(first[1])
    found = slots.assign([False, True])
    assert found == [None, Slot("cuda:1", 0, alone=True)]
    assert str(found[1]) == "cuda:1 alone"
    assert found[1] is not None
    slots.give_back(found[1])
    assert slots.assign([False] * 3) == [Slot("cuda:1", 0), Slot("cuda:1", 1), None]


def test_a_device_is_kept_no_longer_than_somebody_wants_it() -> None:
    slots = Slots(["cuda:0"], 2)
    slots.assign([False])
    assert slots.assign([True, False]) == [None, None]
    assert slots.assign([False]) == [Slot("cuda:0", 1)]


@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.lists(st.booleans(), max_size=5), max_size=12), st.randoms())
def test_no_place_is_ever_given_twice(devices: int, per: int, rounds: list[list[bool]], random: "object") -> None:
    slots = Slots([f"cuda:{number}" for number in range(devices)], per)
    held: list[Slot] = []

    def places(slot: Slot) -> set[tuple[str, int]]:
        return {(slot.device, number) for number in (range(per) if slot.alone else [slot.number])}

    for wanted in rounds:
        for slot, alone in zip(slots.assign(wanted), wanted, strict=True):
            if slot is not None:
                assert slot.alone == alone
                assert not any(places(slot) & places(other) for other in held)
                held.append(slot)
        if held:
            slots.give_back(held.pop(random.randrange(len(held))))  # type: ignore[attr-defined]
    for slot in held:
        slots.give_back(slot)
    assert all(slot is not None for slot in slots.assign([True] * devices))
