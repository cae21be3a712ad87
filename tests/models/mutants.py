"""Texts of kernels with one wrong operator: a check of a kernel is believed when it fails on each of them."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator

import pytest

from hstnn_deploy.models.kernels.generated import host
from hstnn_deploy.models.kernels.generated.source import Text


def wrong_texts(source: str) -> Iterator[str]:
    """Yield texts with one operation that is another."""
    others = {"fadd": "fsub", "fsub": "fadd", "fmul": "fadd", "fdiv": "fmul", "ogt": "olt", "olt": "oge"}
    others |= {"fneg double": "fadd double 0.0,"}
    for found in re.finditer(r"(?<= )(" + "|".join(others) + ")(?= )", source):
        yield source[: found.start()] + others[found[0]] + source[found.end() :]


def fail(
    check: Callable[[], None], monkeypatch: pytest.MonkeyPatch, wrong: Callable[[str], Iterable[str]] = wrong_texts
) -> int:
    """Run a check with every wrong text of the kernels in float64 that it runs; each must fail it. Return how many."""
    texts: list[Text] = []
    found = host.called
    monkeypatch.setattr(host, "called", lambda text: found(texts.append(text) or text))  # type: ignore[func-returns-value]
    check()
    seen = 0
    for text in dict.fromkeys(texts):
        # Gradients are compared closely in float64 alone.
        for source in wrong(text.source) if "double %" in text.source and "fptrunc" not in text.source else ():
            instead = {text: dataclasses.replace(text, source=source)}
            monkeypatch.setattr(
                host, "called", lambda asked, instead=instead: found.__wrapped__(instead.get(asked, asked))
            )
            with pytest.raises(AssertionError):
                check()
            seen += 1
    return seen
