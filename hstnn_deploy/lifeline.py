"""A process that ends when the one that started it is gone. Standard library only."""

import os
import threading


def end_with_starter() -> None:
    """End this process as soon as its standard input closes.

    The starter holds the other end and never writes to it, so it closes when the starter ends, however that happens;
    then nobody is left to read the result.
    """
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    # Not sys.stdin: a daemon thread inside its lock breaks the interpreter's shutdown.
    while os.read(0, 1):
        pass
    os._exit(1)
