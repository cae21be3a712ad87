"""Networks of other libraries beside ours, at random for as long as there is time: see tests/models/test_peers.py."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from random import Random

from tests.attacks.outcome import Outcome
from tests.attacks.tally import Result

NAME = "peers' networks"
_TESTS = "tests/models/test_peers.py"


def networks(random: Random) -> Iterator[Result]:
    """Yield a result for each run of the comparisons, which draw their networks anew."""
    if not all(map(find_spec, ("snntorch", "spikingjelly", "sinabs"))):
        return
    while True:
        seed = random.randrange(2**32)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}"]
        done = subprocess.run(
            [*command, _TESTS], capture_output=True, text=True, env=os.environ | {"HSTNN_HYPOTHESIS": "free"}
        )
        said = [line for line in done.stdout.splitlines() if line.startswith(("E  ", "FAILED"))]
        complaint = "" if done.returncode == 0 else " ".join(said)[:500] or f"exit code {done.returncode}"
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
        yield Result(NAME, outcome, complaint, label=f"--hypothesis-seed={seed}", content=done.stdout.encode())
