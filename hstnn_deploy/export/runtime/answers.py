"""The answers of a bundle's network as plain data: a class, values, or the words that follow a text.

Shapes: T time, B samples side by side, C classes, V words.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DataError
from hstnn_deploy.export.runtime.session import Session, Stream
from hstnn_deploy.export.runtime.values import valued

Array = NDArray[Any]

PROBABLE = ("sequence", "language")
"""The families whose logits a softmax turns into probabilities: they were trained so. The others' are scores."""

_CHUNK = 64
"""Words that go through the network at once, where training knew no windows."""


def log_softmax(logits: Array) -> Array:
    """Return logarithms of probabilities, over the last axis, in float64."""
    logits = logits.astype(np.float64)
    shifted: Array = logits - logits.max(-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def classified(session: Session, logits: Array, top: int) -> list[dict[str, Any]]:
    """Return for each sample of logits [B, C] its class and the `top` best ones, best first, with their names if any.

    Raises:
        DataError: the logits hold NaN or infinities.
    """
    probable = session.manifest["network"]["family"] in PROBABLE
    values = np.exp(log_softmax(logits)) if probable else logits
    name = "probability" if probable else "score"
    classes = session.class_names
    answers: list[dict[str, Any]] = []
    if not np.isfinite(values).all():
        raise DataError("the network's answer is not finite", "its input or states are too large")
    for row in values:
        best = np.argsort(-row, kind="stable")[: min(top, len(row))]
        answer = {"class": int(best[0]), name: float(row[best[0]]), "best": [[int(n), float(row[n])] for n in best]}
        if classes:
            answer |= {"name": classes[best[0]], "names": [classes[n] for n in best]}
        answers.append(answer)
    return answers


def answered(session: Session, logits: Array, top: int) -> list[dict[str, Any]]:
    """Return what the network says of each sample: values of a regression, else classes; see `classified`."""
    return valued(session, logits) if session.values else classified(session, logits, top)


class Reader:
    """Reads a text with a language model, in windows as training did: their states start anew where a window begins."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._window = stream.session.window or _CHUNK
        self._place = 0

    def read(self, words: Sequence[int]) -> Iterator[tuple[int, Array]]:
        """Take words by number; yield, window by window, the first one's place and log-probabilities [T, V].

        They are those of the word that follows each.
        """
        start = 0
        while start < len(words):
            if self._place == 0 and self._stream.session.window:
                self._stream.begin_window()
            count = min(len(words) - start, self._window - self._place)
            yield start, log_softmax(self._stream.run(np.array(words[start : start + count])[:, None])[:, 0])
            start += count
            self._place = (self._place + count) % self._window


def read_text(stream: Stream, words: Sequence[int], vocabulary: Sequence[str], top: int, more: int) -> dict[str, Any]:
    """Return what a language model makes of a text.

    Args:
        stream: one, where it stands; the text begins a window.
        words: the text, by number; at least one.
        vocabulary: the words in the order of their numbers.
        top: how many of the words that may follow are given.
        more: how many words the text is continued by, each the most probable.

    Returns:
        `perplexity` of the text's words after the first (None of a single word), `next`: words and their
        probabilities, and `continuation`.
    """
    reader = Reader(stream)
    surprise = 0.0
    chances = np.empty((0, len(vocabulary)))
    for start, chances in reader.read(words):
        following = np.array(words[start + 1 : start + 1 + len(chances)], dtype=np.int64)
        surprise -= float(chances[np.arange(len(following)), following].sum())
    last = chances[-1]
    best = [int(n) for n in np.argsort(-last, kind="stable")[:top]]
    probable = [[vocabulary[n], math.exp(last[n])] for n in best]
    continuation: list[str] = []
    for _ in range(more):
        word = int(last.argmax())
        continuation.append(vocabulary[word])
        for _, chances in reader.read([word]):
            last = chances[-1]
    return {
        "words": len(words),
        "perplexity": math.exp(min(surprise / (len(words) - 1), 700.0)) if len(words) > 1 else None,
        "next": probable,
        "continuation": continuation,
    }
