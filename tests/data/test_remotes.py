"""Published files: fetched once, from where it stopped, and believed only when they are what was published."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from hstnn_deploy.data.files.archives import unpack
from hstnn_deploy.data.files.remotes import Remote, fetch
from hstnn_deploy.errors import DataError
from tests.conftest import PATIENCE


class Server:
    """A web server in this process: what it serves, what it was asked for, and how it misbehaves."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.cut_after: int | None = None

    def remote(self, name: str, content: bytes, holds: str = "", promised: bytes | None = None) -> Remote:
        """Serve a file; the checksum is that of `promised`."""
        self.files[f"/{name}"] = content
        digest = hashlib.md5(content if promised is None else promised).hexdigest()
        return Remote(name, f"{self.url}/{name}", f"md5:{digest}", holds)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            found.ranges.append(asked)
            content = found.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and found.knows_ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : found.cut_after])

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Server(f"http://127.0.0.1:{running.server_port}")
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield found
    running.shutdown()
    running.server_close()
    thread.join()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: dict[str, bytes], link: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("Train/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return file.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


RECORDINGS = {"Train/1/a.bin": os.urandom(3000), "Train/2/b.bin": b"", "README": b"not of the set"}


@pytest.mark.parametrize(("name", "pack"), [("train.zip", zipped), ("train.tar.gz", tarred)])
def test_an_archive_is_fetched_unpacked_and_not_fetched_again(
    server: Server, tmp_path: Path, name: str, pack: Any
) -> None:
    remote = server.remote(name, pack(RECORDINGS), holds="Train")
    told = []
    fetch([remote], tmp_path / "set", lambda what, *_, **__: told.append(what))
    assert names(tmp_path / "set") == [".lock", "Train/1/a.bin", "Train/2/b.bin", name]
    assert (tmp_path / "set/Train/1/a.bin").read_bytes() == RECORDINGS["Train/1/a.bin"]
    assert list(dict.fromkeys(told)) == [f"downloading {name}", f"unpacking {name}"]
    fetch([remote], tmp_path / "set")
    assert len(server.ranges) == 1


def test_a_file_that_was_put_there_is_checked_and_unpacked_without_a_network(tmp_path: Path) -> None:
    content = zipped(RECORDINGS)
    (tmp_path / "train.zip").write_bytes(content)
    remote = Remote(
        "train.zip", "http://127.0.0.1:9/train.zip", f"md5:{hashlib.md5(content).hexdigest()}", holds="Train"
    )
    fetch([remote], tmp_path)
    assert (tmp_path / "Train/1/a.bin").is_file()


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path, knows_ranges: bool) -> None:
    content = os.urandom(300_000)
    remote = server.remote("file.bin", content)
    server.cut_after, server.knows_ranges = 100_000, knows_ranges
    with pytest.raises(DataError, match=r"could not download .*file\.bin"):
        fetch([remote], tmp_path)
    assert not (tmp_path / "file.bin").exists()
    kept = (tmp_path / ".file.bin.part").stat().st_size
    assert kept > 0
    server.cut_after = None
    fetch([remote], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == content
    assert server.ranges == [None, f"bytes={kept}-"]
    assert names(tmp_path) == [".lock", "file.bin"]


def test_a_download_that_was_killed_after_its_last_byte_is_not_begun_again(server: Server, tmp_path: Path) -> None:
    remote = server.remote("file.bin", b"content")
    (tmp_path / ".file.bin.part").write_bytes(b"content")
    fetch([remote], tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"content"
    assert server.ranges == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\n<!DOCTYPE html><title>Please log in</title>",
            r"what came from .*train\.zip is an HTML page, not train\.zip",
        ),
        (zipped(RECORDINGS)[:-100], r"what came from .* is truncated, or not the published train\.zip"),
    ],
)
def test_what_came_and_is_not_the_file_is_refused_and_not_kept(
    server: Server, tmp_path: Path, content: bytes, message: str
) -> None:
    remote = server.remote("train.zip", content, holds="Train", promised=zipped(RECORDINGS))
    with pytest.raises(DataError, match=message):
        fetch([remote], tmp_path)
    assert names(tmp_path) == [".lock"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>quota exceeded</html>", "is an HTML page"), (b"PK\x03\x04", "is truncated, or not the published")],
)
def test_what_was_put_there_and_is_not_the_file_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "train.zip").write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        fetch([Remote("train.zip", "https://example.org/train.zip", "md5:0", holds="Train")], tmp_path)
    assert str(tmp_path / "train.zip") in refused.value.message
    assert "https://example.org/train.zip" in refused.value.hint
    assert (tmp_path / "train.zip").read_bytes() == content


def test_a_file_the_server_does_not_have_is_said_with_its_answer(server: Server, tmp_path: Path) -> None:
    remote = Remote("gone.bin", f"{server.url}/gone.bin", "md5:0")
    with pytest.raises(DataError, match=r"gone\.bin \(the server answers 404\)"):
        fetch([remote], tmp_path)


def test_a_full_disk_is_said_as_such(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    really = Path.open
    remote = server.remote("file.bin", b"content")
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *more, **words: Full() if mode == "ab" else really(self, mode, *more, **words),
    )
    with pytest.raises(DataError, match=r"cannot write .*file\.bin: no space left on the device") as refused:
        fetch([remote], tmp_path)
    assert "--data-dir" in refused.value.hint


def test_a_full_disk_while_unpacking_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    class Full(io.BytesIO):
        def write(self, _part: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(path: Path, mode: str = "r", **options: Any) -> IO[Any]:
        return Full() if mode == "wb" else real(path, mode, **options)

    path = tmp_path / "train.zip"
    path.write_bytes(zipped(RECORDINGS))
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"cannot write .*Train: no space left on the device"):
        unpack(path, "Train")
    assert names(tmp_path) == ["train.zip"]


def test_a_folder_that_cannot_be_written_is_said_as_such(blocked: Path) -> None:
    with pytest.raises(DataError, match=r"cannot write .*: a part of the path is a file") as refused:
        fetch([Remote("file.bin", "https://example.org/file.bin", "md5:0")], blocked)
    assert "--data-dir" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.zip", zipped({"Train/../../evil": b""}), r"has a member outside of it, 'Train/\.\./\.\./evil'"),
        ("t.zip", zipped({"/etc/evil": b""}), "has a member outside of it, '/etc/evil'"),
        ("t.tar.gz", tarred({"Train/a": b"", "../evil": b""}), r"has a member outside of it, '\.\./evil'"),
        ("t.tar.gz", tarred({"Train/a": b""}, link="/etc/passwd"), "not a plain file, 'Train/link'"),
        ("t.zip", zipped(RECORDINGS)[:-100], "is damaged, or not an archive: File is not a zip file"),
        ("t.zip", zipped(RECORDINGS).replace(RECORDINGS["Train/1/a.bin"][:20], bytes(20)), "Bad CRC-32"),
        ("t.tar.gz", tarred(RECORDINGS)[:-100], "is damaged, or not an archive: "),
        ("t.tar.gz", b"neither gzip nor tar", "is damaged, or not an archive: "),
        ("t.tar.gz", b"", "is damaged, or not an archive: "),
        ("t.zip", zipped({"Other/a": b""}), "does not hold Train"),
    ],
)
def test_a_bad_archive_is_one_clear_line_and_unpacks_to_nothing(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = tmp_path / "within" / "set"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        unpack(folder / name, "Train")
    assert "\n" not in refused.value.message
    assert names(tmp_path) == [f"within/set/{name}"]
    assert [path.name for path in folder.iterdir()] == [name]


def test_two_processes_fetch_a_file_once(server: Server, tmp_path: Path) -> None:
    remote = server.remote("train.zip", zipped(RECORDINGS), holds="Train")
    code = f"""
from pathlib import Path
from hstnn_deploy.data.files.remotes import Remote, fetch
fetch([Remote(*{tuple(remote)!r})], Path({str(tmp_path)!r}))
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=PATIENCE)[1] for process in running] == [b"", b""]
    assert len(server.ranges) == 1
    assert names(tmp_path) == [".lock", "Train/1/a.bin", "Train/2/b.bin", "train.zip"]
