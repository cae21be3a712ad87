"""`make attack`: every attack for a time, then a table of counts; exits with 1 if a case failed.

python -m tests.attacks [--minutes 30] [--seed N] [--keep DIR] [--only WORD] [--repeat FILE]
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.attacks import libraries, processes
from tests.attacks.box import Box
from tests.attacks.fuzz import Range
from tests.attacks.payloads import Shot
from tests.attacks.tally import Result, Shares, Tally, until_stopped
from tests.attacks.yard import Yard


def main() -> None:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random (default: another each time)")
    parser.add_argument("--keep", type=Path, default=Path("attack-failures"), help="the folder for failing cases")
    parser.add_argument("--only", default="", help="only attacks whose name has this word in it")
    parser.add_argument("--repeat", type=Path, help="do a kept case again, and show all it prints")
    given = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="hstnn-attack-"))
    try:
        yard = Yard(root / "yard")
        yard.root.mkdir()
        if given.repeat:
            sys.exit(repeat(Range(yard, root / "files"), given.repeat))
        seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
        print(f"== attacks for {given.minutes:g} minutes, seed {seed}; failing cases go to {given.keep}", flush=True)
        tally = Tally(given.keep)
        with until_stopped():
            everything = attacks(yard, root, seed, given.only)
            said = time.monotonic()
            for result in Shares(everything).results(given.minutes):
                tally.add(result)
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    cases = sum(row.cases for row in tally.rows.values())
                    print(f"{cases} cases, {tally.failures} failures", flush=True)
        print(tally.table(), flush=True)
        sys.exit(1 if tally.failures else 0)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def attacks(yard: Yard, root: Path, seed: int, only: str = "") -> dict[str, tuple[float, Iterator[Result]]]:
    """Return the attacks by name, each with its share of the time."""
    range_ = Range(yard, root / "files")
    box, dice = Box(root / "processes" / "box"), random.Random(seed)
    found = {
        "damaged files": (8.0, range_.fuzz(seed)),
        **range_.shots(),
        "moments": (6.0, processes.moments(box, yard, dice)),
        "signals": (4.0, processes.stopped(box, dice)),
        "ten trainings in a folder": (0.5, processes.crowded(box)),
        "surroundings": (1.0, processes.surrounding(box, yard)),
        "full disk, mounted": (1.0, processes.full_disk(box, yard, dice)),
        libraries.NAME: (1.0, libraries.networks(dice)),
        "SIGINT while it begins": (1.0, processes.interrupted_imports(box, yard, dice)),
    }
    return {name: each for name, each in found.items() if only in name}


def repeat(range_: Range, path: Path) -> int:
    """Do a kept case again."""
    about = json.loads(path.read_text())
    if not about["kind"]:
        print(f"this was no file: {about['label']}; run `python -m tests.attacks --only …` for its attack")
        return 2
    shot = Shot(about["kind"], about["label"], path.with_suffix(".bin").read_bytes())
    result = range_.tried(about["attack"], shot)
    print(result.outcome.out, result.outcome.err, sep="\n")
    print(f"exit code {result.outcome.code}; {result.complaint or 'nothing is wrong'}")
    range_.worker.close()
    return bool(result.complaint)


if __name__ == "__main__":
    main()
