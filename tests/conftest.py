"""What the tests share: the command line in this process, small recipes, small data, and no network."""

import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis.internal.conjecture import providers

# A console made while a test module is imported would keep this width for good; each test is given its own below.
os.environ.pop("COLUMNS", None)

hypothesis.settings.register_profile("repeatable", deadline=None, max_examples=50, derandomize=True)
# What `make attack` takes: other examples at every run.
hypothesis.settings.register_profile("free", deadline=None, max_examples=50, derandomize=False)
hypothesis.settings.load_profile(PROFILE := os.environ.get("HSTNN_HYPOTHESIS", "repeatable"))
if PROFILE == "repeatable":
    # Hypothesis also draws the constants of whatever modules are loaded, which depends on what ran before in the same
    # process. Without them the examples are the same at every run.
    providers._get_local_constants = lambda: providers._local_constants

PATIENCE = 1800.0
"""Seconds after which a test gives up on what it waits for: a hang ends some day, and no busy machine fails a test."""

TINY = {
    "network.units": [6, 5],
    "batch": 200,
    "adapt.epochs": 2,
    "restore.epochs": 2,
    "selection.probes": 4,
    "selection.samples": 20,
    "selection.bootstraps": 10,
}
"""Changes that make a recipe small enough for a test."""

TINY_TEXT = {
    "network.vocabulary": 13,
    "network.inputs": 6,
    "network.units": [6, 5],
    "data.bptt": 5,
    "batch": 4,
    "adapt": "{epochs: 2, optimiser: sgd, lr: 0.1, momentum: 0.9, clip: 1, schedule: {every: 2, factor: 0.5}}",
    "restore": "{epochs: 2, optimiser: sgd, lr: 0.1, momentum: 0.9, clip: 1, schedule: {every: 1, factor: 0.5}}",
    "selection.probes": 4,
    "selection.bootstraps": 10,
}
"""Changes that make the recipe of a language model small enough, for the text of the fixture `ptb`."""


def in_part(cases: Iterable[object], each: int) -> list[Any]:
    """Return cases for `parametrize`, of which every `each`-th runs every time, and `make test-matrix` the others."""
    return [
        pytest.param(*(case if type(case) is tuple else (case,)), marks=pytest.mark.matrix if number % each else ())
        for number, case in enumerate(cases)
    ]


def settings(changes: dict[str, object]) -> list[str]:
    """Return changes as `KEY=VALUE`."""
    return [f"{key}={value}" for key, value in changes.items()]


def options(changes: dict[str, object]) -> list[str]:
    """Return changes as the command line takes them."""
    return [word for change in settings(changes) for word in ("--set", change)]


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of the one `error:` line; there must be one, and beside it at most one hint."""
        lines = self.err.splitlines()
        assert [line[:6] for line in lines[:2]] in (["error:"], ["error:", "hint: "]), self.err
        assert len(lines) <= 2, self.err
        return lines[0].removeprefix("error: ")

    @property
    def hint(self) -> str:
        """The hint that follows the error, or an empty text."""
        return self.err.partition("\nhint: ")[2].strip()


class Hstnn(Protocol):
    """Runs the `hstnn` command line in this process."""

    def __call__(self, *words: str | Path) -> Result: ...


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    # Small networks gain nothing from threads, and equality to the bit holds at one thread count.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests, and processes they start, off the network and away from the user's files and settings."""
    for scheme in ("http", "https", "all"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "HSTNN_DATA", "HSTNN_CACHE", "HSTNN_RUNS", "HSTNN_DEVICE", "HSTNN_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HSTNN_CONFIG", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    # A test that changes the folder leaves the next one where it was.
    monkeypatch.chdir(Path.cwd())
    # What is said of slow work depends on the machine.
    monkeypatch.setattr("hstnn_deploy.models.kernels.generated.compiled._PATIENCE", PATIENCE)


def let_ray_start(patch: pytest.MonkeyPatch) -> None:
    """Prepare the environment for a Ray of our own: without a proxy between its parts, or files in the user's home."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            patch.delenv(name)
    patch.setenv("RAY_AUTH_TOKEN", "0" * 64)  # else Ray writes one into the user's home


@pytest.fixture
def no_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No part of a user's own is registered before, and none that a test registers stays."""
    from hstnn_deploy.data import custom
    from hstnn_deploy.plugins import registry as plugins

    for name in ("_parts", "_built_in"):
        monkeypatch.setattr(plugins, name, dict(getattr(plugins, name)) if name == "_built_in" else {})
    monkeypatch.setattr(plugins, "_imported", set())
    monkeypatch.setattr(custom, "_SHAPES", {})
    monkeypatch.setenv(plugins.VARIABLE, "")
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in ("own_parts", "own_plugin"):
        if name in sys.modules and name not in modules:
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def hstnn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Hstnn]:
    """The command line, in this process: returns exit code, standard output and standard error."""
    from hstnn_deploy.cli.app import main

    def run(*words: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["hstnn", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Result(left.value.code, captured.out, captured.err)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def write_idx(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write an array of bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


@pytest.fixture(scope="session")
def _mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own-idx")
    generator = np.random.default_rng(0)
    for name, count in (("train", 120), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = generator.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 4] += 190
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture
def mnist(_mnist: Path, tmp_path: Path) -> Path:
    """A folder of four small IDX files with MNIST's names, 120 and 20 samples; free to be damaged."""
    return shutil.copytree(_mnist, tmp_path / "own-idx")


def write_cifar(path: Path, labels: Sequence[Sequence[int]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Write CIFAR's binary records, each with its label bytes; return the pixels [N, 3, 32, 32]."""
    generator = np.random.default_rng(len(labels))
    pixels = generator.integers(0, 60, (len(labels), 3, 32, 32), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:, :, 3 * (label[-1] % 10) : 3 * (label[-1] % 10) + 4] += 190
    records = [
        np.concatenate([np.array(label, np.uint8), image.ravel()]) for label, image in zip(labels, pixels, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.concatenate(records).tobytes())
    return pixels


@pytest.fixture
def ptb(tmp_path: Path) -> Path:
    """A folder of three small files with PTB's names: 12 words and `<eos>`, each word much like the one before."""
    folder = tmp_path / "own-text"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, lines in (("train", 30), ("valid", 8), ("test", 8)):
        text = ""
        for line in range(lines):
            first = line if name == "train" else int(generator.integers(12))
            jumps = generator.integers(0, 2, 8)
            text += " ".join(f"w{(first + place + int(jump)) % 12}" for place, jump in enumerate(jumps)) + " \n"
        (folder / f"ptb.{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A path that nobody, root included, can create: below a regular file."""
    file = tmp_path / "a-file"
    file.write_text("in the way")
    return file / "below"
