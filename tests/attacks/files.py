"""A kind for every sort of file that hstnn reads: a valid one, and the command that reads it."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hstnn_deploy.data.archives import unpack
from tests.attacks.mutate import ZIP, Inside, zipped
from tests.attacks.worker import Box, Call, Place, Words
from tests.attacks.yard import ROWS, Yard, dat, recorded, resealed, sealed
from tests.conftest import TINY, options
from tests.event_files import aedat


class Kind(NamedTuple):
    """A sort of file."""

    name: str
    content: bytes
    """A valid one."""
    place: Place
    form: str = "bytes"
    """bytes, json, yaml, or lines of JSON."""
    inside: Inside | None = None
    must_answer: bool = False
    """Whether a damaged one must not stop the command, because it can be made anew."""
    weight: float = 1.0
    """How often it is damaged, beside the others: slow commands less."""


def kinds(yard: Yard) -> list[Kind]:
    """Return all kinds."""
    return [*_training(yard), *_settings(yard), *_bundles(yard), *_inputs(yard), *_data(yard), *_results(yard)]


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _read_by(name: str, *words: str | Path, then: Words | None = None) -> Place:
    """Return a place for one file, which the command names after `words`."""

    def place(box: Box, content: bytes) -> Call:
        return [*words, _write(box.given / name, content), *(then or [])]

    return place


def _copied(folder: Path, name: str, words: Callable[[Path], Words], repair: bool = False, out: bool = False) -> Place:
    """Return a place for a file of a folder, which is copied; with `repair`, a bundle that fits the file."""

    def place(box: Box, content: bytes) -> Call:
        copy = shutil.copytree(folder, (box.out if out else box.given) / folder.name)
        _write(copy / name, content)
        if repair:
            resealed(copy, name)
        return words(copy)

    return place


def _training(yard: Yard) -> Iterator[Kind]:
    ckpt = (yard.seed / "ratio-0.5" / "best.pt").read_bytes()
    yield Kind("checkpoint", ckpt, _read_by("best.pt", "evaluate", "--ckpt"), inside=ZIP)
    export: Words = ["--no-verify", "--out", "bundle"]
    yield Kind("checkpoint/export", ckpt, _read_by("best.pt", "export", "--ckpt", then=export), inside=ZIP)
    tiny = ["train", "digits", *options(TINY)]

    def select(runs: Path) -> Words:
        return [*tiny, "--stage", "select", "--ratio", "0.25", "--out", runs]

    def restore(runs: Path) -> Words:
        folder = runs / "digits/hybrid/seed1111/ratio-0.5"
        for name in ("status.json", "best.pt", "last.pt", "metrics.jsonl"):
            (folder / name).unlink(missing_ok=True)
        return [*tiny, "--stage", "restore", "--out", runs]

    def resume(runs: Path) -> Words:
        status = runs / "digits/hybrid/seed1111/adapt/status.json"
        status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "interrupted"}))
        return [*tiny, "--stage", "adapt", "--resume", "--out", runs]

    where = "digits/hybrid/seed1111"
    for name, words, inside, form in (
        ("traces/traces.pt", select, ZIP, "bytes"),
        ("ratio-0.5/selection.json", restore, None, "json"),
        ("adapt/last.pt", resume, ZIP, "bytes"),
    ):
        place = _copied(yard.runs, f"{where}/{name}", words, out=True)
        yield Kind(Path(name).name, (yard.seed / name).read_bytes(), place, form, inside, weight=0.6)
    for name, form in (
        ("stage.yaml", "yaml"),
        ("recipe.yaml", "yaml"),
        ("status.json", "json"),
        ("environment.json", "json"),
        ("metrics.jsonl", "lines"),
        ("selection.json", "json"),
    ):
        content = (yard.seed / "ratio-0.5" / name).read_bytes()
        path = f"{where}/ratio-0.5/{name}"
        yield Kind(f"{name}/report", content, _copied(yard.runs, path, lambda runs: ["report", runs], out=True), form)
        if name != "selection.json":
            show = _copied(yard.runs, path, lambda runs: ["runs", "show", runs / where / "ratio-0.5"], out=True)
            yield Kind(f"{name}/show", content, show, form)
            listed = _copied(yard.runs, path, lambda runs: ["runs", "list", runs], out=True)
            yield Kind(f"{name}/list", content, listed, form)


def _settings(yard: Yard) -> Iterator[Kind]:
    recipe = (yard.seed / "adapt" / "recipe.yaml").read_bytes()
    yield Kind("recipe", recipe, _read_by("recipe.yaml", "recipes"), "yaml")
    plan: Words = ["--dry-run", "--out", "runs"]
    sweep = b"""recipe: digits
set: {adapt.epochs: 2}
axes: {kind: [rnn, snn, ffs], ratio: [0.25, 0.5], seed: [1, 2], adapt.lr: [1.0e-3, 0.01]}
conditions:
- {when: {kind: ffs, ratio: 0.25}, skip: true}
- {when: {kind: [rnn, snn]}, set: {adapt.epochs: 3}}
"""
    yield Kind("sweep file", sweep, _read_by("sweep.yaml", "sweep", then=plan), "yaml")

    def matrix(box: Box, content: bytes) -> Call:
        from hstnn_deploy.profile.matrix import read
        from hstnn_deploy.profile.plan import plan

        path = _write(box.given / "matrix.yaml", content)
        return lambda: plan(**read(path))

    text = b"recipe: [digits]\nkinds: [rnn, hybrid]\nratios: [0.5]\nphases: [train, infer]\nengines: [fused]\n"
    text += b"batch: [1, 32]\ntrain-batch: 25\nsteps: 8\nthreads: [1]\ngpus: none\nseconds: 0.5\ndata: synthetic\n"
    yield Kind("matrix", text, matrix, "yaml")

    def change(box: Box, content: bytes) -> Call:
        # A word of a command line holds no zero byte.
        word = content.replace(b"\0", b"").decode("utf-8", "surrogateescape")
        return ["sweep", "digits", "--set", word, *plan]

    yield Kind("--set", b"adapt={epochs: 2, lr: 1e-3, schedule: {every: 2, factor: 0.5}}", change)
    # A section as one YAML value, whose structure is damaged.
    section = b"epochs: 2\nlr: 1.0e-3\nclip: null\nschedule: {name: step, every: 2, factor: 0.5}\n"
    yield Kind("--set section", section, lambda box, content: change(box, b"adapt=" + content), "yaml")


def _bundles(yard: Yard) -> Iterator[Kind]:
    bundle = yard.bundle("sequence")
    x = yard.steps
    manifest = (bundle / "manifest.json").read_bytes()

    def run_manifest(box: Box, content: bytes) -> Call:
        copy = shutil.copytree(bundle, box.given / "bundle")
        sealed(copy, content)
        return ["run", copy, "--input", x]

    def verify_manifest(box: Box, content: bytes) -> Call:
        copy = shutil.copytree(bundle, box.given / "bundle")
        sealed(copy, content)
        return ["verify", copy]

    yield Kind("manifest/run", manifest, run_manifest, "json")
    yield Kind("manifest/verify", manifest, verify_manifest, "json", weight=0.3)
    for name in ("model.window.onnx", "model.step.onnx"):
        run = _copied(bundle, name, lambda copy: ["run", copy, "--stream", "--input", x], repair=True)
        yield Kind(f"{name}/run", (bundle / name).read_bytes(), run)
    whole = yard.bundle("sequence", "onnx", "torchscript", "pt2")
    for name, inside in (("model.window.onnx", None), ("model.ts", ZIP), ("model.pt2", ZIP)):
        verify = _copied(whole, name, lambda copy: ["verify", copy], repair=True)
        yield Kind(f"{name}/verify", (whole / name).read_bytes(), verify, inside=inside, weight=0.15)
    text = yard.bundle("language")
    words = _write(yard.root / "text.txt", b"the import statement , in its simplest form , is executed\n")
    name = "vocabulary.json"
    place = _copied(text, name, lambda copy: ["run", copy, "--input", words], repair=True)
    yield Kind("vocabulary", (text / name).read_bytes(), place, "json", weight=0.3)
    load = ["run", bundle, "--input", x, "--load-state"]
    states = Kind("states", yard.states, _read_by("states.npz", *load), inside=ZIP, weight=2)
    yield states

    def about(box: Box, content: bytes) -> Call:
        with np.load(io.BytesIO(yard.states)) as found:
            arrays = {name: found[name] for name in found.files}
        arrays["about"] = np.array(content.decode("utf-8", "replace"))
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return states.place(box, file.getvalue())

    with np.load(io.BytesIO(yard.states)) as found:
        yield Kind("states/about", str(found["about"]).encode(), about, "json")


def _npy(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _npz(**arrays: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _image(form: str, **more: object) -> bytes:
    from PIL import Image

    grey = (np.arange(64, dtype=np.uint8) * 3).reshape(8, 8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, form, **more)
    return file.getvalue()


def _inputs(yard: Yard) -> Iterator[Kind]:
    images, moving, text = yard.bundle("sequence"), yard.bundle("dvs"), yard.bundle("language")
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 1, 8)
    for name, content, inside in (
        ("x.npy", _npy(x), None),
        ("x.npz", _npz(x=x), ZIP),
        ("x.png", _image("PNG"), None),
        ("x.jpg", _image("JPEG"), None),
        ("x.csv", b"\n".join(b" ".join(b"%.3f" % value for value in row) for row in x[:, 0]) + b"\n", None),
    ):
        yield Kind(f"run {name}", content, _read_by(name, "run", images, "--resize", "--input"), inside=inside)
    yield Kind("run x.txt", b"the import statement\n", _read_by("x.txt", "run", text, "--input"), weight=0.3)
    events = yard.events
    columns = {name: np.ascontiguousarray(events[name]) for name in events.dtype.names or ()}
    table = np.stack([columns[name] for name in "txyp"], axis=1)
    for name, content, inside in (
        ("e.npy", _npy(events), None),
        ("plain.npy", _npy(table), None),
        ("e.npz", _npz(**columns), ZIP),
        ("e.bin", recorded(events, yard.root / "e.bin"), None),
        ("e.dat", dat(events), None),
        ("e.aedat", aedat(events), None),
        ("kinds.aedat", aedat(events, (1, 0, 2, 3)), None),
        ("e.aedat4", b"#!AER-DAT4.0\r\n\x18\0\0\0\x10\0\0\0IOHE" + bytes(40), None),
        ("e.txt", b"".join(b"%.6f %d %d %d\n" % (t / 1e6, x, y, p) for t, x, y, p in table[:50].tolist()), None),
        ("e.raw", b"% evt 2.0\n% geometry 16x16\n% end\n" + bytes(range(64)), None),
        ("e.h5", (yard.data / "shd/shd_test.h5").read_bytes(), None),
    ):
        yield Kind(f"run {name}", content, _read_by(name, "run", moving, "--input"), inside=inside)


def _data(yard: Yard) -> Iterator[Kind]:
    for path, data_set, weight in (
        ("mnist/train-images-idx3-ubyte", "mnist", 1),
        ("mnist/train-labels-idx1-ubyte", "mnist", 1),
        ("cifar10/train_some.bin", "cifar10", 1),
        ("ptb/ptb.train.txt", "ptb", 1),
        ("nmnist/Train/1/00001.bin", "nmnist", 1),
        ("shd/shd_train.h5", "shd", 2),
        ("dvs-gesture/ibmGestureTrain/user01_led/0.npy", "dvs-gesture", 1),
        ("original/dvs-gesture/user01_led.aedat", "dvs-gesture", 1),
        ("original/dvs-gesture/user01_led_labels.csv", "dvs-gesture", 1),
        ("original/dvs-gesture/trials_to_train.txt", "dvs-gesture", 1),
    ):
        place = _set(yard, path, data_set)
        yield Kind(f"data {Path(path).name}", (yard.data / path).read_bytes(), place, weight=weight)

    def cached(box: Box, content: bytes) -> Call:
        folder = shutil.copytree(yard.data / "nmnist", box.given / "nmnist")
        _write(box.out / "cache" / "nmnist" / yard.cached.name, content)
        return ["data", "prepare", "nmnist", "--data-dir", folder.parent]

    yield Kind("cache", yard.cached.read_bytes(), cached, inside=ROWS, must_answer=True)
    members = {f"Train/{n}/a.bin": bytes(range(200)) for n in range(3)}

    def archive(name: str) -> Place:
        def place(box: Box, content: bytes) -> Call:
            path = _write(box.out / name, content)
            return lambda: unpack(path, "Train")

        return place

    for name, content in (
        ("a.zip", zipped(members)),
        ("deflated.zip", zipped(members, zipfile.ZIP_DEFLATED)),
        ("bzip2.zip", zipped(members, zipfile.ZIP_BZIP2)),
        ("lzma.zip", zipped(members, zipfile.ZIP_LZMA)),
        ("a.tar", _tar(members, "")),
        ("a.tar.gz", _tar(members, "gz")),
        ("a.tar.xz", _tar(members, "xz")),
    ):
        yield Kind(f"archive {name}", content, archive(name))


def _set(yard: Yard, path: str, data_set: str) -> Place:
    parent = "original" if path.startswith("original") else ""

    def place(box: Box, content: bytes) -> Call:
        source = yard.data / parent / data_set
        folder = shutil.copytree(source, box.given / data_set)
        _write(folder.parent / Path(path).relative_to(parent), content)
        own: Words = ["--set", "data.checksum=false"] if data_set == "mnist" else []
        return ["data", "verify", data_set, "--data-dir", folder.parent, *own]

    return place


def _tar(members: dict[str, bytes], how: str) -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{how}") as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _results(yard: Yard) -> Iterator[Kind]:
    good = _write(yard.root / "good.jsonl", yard.records)
    yield Kind("records/report", yard.records, _read_by("records.jsonl", "report"), "lines")
    html: Words = ["--format", "html,markdown,latex,csv,json", "--out", "report"]
    yield Kind("records/files", yard.records, _read_by("records.jsonl", "report", then=html), "lines")
    yield Kind("records/compare", yard.records, _read_by("records.jsonl", "compare", good), "lines")
