"""A process that ends when the one that started it is gone. Standard library only."""

import os
import signal
import threading
import time


def end_with_starter(patience: float = 0.0) -> None:
    """End this process as soon as its standard input closes.

    The starter holds the other end and never writes to it, so it closes when the starter ends, however that happens;
    then nobody is left to read the result.

    Args:
        patience: seconds in which it may end in an orderly way, as after SIGTERM; 0: it ends at once.
    """
    threading.Thread(target=_wait, args=(patience,), daemon=True).start()


def _wait(patience: float) -> None:
    # Not sys.stdin: a daemon thread inside its lock breaks the interpreter's shutdown.
    while os.read(0, 1):
        pass
    if patience:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
    os._exit(1)
