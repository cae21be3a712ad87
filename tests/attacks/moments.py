"""A command that is stopped, or finds the disk full, at the n-th change that it makes to a file; and the next start.

Every moment is tried by its number, not by a clock, so it does not depend on the machine's speed.
"""

import contextlib
import errno
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hstnn_deploy.export.runtime.manifest import check_files, read_manifest
from tests.attacks.box import Box, temporary
from tests.attacks.outcome import Limits, Outcome, complaint
from tests.attacks.worker import Words, called, end_with_parent
from tests.attacks.yard import Yard
from tests.conftest import TINY, options
from tests.contents import contents
from tests.export.cases import Case

Act = Literal["SIGKILL", "SIGINT", "SIGTERM", "full", "limit"]
"""How a command is disturbed: by a signal; by a disk that is full from then on; by files that cannot grow beyond n."""

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LIMITS = Limits(seconds=300, memory=2**32)


class Deed(NamedTuple):
    """A command that writes."""

    name: str
    prepare: Callable[[Box], object]
    """Writes what lies there before."""
    words: Callable[[Box], Words]
    seen: Callable[[Box], object]
    """What must be the same in the end, whatever came between."""
    again: tuple[str, ...] = ()
    """What the command is called with besides, to go on."""
    whole: Callable[[Box], object] = lambda box: None
    """Fails where what lies there at any moment is damaged."""


def deeds(yard: Yard) -> list[Deed]:
    """Return the commands that are disturbed."""
    tiny = ["train", "digits", *options(TINY)]

    def export(*more: str) -> Callable[[Box], Words]:
        return lambda box: ["export", "--ckpt", _other(yard), "--out", box.out / "bundle", *more]

    def old_bundle(box: Box) -> None:
        shutil.copytree(yard.bundle("sequence"), box.out / "bundle")

    def old_data(box: Box) -> None:
        shutil.copytree(yard.data / "nmnist", box.given / "nmnist")

    return [
        Deed(
            "train snn",
            _nothing,
            lambda box: [*tiny, "--kind", "snn", "--out", box.out / "runs"],
            lambda box: contents(box.out / "runs"),
            ("--resume",),
        ),
        Deed(
            "train hybrid",
            _nothing,
            lambda box: [*tiny, "--out", box.out / "runs"],
            lambda box: contents(box.out / "runs"),
            ("--resume",),
        ),
        Deed("export", _nothing, export("--no-verify"), _graphs, whole=_sound),
        Deed("export over a bundle", old_bundle, export("--no-verify"), _graphs, whole=_there),
        Deed("export and prove", old_bundle, export(), _graphs, whole=_there),
        Deed(
            "export of all", old_bundle, export("--no-verify", "--onnx", "--torchscript", "--pt2"), _names, whole=_there
        ),
        Deed(
            "data prepare",
            old_data,
            lambda box: ["data", "prepare", "nmnist", "--data-dir", box.given],
            lambda box: _bytes(box.out / "cache"),
        ),
    ]


def _nothing(box: Box) -> None:
    pass


def _other(yard: Yard) -> Path:
    """Return a checkpoint other than that of the bundle."""
    path = yard.root / "other.pt"
    return path if path.exists() else Case("sequence", "snn").checkpoint(path)


def _bytes(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.endswith(".lock")}


def _names(box: Box) -> list[str]:
    return sorted(str(path.relative_to(box.out)) for path in box.out.rglob("*"))


def _graphs(box: Box) -> dict[str, bytes]:
    """Return the graphs of the bundle, and the names of all that lies there; its manifest says when it was made."""
    graphs = {path.name: path.read_bytes() for path in (box.out / "bundle").glob("*.onnx")}
    return graphs | dict.fromkeys(_names(box), b"")


def _sound(box: Box) -> None:
    if (box.out / "bundle").exists():
        _there(box)


def _there(box: Box) -> None:
    check_files(box.out / "bundle", read_manifest(box.out / "bundle"))


def disturbed(box: Box, words: Words, act: Act | None = None, number: int = 0) -> tuple[Outcome, int]:
    """Run a command in a forked process, disturbed at a moment; return what became of it, and its number of changes."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        _run_disturbed(box, words, act, number, writing)
    os.close(writing)
    begun = time.monotonic()
    status: int | None = None
    while status is None and time.monotonic() - begun < 20 * LIMITS.seconds:
        ended, found = os.waitpid(process, os.WNOHANG)
        if ended:
            status = found
        else:
            time.sleep(0.005)
    if status is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    with os.fdopen(reading, "rb") as pipe:
        count = int(pipe.read() or 0)
    out, err = box.printed()
    if status is None:
        return Outcome(None, out, err, f"not done after {20 * LIMITS.seconds:g} s"), count
    code = os.waitstatus_to_exitcode(status)
    ended_by = f"was ended by signal {-code}: {err[-200:]!r}" if code < 0 else ""
    return Outcome(None if code < 0 else code, out, err, ended_by), count


def _run_disturbed(box: Box, words: Words, act: Act | None, number: int, writing: int) -> None:
    code = 99
    try:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        box.enter()
        counted = _disturb(str(box.root.resolve()), act, number)
        if act == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (number, resource.RLIM_INFINITY))
        code = called(words)
        with contextlib.suppress(OSError):
            os.write(writing, str(counted[0]).encode())
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code % 256)


def _disturb(root: str, act: Act | None, number: int) -> list[int]:
    """Count from now on the changes that this process makes to files below a folder, and act at one of them."""
    counted = [0]

    def hook(event: str, details: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(details[2], int) and bool(details[2] & _WRITES)
        if not (writes or event in _CHANGES) or not isinstance(details[0], str | os.PathLike):
            return
        if Path(details[0]).is_absolute() and not os.path.realpath(details[0]).startswith(root):
            return
        counted[0] += 1
        if act == "full":
            if counted[0] >= number and (writes or event == "os.mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(details[0]))
        elif act not in (None, "limit") and counted[0] == number:
            os.kill(os.getpid(), signal.Signals[act])

    sys.addaudithook(hook)
    return counted


def undisturbed(box: Box, deed: Deed) -> tuple[object, int]:
    """Return what a command leaves when nothing disturbs it, and how many changes it makes."""
    box.begin()
    deed.prepare(box)
    outcome, count = disturbed(box, deed.words(box))
    assert outcome.code == 0, outcome.err
    return deed.seen(box), count


def tried(box: Box, deed: Deed, act: Act, number: int, wanted: object) -> tuple[str, Outcome]:
    """Disturb a command once and start it again; return what is wrong, "" where nothing is, and how it ended."""
    box.begin()
    deed.prepare(box)
    first, _ = disturbed(box, deed.words(box), act, number)
    return "; ".join(filter(None, _wrong(box, deed, act, first, wanted))), first


def _wrong(box: Box, deed: Deed, act: Act, first: Outcome, wanted: object) -> Iterator[str]:
    if act == "SIGKILL":
        yield "" if first.ended.startswith("was ended by signal 9") or first.code == 0 else f"ended with {first}"
    else:
        yield complaint(first, LIMITS)
        # A signal may come when all is done but the end.
        expected = {0, 130} if act.startswith("SIG") else {0, 3, 5, 7, 11}
        yield "" if first.code in expected or first.ended else f"exit code {first.code}: {first.err[-200:]}"
    try:
        deed.whole(box)
    except Exception as error:
        yield f"damaged after the first: {error}"
    second, _ = disturbed(box, [*deed.words(box), *deed.again])
    yield f"the next start: {again}" if (again := complaint(second, LIMITS)) else ""
    if second.code != 0:
        yield f"the next start ended with {second.code}: {second.err[-300:]}"
        return
    try:
        yield "" if deed.seen(box) == wanted else "the next start ends with something else than an undisturbed run"
    except Exception as error:
        yield f"damaged after the next start: {type(error).__name__}: {error}"
    left = temporary(box)
    yield f"left in the temporary folder after the next start: {', '.join(left)}" if left else ""
