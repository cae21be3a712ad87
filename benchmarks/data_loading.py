"""Batches of real N-MNIST recordings: nothing kept; kept on disk, in memory, on the device; and as tonic keeps them.

A candidate loads one epoch: the same recordings in the same shuffled batches, as float32 frames [T, B, 2, 34, 34].
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import tonic.datasets
import tonic.transforms
import torch
from torch import Tensor

from benchmarks.harness import Measure, Result, Times, turns, wall
from hstnn_deploy.data import cache
from hstnn_deploy.data.cache import Key
from hstnn_deploy.data.dataset import Cache
from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.events.frames import EventSplit, make_store
from hstnn_deploy.data.events.transforms import chain
from hstnn_deploy.data.files.folder import find
from hstnn_deploy.data.sets.nmnist import NMnistConfig, NMnistRecordings
from hstnn_deploy.errors import DataError

RECORDINGS, BATCH = 200, 100
CHAINS: dict[str, list[dict[str, Any]]] = {
    "ToFrame": [],
    "Denoise + ToFrame": [{"name": "denoise", "filter_time": 10_000}],
}


def data_loading(rounds: int, folder: Path | None = None) -> Iterator[Result]:
    """Time epochs of both chains. A chain's candidates run in the same turns; each line is a ratio of two of them.

    Raises:
        DataError: there are too few recordings in the data folder.
    """
    root = find(folder, ("nmnist", "NMNIST"), lambda place: (place / "Train").is_dir()) / "Train"
    found = NMnistRecordings.of(root)
    if len(found.paths) < RECORDINGS:
        raise DataError(
            f"{root} holds {len(found.paths)} N-MNIST recordings, fewer than {RECORDINGS}",
            "name a folder that holds nmnist/Train with --data-dir or HSTNN_DATA",
        )
    order = torch.randperm(len(found.paths), generator=torch.Generator().manual_seed(0))[:RECORDINGS].tolist()
    recordings = NMnistRecordings(root, [found.paths[number] for number in order])
    for name, transforms in CHAINS.items():
        with tempfile.TemporaryDirectory() as temporary, _own_cache(Path(temporary) / "ours"):
            yield from _chain(rounds, name, transforms, recordings, Path(temporary))


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Let our cache be a folder of its own while it is measured, so that clearing it spares the user's entries."""
    with patch.dict(os.environ, {cache.VARIABLE: str(folder)}):
        yield


def _chain(
    rounds: int, name: str, transforms: list[dict[str, Any]], recordings: NMnistRecordings, temporary: Path
) -> Iterator[Result]:
    config = NMnistConfig.model_validate({"transforms": transforms})
    ours = {where: _ours(config, recordings, where) for where in ("none", "disk", "memory")}
    plain = _tonic(config, recordings)

    def fresh_disk() -> None:
        cache.clear()
        _epoch(_ours(config, recordings, "disk"))

    def fresh_tonic() -> None:
        shutil.rmtree(temporary / "tonic", ignore_errors=True)
        _epoch_of_tonics(tonic.DiskCachedDataset(plain, str(temporary / "tonic")))

    fresh_tonic()
    kept = tonic.DiskCachedDataset(plain, str(temporary / "tonic"))
    _check_same(ours, plain, kept)
    candidates: dict[str, Measure] = {
        "no cache": wall(lambda: _epoch(ours["none"])),
        "disk, first epoch": wall(fresh_disk),
        "disk, later epochs": wall(lambda: _epoch(ours["disk"])),
        "memory, later epochs": wall(lambda: _epoch(ours["memory"])),
        "tonic, no cache": wall(lambda: _epoch_of_tonics(plain)),
        "tonic DiskCachedDataset, first epoch": wall(fresh_tonic),
        "tonic DiskCachedDataset, later epochs": wall(lambda: _epoch_of_tonics(kept)),
    }
    if torch.cuda.is_available():
        there = _ours(config, recordings, "device")
        candidates["device, later epochs"] = wall(lambda: _epoch(there, torch.device("cuda")))
    times = turns(candidates, rounds, warm_up=1)
    sizes = {
        "disk": sum(entry.bytes for entry in cache.entries()),
        "tonic": sum(path.stat().st_size for path in (temporary / "tonic").iterdir()),
        "recordings": sum(path.stat().st_size for path in recordings.paths),
        "dense": 4 * RECORDINGS * 15 * 2 * 34 * 34,
    }
    batches = RECORDINGS / BATCH
    for case in candidates:
        baseline = "tonic, no cache" if case.startswith("tonic") else "no cache"
        if case == baseline:
            continue
        pair = {"baseline": times.seconds[baseline], "ours": times.seconds[case]}
        size = next((bytes for part, bytes in sizes.items() if part in case.split(",")[0]), None)
        note = f"{batches / times.median(case):.4g} batches/s, {batches / times.median(baseline):.4g} without"
        if size is not None:
            note += f"; {size / RECORDINGS / 1e3:.1f} kB per recording on disk"
        label = f"{name}: {case}"
        yield Result("data_loading", label, Times(pair, times.repeated, times.disturbed), {"bytes": sizes}, note)


def _ours(config: NMnistConfig, recordings: NMnistRecordings, where: Cache) -> EventSplit:
    """Return the recordings as `hstnn train --cache` sees them."""
    transform = chain(config.transforms, config.sensor)
    parameters = {"files": recordings.fingerprint(), **config.model_dump(mode="json")}

    def read(number: int) -> Events:
        return transform(recordings.read(number))

    key = Key("nmnist", "train", parameters)
    store = make_store(read, RECORDINGS, config.framing, where, key, lambda _done, _total: None)
    return EventSplit.of(store, config.framing, recordings.target)


def _tonic(config: NMnistConfig, recordings: NMnistRecordings) -> Any:
    """Return the same recordings as a data set of tonic's; it would otherwise insist on the whole of N-MNIST."""
    framed = tonic.transforms.ToFrame((34, 34, 2), time_window=3000, start_time=0, end_time=45_000)
    found = tonic.datasets.NMNIST.__new__(tonic.datasets.NMNIST)
    found.data, found.targets = [str(path) for path in recordings.paths], recordings.target.tolist()
    found.first_saccade_only = found.stabilize = False
    found.transform = tonic.transforms.Compose([chain(config.transforms, config.sensor), framed])
    found.target_transform = found.transforms = None
    return found


def _order() -> list[Tensor]:
    return list(torch.randperm(RECORDINGS, generator=torch.Generator().manual_seed(1)).split(BATCH))


def _epoch(split: EventSplit, device: torch.device | None = None) -> Tensor:
    """Load an epoch; return its last batch."""
    for numbers in _order():
        x = split.batch(numbers, device or torch.device("cpu")).x
    if device is not None:
        torch.cuda.synchronize(device)
    return x


def _epoch_of_tonics(dataset: Any) -> Tensor:
    for numbers in _order():
        frames = torch.from_numpy(np.stack([dataset[int(number)][0] for number in numbers]))
        x = frames.movedim(1, 0).to(torch.float32, memory_format=torch.contiguous_format)
    return x


def _check_same(ours: dict[str, EventSplit], plain: Any, kept: Any) -> None:
    """Stop the benchmark where the candidates do not load the same frames."""
    expected = _epoch_of_tonics(plain)
    for found in (*map(_epoch, ours.values()), _epoch_of_tonics(kept)):
        assert torch.equal(found, expected), "the candidates do not load the same frames"
