"""What is drawn for people: rich's console, on which text is text."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hstnn_deploy.foreign import visible


class Screen(Console):
    """A console on which text is text: a name is never markup, and never moves the cursor or changes its colour."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, without what a terminal would obey."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Let the command line say how it ends; rich would leave with another exit code."""
        raise BrokenPipeError
