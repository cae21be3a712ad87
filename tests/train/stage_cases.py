"""Small trainings of the digits, and someone who listens to them, for the tests of `train`."""

from collections.abc import Callable
from typing import Any

from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.observer import Observer
from tests.conftest import TINY, settings

EVENTS = ("stage_started", "batch_done", "epoch_done", "stage_finished", "probes_started", "probe_done", "note")


def tiny(**changes: object) -> Recipe:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe("digits", settings({**TINY, **keys}))


class Listener(Observer):
    """Writes down what happens and, if asked to, presses Ctrl-C at the n-th event of a kind."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        for event in EVENTS:
            setattr(self, event, self._listener(event, stop))

    def _listener(self, event: str, stop: tuple[str, int] | None) -> Callable[..., None]:
        def listen(*facts: Any) -> None:
            self.events.append((event, facts))
            if stop == (event, len(self.of(event))):
                raise KeyboardInterrupt

        return listen

    def of(self, event: str) -> list[tuple[Any, ...]]:
        return [facts for name, facts in self.events if name == event]


BASE = "digits/hybrid/seed1111"
