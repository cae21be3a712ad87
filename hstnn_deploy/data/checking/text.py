"""A text of one's own: words and lines of each split, words of the test that training never shows, and copied lines."""

from collections import Counter
from pathlib import Path

from hstnn_deploy.data.checking import duplicates
from hstnn_deploy.data.checking.checked import Checked
from hstnn_deploy.data.checking.listed import Asked
from hstnn_deploy.data.checking.notes import some
from hstnn_deploy.data.own.config import OwnText
from hstnn_deploy.data.own.files import place
from hstnn_deploy.data.own.parts import SPLITS
from hstnn_deploy.data.own.text import Words, find_texts, read, vocabulary
from hstnn_deploy.data.text import EOS, UNKNOWN
from hstnn_deploy.errors import DataError

_BYTES = 2**26
"""Bytes of a text that are read unless all are asked for; a larger one is refused by its size, with what would work."""
_UNKNOWN = 0.1
"""The share of unknown words that makes a perplexity hard to compare."""
_LONG = 100
"""Letters of a word that is no word."""
_COPIED = 0.2
"""The share of lines that stand in train too, from which on a test says little."""
_FEW = 1000
"""Words that are too few to learn a language from."""


def check(found: Checked, config: OwnText, asked: Asked) -> None:
    """Read the text of a configuration; see `Checked`.

    Raises:
        DataError: there is no text, or it is not clear which one is meant.
    """
    found.unit = "bytes"
    where = place(config, None)
    files = find_texts(where)
    for split in SPLITS:
        found.counts[split] = [0]
    found.how = "files" if len(files) > 1 else "one file, divided by its lines"
    found.total = sum(path.stat().st_size for path in files.values())
    _tell_left_out(found, where, list(files.values()))
    if asked.most is not None and found.total > _BYTES:
        found.notes.note(
            f"the text has {found.total} bytes, more than {_BYTES}: hstnn did not read it and has not seen its words",
            "--whole reads it, in memory of about 40 times its size",
        )
        return
    try:
        words, _ = read(config, where)
    except DataError as error:
        found.notes.refuse(error)
        return
    found.read = found.total
    found.words = words
    known = set(vocabulary(config, words["train"]))
    counted = Counter(words["train"])
    facts = {}
    for split in SPLITS:
        found.counts[split] = [len(words[split])]
        strange = [word for word in words[split] if word not in known]
        facts[split] = {
            "words": len(words[split]),
            "lines": words[split].count(EOS),
            "unknown": round(len(strange) / max(1, len(words[split])), 4),
        }
        if split != "train" and len(strange) > _UNKNOWN * len(words[split]):
            common = ", ".join(word for word, _ in Counter(strange).most_common(3))
            found.notes.note(
                f"{100 * len(strange) / len(words[split]):.0f} % of the words of {split} are not in the vocabulary of "
                f"train, such as {common}",
                f"each of them becomes {UNKNOWN}: train on more text, or --set data.lower=true",
            )
    found.facts |= {"splits": facts, "vocabulary": len(known), "once": sum(count == 1 for count in counted.values())}
    _tell_words(found, words, counted)
    _tell_lines(found, words)
    found.lines += [
        f"{split}: {each['words']} words in {each['lines']} lines"
        + ("" if split == "train" else f", {100 * each['unknown']:.2f} % of them unknown")
        for split, each in facts.items()
    ]
    found.lines.append(
        f"vocabulary: {len(known)} words with {EOS} and {UNKNOWN}, {found.facts['once']} of them seen once"
    )


def _tell_left_out(found: Checked, where: Path, files: list[Path]) -> None:
    if where.is_file():
        return
    others = sorted(path.name for path in where.iterdir() if path not in files and not path.name.startswith("."))
    if others:
        found.left_out = dict(Counter(Path(name).suffix.lower() for name in others))
        found.notes.note(
            f"left out: {some(len(others), 'name')} beside the text, such as {others[0]}",
            "remove them, or name texts train.txt, valid.txt and test.txt",
            others,
        )


def _tell_words(found: Checked, words: Words, counted: Counter[str]) -> None:
    if len(words["train"]) < _FEW:
        found.notes.note(
            f"train has {len(words['train'])} words", "a network learns little from this few: give more text"
        )
    if long := [word for word in counted if len(word) > _LONG]:
        found.notes.note(
            f"{some(len(long), 'word', 'are')} longer than {_LONG} letters, such as {long[0][:30]}…",
            "is this text in a language with spaces? --set data.tokens=punctuation divides at marks too",
        )
    if odd := [word for word in counted if "\ufffd" in word or any(ord(letter) < 32 for letter in word)]:
        found.notes.note(
            f"{some(len(odd), 'word', 'have')} damaged letters, such as {odd[0][:30]!r}",
            "save it as UTF-8 again",
        )
    if counted[EOS] == 1:
        found.notes.note("train is one line", "write one sentence per line: a text is divided by lines")


def _tell_lines(found: Checked, words: Words) -> None:
    """Note lines of the test that train contains too. Empty lines are not counted."""
    seen: set[bytes] = set()
    total: Counter[str] = Counter()
    copied: Counter[str] = Counter()
    for split in SPLITS:
        line: list[str] = []
        for word in words[split]:
            if word != EOS:
                line.append(word)
                continue
            if line:
                digest = duplicates.of_text(" ".join(line))
                total[split] += 1
                if split == "train":
                    seen.add(digest)
                else:
                    copied[split] += digest in seen
            line = []
    for split in ("valid", "test"):
        if total[split] and copied[split] > _COPIED * total[split]:
            found.notes.note(
                f"{copied[split]} of the {total[split]} lines of {split}: train contains them too",
                "remove them from one side: a network that has seen them proves nothing",
            )
    found.facts["copies"] = {split: copied[split] for split in ("valid", "test")}
