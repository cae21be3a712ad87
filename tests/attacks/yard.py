"""What attacks are made from: small valid files of every sort, made once."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hstnn_deploy import files
from hstnn_deploy.data import cache
from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.registry import load
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.runtime.manifest import MANIFEST, seal
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.stages import train
from tests.attacks.mutate import Inside
from tests.conftest import TINY, settings, write_cifar, write_idx
from tests.event_files import aedat, make_cifar10_dvs, make_nmnist, make_shd, write_bin, write_npy
from tests.export.cases import Case
from tests.tiny_imagenet import make_tiny_imagenet


@dataclass(frozen=True)
class Yard:
    """A folder of valid things; whoever damages one copies it first."""

    root: Path

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.root / name
        if not path.exists():
            make(path)
        return path

    @cached_property
    def runs(self) -> Path:
        """The runs of a small hybrid: adapt, traces, ratio-0.5."""
        return self._made("runs", lambda path: train(load_recipe("digits", settings(TINY)), path))

    @property
    def seed(self) -> Path:
        """The folder of its seed."""
        return self.runs / "digits" / "hybrid" / "seed1111"

    def bundle(self, family: str, *formats: str) -> Path:
        """A bundle of an untrained network of a family, with its states saved beside it."""
        formats = formats or ("onnx",)

        def make(path: Path) -> None:
            ckpt = Case(family, "ffs").checkpoint(path.with_suffix(".pt"))
            export_bundle(ckpt, path, formats, verify=False)

        return self._made(f"{family}-{'-'.join(formats)}", make)

    @property
    def ckpt(self) -> Path:
        """The checkpoint of the bundle of the family sequence."""
        return self.bundle("sequence").with_suffix(".pt")

    @property
    def steps(self) -> Path:
        """A sequence that the bundle of the family sequence takes."""
        return self._made("x.npy", lambda path: np.save(path, np.zeros((8, 1, 8), np.float32)))

    @cached_property
    def states(self) -> bytes:
        """A file of states of the bundle of the family sequence."""
        from hstnn_deploy.export.runtime.session import Session

        path = self.root / "states.npz"
        stream = Session(self.bundle("sequence")).stream(1)
        stream.step(np.zeros((1, 8), np.float32))
        stream.save(path)
        return path.read_bytes()

    @cached_property
    def records(self) -> bytes:
        """A file of profile records that nobody measured."""
        from hstnn_deploy.profile.record import lines
        from tests.profile.conftest import configured, measured

        recipe = load_recipe("digits", settings({**TINY, "batch": 100}))
        one = measured(configured(recipe, "infer"))
        more = replace(one, series={"latency": [0.1, 0.2]}, timeline={"t": [0.0, 1.0], "rss": [1.0, 2.0]})
        return lines([measured(configured(recipe, "train")), one, more]).encode()

    @property
    def events(self) -> Events:
        """A recording of the sensor that the family dvs takes."""
        return _recording()

    @cached_property
    def data(self) -> Path:
        """A data folder with a small set of every layout."""
        return self._made("data", _make_data)

    @cached_property
    def cached(self) -> Path:
        """The entry of the cache that holds the training recordings of N-MNIST."""
        folder, before = self.root / "cache", os.environ.get(cache.VARIABLE)
        os.environ[cache.VARIABLE] = str(folder)
        try:
            load(load_recipe("nmnist").data, "validation", self.data)
        finally:
            os.environ.pop(cache.VARIABLE)
            os.environ |= {cache.VARIABLE: before} if before else {}
        return min(folder.glob("nmnist/train-*.rows"))


def _recording() -> Events:
    from sklearn.datasets import load_digits

    from hstnn_deploy.data.sets.digit_events import record

    (events,) = record(np.asarray(load_digits().images[:1]) / 16)
    return events[:300]


def _make_data(root: Path) -> None:
    generator = np.random.default_rng(0)
    (root / "mnist").mkdir(parents=True)
    for name, count in (("train", 60), ("t10k", 20)):
        write_idx(root / f"mnist/{name}-images-idx3-ubyte", generator.integers(0, 250, (count, 28, 28), np.uint8))
        write_idx(root / f"mnist/{name}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    for name in ("train", "test"):
        write_cifar(root / f"cifar10/{name}_some.bin", [[n % 10] for n in range(40)])
    (root / "ptb").mkdir()
    for name in ("train", "valid", "test"):
        text = "".join(" ".join(f"w{(line + n) % 12}" for n in range(9)) + " \n" for line in range(30))
        (root / f"ptb/ptb.{name}.txt").write_text(text)
    make_nmnist(root / "nmnist", 8, 2)
    make_shd(root / "shd", count=20)
    make_cifar10_dvs(root / "cifar10-dvs", 4, ("cat", "dog"))
    make_tiny_imagenet(root / "tiny-imagenet", 4, 2)
    folder = root / "dvs-gesture"
    for name in ("ibmGestureTrain", "ibmGestureTest"):
        for user in range(4):
            write_npy(folder / name / f"user{user:02}_led" / "0.npy", _recording())
    original = root / "original" / "dvs-gesture"
    original.mkdir(parents=True)
    for part, users in (("train", range(1, 5)), ("test", range(5, 7))):
        names = [f"user{user:02}_led.aedat" for user in users]
        (original / f"trials_to_{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            (original / name).write_bytes(aedat(_recording()))
            rows = "class,startTime_usec,endTime_usec\n1,0,4000\n2,4000,30000\n"
            (original / f"{name.removesuffix('.aedat')}_labels.csv").write_text(rows)


def dat(events: Events) -> bytes:
    """Return a recording as Prophesee's cameras write it."""
    words = np.zeros((len(events), 2), "<u4")
    words[:, 0] = events["t"]
    words[:, 1] = events["x"] | (events["y"] << 14) | (events["p"] << 28)
    return b"% Data file containing CD events.\n% Version 2\n" + bytes([0x0C, 8]) + words.tobytes()


def recorded(events: Events, path: Path) -> bytes:
    """Return a recording as N-MNIST's are written."""
    write_bin(path, events)
    return path.read_bytes()


def sealed(folder: Path, content: bytes) -> None:
    """Write a manifest so that it is read: with its seal right, and in the words of `json_text`, where it is JSON."""
    try:
        facts = json.loads(content)
        facts.pop("seal", None)
        text = files.json_text(facts | {"seal": seal(facts)}).encode()
    except (ValueError, RecursionError, AttributeError, TypeError):
        text = content
    (folder / MANIFEST).write_bytes(text)


def resealed(folder: Path, name: str) -> None:
    """Make a bundle's manifest fit a file that was changed."""
    facts: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    facts.pop("seal")
    listed = facts["files"] if name in facts["files"] else facts["carried"]
    listed[name] |= {"sha256": files.sha256(folder / name), "bytes": (folder / name).stat().st_size}
    write_manifest(folder, facts)


def _open_rows(content: bytes) -> dict[str, bytes]:
    end = len(content) - 19
    start = end - int.from_bytes(content[end : end + 8], "little")
    return {"rows": content[:start], "footer.json": content[start:end]}


def _close_rows(parts: dict[str, bytes]) -> bytes:
    import hashlib

    footer = parts["footer.json"]
    try:
        facts = json.loads(footer)
        facts["sha256"] = hashlib.sha256(parts["rows"]).hexdigest()
        footer = json.dumps(facts, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, RecursionError):
        pass
    return parts["rows"] + footer + len(footer).to_bytes(8, "little") + b"hstnn rows\n"


ROWS = Inside(_open_rows, _close_rows)
"""An entry of the cache, whose checksum follows what it holds."""


assert cache.FORMAT == 1, "see _open_rows"
