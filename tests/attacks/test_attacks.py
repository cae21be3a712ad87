"""Quick attacks by files and on processes; `make attack` goes on for as long as is wanted."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from random import Random

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from tests.attacks import bounds, payloads, surroundings
from tests.attacks.box import Box
from tests.attacks.fuzz import Range
from tests.attacks.kinds import Kind
from tests.attacks.moments import Act, deeds, disturbed, tried, undisturbed
from tests.attacks.outcome import Limits, complaint
from tests.attacks.payloads import Shot
from tests.attacks.yard import Yard

SLOW = {"manifest/verify", "model.window.onnx/verify", "model.ts/verify", "model.pt2/verify"}
SECTIONS = {
    "training": ("checkpoint", "traces", "last", "selection"),
    "run folders": ("stage", "recipe.yaml", "status", "environment", "metrics"),
    "settings": ("recipe", "sweep", "matrix", "--set"),
    "bundles": ("manifest", "model", "vocabulary", "states"),
    "arrays and images": ("run x",),
    "recordings": ("run e", "run plain", "run kinds"),
    "data sets": ("data", "cache", "archive"),
    "records": ("records",),
    "NIR": ("NIR",),
}
"""How the names of kinds begin, by what they are."""


def fired(shooting: Range, shots: Iterable[Shot], kept: Path) -> int:
    """Let every file be read; fail with all complaints; return how many files there were."""
    wrong, count = [], 0
    for shot in shots:
        count += 1
        result = shooting.tried("", shot)
        if result.complaint:
            kept.write_bytes(shot.content)
            wrong.append(f"{shot.kind}, {shot.label[:60]}: {result.complaint[:300]}")
    assert not wrong, f"{len(wrong)} of {count} files (the last is {kept}):\n" + "\n".join(wrong)
    return count


def test_whole_files_are_answered_or_refused_in_one_line(shooting: Range, kept: Path) -> None:
    whole = [kind for kind in shooting.kinds.values() if kind.content and kind.name not in SLOW]
    assert fired(shooting, (Shot(kind.name, "whole", kind.content) for kind in whole[::4]), kept) > 15


@pytest.mark.parametrize("section", SECTIONS)
def test_damaged_files_get_an_answer_or_one_line_of_our_own(shooting: Range, kept: Path, section: str) -> None:
    kinds = [
        kind
        for name, kind in shooting.kinds.items()
        if name.startswith(SECTIONS[section]) and kind.content and name not in SLOW
    ]

    @hypothesis.settings(
        max_examples=8,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=False,
    )
    @given(kind=st.sampled_from(kinds), seed=st.integers(0, 2**32))
    def damage(kind: Kind, seed: int) -> None:
        fired(shooting, [Shot(kind.name, f"seed {seed}", shooting.damaged(kind, Random(seed)))], kept)

    damage()


def test_nothing_in_a_file_is_run(shooting: Range, kept: Path) -> None:
    assert fired(shooting, payloads.shots(shooting.yard, shooting.canary, every=80), kept) > 50


def test_nothing_in_a_program_is_run_before_it_is_known_what_it_is(shooting: Range, kept: Path) -> None:
    assert fired(shooting, payloads.programs(shooting.yard, shooting.canary, every=320), kept) > 2


def test_small_inputs_that_ask_for_much_are_refused_at_once(shooting: Range, kept: Path) -> None:
    assert fired(shooting, itertools.islice(bounds.shots(shooting.yard), 0, None, 26), kept) > 10


def test_what_unpacks_to_much_is_not_held_in_memory(shooting: Range, kept: Path) -> None:
    assert fired(shooting, itertools.islice(bounds.bombs(400_000_000), 2), kept) == 2


def test_odd_names_are_one_line_wherever_they_stand(shooting: Range, kept: Path) -> None:
    assert fired(shooting, itertools.islice(surroundings.lines(shooting.yard), 0, None, 14), kept) > 30


def test_threads_on_one_stream_lose_no_step(shooting: Range, kept: Path) -> None:
    fired(shooting, [Shot("threads on a stream", "", b"")], kept)


MOMENTS: list[tuple[str, Act, int]] = [
    ("train snn", "SIGKILL", 3),
    ("train snn", "SIGINT", 2),
    ("train snn", "SIGTERM", 2),
    ("train snn", "full", 2),
    ("export over a bundle", "SIGKILL", 6),
    ("export over a bundle", "full", 2),
    ("data prepare", "SIGKILL", 2),
    ("data prepare", "full", 2),
]
"""Commands, how they are disturbed, and at how many moments."""


@pytest.mark.parametrize(("name", "act", "times"), MOMENTS)
def test_whenever_it_is_stopped_nothing_is_damaged_and_the_next_start_goes_on(
    yard: Yard, tmp_path: Path, name: str, act: Act, times: int
) -> None:
    assert yard.runs.is_dir()  # what training needs is imported before processes are forked
    (deed,) = (each for each in deeds(yard) if each.name == name)
    box = Box(tmp_path / "moments" / "box")
    wanted, count = undisturbed(box, deed)
    assert count > times
    # The end is where files take their names.
    numbers = sorted({1 + (count - 1) * n // times for n in range(1, times)} | {count})
    wrong = [f"at change {n} of {count}: {what}" for n in numbers if (what := tried(box, deed, act, n, wanted)[0])]
    assert not wrong, "\n".join(wrong)


def test_a_file_that_cannot_grow_is_one_line(yard: Yard, tmp_path: Path) -> None:
    box = Box(tmp_path / "moments" / "box")
    (deed,) = (each for each in deeds(yard) if each.name == "export of all")
    box.begin()
    deed.prepare(box)
    # Below the size of a .pt2, above that of all the other files.
    outcome, _ = disturbed(box, deed.words(box), "limit", 20_000)
    assert outcome.code not in (0, None), outcome
    assert not complaint(outcome, Limits(memory=2**32)), outcome
    deed.whole(box)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("standard output full", "recipes"),
        ("standard output closed", "recipes"),
        ("standard input closed", "run from standard input"),
        ("locale C, strictly", "run"),
        ("locale C, strictly", "an error"),
        ("reader gone", "recipes"),
    ],
)
def test_odd_surroundings_are_one_line(yard: Yard, tmp_path: Path, name: str, command: str) -> None:
    box = Box(tmp_path / "process" / "box")
    box.begin()
    (how,) = (each for each in surroundings.SURROUNDINGS if each.name == name)
    outcome = surroundings.surrounded(box, surroundings.commands(yard, box)[command], how)
    wrong = surroundings.wrong(how, outcome, lambda outcome: complaint(outcome, Limits()))
    assert not wrong, (wrong, outcome)
