"""Event data through the command line: every recipe on small files of the set's own layout, caches, and bad input."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import CACHES
from hstnn_deploy.data.events.events import make_events
from hstnn_deploy.data.registry import load
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import KINDS, Kind, layer_sizes
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.evaluation import evaluate
from hstnn_deploy.train.fitting import progress
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, options, settings
from tests.contents import contents
from tests.event_files import make_dvs_gesture, make_nmnist, make_shd, write_bin

CONV: dict[str, object] = {
    **TINY,
    "network.units": [3, 4, 4],
    "network.hidden": 8,
    "batch": 9,
    "adapt.epochs": 1,
    "restore.epochs": 1,
}
SEQUENCE: dict[str, object] = {**TINY, "batch": 9}
RECIPES: dict[str, tuple[Callable[[Path], Path], dict[str, object]]] = {
    "nmnist": (make_nmnist, CONV),
    "nmnist-small": (make_nmnist, CONV),
    "dvs-gesture": (make_dvs_gesture, CONV | {"data.steps": 6}),
    "shd": (lambda root: make_shd(root, count=60), SEQUENCE),
    "ssc": (lambda root: make_shd(root, "ssc"), SEQUENCE),
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def nmnist(tmp_path: Path) -> Path:
    return make_nmnist(tmp_path / "data")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_is_evaluated_on_files_of_the_sets_own_layout(
    name: str, hstnn: Hstnn, tmp_path: Path
) -> None:
    make, changes = RECIPES[name]
    folder = make(tmp_path / "data")
    result = hstnn("train", name, "--data-dir", folder, "--out", tmp_path / "runs", *options(changes))
    assert (result.code, result.err) == (0, "")
    assert "test recordings, " in result.out
    best = tmp_path / "runs" / name / "hybrid" / "seed1111" / "ratio-0.5" / "best.pt"
    # Also a training split that is cropped at random gives the same figures at every call, whatever keeps it.
    words = ["evaluate", "--ckpt", str(best), "--split", "train", "--data-dir", str(folder), "--json", "--cache"]
    figures = [hstnn(*words, where) for where in ("none", "disk")]
    assert [(each.code, each.err) for each in figures] == [(0, "")] * 2
    assert figures[0].out == figures[1].out
    assert json.loads(figures[0].out)["samples"] > 20


def small(name: str, **changes: object) -> list[str]:
    return settings({**RECIPES[name][1], "adapt.epochs": 2, **changes})


def test_whatever_keeps_the_frames_and_however_often_it_is_interrupted_the_bits_are_the_same(tmp_path: Path) -> None:
    folder = make_dvs_gesture(tmp_path / "data")
    recipe = load_recipe("dvs-gesture", small("dvs-gesture", kind="rnn", seed=3))
    for where in CACHES:
        train(recipe, tmp_path / where, data_folder=folder, cache=where)
    expected = contents(tmp_path / "none")
    assert all(contents(tmp_path / where) == expected for where in CACHES)

    from hstnn_deploy.train.observer import Observer

    class Stopping(Observer):
        def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
            if (epoch, batch) == (2, 2):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped", data_folder=folder, observer=Stopping())
    train(recipe, tmp_path / "stopped", data_folder=folder, resume=True)
    assert contents(tmp_path / "stopped") == expected


def test_a_network_of_spoken_digits_is_trained_exported_verified_and_profiled(hstnn: Hstnn, tmp_path: Path) -> None:
    """iaf-shd at its full width, on recordings in SHD's own layout."""
    folder, out = make_shd(tmp_path / "shd", count=30), tmp_path / "runs"
    where: list[str | Path] = ["--data-dir", folder]
    trained = hstnn("train", "iaf-shd", "--set", "train.epochs=1", "--out", out, *where)
    assert trained.code == 0, trained.err
    run = out / "iaf-shd/plain/seed1111"
    exported = hstnn("export", "--ckpt", run / "best.pt", "--onnx", "--torchscript", *where)
    assert exported.code == 0, exported.err
    manifest = json.loads((run / "bundle/manifest.json").read_text())
    assert manifest["verification"]["result"] == "passed"
    verified = hstnn("verify", run / "bundle", "--strict", "--trust", "--ckpt", run / "best.pt", *where)
    assert verified.code == 0, verified.out
    words = ["--phases", "work,train,infer", "--seconds", "0.2", "--engines", "onnxruntime", "--batch", "1"]
    profiled = hstnn("profile", "--ckpt", run / "best.pt", *words, *where)
    assert profiled.code == 0, profiled.err
    assert "layer6.lif" in profiled.out
    assert "real: SHD" in " ".join(profiled.out.split())


def test_the_crops_of_two_epochs_differ(tmp_path: Path) -> None:
    folder = make_dvs_gesture(tmp_path / "data")
    still = small("dvs-gesture", kind="rnn", **{"adapt.lr": 1e-30, "batch": 100})
    (run,) = train(load_recipe("dvs-gesture", still), tmp_path / "runs", data_folder=folder)
    first, second = (row["train_loss"] for row in run.metrics())
    assert first != second


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_recording_gives_what_it_gives_alone(kind: Kind, tmp_path: Path) -> None:
    recipe = load_recipe("shd", ["network.units=[7, 6]", "data.steps=null", f"kind={kind}"])
    splits = load(recipe.data, "test", make_shd(tmp_path))
    torch.manual_seed(0)
    network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio))
    with torch.no_grad():
        for group in network.parameters():
            # So that units of the second layer spike within these short recordings.
            group.mul_(2)
    task, cpu = task_for(recipe.network), torch.device("cpu")
    x, target, lengths = splits.train.batch(torch.arange(24), cpu)
    assert lengths is not None
    assert len(set(lengths.tolist())) > 3
    output, _ = network(x, None, lengths)
    task.loss(output, target).backward()
    together = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    network.zero_grad()
    for number in range(24):
        alone = splits.train.batch(torch.tensor([number]), cpu)
        assert len(alone.x) == int(lengths[number])
        single, _ = network(alone.x)
        torch.testing.assert_close(single[0], output[number])
        (task.loss(single, alone.target) / 24).backward()
    for ours, parameter in zip(together, network.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(ours, parameter.grad)
    scores = [evaluate(network, task, splits.test, size, cpu) for size in (1, 5, 24)]
    assert all(score["accuracy"] == scores[0]["accuracy"] for score in scores)
    assert [score["loss"] for score in scores] == pytest.approx([scores[0]["loss"]] * 3, rel=1e-6)


def test_whole_recordings_are_trained_selected_restored_and_evaluated_in_padded_batches(
    hstnn: Hstnn, tmp_path: Path
) -> None:
    for name, folder in (("shd", make_shd(tmp_path / "shd", count=60)), ("nmnist", make_nmnist(tmp_path / "nmnist"))):
        changes = {**RECIPES[name][1], "data.steps": "null", "data.frame_time": 9000}
        words = ["--data-dir", str(folder), "--out", str(tmp_path / "runs"), *options(changes)]
        result = hstnn("train", name, *words)
        assert (result.code, result.err) == (0, "")
        best = tmp_path / "runs" / name / "hybrid" / "seed1111" / "ratio-0.5" / "best.pt"
        losses = []
        for size in ("1", "9"):
            result = hstnn("evaluate", "--ckpt", best, "--data-dir", folder, "--batch", size, "--json")
            losses.append(json.loads(result.out)["loss"])
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_cache_is_written_when_asked_and_a_damaged_entry_is_made_anew(
    hstnn: Hstnn, nmnist: Path, cache_folder: Path, tmp_path: Path
) -> None:
    def run(out: str, *more: str) -> int:
        words = ["train", "nmnist", "--kind", "snn", "--data-dir", str(nmnist), "--out", str(tmp_path / out)]
        return hstnn(*words, *more, *options(CONV)).code

    assert [run(where, "--cache", where) for where in ("none", "memory", "device")] == [0, 0, 0]
    assert cache.entries() == []
    assert run("disk") == 0
    written = {entry.path: entry.path.read_bytes() for entry in cache.entries()}
    assert {entry.split for entry in cache.entries()} == {"train", "test"}
    for path, raw in written.items():
        path.write_bytes(raw[: len(raw) // 2])
    assert run("again") == 0
    assert {path: path.read_bytes() for path in written} == written
    assert contents(tmp_path / "again") == contents(tmp_path / "disk") == contents(tmp_path / "none")


def test_no_space_left_for_the_cache_is_one_line_and_memory_goes_on(
    hstnn: Hstnn, nmnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hstnn_deploy import files

    real = files.atomic

    def full(path: Path) -> object:
        if path.is_relative_to(cache.folder()):
            raise files.cannot_write(path, OSError(28, "No space left on device"))
        return real(path)

    monkeypatch.setattr(files, "atomic", full)
    words = ["train", "nmnist", "--kind", "snn", "--data-dir", str(nmnist), "--out", str(tmp_path), *options(CONV)]
    result = hstnn(*words)
    assert result.code == 3
    assert result.error.endswith("no space left on the device")
    assert "--cache memory" in result.hint
    assert hstnn(*words, "--cache", "memory", "--resume").code == 0


def test_bad_recordings_are_one_line(hstnn: Hstnn, nmnist: Path, tmp_path: Path) -> None:
    bad = nmnist / "Train" / "1" / "00003.bin"
    words = ["train", "nmnist", "--kind", "snn", "--data-dir", str(nmnist), *options(CONV), "--out"]
    write_bin(bad, make_events([5, 40], 5, [1, 2], 0))
    for where in CACHES:
        result = hstnn(*words, tmp_path / where, "--cache", where)
        assert (result.code, result.error) == (3, f"{bad}: event 1 of 2 has x 40, but the sensor ends at 33")
        assert "remove it from the data set" in result.hint
    bad.write_bytes(bad.read_bytes()[:-1])
    result = hstnn(*words, tmp_path / "runs")
    assert (result.code, result.error) == (3, f"{bad} is truncated: 9 bytes are not whole events of 5")
    bad.unlink()
    assert hstnn(*words, tmp_path / "runs").code == 0


@pytest.mark.parametrize("live", [False, True])
def test_preparing_is_seen(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr("hstnn_deploy.train.fitting.progress.time.monotonic", lambda: next(clock))
    written = io.StringIO()
    observer = progress.make_observer(Console(file=written, force_terminal=live, width=100))
    for done in range(1, 8):
        observer.preparing("preparing nmnist train", done, 7)
    observer.close()
    assert ("preparing nmnist train: 3 of 7\n" in written.getvalue()) != live
    assert "preparing nmnist train" in written.getvalue()


@pytest.mark.parametrize(
    ("name", "where"),
    [("nmnist", "nmnist"), ("dvs-gesture", "dvs-gesture"), ("shd", "shd"), ("ssc", "ssc"), ("nmnist-small", "nmnist")],
)
def test_a_missing_set_is_one_line(name: str, where: str, hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("train", name, "--data-dir", tmp_path, "--out", tmp_path / "runs")
    assert result.code == 3
    assert f"is not at {tmp_path / where} (" in result.error
    assert "--data-dir" in result.hint
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("data.transforms=[{name: denois}]", "data.transforms.0.name is 'denois'", "'denoise'"),
        ("data.transforms=[{name: denoise, filter: 3}]", "unknown key 'data.transforms.0.filter'", "'filter_time'"),
        ("data.transforms=[{name: downsample, factor: 1}]", "data.transforms.0.factor is 1: ", ""),
        ("data.transforms=3", "data.transforms is 3: ", ""),
        ("data.steps=0", "data.steps is 0: ", ""),
        ("data.frame_time=0.5", "data.frame_time is 0.5: ", ""),
        ("data.transforms=[{name: downsample, factor: 2}]", "network.size is 34, but nmnist has 17", "network.size=17"),
        ("data.transforms=[{name: merge-polarities}]", "network.inputs is 2, but nmnist has 1", "network.inputs=1"),
    ],
)
def test_a_wrong_transform_is_one_line(change: str, message: str, hint: str, hstnn: Hstnn, nmnist: Path) -> None:
    result = hstnn("train", "nmnist", "--data-dir", nmnist, "--out", nmnist / "runs", "--set", change)
    assert result.code == 2
    # Refused before anything is prepared.
    assert cache.entries() == []
    assert message in result.error
    assert hint in result.hint


def test_an_unknown_cache_is_refused(hstnn: Hstnn) -> None:
    assert hstnn("train", "nmnist", "--cache", "attic").code == 2
