"""`hstnn` and `python -m hstnn_deploy`: the command line, whose own start may be interrupted as well."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; see `hstnn_deploy.cli.app`."""
    try:
        from hstnn_deploy.cli.app import main as run
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
