"""Threads that run a kernel: torch's own.

The threads of torch's operations keep a core busy for a while after each of them, waiting for the next. Threads of any
other pool, which run right after an operation, share the cores with these. Forward of LIF over [28, 80000] on two
cores, right after a copy by torch, took 0.78 ms on torch's threads, 1.27 on Python's and 1.14 on one thread; over
[500, 16384] 3.3, 4.9 and 4.8 (medians of 40, in turns).
"""

import ctypes
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

_forked = False


def run(kernel: int, words: Any, threads: int) -> None:
    """Run a kernel at an address on its words by up to `threads` threads at once, and wait.

    A kernel takes its work from a counter: fewer threads than were asked for do all of it as well, such as the one that
    there is inside of a parallel region.
    """
    if threads < 2:
        _called(kernel)(words)
    elif (parallel := _parallel()) is not None and not _forked:
        parallel(kernel, words, threads, 0)
    else:
        call = _called(kernel)
        others = [_pool().submit(call, words) for _ in range(threads - 1)]
        call(words)
        for other in others:
            if not other.cancel():
                other.result()


@functools.cache
def _called(kernel: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel)


@functools.cache
def _parallel() -> Any:
    """Return GOMP_parallel of the OpenMP library that torch calls; None where it has none by this name.

    It is looked for as the linker does it for torch: in the whole program, and then in what torch itself was linked to.
    GNU's library has it, and on Linux LLVM's and Intel's have it too.
    """
    if not hasattr(os, "RTLD_NOLOAD") or not torch.backends.openmp.is_available():
        return None
    for name in (None, str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")):
        try:
            found = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
        except (OSError, AttributeError):
            continue
        found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
        return found
    return None


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(os.cpu_count() or 1, 1), thread_name_prefix="kernel")


def _after_fork() -> None:
    """Forget threads: a process that was forked has none of its parent's, and OpenMP would wait for them for ever."""
    global _forked
    _forked = True
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
