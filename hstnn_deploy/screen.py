"""Output for people: a rich console that prints text literally."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hstnn_deploy.foreign import visible


class Screen(Console):
    """A console that prints text literally: a name is never markup, and never moves the cursor or changes colours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of the output, without terminal control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Let the command line choose the exit code; rich would exit with another."""
        raise BrokenPipeError
