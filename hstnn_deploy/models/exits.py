"""When a network's answer may be given before all time steps are seen.

    confidence   the largest probability of the answer so far, max softmax(logits), is at least a threshold
    scale        at this step, every normalisation's mean over channels of |scale_t| is below a threshold

The second is BNTT's idea (Frontiers in Neuroscience 15:773954); its rule is not published as code: this one is ours. It
concerns layers that normalise each step by itself, and is the same for all samples.

Shapes: B batch, n answers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.algebra import Algebra, Normed, V

Rule = Literal["confidence", "scale"]
RULES: tuple[Rule, ...] = get_args(Rule)

EXIT = "exit"
"""The name, in graphs, of the output that says whether the answer may be given."""
EXIT_MEANING = "1 where the answer after this step may be given, else 0"

_HINT = "give confidence=P with P above 0 and at most 1, or scale=S with S above 0"


@dataclass(frozen=True)
class Exit:
    """A rule and its threshold.

    Raises:
        UsageError: an unknown rule, or an invalid threshold.
    """

    rule: Rule
    threshold: float

    def __post_init__(self) -> None:
        """Check both."""
        if self.rule not in RULES:
            raise UsageError(f"unknown exit rule {str(self.rule)[:40]!r}", _HINT)
        most = 1.0 if self.rule == "confidence" else float("inf")
        # Written so that NaN is refused.
        if not (0 < self.threshold <= most and self.threshold < float("inf")):
            raise UsageError(f"the exit {self.rule} has the invalid threshold {self.threshold:g}", _HINT)

    def reached(self, o: Algebra[V], logits: V, after: Mapping[str, V], norms: Mapping[str, Normed]) -> V:
        """Return 1 where the answer may be given, else 0, [B].

        Args:
            o: the reading.
            logits: after the steps seen so far, [B, n].
            after: the states after them.
            norms: see `Network.step_norms`.
        """
        if self.rule == "confidence":
            return o.compared(o.likeliest(logits, "confidence"), "at least", self.threshold, EXIT)
        held = [
            self._below(o, after[state], norm, state, EXIT if len(norms) == 1 else f"{state}_{EXIT}")
            for state, norm in norms.items()
        ]
        found = held[0]
        for number, each in enumerate(held[1:], 2):
            found = o.mul(found, each, EXIT if number == len(held) else f"{EXIT}_{number}")
        return found

    def _below(self, o: Algebra[V], steps: V, norm: Normed, state: str, name: str) -> V:
        """Return whether a norm's scale is small at the last of the steps seen."""
        size = o.mean_scale(norm, o.sub(steps, 1.0, f"{state}_last"), f"{state}_mean_scale")
        return o.compared(size, "below", self.threshold, name)

    def plain(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def parse_exit(text: str) -> Exit:
    """Return the exit that `confidence=0.9` or `scale=0.1` says.

    Raises:
        UsageError: it is not valid.
    """
    rule, _, number = text.partition("=")
    try:
        threshold = float(number)
    except ValueError as error:
        raise UsageError(f"{text[:60]!r} is not an exit", _HINT) from error
    return Exit(rule.strip(), threshold)  # type: ignore[arg-type]
