"""Every mistake has a class, and every class an exit code.

HstnnError              1
├── UsageError          2   an invalid option, name or value
│   └── RecipeError     2   an invalid recipe
├── DataError           3   a data set that is missing, truncated or not what it claims
├── CheckpointError     4   a checkpoint that is missing, damaged, foreign, unsafe or too new
├── RunError            5   a run folder that cannot be written, continued or mixed
├── DeviceError         6   a requested device or cluster that is not available
├── ExportError         7   a network that cannot be exported
│   ├── ImportRefused  15   a network from another library that hstnn does not support, or could not prove equal
│   └── VerificationError 8 an exported file that does not compute what the network computes
├── ProfileError        9   a measurement that cannot be taken
├── OutOfMemoryError   10   work that does not fit into memory
├── BundleError        11   a bundle that is missing, damaged, or not what its manifest says
├── SweepError         12   a sweep in which some jobs failed
├── ReportError        13   results that cannot be compared, or that cannot decide a condition
│   └── ConditionMet   14   a comparison that meets a `--fail-if` condition
└── Interrupted       130   stopped by Ctrl-C or SIGTERM; what was finished is kept

Any unexpected error exits with 70.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class HstnnError(Exception):
    """An explained mistake: `message` says what was given and what is wrong, `hint` what would work."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.others: tuple[HstnnError, ...] = ()
        """Other mistakes that were found at the same time."""


class UsageError(HstnnError):
    """An invalid option, name or value."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe with an unknown key, a wrong type or an impossible value; the message gives the key's path."""


class DataError(HstnnError):
    """A data set that is missing, truncated, or not what it claims to be."""

    exit_code = 3


class CheckpointError(HstnnError):
    """A checkpoint that is missing, damaged, from another program, unsafe to load, or from a newer format."""

    exit_code = 4


class RunError(HstnnError):
    """A run folder that cannot be written, is in use, or belongs to another recipe."""

    exit_code = 5


class DeviceError(HstnnError):
    """A device or cluster that was requested by name and is not available."""

    exit_code = 6


class ExportError(HstnnError):
    """A network that cannot be exported as requested."""

    exit_code = 7


class ImportRefused(ExportError):
    """A network from another library that hstnn does not support, or could not prove equal."""

    exit_code = 15


class VerificationError(ExportError):
    """An exported file that failed a check."""

    exit_code = 8


class ProfileError(HstnnError):
    """A measurement that cannot be taken."""

    exit_code = 9


class OutOfMemoryError(HstnnError):
    """Work that does not fit into the memory of the machine or the GPU."""

    exit_code = 10


class BundleError(HstnnError):
    """A bundle that is missing, damaged, incomplete, or not what its manifest says."""

    exit_code = 11


class SweepError(HstnnError):
    """A sweep in which some jobs failed; the others have finished."""

    exit_code = 12


class ReportError(HstnnError):
    """Results that cannot be compared, or that cannot decide a condition."""

    exit_code = 13


class ConditionMet(ReportError):
    """A comparison that meets a condition given with `hstnn compare --fail-if`."""

    exit_code = 14


class Interrupted(HstnnError):
    """Work stopped by Ctrl-C or SIGTERM; what was finished is kept."""

    exit_code = 130


_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "unable to allocate",
    "failed to allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "bad_alloc",
    "bad allocation",
    "storage size calculation overflowed",
    "overflow when unpacking long",
)
"""Phrases with which Python, numpy, torch, CUDA and ONNX Runtime report a lack of memory."""


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """Return an OutOfMemoryError if `error` reports a lack of memory; otherwise None."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return OutOfMemoryError(
            f"out of memory: {' '.join(text.split())[:200] or type(error).__name__}",
            "choose a smaller batch (--set batch=…) or fewer units (--set network.units=[…])",
        )
    return None


def nearest(given: str, known: Iterable[str]) -> str:
    """Return a hint with the known name that `given` probably means, or with all known names."""
    known = sorted(known)
    close = get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
