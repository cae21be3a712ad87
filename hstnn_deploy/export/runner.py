"""Run a bundle on an array: the command line of the standalone runner."""

import argparse
import sys
from pathlib import Path

import numpy as np

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.export.runtime import Session


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the bundle beside this file on an array.")
    parser.add_argument(
        "--input", required=True, metavar="X.npy", help="x[T, B, …], or raw pixels or events, as numpy.save wrote it"
    )
    parser.add_argument("--output", metavar="LOGITS.npy", help="write the logits there")
    parser.add_argument("--steps", action="store_true", help="one time step after another, in the step graph")
    parser.add_argument("--bundle", default=str(Path(__file__).parent / "bundle"), help="another bundle")
    parser.add_argument("--provider", default="cpu", help="cpu, cuda or cuda:n (default %(default)s)")
    options = parser.parse_args()
    try:
        session = Session(options.bundle, options.provider)
        x = session.checked(np.load(options.input, allow_pickle=False))
        if options.steps:
            stream = session.stream(session.taking.batch(x))
            rows = [stream.step(now) for now in session.taking.split(x)]
            logits = np.stack(rows) if session.tokens else rows[-1]
        else:
            logits = session.run(x)
        if options.output:
            np.save(options.output, logits)
    except HstnnError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    last = logits[-1] if session.tokens else logits
    for number, row in enumerate(last):
        print(f"sample {number}: {'word' if session.tokens else 'class'} {row.argmax()}, logit {row.max():.6g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
