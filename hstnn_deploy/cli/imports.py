"""Imports of large libraries by a process of ours, without Python's search for cyclic garbage."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module


@contextmanager
def unsearched() -> Iterator[None]:
    """Import meanwhile without searching for cyclic garbage, and leave what was imported out of every later search.

    A library's modules live as long as the process. Python yet searches them while they are imported, whenever a
    quarter more has come, and at the end of the process: a third of the time that `import torch` takes. For processes
    that are ours; in somebody else's, what they hold would never be collected.
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
    """Import torch, for a command that needs it; see `unsearched`. It does nothing where torch is imported."""
    _import("torch")


def import_onnxruntime() -> None:
    """Import ONNX Runtime and numpy likewise."""
    _import("onnxruntime")


def _import(name: str) -> None:
    # What cannot be imported is said by the module that needs it.
    if name not in sys.modules:
        with unsearched(), suppress(ImportError):
            import_module(name)
