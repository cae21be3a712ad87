"""Start our own modules as processes that end with their starter, and say how they ended.

Standard library only.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import hstnn_deploy

GRACE = 20.0
"""Seconds that a process has to shut down before it is killed."""


def command(module: str, *words: str) -> list[str]:
    """Return the command line that runs one of our modules, such as "profile.run.worker", with this interpreter."""
    # -P: a file called `json.py` in the current folder must not become part of the process.
    return [sys.executable, "-P", "-m", f"hstnn_deploy.{module}", *words]


def environment(device: str | None = None) -> dict[str, str]:
    """Return this process's environment variables for such a process.

    Args:
        device: `cpu` or `cuda:N`, N as torch counts here: the process sees no GPU, or this one alone, as number 0.
            None: it sees what this process sees.
    """
    variables = dict(os.environ)
    if device is not None:
        variables["CUDA_VISIBLE_DEVICES"] = _visible(device)
    root = Path(hstnn_deploy.__file__).parent.parent
    if root.name not in {"site-packages", "dist-packages"}:
        # Run from a checkout, perhaps without an installation.
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), variables.get("PYTHONPATH")]))
    return variables


def _visible(device: str) -> str:
    if device == "cpu":
        return ""
    number = int(device.removeprefix("cuda:"))
    # This process's GPU N is the N-th of those that are visible to it.
    given = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    return given[number] if number < len(given) else str(number)


def cause(code: int, printed: str) -> str:
    """Return in one line how a process failed; "" if it did not."""
    if code == 0:
        return ""
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "")
    return f"ended with exit code {code}: {last}" if last else f"ended with exit code {code}"


def end_with_starter(patience: float = 0.0) -> None:
    """End this process as soon as its standard input closes.

    The starter holds the other end and never writes to it, so it closes when the starter ends, however that happens;
    then nothing reads the result any more.

    Args:
        patience: seconds in which it may shut down, as after SIGTERM; 0: it ends at once.
    """
    threading.Thread(target=_wait, args=(patience,), daemon=True).start()


def _wait(patience: float) -> None:
    # Not sys.stdin: a daemon thread inside its lock breaks the interpreter's shutdown.
    while os.read(0, 1):
        pass
    if patience:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
    os._exit(1)
