"""Pickles that would run something, or write somewhere: all touch the canary, whose path is given."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.attacks.mutate import zipped


def _call(module: str, name: str, *args: Any) -> bytes:
    """Return the pickle of a call, without its beginning and end."""
    return f"c{module}\n{name}\n".encode() + pickle.dumps(args, 2)[2:-1] + b"R"


def _nested(module: str, name: str, inner: bytes) -> bytes:
    """Return the pickle of a call of what another pickle makes."""
    return f"c{module}\n{name}\n(".encode() + inner + b"tR"


def pickles(canary: Path) -> dict[str, bytes]:
    """Return pickles that touch the canary, by name, without their beginning and end."""
    touch, python = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    found = {f"{module}.{name}": _call(module, name, *args) for module, name, args in _calls(canary, touch, python)}
    inner = b"\x80\x02" + _call("os", "system", touch) + b"."
    found["torch.storage._load_from_bytes"] = _call("torch.storage", "_load_from_bytes", inner)
    found["pickle.loads"] = _call("pickle", "loads", inner)
    found["getattr chain"] = _nested("builtins", "eval", pickle.dumps(python, 2)[2:-1])
    method = b"cbuiltins\ngetattr\n(" + _call("builtins", "__import__", "os") + pickle.dumps("system", 2)[2:-1] + b"tR"
    found["two steps"] = method + pickle.dumps((touch,), 2)[2:-1] + b"R"
    found["instance"] = f"(S'{touch}'\nios\nsystem\n".encode()
    found["object"] = f"(cos\nsystem\nS'{touch}'\no".encode()
    found["stack global"] = b"\x8c\x02os\x8c\x06system\x93" + pickle.dumps((touch,), 2)[2:-1] + b"R"
    found["new object"] = b"csubprocess\nPopen\n" + pickle.dumps((["touch", str(canary)],), 2)[2:-1] + b"\x81"
    found["set state"] = b"ctorch.nn\nModule\n)R}X\x0c\0\0\0__setstate__cos\nsystem\nsbS'" + touch.encode() + b"'\nb"
    found["hidden in an ordered dict"] = b"ccollections\nOrderedDict\n)R" + _call("os", "system", touch) + b"b"
    found["extension"] = b"\x82\x01"
    found["persistent"] = b"S'x'\nQ"
    return found


def _calls(canary: Path, touch: str, python: str) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    for module in ("os", "posix", "nt"):
        yield module, "system", (touch,)
        yield module, "popen", (touch,)
    yield "os", "mkdir", (str(canary),)
    yield "os", "execvp", ("touch", ["touch", str(canary)])
    yield "os", "posix_spawnp", ("touch", ["touch", str(canary)], {})
    for name in ("call", "check_output", "run", "Popen", "getoutput", "getstatusoutput"):
        yield "subprocess", name, (touch if name.startswith("get") else ["touch", str(canary)],)
    for module in ("builtins", "__builtin__"):
        yield module, "exec", (python,)
        yield module, "eval", (python,)
        yield module, "open", (str(canary), "w")
    for module in ("io", "_io", "codecs"):
        yield module, "open", (str(canary), "w")
    yield "pathlib", "Path.touch", (canary,)
    yield "shutil", "copyfile", ("/dev/null", str(canary))
    yield "runpy", "run_path", (str(canary),)
    yield "runpy", "_run_code", (python, {})
    yield "timeit", "timeit", ("0", python)
    yield "cProfile", "run", (python,)
    yield "profile", "run", (python,)
    yield "pdb", "run", (python,)
    yield "code", "interact", ()
    yield "pty", "spawn", (["touch", str(canary)],)
    yield "platform", "popen", (touch,)
    yield "distutils.spawn", "spawn", (["touch", str(canary)],)
    yield "ctypes", "CDLL", ("libc.so.6",)
    yield "importlib", "import_module", ("antigravity",)
    yield "urllib.request", "urlopen", (f"file://{canary}",)
    yield "numpy", "load", (str(canary), "r", True)
    yield "numpy.testing._private.utils", "runstring", (python, {})
    yield "numpy.testing", "runstring", (python, {})
    yield "numpy.f2py.crackfortran", "myeval", (python,)
    yield "numpy.core.multiarray", "_reconstruct", ()
    yield "numpy.distutils.exec_command", "exec_command", (touch,)
    yield "torch", "load", (str(canary),)
    yield "torch", "from_file", (str(canary), True, 8)
    yield "torch", "save", (1, str(canary))
    yield "torch.jit", "load", (str(canary),)
    yield "torch.hub", "load", (str(canary.parent), "x", "local")
    yield "torch.utils.collect_env", "run", (touch,)
    yield "torch.utils.data.datapipes.utils.decoder", "basichandlers", ("pickle", b"")
    yield "torch.fx.graph_module", "_forward_from_src", (python, {})
    yield "torch.serialization", "_legacy_load", ()
    yield "torch._utils", "_rebuild_tensor_v2", ()
    yield "torch._inductor.codecache", "_run_from_cache", ()
    yield "torch._dynamo.guards", "GuardBuilder.get", (None, python)
    yield "torch.package", "PackageImporter", (str(canary),)
    yield "hstnn_deploy.files", "write_text", (canary, "")


def carried(body: bytes) -> dict[str, bytes]:
    """Return checkpoints that carry a pickle: as a file, in an archive, and within the data of a proper checkpoint."""
    alone = b"\x80\x02" + body + b"."
    mark = "@payload@"
    proper = pickle.dumps({"format": "hstnn-deploy", "version": 2, "content": "network", "data": mark}, 2)
    opcode = b"X" + len(mark).to_bytes(4, "little") + mark.encode()
    within = proper.replace(opcode, body)
    return {
        "bare": alone,
        "archive": zipped({"best/data.pkl": alone, "best/version": b"3\n", "best/byteorder": b"little"}),
        "within": zipped({"best/data.pkl": within, "best/version": b"3\n", "best/byteorder": b"little"}),
        "legacy": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + alone,
    }


def object_array(body: bytes, shape: tuple[int, ...] = (1,), dtype: str = "'|O'") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + b"\x80\x02" + body + b"."
