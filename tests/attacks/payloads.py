"""Files that would run something, or write elsewhere, if they were trusted: none of it may happen.

Each would touch the canary, whose path stands in the place of `CANARY`.
"""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.attacks.mutate import ZIP, zipped
from tests.attacks.yard import Yard


class Shot(NamedTuple):
    """A file for a kind."""

    kind: str
    label: str
    content: bytes


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


def _object_array(body: bytes, shape: tuple[int, ...] = (1,), dtype: str = "'|O'") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + b"\x80\x02" + body + b"."


def shots(yard: Yard, canary: Path, every: int = 1) -> Iterator[Shot]:
    """Yield the files; with `every`, only that one in so many of the pickles, for each carrier another."""
    bodies = list(pickles(canary).items())
    for carrier in ("bare", "archive", "within", "legacy"):
        for kind, start in (("checkpoint/export", 0), ("traces.pt", 1), ("last.pt", 2)):
            for name, body in bodies[start % every :: every]:
                yield Shot(kind, f"{carrier} {name}", carried(body)[carrier])
    fields = "[('x', '<i8'), ('y', '<i8'), ('t', '|O'), ('p', '<i8')]"
    for name, body in bodies[::every]:
        array = _object_array(body)
        yield Shot("run x.npy", name, array)
        yield Shot("run x.npz", name, zipped({"x.npy": array}))
        yield Shot("run e.npy", name, _object_array(body, dtype=fields))
        yield Shot("data 0.npy", name, array)
        yield Shot("states", name, zipped({**ZIP.split(yard.states), "about.npy": array}))
    for kind in ("recipe", "sweep file", "matrix", "--set section", "stage.yaml/list", "recipe.yaml/report"):
        for text in _yaml(canary):
            yield Shot(kind, text, f"name: {text}\n".encode())
    yield from _archives(canary)


def programs(yard: Yard, canary: Path, every: int = 1) -> Iterator[Shot]:
    """Yield TorchScript and torch.export programs that touch the canary when they are opened."""
    whole = yard.bundle("sequence", "onnx", "torchscript", "pt2")
    parts = ZIP.split((whole / "model.pt2").read_bytes())
    bodies = list(pickles(canary).items())
    for name, body in [*bodies[::every][:12], ("os.system", dict(bodies)["os.system"])]:
        for member in (*(each for each in parts if each.endswith((".pt", ".pkl"))), "model/data/sample_inputs/x.pt"):
            for carrier in ("bare", "archive"):
                changed = parts | {member: carried(body)[carrier]}
                yield Shot("model.pt2/verify", f"{member} {carrier} {name}", zipped(changed))
    yield Shot("model.ts/verify", "from_file in __setstate__", _script(canary))
    yield Shot("model.ts/verify", "a program in its place", (whole / "model.pt2").read_bytes())
    yield Shot("model.pt2/verify", "TorchScript in its place", _script(canary))


def _script(canary: Path) -> bytes:
    """Return a TorchScript module that makes a file when it is loaded."""
    import torch

    source = f"""
import torch
from torch import Tensor
class Touching(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = torch.zeros(1)
    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.x, self.training
    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.x = torch.from_file({str(canary)!r}, shared=True, size=4)
        self.training = state[1]
    def forward(self, x: Tensor) -> Tensor:
        return x + self.x.sum()
"""
    import importlib.util
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "touching.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("touching", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(module.Touching()), file)
    return file.getvalue()


def _yaml(canary: Path) -> list[str]:
    return [
        f"!!python/object/apply:os.system ['touch {canary}']",
        f"!!python/object/new:os.system ['touch {canary}']",
        f"!!python/object/apply:subprocess.Popen [['touch', '{canary}']]",
        f"!!python/object/apply:builtins.exec [\"open('{canary}', 'w')\"]",
        "!!python/module:antigravity x",
        "!!python/name:os.system",
    ]


def _archives(canary: Path) -> Iterator[Shot]:
    evil = [str(canary), "../canary", "../../canary", "Train/../../canary", "Train/../../../canary", "..\\canary"]
    evil += ["Train/\x00canary", "C:\\canary", "//canary", "Train//../../canary", "./../canary", "Train/.."]
    for name in evil:
        good = zipfile.ZipInfo("Train/0/a.bin")
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(good, b"x")
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"x")
        yield Shot("archive a.zip", repr(name), file.getvalue())
        if "\0" not in name:
            yield Shot(
                "archive a.tar", repr(name), _tar([("Train/0/a.bin", tarfile.REGTYPE, ""), (name, tarfile.REGTYPE, "")])
            )
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
        for target in ("..", "../..", str(canary.parent), "/"):
            through = [("Train/link", kind, target), ("Train/link/canary", tarfile.REGTYPE, "")]
            yield Shot("archive a.tar", f"type {kind!r} to {target}", _tar(through))


def _tar(members: list[tuple[str, bytes, str]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            if kind == tarfile.REGTYPE:
                info.size = 1
            archive.addfile(info, io.BytesIO(b"x") if kind == tarfile.REGTYPE else None)
    return file.getvalue()
