"""Run a bundle on an array: the command line of the standalone runner."""

import argparse
import sys
from pathlib import Path

import numpy as np

from hstnn_deploy.data.files.arrays import ARRAY_LIMIT, read_array
from hstnn_deploy.errors import HstnnError
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.export.runtime.values import in_words, valued


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the bundle beside this file on an array.")
    parser.add_argument(
        "--input", required=True, metavar="X.npy", help="x[T, B, …], or raw pixels or events, as numpy.save wrote it"
    )
    parser.add_argument("--output", metavar="LOGITS.npy", help="write the logits there")
    parser.add_argument("--steps", action="store_true", help="run one time step after another in the step graph")
    parser.add_argument("--early-exit", action="store_true", help="answer each sample at its exit in the step graph")
    parser.add_argument("--bundle", default=str(Path(__file__).parent / "bundle"), help="another bundle")
    parser.add_argument("--provider", default="cpu", help="cpu, cuda or cuda:n (default %(default)s)")
    parser.add_argument("--any-range", action="store_true", help="accept values outside the training range")
    parser.add_argument(
        "--max-array", type=float, metavar="GB", help="most bytes read into memory, in GB (default 2.1)"
    )
    options = parser.parse_args()
    steps = None
    try:
        session = Session(options.bundle, options.provider, any_range=options.any_range)
        limit = ARRAY_LIMIT if options.max_array is None else int(options.max_array * 1e9)
        x = session.taking.shaped(read_array(Path(options.input), limit=limit))
        if options.early_exit:
            logits, steps = session.run_early(x)
        elif options.steps:
            stream = session.stream(session.taking.batch(x))
            rows = []
            for now in session.taking.split(x):
                logits = stream.step(now)
                if session.tokens:
                    rows.append(logits)
            logits = np.stack(rows) if session.tokens else logits
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
    except MemoryError:
        print("error: out of memory", file=sys.stderr)
        return 10
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    last = logits[-1] if session.tokens else logits
    for number, row in enumerate(last):
        after = "" if steps is None else f", after {steps[number]} step{'s' if steps[number] != 1 else ''}"
        if session.values:
            print(f"sample {number}: {in_words(valued(session, row[None])[0])}")
            continue
        print(f"sample {number}: {'word' if session.tokens else 'class'} {row.argmax()}, logit {row.max():.6g}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
