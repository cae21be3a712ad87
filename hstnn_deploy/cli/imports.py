"""Fast imports of large libraries in our own processes, without Python's search for cyclic garbage."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module


@contextmanager
def unsearched() -> Iterator[None]:
    """Import without searching for cyclic garbage, and exclude what was imported from every later search.

    A library's modules live as long as the process. Yet Python searches them repeatedly during the import, and at the
    end of the process: a third of the time that `import torch` takes. Only for our own processes: in another
    program, objects that exist before the import would never be collected.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()


def import_torch() -> None:
    """Import torch for a command that needs it, unless it is imported already; see `unsearched`."""
    _import("torch")


def import_onnxruntime() -> None:
    """Import ONNX Runtime and numpy in the same way."""
    _import("onnxruntime")


def _import(name: str) -> None:
    # The module that needs the library reports a failed import.
    if name not in sys.modules:
        with unsearched(), suppress(ImportError):
            import_module(name)
