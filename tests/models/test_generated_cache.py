"""Machine code of kernels is kept for all processes of a user, and nothing breaks where it cannot be."""

import ctypes
import multiprocessing
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hstnn_deploy.models.kernels.generated import compiled, threads
from hstnn_deploy.models.kernels.generated.ir import Code
from hstnn_deploy.models.kernels.generated.source import Text
from tests.conftest import PATIENCE

pytestmark = pytest.mark.skipif(not compiled.available(), reason=compiled.problem())


def doubled() -> Text:
    """Return a kernel that multiplies each number with the one it is given."""
    code = Code(torch.float32)
    with code.loop("%count", apart=True) as j:
        code.store("%out.row", j, code.do("mul", code.load("%out.row", j), "%k0"))
    return Text(code.text(1, ["out"], ["out"], False), (2.0,), (), ("flat",))


def run(address: int, out: torch.Tensor, count: int = 1, size: int = 64) -> None:
    words = ctypes.create_string_buffer(9 * 8)
    struct.pack_into("7qdQ", words, 0, 0, 0, len(out), size, 1, 0, 0, 2.0, out.data_ptr())
    threads.run(address, words, count)


def works() -> bool:
    kernel, out = compiled.function(doubled()), torch.ones(3)
    run(kernel.address, out)
    return out.tolist() == [2, 2, 2]


def hits(folder: Path, queue: "multiprocessing.Queue[bool]") -> None:
    compiled.folder = lambda: folder
    compiled._loaded.cache_clear()
    assert works()
    queue.put(compiled.function(doubled()).kept)


def at_once(count: int, folder: Path) -> list[bool]:
    """Return which of some processes found machine code in a folder."""
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bool] = context.Queue()
    processes = [context.Process(target=hits, args=(folder, queue)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    return found


def test_eight_processes_at_once_and_those_after_them(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    at_once(8, folder)
    assert at_once(2, folder) == [True, True]
    assert not folder.stat().st_mode & 0o077
    assert [path.suffix for path in folder.iterdir()] == [".kernel"]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kernels"
    monkeypatch.setattr(compiled, "folder", lambda: folder)
    compiled._loaded.cache_clear()
    return folder


def test_a_folder_that_cannot_be_made_is_done_without(own_folder: Path) -> None:
    own_folder.write_text("a file in its place")
    assert works()
    assert own_folder.read_text() == "a file in its place"


def test_a_user_without_a_home_gets_no_folder_where_a_program_was_started(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compiled, "folder", lambda: Path("~/.cache/hstnn-deploy/kernels"))
    assert works()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_others_may_write_is_not_used(own_folder: Path) -> None:
    own_folder.mkdir(mode=0o777)
    own_folder.chmod(0o777)
    assert works()
    assert not list(own_folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_done_without(own_folder: Path) -> None:
    own_folder.mkdir(mode=0o500)
    assert works()
    assert not list(own_folder.iterdir())


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty", "other"])
def test_what_is_damaged_is_compiled_anew(own_folder: Path, damage: str) -> None:
    assert works()
    (path,) = own_folder.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut short": whole[:middle],
            "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "other": b"something else" * 100,
        }[damage]
    )
    compiled._loaded.cache_clear()
    assert works()
    assert not compiled.function(doubled()).kept
    assert path.read_bytes() == whole
    compiled._loaded.cache_clear()
    assert works()
    assert compiled.function(doubled()).kept


def test_another_processor_or_version_has_files_of_its_own(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert works()
    make, name = compiled._machine()
    others: dict[str, object] = {"_machine": lambda: (make, f"{name}+other"), "__version__": "0.0"}
    for count, (what, other) in enumerate(others.items(), 2):
        monkeypatch.setattr(compiled, what, other)
        compiled._loaded.cache_clear()
        assert works()
        assert len(list(own_folder.iterdir())) == count


def test_it_is_said_once_what_takes_long(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = compiled._compiled

    def slowly(source: str) -> bytes:
        while not compiled._told:
            pass
        return mine(source)

    monkeypatch.setattr(compiled, "_PATIENCE", 0.0)
    monkeypatch.setattr(compiled, "_told", False)
    monkeypatch.setattr(compiled, "_compiled", slowly)
    assert works()
    monkeypatch.setattr(compiled, "_told", False)
    compiled._loaded.cache_clear()
    assert works()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("compiling kernels")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("sys.modules['llvmlite.binding'] = None", "llvmlite does not work: "),
        ("metadata.version = lambda _: '0.44.1'", "llvmlite 0.44.1 is too old: pip install 'llvmlite>=0.45'"),
        ("sys.modules['llvmlite'] = type(sys)('llvmlite')", "llvmlite does not work: "),
        ("importlib.util.find_spec = lambda _: None", "llvmlite is not installed: pip install llvmlite"),
    ],
)
def test_an_llvmlite_that_does_not_work_is_named(breaks: str, said: str) -> None:
    program = f"""
import sys, importlib.util
from importlib import metadata
from hstnn_deploy.models.kernels.generated import compiled
{breaks}
print(compiled.problem())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(said)
