"""Classes and splits that are odd: few or no samples, one class in the place of many, names that mislead."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from hstnn_deploy.data.checking.notes import Notes, some
from hstnn_deploy.data.own.parts import SPLITS

_TIMES = 5
"""The ratio of frequencies from which one class outweighs another."""
_FEW = 20
"""The fewest samples that make a test."""
_NAMED = 5


def tell_names(notes: Notes, classes: Sequence[str]) -> None:
    """Note names of classes that are easily mistaken for others, or for their places."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[name.casefold().strip()].append(name)
    for names in alike.values():
        if len(names) > 1:
            told = " and ".join(map(repr, names[:_NAMED]))
            notes.note(f"the classes {told} differ only in capitals or spaces", "are they the same class? rename one")
    if all(name.isascii() and name.isdigit() for name in classes) and classes:
        moved = [(place, name) for place, name in enumerate(classes) if name != str(place)]
        if moved:
            place, name = moved[0]
            notes.note(
                f"classes are called by numbers, and not 0 to {len(classes) - 1}: the class {name} is output {place}",
                "read answers by the names that `hstnn run` prints beside the numbers",
            )


def tell_splits(notes: Notes, classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
    """Note classes that a split lacks, and a test that is too small.

    Args:
        notes: told what is odd.
        classes: their names; none where samples have values.
        counts: how many samples of each class each split has.
    """
    if 0 < (tests := sum(counts["test"])) < _FEW:
        notes.note(
            f"the test split has {some(tests, 'sample')}: one more correct answer is {100 / tests:.0f} % of accuracy",
            "add samples, or raise data.split.test, before you compare networks",
        )
    for split in SPLITS if classes else ():
        if lacking := [name for name, count in zip(classes, counts[split], strict=True) if not count]:
            told = ", ".join(lacking[:_NAMED]) + (", …" if len(lacking) > _NAMED else "")
            notes.note(
                f"{split} has no sample of {len(lacking)} of {len(classes)} classes: {told}",
                f"add some to {split}; its accuracy says nothing about these classes",
            )


def tell_weights(notes: Notes, classes: Sequence[str], trained: Sequence[int]) -> None:
    """Note a class that outweighs another among the samples that train, [classes]."""
    there = [(count, name) for count, name in zip(trained, classes, strict=True) if count] if classes else []
    if not there:
        return
    (least, rare), (most, frequent) = min(there), max(there)
    if most >= _TIMES * least:
        share = 100 * most / sum(trained)
        notes.note(
            f"the class {frequent} has {some(most, 'sample')} to train on, and {rare} has {least}: "
            f"always answering {frequent} is correct for {share:.0f} % of train",
            f"add samples of {rare}, or remove some of {frequent}; accuracy alone says little here",
        )


def chance(counts: Sequence[int]) -> float | None:
    """Return the share, in percent, of those that are right by always saying the most frequent class."""
    return 100 * max(counts) / sum(counts) if sum(counts) else None
