"""A kind for every sort of file that hstnn reads: what training, settings, bundles and results leave behind."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.attacks.box import Box
from tests.attacks.inputs import data, inputs
from tests.attacks.kinds import Kind, copied, read_by, write
from tests.attacks.mutate import ZIP
from tests.attacks.worker import Call, Words
from tests.attacks.yard import Yard, sealed
from tests.conftest import TINY, options


def kinds(yard: Yard) -> list[Kind]:
    """Return all kinds."""
    return [*_training(yard), *_settings(yard), *_bundles(yard), *_nir(), *inputs(yard), *data(yard), *_results(yard)]


def _training(yard: Yard) -> Iterator[Kind]:
    ckpt = (yard.seed / "ratio-0.5" / "best.pt").read_bytes()
    yield Kind("checkpoint", ckpt, read_by("best.pt", "evaluate", "--ckpt"), "torch", ZIP)
    export: Words = ["--no-verify", "--out", "bundle"]
    yield Kind("checkpoint/export", ckpt, read_by("best.pt", "export", "--ckpt", then=export), "torch", ZIP)
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
        ("traces/traces.pt", select, ZIP, "torch"),
        ("ratio-0.5/selection.json", restore, None, "json"),
        ("adapt/last.pt", resume, ZIP, "torch"),
    ):
        place = copied(yard.runs, f"{where}/{name}", words, out=True)
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
        yield Kind(f"{name}/report", content, copied(yard.runs, path, lambda runs: ["report", runs], out=True), form)
        if name != "selection.json":
            show = copied(yard.runs, path, lambda runs: ["runs", "show", runs / where / "ratio-0.5"], out=True)
            yield Kind(f"{name}/show", content, show, form)
            listed = copied(yard.runs, path, lambda runs: ["runs", "list", runs], out=True)
            yield Kind(f"{name}/list", content, listed, form)


def _settings(yard: Yard) -> Iterator[Kind]:
    recipe = (yard.seed / "adapt" / "recipe.yaml").read_bytes()
    yield Kind("recipe", recipe, read_by("recipe.yaml", "recipes"), "yaml")
    plan: Words = ["--dry-run", "--out", "runs"]
    sweep = b"""recipe: digits
set: {adapt.epochs: 2}
axes: {kind: [rnn, snn, ffs], ratio: [0.25, 0.5], seed: [1, 2], adapt.lr: [1.0e-3, 0.01]}
conditions:
- {when: {kind: ffs, ratio: 0.25}, skip: true}
- {when: {kind: [rnn, snn]}, set: {adapt.epochs: 3}}
"""
    yield Kind("sweep file", sweep, read_by("sweep.yaml", "sweep", then=plan), "yaml")

    def matrix(box: Box, content: bytes) -> Call:
        from hstnn_deploy.profile.plan.matrix import read
        from hstnn_deploy.profile.plan.plan import plan

        path = write(box.given / "matrix.yaml", content)
        return lambda: plan(**read(path))

    text = b"recipe: [digits]\nkinds: [rnn, hybrid]\nratios: [0.5]\nphases: [train, infer]\nengines: [fused]\n"
    text += b"batch: [1, 32]\ntrain-batch: 25\nsteps: 8\nthreads: [1]\ngpus: none\nseconds: 0.5\ndata: synthetic\n"
    yield Kind("matrix", text, matrix, "yaml")

    def defaults(box: Box, content: bytes) -> Call:
        from hstnn_deploy.cli.defaults import read

        path = write(box.given / "hstnn.toml", content)
        return lambda: read(path)

    toml = b'device = "cpu"\nthreads = 2\nruns = "runs"\ndata-dir = "data"\n'
    yield Kind("defaults", toml, defaults)

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
        run = copied(bundle, name, lambda copy: ["run", copy, "--stream", "--input", x], repair=True)
        yield Kind(f"{name}/run", (bundle / name).read_bytes(), run)
    whole = yard.bundle("sequence", "onnx", "torchscript", "pt2")
    for name, inside in (("model.window.onnx", None), ("model.ts", ZIP), ("model.pt2", ZIP)):
        verify = copied(whole, name, lambda copy: ["verify", copy], repair=True)
        yield Kind(f"{name}/verify", (whole / name).read_bytes(), verify, inside=inside, weight=0.15)
    text = yard.bundle("language")
    words = write(yard.root / "text.txt", b"the import statement , in its simplest form , is executed\n")
    name = "vocabulary.json"
    place = copied(text, name, lambda copy: ["run", copy, "--input", words], repair=True)
    yield Kind("vocabulary", (text / name).read_bytes(), place, "json", weight=0.3)
    load: Words = ["run", bundle, "--input", x, "--load-state"]
    states = Kind("states", yard.states, read_by("states.npz", *load), inside=ZIP, weight=2)
    yield states

    def about(box: Box, content: bytes) -> Call:
        with np.load(io.BytesIO(yard.states)) as found:
            arrays = {name: found[name] for name in found.files}
        arrays["about"] = np.array(content.decode("utf-8", "replace"))
        file = io.BytesIO()
        np.savez(file, **arrays)
        return states.place(box, file.getvalue())

    with np.load(io.BytesIO(yard.states)) as found:
        yield Kind("states/about", str(found["about"]).encode(), about, "json")


def _nir() -> Iterator[Kind]:
    for name in ("snntorch_recurrent", "nirtorch_skip", "spikingjelly_maps"):

        def read(box: Box, content: bytes) -> Call:
            from hstnn_deploy.export.graph.from_nir import read_nir

            path = write(box.given / "network.nir", content)
            return lambda: read_nir(path, 1e-4)

        yield Kind(f"NIR/{name}", (NIR_FILES / f"{name}.nir").read_bytes(), read, weight=0.5)


NIR_FILES = Path(__file__).parent.parent / "nir"


def _results(yard: Yard) -> Iterator[Kind]:
    good = write(yard.root / "good.jsonl", yard.records)
    yield Kind("records/report", yard.records, read_by("records.jsonl", "report"), "lines")
    html: Words = ["--format", "html,markdown,latex,csv,json", "--out", "report"]
    yield Kind("records/files", yard.records, read_by("records.jsonl", "report", then=html), "lines")
    yield Kind("records/compare", yard.records, read_by("records.jsonl", "compare", good), "lines")
