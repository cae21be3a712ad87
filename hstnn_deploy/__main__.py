"""`hstnn` and `python -m hstnn_deploy`: the command line; Ctrl-C also works while it starts."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; see `hstnn_deploy.cli.app`."""
    # Set before torch is imported: torch then asks Linux for large pages for large tensors. A step of a convolutional
    # network allocates and frees hundreds of megabytes, and touching them page by page took a third of its time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        from hstnn_deploy.cli.imports import unsearched

        with unsearched():
            from hstnn_deploy.cli.app import main as run
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
