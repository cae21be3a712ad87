"""What a worker of a cluster hears, however its node was started; whole clusters run in tests/train/sweep."""

import signal
import subprocess
import sys

import pytest

HEARS = """
import _thread, signal, sys
from hstnn_deploy.cluster import heed_cancellations
if sys.argv[1] == "heed":
    heed_cancellations()
try:
    _thread.interrupt_main()  # as Ray says a cancellation
    for _ in range(1000): pass
except KeyboardInterrupt:
    print("heard")
"""


def _told(how: str, ignored: bool) -> str:
    def ignore() -> None:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell script starts what it starts with `&`

    done = subprocess.run(
        [sys.executable, "-c", HEARS, how], capture_output=True, text=True, check=True, preexec_fn=ignore
    )
    return done.stdout.strip()


@pytest.mark.parametrize("ignored", [False, True])
def test_a_cancellation_is_heard_though_the_node_was_started_in_the_background(ignored: bool) -> None:
    assert _told("heed", ignored) == "heard"


def test_without_it_such_a_worker_hears_nothing() -> None:
    assert _told("plain", True) == ""
