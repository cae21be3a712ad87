"""What measuring one phase gives, before it becomes a record."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.values import Value

Meet = Callable[[], None]
"""Called once all is warm; returns when every process that is measured at the same time is."""


class Absent(ProfileError):
    """There is nothing to measure, which is no failure: the record says n/a, and why."""


@dataclass
class Findings:
    """Values, facts and single measurements of a phase."""

    values: list[Value]
    facts: dict[str, Any]
    series: dict[str, list[float]] = field(default_factory=dict)
    """Single measurements in order, in seconds."""
    main: str = ""
    """The span that the whole was about: its memory and CPU figures stand beside the values."""
