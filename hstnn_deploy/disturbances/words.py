"""Disturbances of a text as tokens in order."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.disturbances.disturbance import Disturbance

Tokens = NDArray[np.int64]
Level = float | NDArray[np.float64]
"""One level, or one for each word, [N]."""


def replaced(tokens: Tokens, level: Level, draw: np.random.Generator) -> Tokens:
    """Return what is read: each word, with probability `level`, another one drawn from the text itself.

    The words to be predicted stay those of the text.
    """
    others = tokens[draw.integers(0, len(tokens), len(tokens))]
    return np.where(draw.random(len(tokens)) < level, others, tokens)


def dropped(tokens: Tokens, level: Level, draw: np.random.Generator) -> Tokens:
    """Return what is read: each word, with probability `level`, left out, so that the one before it is read again.

    The words to be predicted stay those of the text.
    """
    kept = draw.random(len(tokens)) >= level
    kept[0] = True
    return tokens[np.maximum.accumulate(np.where(kept, np.arange(len(tokens)), 0))]


Apply = Callable[[Tokens, Level, np.random.Generator], Tokens]
"""The tokens of a text, the level, what is drawn from -> the tokens that are read in their place."""

_LEVELS = (0.02, 0.05, 0.1, 0.2)

WORDS: dict[str, tuple[Disturbance, Apply]] = {
    each.name: (each, apply)
    for each, apply in (
        (Disturbance("word-replace", "words replaced by others", "share of the words", "words", _LEVELS, 1), replaced),
        (Disturbance("word-drop", "words not heard", "share of the words", "words", _LEVELS, 1), dropped),
    )
}
"""By name: what they are, and what they do."""
