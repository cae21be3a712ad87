"""Draw a text: how often its words come, how long its lines are, and what its most frequent words are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from hstnn_deploy.data.dataset import Choice, Picture
from hstnn_deploy.data.pictures.figure import INK, OFF, ON, PALE, new_figure, refuse_choice_of_text
from hstnn_deploy.data.text import EOS, UNKNOWN

_WORDS = 20
"""Most frequent words that are named."""


def draw_text(words: Mapping[str, Sequence[str]], choice: Choice, name: str) -> Picture:
    """Draw the statistics of a split of a text, given the words of every split.

    Raises:
        UsageError: a sample, class or count was asked for: a text has none.
    """
    refuse_choice_of_text(choice, name)
    text = words[choice.split]
    counts = Counter(text)
    vocabulary = {word for each in words.values() for word in each}
    lengths = _line_lengths(text)
    common = [(word, count) for word, count in counts.most_common(_WORDS + 1) if word != EOS][:_WORDS]
    unknown = {split: each.count(UNKNOWN) / len(each) for split, each in words.items()}

    figure = new_figure(10, 7)
    figure.suptitle(f"{name}: {choice.split} split, {len(text):,} words of {len(counts):,} kinds", fontsize=11)
    (ranks, frequent), (lines, shares) = figure.subplots(2, 2)
    _ranks(ranks, counts)
    _frequent(frequent, common, len(text))
    _lines(lines, lengths)
    _unknown(shares, unknown)
    for place in (ranks, frequent, lines, shares):
        place.tick_params(labelsize=8)
        place.spines[["top", "right"]].set_visible(False)
        for axis in (place.xaxis, place.yaxis):
            axis.label.set_size(9)
        place.title.set_size(10)

    half = _covering(counts, 0.5)
    return Picture(
        figure,
        [
            f"{len(text)} words in the {choice.split} split ({EOS} counted), {len(counts)} of the {len(vocabulary)} "
            "words of the vocabulary",
            f"{len(lengths)} lines of {sum(lengths) / max(1, len(lengths)):.1f} words on average, "
            f"at most {max(lengths, default=0)}",
            f"the {half} most frequent words are half of the text",
            f"{UNKNOWN}: " + ", ".join(f"{100 * share:.2f} % of {split}" for split, share in unknown.items()),
            "most frequent: " + ", ".join(f"{word} {100 * count / len(text):.1f} %" for word, count in common[:10]),
        ],
    )


def _line_lengths(text: Sequence[str]) -> list[int]:
    """Return the words of each line, its end not counted."""
    ends = [place for place, word in enumerate(text) if word == EOS]
    return [end - begin - 1 for begin, end in zip([-1, *ends], ends, strict=False)]


def _covering(counts: Counter[str], share: float) -> int:
    """Return how many of the most frequent words make up a share of the text."""
    total = counts.total()
    return 1 + sum(seen < share * total for seen in accumulate(count for _, count in counts.most_common()))


def _ranks(place: Any, counts: Counter[str]) -> None:
    ordered = [count for _, count in counts.most_common()]
    place.loglog(range(1, len(ordered) + 1), ordered, color=OFF, linewidth=1.6, label="this text")
    expected = [ordered[0] / rank for rank in (1, len(ordered))]
    place.loglog((1, len(ordered)), expected, color=PALE, linestyle="--", linewidth=1, label="1 / rank (Zipf)")
    place.set(title="how often a word comes, by its rank", xlabel="rank", ylabel="occurrences")
    place.legend(frameon=False, fontsize=8)


def _frequent(place: Any, common: Sequence[tuple[str, int]], total: int) -> None:
    # A word may hold a dollar sign, which would begin a formula.
    names = [word.replace("$", r"\$") for word, _ in common]
    colours = [ON if word == UNKNOWN else OFF for word, _ in common]
    place.barh(range(len(common)), [100 * count / total for _, count in common], color=colours)
    place.set_yticks(range(len(common)), names)
    place.invert_yaxis()
    place.set(title=f"the {len(common)} most frequent words, {EOS} left out", xlabel="% of the text")


def _lines(place: Any, lengths: Sequence[int]) -> None:
    longest = sorted(lengths)[int(0.995 * (len(lengths) - 1))] if lengths else 0
    # Bars of whole words: others would hold now one length, now two.
    wide = longest // 60 + 1
    edges = [edge - 0.5 for edge in range(0, longest + 1 + wide, wide)]
    place.hist([min(length, longest) for length in lengths], bins=edges, color=OFF)
    mean = sum(lengths) / max(1, len(lengths))
    place.axvline(mean, color=INK, linewidth=1, linestyle="--", label=f"mean {mean:.1f}")
    place.set(title="how long lines are (the longest 0.5 % in the last bar)", xlabel="words", ylabel="lines")
    place.legend(frameon=False, fontsize=8)


def _unknown(place: Any, unknown: Mapping[str, float]) -> None:
    bars = place.bar(list(unknown), [100 * share for share in unknown.values()], color=ON, width=0.5)
    place.bar_label(bars, [f"{100 * share:.2f} %" for share in unknown.values()], fontsize=8, padding=2)
    place.margins(y=0.15)
    place.set(title=f"share of {UNKNOWN}, the words outside the vocabulary", ylabel="% of the words")
