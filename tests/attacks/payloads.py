"""Files that would run something, or write elsewhere, if they were trusted: none of it may happen.

Each would touch the canary, whose path stands in the place of `CANARY`.
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.attacks.mutate import ZIP, zipped
from tests.attacks.pickles import carried, object_array, pickles
from tests.attacks.yard import Yard


class Shot(NamedTuple):
    """A file for a kind."""

    kind: str
    label: str
    content: bytes


def shots(yard: Yard, canary: Path, every: int = 1) -> Iterator[Shot]:
    """Yield the files; with `every`, only that one in so many of the pickles, for each carrier another."""
    bodies = list(pickles(canary).items())
    for carrier in ("bare", "archive", "within", "legacy"):
        for kind, start in (("checkpoint/export", 0), ("traces.pt", 1), ("last.pt", 2)):
            for name, body in bodies[start % every :: every]:
                yield Shot(kind, f"{carrier} {name}", carried(body)[carrier])
    fields = "[('x', '<i8'), ('y', '<i8'), ('t', '|O'), ('p', '<i8')]"
    for name, body in bodies[::every]:
        array = object_array(body)
        yield Shot("run x.npy", name, array)
        yield Shot("run x.npz", name, zipped({"x.npy": array}))
        yield Shot("run e.npy", name, object_array(body, dtype=fields))
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
