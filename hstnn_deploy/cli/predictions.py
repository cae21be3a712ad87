"""The display of a stream: predictions over time, live on a terminal, as plain lines or JSON lines elsewhere."""

import json
import time
from abc import ABC, abstractmethod
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text
from typing_extensions import override

from hstnn_deploy.export.runtime.values import in_words
from hstnn_deploy.screen import Table

Answers = list[dict[str, Any]]
"""The answer for each sample; see `export.runtime.answers.answered`."""

_SHOWN = 12
"""Samples of a batch that are shown, at most."""
_HISTORY = 40
"""Past steps that are shown, at most."""
_BAR = 20
"""Characters of a full bar."""


class Display(ABC):
    """Shows every step."""

    @abstractmethod
    def step(self, number: int, total: int | None, answers: Answers) -> None:
        """Show the prediction after step `number` of `total` (None: unknown)."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Stop showing."""


class JsonLines(Display):
    """One line of JSON per step."""

    def __init__(self, name: str) -> None:
        self._name = name

    @override
    def step(self, number: int, total: int | None, answers: Answers) -> None:
        print(json.dumps({"input": self._name, "step": number, "samples": answers}, allow_nan=False), flush=True)


class Lines(Display):
    """One line per step."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @override
    def step(self, number: int, total: int | None, answers: Answers) -> None:
        shown = "  ".join(_in_words(each) for each in answers[:_SHOWN])
        more = f"  … {len(answers)} samples" if len(answers) > _SHOWN else ""
        self._console.print(f"step {_place(number, total)}: {shown}{more}", markup=False, soft_wrap=True)


class LiveTable(Display):
    """A row per sample, redrawn at every step: the classes so far, and the network's current confidence."""

    def __init__(self, console: Console, delay: float, name: str) -> None:
        self._delay = delay
        self._name = name
        self._history: list[list[str]] = []
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    @override
    def step(self, number: int, total: int | None, answers: Answers) -> None:
        if "values" in answers[0]:
            self._live.update(_of_values(f"{self._name}: step {_place(number, total)}", answers), refresh=True)
            time.sleep(self._delay)
            return
        for sample, each in enumerate(answers):
            if len(self._history) <= sample:
                self._history.append([])
            self._history[sample].append(str(each["class"]))
        self._live.update(self._table(number, total, answers), refresh=True)
        time.sleep(self._delay)

    @override
    def close(self) -> None:
        self._live.stop()

    def _table(self, number: int, total: int | None, answers: Answers) -> Table:
        kind = "probability" if "probability" in answers[0] else "score"
        columns = [">class", f">{kind}", "", "then", "class after each step"]
        drawn = Table(
            [*([">sample"] if len(answers) > 1 else []), *columns],
            title=f"{self._name}: step {_place(number, total)}",
            style="lines",
            drop=["", "class after each step"],
        )
        for sample, each in enumerate(answers[:_SHOWN]):
            then = ", ".join(f"{n} {value:.2f}" for n, value in each["best"][1:])
            history = self._history[sample]
            past = ("… " if len(history) > _HISTORY else "") + " ".join(history[-_HISTORY:])
            value = _value(each)
            bar = ("█" * round(_BAR * min(max(value, 0.0), 1.0))).ljust(_BAR)
            which = [str(sample)] if len(answers) > 1 else []
            drawn.add_row(*which, Text(_class(each), "bold"), f"{value:.3f}", bar, then, past)
        if len(answers) > _SHOWN:
            drawn.caption = f"and {len(answers) - _SHOWN} more samples"
        return drawn


def _in_words(answer: dict[str, Any]) -> str:
    return in_words(answer) if "values" in answer else f"{_class(answer)} ({_value(answer):.3f})"


def _class(answer: dict[str, Any]) -> str:
    """Return the class of an answer, and its name if it has one."""
    return f"{answer['class']} {answer['name']}" if "name" in answer else str(answer["class"])


def _of_values(title: str, answers: Answers) -> Table:
    """Return a table with a row of values per sample, for a regression."""
    names = answers[0].get("names") or [f"output {number}" for number in range(len(answers[0]["values"]))]
    columns = [f">{name}" for name in (*(["sample"] if len(answers) > 1 else []), *names)]
    drawn = Table(columns, title=title, style="lines")
    for sample, each in enumerate(answers[:_SHOWN]):
        which = [str(sample)] if len(answers) > 1 else []
        drawn.add_row(*which, *(f"{value:.6g}" for value in each["values"]))
    if len(answers) > _SHOWN:
        drawn.caption = f"and {len(answers) - _SHOWN} more samples"
    return drawn


def _value(answer: dict[str, Any]) -> float:
    value: float = answer["probability"] if "probability" in answer else answer["score"]
    return value


def _place(number: int, total: int | None) -> str:
    return f"{number}" if total is None else f"{number} of {total}"
