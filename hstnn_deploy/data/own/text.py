"""A text of one's own: train.txt and perhaps valid.txt and test.txt, or one file that is divided by its lines.

The vocabulary is that of the training text, with `<eos>` at the end of each line and `<unk>` for every other word: so a
text that was never seen can be read.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.own.config import FoundText, OwnText
from hstnn_deploy.data.own.files import check_same, place
from hstnn_deploy.data.own.parts import SAID, SPLITS
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import EOS, UNKNOWN, make_splits
from hstnn_deploy.errors import DataError

MOST = 2**30
"""Bytes of a text at most."""

Words = dict[str, list[str]]


def look(config: OwnText, given: Path | None = None) -> FoundText:
    """Return what is found of a text, read whole.

    Raises:
        DataError: see `read`.
    """
    words, digest = read(config, place(config, given))
    return _found(words, digest, vocabulary(config, words["train"]))


def load(config: OwnText, source: Source) -> Splits:
    """Return the text as splits of tokens.

    Raises:
        DataError: it is not there, not what the recipe was made for, damaged, or too short.
    """
    where = place(config, source.folder)
    words, digest = read(config, where)
    known = vocabulary(config, words["train"])
    check_same(config, _found(words, digest, known), where)
    return make_splits(words, config.bptt, f"your text in {where}", source.protocol, known)


def _found(words: Words, digest: str, known: Sequence[str]) -> FoundText:
    return FoundText(listing=digest, words=len(known), **{split: [len(words[split])] for split in SPLITS})


def vocabulary(config: OwnText, training: Sequence[str]) -> list[str]:
    """Return the words that a network knows, in the order of their first use, then `<eos>` and `<unk>`.

    Of more than `config.words` the most frequent are kept, of equally frequent ones the first.
    """
    counted = Counter(training)
    kept = list(counted)
    room = len(kept) + 2 if config.words is None else max(config.words, 2)
    others = [word for word in kept if word not in (EOS, UNKNOWN)]
    if len(others) > room - 2:
        chosen = {word for word, _ in Counter({word: counted[word] for word in others}).most_common(room - 2)}
        others = [word for word in others if word in chosen]
    return [*others, EOS, UNKNOWN]


def read(config: OwnText, where: Path) -> tuple[Words, str]:
    """Return the words of each split, `<eos>` at the end of each line, and the SHA-256 of the files.

    Raises:
        DataError: no text is there, a file is too large, not UTF-8, or holds no words; or one text is too short to be
            divided.
    """
    files = find_texts(where)
    digest = hashlib.sha256()
    lines: dict[str, list[list[str]]] = {}
    for split, path in files.items():
        content = _content(path)
        digest.update(split.encode() + hashlib.sha256(content).digest())
        lines[split] = _lines(config, path, content)
    for split, share in (("test", config.split.test), ("valid", config.split.valid)):
        if split not in lines:
            whole = lines["train"]
            held = max(1, round(share * len(whole)))
            if held >= len(whole):
                left = f"{len(whole)} line{'s' * (len(whole) != 1)} left"
                raise DataError(
                    f"{files['train']} has {left}, too few to hold some out for {split}",
                    f"give more lines, or {split}.txt beside it",
                )
            # A text has an order: what comes last tests.
            lines["train"], lines[split] = whole[:-held], whole[-held:]
    digest.update(f"{config.tokens} {config.lower} {config.words} {config.split.model_dump()}".encode())
    return {split: [word for line in lines[split] for word in (*line, EOS)] for split in SPLITS}, digest.hexdigest()


def find_texts(where: Path) -> dict[str, Path]:
    """Return the files of a text by split; one that has to be divided is `train`.

    Raises:
        DataError: there is no text, or it is not clear which one is meant.
    """
    if where.is_file():
        return {"train": where}
    if not where.is_dir():
        raise DataError(f"your text {where} does not exist", "set data.path to where it is")
    texts = sorted(path for path in where.iterdir() if path.suffix.lower() == ".txt" and path.is_file())
    said = {path: SPLITS[SAID[path.stem.lower()]] for path in texts if path.stem.lower() in SAID}
    if "train" in said.values():
        found = {split: path for path, split in said.items()}
        if len(found) < len(said):
            raise DataError(f"{where} contains two files for one split: {', '.join(p.name for p in said)}", "keep one")
        return found
    if len(texts) == 1:
        return {"train": texts[0]}
    names = ", ".join(path.name for path in texts[:6]) or "no .txt file"
    raise DataError(
        f"{where} contains {names}", "give train.txt and perhaps valid.txt and test.txt, or a single .txt file"
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MOST:
        raise DataError(f"{path} is larger than {MOST} bytes", "train on a part of it")
    return content


def _lines(config: OwnText, path: Path, content: bytes) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}", "save it as UTF-8"
        ) from error
    text = text.lower() if config.lower else text
    pattern = r"\S+" if config.tokens == "spaces" else r"\w+|[^\w\s]"
    lines = [re.findall(pattern, line) for line in text.splitlines()]
    if not any(lines):
        raise DataError(f"{path} contains no words", "copy it again")
    return lines
