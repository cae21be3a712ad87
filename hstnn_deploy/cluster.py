"""A Ray cluster: connect to one or start one here, query its nodes, and stop tasks (extra `cluster`)."""

import importlib.util
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy import processes
from hstnn_deploy.errors import DeviceError, UsageError

_OBJECT_STORE = 200 * 2**20
"""Bytes of shared memory for a head of our own: what passes through it are files of a few megabytes each."""

_PATIENCE = 5.0
"""Seconds in which an address must answer."""


class Node(NamedTuple):
    """A machine of a cluster, as it was when it was queried."""

    number: str
    """Its name in Ray."""
    name: str
    """The name of the host."""
    address: str
    """The host's address; several nodes on one machine share it."""
    cpus: int
    gpus: int


def connect(
    address: str | None,
    *,
    cpus: int | None = None,
    gpus: Sequence[int] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Any:
    """Connect to a cluster, or start one on this machine; return the module `ray`. `ray.shutdown` leaves or ends it.

    Args:
        address: HOST:PORT of a head, ray://HOST:PORT, or auto; None starts a head here.
        cpus: cores of that head (None: all).
        gpus: GPUs of that head, as torch counts here (None: all).
        variables: environment variables of that head, besides.

    Raises:
        UsageError: Ray is not installed, or the address is invalid.
        DeviceError: nothing answers there.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--executor ray needs Ray, which is not installed", "pip install 'hstnn-deploy[cluster]'")
    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    around = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _OBJECT_STORE}
        options |= {} if gpus is None else {"num_gpus": len(gpus)}
        here = processes.environment()
        around |= {"PYTHONPATH": here["PYTHONPATH"]} if "PYTHONPATH" in here else {}
        around |= variables or {}
        if gpus:
            shown = [processes.environment(f"cuda:{number}")["CUDA_VISIBLE_DEVICES"] for number in gpus]
            around["CUDA_VISIBLE_DEVICES"] = ",".join(shown)
    else:
        _check_address(address)
    handler = signal.getsignal(signal.SIGTERM)
    with _environment(around), _silence():
        import ray  # reads some of the variables as it is imported

        try:
            ray.init(**options)
        except (ray.exceptions.RayError, RuntimeError, ValueError, ImportError, OSError) as error:
            what = f"there is no Ray cluster at {address}" if address else "Ray cannot start here"
            hint = "`ray status` shows whether it runs; if it requires a token, set RAY_AUTH_MODE=token"
            raise DeviceError(f"{what}: {said(error)}", hint if address else "") from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray's own handler exits without stopping the work
    return ray


def nodes(ray: Any) -> list[Node]:
    """Return the current nodes, sorted by name."""
    found = []
    for each in ray.nodes():
        if each["Alive"]:
            cpus, gpus = (int(each["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
            found.append(Node(each["NodeID"], each["NodeManagerHostname"], each["NodeManagerAddress"], cpus, gpus))
    return sorted(found, key=lambda node: (node.name, node.number))


def on(node: Node) -> Any:
    """Return the option `scheduling_strategy` that makes a task run on this node only."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.number, soft=False)


def ask(ray: Any, where: Sequence[Node], function: Callable[..., Any], *words: Any) -> list[Any]:
    """Return a function's result on each of some nodes; it occupies no core, so that busy nodes answer too."""
    remote = ray.remote(num_cpus=0, max_retries=0)(function)
    return list(ray.get([remote.options(scheduling_strategy=on(node)).remote(*words) for node in where]))


def heed_cancellations() -> None:
    """Let a cancellation reach this worker; called at the beginning of a task.

    Ray sends SIGINT. A process that was started in the background of a shell script ignores that signal, and so do
    all that it starts: nodes, workers and their tasks.
    """
    if (
        signal.getsignal(signal.SIGINT) in {signal.SIG_IGN, None}
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def stop(ray: Any, running: Sequence[Any]) -> None:
    """Cancel the tasks of some results and wait until they end; force them if they do not."""
    # On a busy node a cancellation can get lost, so it is sent again, but not before one that was heard has had its
    # time: it would cut that short. Who never hears it is ended with its worker.
    left = list(running)
    for force in (False, False, True):
        for reference in left:
            ray.cancel(reference, force=force)
        _, left = ray.wait(left, num_returns=len(left), timeout=processes.GRACE + 5) if left else ([], [])


def said(error: Exception) -> str:
    """Return the message of a Ray exception in one short line; for an error inside a task, that error's message."""
    cause = getattr(error, "cause", None)
    text = f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(error)
    return " ".join(text.split())[:300]


def _check_address(address: str) -> None:
    """Refuse an invalid address, or one where nothing answers: Ray itself would try for minutes."""
    if address == "auto":
        return
    if not (match := re.fullmatch(r"(?:ray://)?\[?([^\s/]+?)\]?:(\d{1,5})", address)) or int(match[2]) > 65535:
        raise UsageError(f"--address {address!r} is not an address", "give HOST:PORT, ray://HOST:PORT, or auto")
    try:
        socket.create_connection((match[1], int(match[2])), _PATIENCE).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeviceError(
            f"nothing answers at --address {address}: {reason}", "start a head there with `ray start --head`"
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress what Ray's C++ side logs to standard error while it connects; Ray raises what matters."""
    sys.stderr.flush()
    before = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while: what Ray starts inherits them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
