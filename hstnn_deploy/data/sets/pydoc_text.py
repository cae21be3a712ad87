"""The help topics of Python's own standard library as a word-level corpus: small, always at hand."""

import re
from collections import Counter
from typing import Literal

from pydantic import Field

from hstnn_deploy.data.dataset import Card, DataSet, Source
from hstnn_deploy.data.pictures.text import draw_text
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import EOS, UNKNOWN, TextConfig, make_splits
from hstnn_deploy.errors import DataError

_SHARES = {"train": 8, "valid": 1, "test": 1}


class PydocTextConfig(TextConfig):
    """What a recipe says of the help topics."""

    name: Literal["pydoc-text"] = "pydoc-text"
    words: int = Field(1500, gt=2)
    """The size of the vocabulary: the most frequent words, `<eos>` and `<unk>`. The topics' own differs with Python."""


def load_pydoc_text(config: PydocTextConfig, source: Source) -> Splits:
    """Return the topics as a language model takes them.

    Raises:
        DataError: the topics do not hold as many words as the vocabulary is to have.
    """
    return make_splits(read_words(config), config.bptt, "the standard library's help topics", source.protocol)


def read_words(config: PydocTextConfig) -> dict[str, list[str]]:
    """Return the topics in lower case, whole topics to each split: of ten words, eight are trained on.

    Raises:
        DataError: the topics do not hold as many words as the vocabulary is to have.
    """
    from pydoc_data.topics import topics

    read = {name: _words(topics[name]) for name in sorted(topics)}
    words: dict[str, list[str]] = {split: [] for split in _SHARES}
    # The longest topics first, each to the split that lacks most of its share.
    for name in sorted(read, key=lambda name: (-len(read[name]), name)):
        words[min(words, key=lambda split: len(words[split]) / _SHARES[split])] += read[name]
    counts = Counter(word for each in words.values() for word in each)
    del counts[EOS]
    if len(counts) < config.words - 1:
        raise DataError(
            f"the help topics have {len(counts)} different words, too few for a vocabulary of {config.words}",
            "lower data.words and network.vocabulary",
        )
    # By count, then by the word itself: the same on every machine with this Python.
    common = sorted(counts, key=lambda word: (-counts[word], word))[: config.words - 2]
    known = {*common, EOS}
    return {split: [word if word in known else UNKNOWN for word in each] for split, each in words.items()}


def _words(topic: str) -> list[str]:
    lines = (re.findall(r"\w+|[^\w\s]", line) for line in topic.lower().splitlines())
    return [word for line in lines if line for word in (*line, EOS)]


PYDOC_TEXT = DataSet(
    "pydoc-text",
    PydocTextConfig,
    Card(
        "the help topics of Python's own standard library, word by word",
        "language model",
        "PSF-2.0",
        "https://docs.python.org",
        "it comes with Python",
    ),
    load_pydoc_text,
    lambda _: None,
    picture=lambda config, _, choice: draw_text(read_words(config), choice, config.name),
)
