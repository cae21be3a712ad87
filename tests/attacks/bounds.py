"""Small inputs that ask for much: time, memory, numbers or names without end. Each is refused, or answered, at once."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from tests.attacks.mutate import ZIP, zipped
from tests.attacks.payloads import Shot
from tests.attacks.yard import Yard

DEEP = 100_000


def shots(yard: Yard) -> Iterator[Shot]:
    """Yield the inputs."""
    yield from _settings()
    yield from _json(yard)
    yield from _arrays(yard)
    yield from _zips(yard)
    yield from _checkpoints(yard)
    yield from _pictures()
    yield from _tables(yard)


def _settings() -> Iterator[Shot]:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, other in zip("abcdefghij", "bcdefghijk", strict=True):
        laughs += f"{other}: &{other} [{','.join([f'*{one}'] * 9)}]\n"
    anchors = "about: {k0: &a0 [xxxxxxxx,x,x,x,x,x,x,x,x,x]"
    for n in range(1, 10):
        anchors += f", k{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]"
    merges = "a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*a, *a, *a]}}\n" for n in range(50))
    for kind in ("recipe", "sweep file", "matrix", "--set section", "stage.yaml/list", "recipe.yaml/report"):
        for label, text in (
            ("nested anchors", f"name: x\n{anchors}}}\n"),
            ("a billion laughs", laughs + "name: *k\nbatch: *k\nstage: *k\n"),
            ("merged keys", merges),
            ("900 brackets", "name: " + "[" * 900 + "]" * 900),
            ("many brackets", "batch: " + "[" * DEEP),
            ("many open braces", "{a: " * DEEP),
            ("a list of itself", "name: &a [*a]"),
            ("5000 digits", f"batch: {'9' * 5000}"),
            ("no such day", "batch: 2001-99-99"),
            ("no digits", "batch: 0x_"),
            ("no number", "batch: !!float x"),
            ("a key twice", "batch: 1\nbatch: 2"),
        ):
            yield Shot(kind, label, text.encode())
    for what in ("[1180591620717411303424]", "[1000000000000]", "[0]", "[-1]", "[1e9]"):
        yield Shot("--set", f"units {what}", f"network.units={what}".encode())
    for key in ("batch", "adapt.epochs", "seed", "selection.probes", "selection.bootstraps", "selection.samples"):
        yield Shot("--set", f"{key} of 2^70", f"{key}={2**70}".encode())
    for name in ("x" * 300, "../../x", "/x", "x/y", "é\u202e", "a\\nb", "con\x1b[31m"):
        yield Shot("--set", f"name {name[:20]!r}", f"name={name}".encode())


def _json(yard: Yard) -> Iterator[Shot]:
    deep = b"[" * DEEP + b"]" * DEEP
    for kind in (
        "manifest/run",
        "selection.json",
        "selection.json/report",
        "records/report",
        "vocabulary",
        "states/about",
    ):
        yield Shot(kind, "deep", deep)
        yield Shot(kind, "deep, not closed", b'{"a":' * DEEP)
        yield Shot(kind, "5000 digits", b'{"format": ' + b"9" * 5000 + b"}")
    for name in ("status.json", "environment.json"):
        for command in ("list", "show", "report"):
            yield Shot(f"{name}/{command}", "deep", b'{"state": ' + deep + b"}")
            yield Shot(f"{name}/{command}", "escape", b'{"state": "failed", "error": "\\u001b[2J\\u001b]0;x\\u0007"}')
    yield Shot("metrics.jsonl/report", "deep", deep)
    yield Shot("metrics.jsonl/list", "numbers", b"1\n2\n")
    selection = json.loads((yard.seed / "ratio-0.5" / "selection.json").read_text())
    for layer in (2 * 10**12, 2**70, -1, 0):
        selection["units"][0]["layer"] = layer
        for kind in ("selection.json", "selection.json/report"):
            yield Shot(kind, f"layer {layer}", json.dumps(selection).encode())
    selection["units"][0]["layer"] = 1
    for unit in (2**63, 2**70, -1, 10**9):
        selection["units"][0]["kept"] = [0, unit]
        yield Shot("selection.json", f"unit {unit}", json.dumps(selection).encode())


def _header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


def _arrays(yard: Yard) -> Iterator[Shot]:
    odd = [
        "(1099511627776,)",
        "(8, 1099511627776, 8)",
        f"({2**70},)",
        "(-1, 8)",
        "(8, 1, True)",
        "((8,), 1)",
        "8",
        "()",
    ]
    odd += ["(0, 1, 8)", "(8, 0, 8)", "(" * 500 + ")" * 500, f"({'1, ' * 200})"]
    fields = "[('x', '<i8'), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')]"
    strange = ["'<M8[s]'", "'<U5'", "'<c8'", "'|V9'", "'<f2'", "'|b1'", "'>i8'", "[('x', '|S4'), ('y', '<i8')]", "'|O'"]
    strange += ["[('x', '<f4'), ('y', '<c8'), ('t', '<U5'), ('p', '<M8[s]')]"]
    for kind in ("run x.npy", "run e.npy", "data 0.npy"):
        for shape in odd:
            yield Shot(kind, f"shape {shape[:30]}", _header(shape) + bytes(64))
            yield Shot(kind, f"events of shape {shape[:30]}", _header(shape, fields) + bytes(64))
        for descr in strange:
            for shape in ("()", "(2,)", "(1, 2)"):
                yield Shot(kind, f"{descr} {shape}", _header(shape, descr) + bytes(200))
    about = ZIP.split(yard.states)
    for shape in odd:
        content = _header(shape) + bytes(64)
        yield Shot("run x.npz", f"shape {shape[:30]}", zipped({"x.npy": content}))
        state = next(name for name in about if name != "about.npy")
        yield Shot("states", f"shape {shape[:30]}", zipped(about | {state: content}))


def _zips(yard: Yard) -> Iterator[Shot]:
    """Yield archives whose directory says what no reader knows: an odd way of compression, a version, a flag."""
    steps = zipped({"x.npy": _header("(8, 1, 8)") + bytes(256)})
    parts = zipped({"Train/0/a.bin": bytes(50)})
    for kind, content in (("run x.npz", steps), ("states", yard.states), ("archive a.zip", parts)):
        entry = content.index(b"PK\x01\x02")
        for label, place, raw in (
            ("compression", 10, b"\x63\0"),
            ("LZMA without a header", 10, b"\x0e\0"),
            ("BZIP2", 10, b"\x0c\0"),
            ("version", 6, b"\xa8\0"),
            ("encryption", 8, b"\x01\0"),
            ("size", 24, b"\xff\xff\xff\x7f"),
            ("offset", 42, b"\xff\xff\xff\x7f"),
            ("length of the name", 28, b"\xff\xff"),
        ):
            yield Shot(kind, f"odd {label}", content[: entry + place] + raw + content[entry + place + len(raw) :])


def _deflated(name: str, beginning: bytes, zeros: int, others: dict[str, bytes] | None = None) -> bytes:
    """Return an archive with a member of so many zeros after its beginning, and others."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for other, content in (others or {}).items():
            archive.writestr(other, content)
        with archive.open(name, "w", force_zip64=True) as member:
            member.write(beginning)
            for _ in range(zeros // 2**20):
                member.write(bytes(2**20))
            member.write(bytes(zeros % 2**20))
    return file.getvalue()


def _checkpoints(yard: Yard) -> Iterator[Shot]:
    import torch

    whole = torch.load(yard.seed / "ratio-0.5" / "best.pt", weights_only=True)
    for units in (20_000, 10**9, 2**62, 2**70, -1, 0):
        try:
            changed = {**whole, "data": {**whole["data"], "sizes": [[units, 1], [1, units]]}}
            recipe = {
                **whole["data"]["recipe"],
                "network": {**whole["data"]["recipe"]["network"], "units": [units] * 2},
            }
            both = {**changed, "data": {**changed["data"], "recipe": recipe, "architecture": recipe["network"]}}
            for label, value in (("sizes", changed), ("sizes and recipe", both)):
                file = io.BytesIO()
                torch.save(value, file)
                yield Shot("checkpoint/export", f"{units} units in {label}", file.getvalue())
        except (OverflowError, pickle.PicklingError):
            continue
    names = {"best/version": b"3\n", "best/byteorder": b"little"}
    tensor = b"\x80\x02}X\x01\0\0\0aK\x01s."
    yield Shot("checkpoint/export", "a pickle of nothing", zipped({**names, "best/data.pkl": tensor}))
    deep = b"\x80\x02" + b"(" * DEEP + b"t" * DEEP + b"."
    yield Shot("checkpoint/export", "deep tuples", zipped({**names, "best/data.pkl": deep}))
    double = b"\x80\x02]" + b"2\x86" * 60 + b"."
    yield Shot("checkpoint/export", "doubled sixty times", zipped({**names, "best/data.pkl": double}))
    claims = b"\x80\x02\x8d" + struct.pack("<Q", 2**60) + b"x."
    yield Shot("checkpoint/export", "a text of 2^60 bytes", zipped({**names, "best/data.pkl": claims}))


def bombs(size: int = 1_600_000_000) -> Iterator[Shot]:
    """Yield files of a few MB that hold `size` bytes of zeros."""
    yield Shot("checkpoint/export", "many weights, deflated", _large_weights("network", size))
    yield Shot("run x.npz", "of another shape, deflated", _deflated("x.npy", _header(f"({size // 4},)"), size))
    yield Shot("run e.npz", "many times, deflated", _deflated("t.npy", _header(f"({size // 8},)", "'<i8'"), size))
    yield Shot("traces.pt", "many samples, deflated", _large_weights("traces", size))
    yield Shot("archive deflated.zip", "a member that is not wanted", _deflated("x", b"", size))


def _large_weights(content: str, size: int) -> bytes:
    """Return a checkpoint of so many bytes of weights, all zero."""
    import torch

    file = io.BytesIO()
    data = {"samples": torch.zeros(77_777), "groups": [], "parameters": {}}
    torch.save({"format": "hstnn-deploy", "version": 2, "content": content, "data": data}, file)
    parts = ZIP.split(file.getvalue())
    few, many = (b"J" + struct.pack("<i", count) for count in (77_777, size // 4))
    (weights,) = (name for name in parts if name.endswith("data/0"))
    parts = {name: part.replace(few, many) for name, part in parts.items() if name != weights}
    return _deflated(weights, b"", size, parts)


def png(width: int, height: int) -> bytes:
    """Return a black picture in grey."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    deflate = zlib.compressobj(1)
    rows = b"".join(deflate.compress(bytes(width + 1)) for _ in range(min(height, 20_000)))
    chunks += [(b"IDAT", rows + deflate.flush()), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        content += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return content


def _pictures() -> Iterator[Shot]:
    yield Shot("run x.png", "15000 x 15000", png(15_000, 15_000))
    yield Shot("run x.png", "8 x 0", png(8, 0))
    yield Shot("run x.png", "2^31 x 1", png(8, 8).replace(struct.pack(">II", 8, 8), struct.pack(">II", 2**31 - 1, 1)))
    yield Shot("run x.png", "no pixels", png(100_000, 1)[:60])


def _tables(yard: Yard) -> Iterator[Shot]:
    import h5py

    for counts in ((2**31 - 1, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1), (0, 28, 28), (60, 0, 28)):
        header = bytes([0, 0, 8, 3]) + b"".join(count.to_bytes(4, "big") for count in counts)
        yield Shot("data train-images-idx3-ubyte", f"{counts}", header + bytes(100))
    file = io.BytesIO()
    with h5py.File(file, "w") as table:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            table.create_dataset(f"spikes/{name}", (2 * 10**9,), h5py.vlen_dtype(kind), chunks=(1000,))
        table.create_dataset("labels", (2 * 10**9,), np.uint16, chunks=(1000,))
    yield Shot("data shd_train.h5", "2 000 000 000 recordings in 10 kB", file.getvalue())
    yield Shot("run x.csv", "a line of 4 MB", b"1 " * 2_000_000)
    yield Shot("run x.csv", "digits", b"9" * 5000 + b" 1 1 1 1 1 1 1\n")
