"""From the text of a kernel to machine code: once for all processes of a user, by numba.

A text and its machine code lie in the user's cache folder, under the hash of the text. The folder is ours alone:
machine code that somebody else may write is not run. Where there is no such folder, each process compiles for itself.
"""

import functools
import hashlib
import importlib.util
import linecache
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hstnn_deploy import __version__
from hstnn_deploy.errors import RunError
from hstnn_deploy.files import atomic
from hstnn_deploy.models.kernels.generated.source import Text

_PATIENCE = 1.0
"""Seconds after which a line says that a kernel is compiled."""

_lock = threading.RLock()
_told = False


@functools.cache
def problem() -> str:
    """Return why nothing can be compiled, or an empty text. Imports numba."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install numba"
    try:
        from numba.core import config
    except Exception as error:  # such as a numpy that is too new for it
        return f"numba cannot be imported: {' '.join(str(error).split())}"
    return "numba is switched off by NUMBA_DISABLE_JIT" if getattr(config, "DISABLE_JIT", False) else ""


def available() -> bool:
    """Whether kernels can be compiled."""
    return not problem()


def folder() -> Path:
    """Return where kernels are kept: below NUMBA_CACHE_DIR, or the user's cache folder."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given) / "hstnn-deploy"
    from platformdirs import user_cache_path

    return user_cache_path("hstnn-deploy") / "kernels"


def function(text: Text) -> Callable[..., None]:
    """Return the machine code of a text, which lets other Python threads run meanwhile."""
    with _lock:
        return _function(text.source, text.signature)


@functools.cache
def _function(source: str, signature: str) -> Callable[..., None]:
    import numba

    source = f'"""Written by hstnn-deploy {__version__} for numba {numba.__version__}."""\n\n{source}'
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    # A name of its own for the linker too: of two functions of one name, loaded from files, it might take the other.
    source = source.replace("def run(", f"def {name}(")
    path = _kept(name, source)
    place = str(path) if path else f"<{name}>"
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    # What is run is our own text; the file is there for numba's cache, and for people. What numba finds in its cache it
    # loads as of a module that can be imported: this one.
    found: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, place, "exec"), found)
    options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy", "pipeline_class": _pipeline()}
    run: Callable[..., None]
    with _telling(path):
        if path:
            # A full disk, a file cut short, another version's: numba's errors about its cache are of many kinds.
            try:
                run = numba.njit(signature, cache=True, **options)(found[name])
                return run
            except Exception:
                for each in path.parent.rglob(f"{name}.*.nb?"):
                    with suppress(OSError):
                        each.unlink()
        run = numba.njit(signature, **options)(found[name])
        return run


@functools.cache
def _pipeline() -> type:
    """Return numba's usual passes, told that no two arrays overlap: else it would not use vectors for many arrays."""
    from numba.core.compiler import CompilerBase, DefaultPassBuilder

    class Apart(CompilerBase):
        def define_pipelines(self) -> list[Any]:
            self.state.flags.noalias = True
            return [DefaultPassBuilder.define_nopython_pipeline(self.state)]  # type: ignore[no-untyped-call]

    return Apart


def _kept(name: str, source: str) -> Path | None:
    """Return the file of a text, written where there is none yet; None where none can be."""
    path = folder() / f"{name}.py"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.parent.stat()
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return None
        if not path.is_file() or path.read_text() != source:
            with atomic(path) as temporary:
                temporary.write_text(source)
                # numba knows a file by its time and size: the same, whichever process wrote it.
                os.utime(temporary, (0, 0))
        return path if os.access(path.parent, os.W_OK) else None
    except (OSError, UnicodeError, RunError):
        return None


@contextmanager
def _telling(path: Path | None) -> Iterator[None]:
    """Say once what takes so long, where there is no machine code yet."""

    def tell() -> None:
        global _told
        if not _told:
            _told = True
            where = f"once for all runs: they are kept in {path.parent}" if path else f"which {folder()} cannot keep"
            print(f"compiling kernels for these neurons, {where}", file=sys.stderr)

    timer = threading.Timer(_PATIENCE, tell)
    timer.daemon = True
    # numba's files lie beside ours, or in a folder that NUMBA_CACHE_DIR names.
    if not _told and not (path and any(path.parent.parent.glob(f"*/**/{path.stem}.*.nbc"))):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
