"""From the text of a kernel to machine code: once for all processes of a user, by LLVM, which llvmlite carries.

Machine code lies in the user's cache folder under the hash of all that it depends on, with a checksum: what was cut
short is compiled anew. The folder is ours alone: machine code that somebody else may write is not run. Where there is
no such folder, each process compiles for itself.
"""

import functools
import hashlib
import importlib.util
import os
import re
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy import __version__
from hstnn_deploy.errors import RunError
from hstnn_deploy.files import atomic
from hstnn_deploy.models.kernels.generated.source import Text

OLDEST = (0, 45)
"""The first llvmlite whose LLVM (20) knows pointers as texts here have them, and has its present passes."""

_PATIENCE = 1.0
"""Seconds after which a line says that a kernel is compiled."""

_lock = threading.RLock()
_told = False


def _after_fork() -> None:
    """Take a lock of one's own: this process never releases one that another thread of the parent holds."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Kernel(NamedTuple):
    """Machine code that has been loaded."""

    address: int
    kept: bool
    """Whether it was found in the cache folder."""


@functools.cache
def problem() -> str:
    """Return why nothing can be compiled, or an empty text. Imports llvmlite's library."""
    try:
        if importlib.util.find_spec("llvmlite") is None:
            return "llvmlite is not installed: pip install llvmlite"
        version = metadata.version("llvmlite")
        if tuple(int(each) for each in re.findall(r"\d+", version)[:2]) < OLDEST:
            return f"llvmlite {version} is too old: pip install 'llvmlite>={'.'.join(map(str, OLDEST))}'"
        _machine()
    except Exception as error:  # such as a library that does not load, or a processor that it has no code for
        return f"llvmlite does not work: {' '.join(str(error).split())}"
    return ""


def available() -> bool:
    """Whether kernels can be compiled."""
    return not problem()


def folder() -> Path:
    """Return where kernels are kept: below the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("hstnn-deploy") / "kernels"


def function(text: Text) -> Kernel:
    """Return the machine code of a text."""
    with _lock:
        return _loaded(text.source)


_engines: list[Any] = []
"""What holds machine code that has been loaded: for good."""


@functools.cache
def _loaded(source: str) -> Kernel:
    import llvmlite.binding as llvm

    path = _place(source)
    code = None if path is None else _kept(path)
    found = code is not None
    if code is None:
        with _telling(path):
            code = _compiled(source)
        if path is not None:
            _keep(path, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine()[0]())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return Kernel(engine.get_function_address("kernel"), found)


@functools.cache
def _machine() -> tuple[Any, str]:
    """Return what makes a target for this processor, and its name and abilities."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, name = llvm.get_process_triple(), llvm.get_host_cpu_name()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_triple(triple)
    make = functools.partial(
        target.create_target_machine, cpu=name, features=features, opt=3, codemodel="jitdefault", jit=True
    )
    make()
    return make, f"{triple} {name} {features}"


def _compiled(source: str) -> bytes:
    """Return the machine code of a text."""
    import llvmlite.binding as llvm

    machine = _machine()[0]()
    module = llvm.parse_assembly(source)
    module.verify()
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    code: bytes = machine.emit_object(module)
    return code


def _place(source: str) -> Path | None:
    """Return the file of a text's machine code, in a folder that is ours alone; None where that is impossible."""
    import llvmlite.binding as llvm

    path = folder()
    if not path.is_absolute():  # of a user without a home: it would lie wherever a program was started
        return None
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.stat()
    except OSError:
        return None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    version = f"{metadata.version('llvmlite')} {llvm.llvm_version_info}"
    all_of_it = "\n".join((__version__, version, _machine()[1], source))
    return path / f"{hashlib.sha256(all_of_it.encode()).hexdigest()[:40]}.kernel"


def _kept(path: Path) -> bytes | None:
    """Return the machine code in a file; None if the file is missing or was altered."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    with suppress(OSError, RunError), atomic(path) as temporary:
        temporary.write_bytes(hashlib.sha256(code).digest() + code)


@contextmanager
def _telling(path: Path | None) -> Iterator[None]:
    """Say once what takes so long."""

    def tell() -> None:
        global _told
        if not _told:
            _told = True
            kept = f"cached for later runs in {path.parent}" if path else f"not cached: {folder()} is not writable"
            print(f"compiling kernels for these neurons ({kept})", file=sys.stderr)

    timer = threading.Timer(_PATIENCE, tell)
    timer.daemon = True
    if not _told:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
