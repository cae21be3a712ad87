"""The kinds of files that hold data: arrays, images, recordings, the files of data sets, archives, the cache."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hstnn_deploy.data.files.archives import unpack
from tests.attacks.box import Box
from tests.attacks.kinds import Kind, read_by, write
from tests.attacks.mutate import ZIP, zipped
from tests.attacks.worker import Call, Place, Words
from tests.attacks.yard import ROWS, Yard, dat, recorded
from tests.event_files import aedat, aedat2
from tests.tiny_imagenet import WNIDS


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


def inputs(yard: Yard) -> Iterator[Kind]:
    images, moving, text = yard.bundle("sequence"), yard.bundle("dvs"), yard.bundle("language")
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 1, 8)
    for name, content, inside in (
        ("x.npy", _npy(x), None),
        ("x.npz", _npz(x=x), ZIP),
        ("x.png", _image("PNG"), None),
        ("x.jpg", _image("JPEG"), None),
        ("x.csv", b"\n".join(b" ".join(b"%.3f" % value for value in row) for row in x[:, 0]) + b"\n", None),
    ):
        yield Kind(f"run {name}", content, read_by(name, "run", images, "--resize", "--input"), inside=inside)
    yield Kind("run x.txt", b"the import statement\n", read_by("x.txt", "run", text, "--input"), weight=0.3)
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
        yield Kind(f"run {name}", content, read_by(name, "run", moving, "--input"), inside=inside)
    small: Words = ["--events", "sensor=16x16"]
    yield Kind("run e2.aedat", aedat2(events), read_by("e2.aedat", "run", moving, "--input", then=small))


def data(yard: Yard) -> Iterator[Kind]:
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
        ("cifar10-dvs/cat/cifar10_cat_0.aedat", "cifar10-dvs", 1),
        (f"tiny-imagenet/tiny-imagenet-200/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG", "tiny-imagenet", 1),
        ("tiny-imagenet/tiny-imagenet-200/wnids.txt", "tiny-imagenet", 1),
        ("tiny-imagenet/tiny-imagenet-200/val/val_annotations.txt", "tiny-imagenet", 1),
    ):
        place = _set(yard, path, data_set)
        yield Kind(f"data {Path(path).name}", (yard.data / path).read_bytes(), place, weight=weight)

    def cached(box: Box, content: bytes) -> Call:
        folder = shutil.copytree(yard.data / "nmnist", box.given / "nmnist")
        write(box.out / "cache" / "nmnist" / yard.cached.name, content)
        return ["data", "prepare", "nmnist", "--data-dir", folder.parent]

    yield Kind("cache", yard.cached.read_bytes(), cached, inside=ROWS, must_answer=True)
    members = {f"Train/{n}/a.bin": bytes(range(200)) for n in range(3)}

    def archive(name: str) -> Place:
        def place(box: Box, content: bytes) -> Call:
            path = write(box.out / name, content)
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
        write(folder.parent / Path(path).relative_to(parent), content)
        own: Words = ["--set", "data.checksum=false"] if data_set == "mnist" else []
        return ["data", "verify", data_set, "--data-dir", folder.parent, *own]

    return place


def _tar(members: dict[str, bytes], how: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{how}") as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()
