"""One process of a sweep: `hstnn train`, which ends with the sweep and records the time and memory that it used.

python -m hstnn_deploy.cli.job RUN_FOLDER train RECIPE …
"""

import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from hstnn_deploy.cli.app import main as run_command
from hstnn_deploy.processes import GRACE, end_with_starter
from hstnn_deploy.runs import RunFolder

_STATUS = Path("/proc/self/status")


def main() -> NoReturn:
    """Run the command; if it finishes, add seconds and peak memory of this process to the run's status."""
    end_with_starter(GRACE)
    run = RunFolder(Path(sys.argv.pop(1)))
    start, before = time.monotonic(), run.status().get("epoch", 0)
    try:
        run_command()
    except SystemExit as left:
        if left.code == 0 and run.finished:
            took, steps = time.monotonic() - start, run.status().get("epoch", 0) - before
            run.set_status("finished", usage={"seconds": round(took, 3), "epochs": steps, **_memory()})
        raise


def _memory() -> dict[str, Any]:
    """Return the memory peaks of this process in bytes; None if they are unknown."""
    torch = sys.modules.get("torch")
    cuda = torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_initialized() else None
    return {"host_ram_peak": _resident_peak(), "cuda_peak": cuda}


def _resident_peak() -> int | None:
    # Not ru_maxrss, which on Linux survives exec: it could be the peak of the process that started this one.
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


if __name__ == "__main__":
    main()
