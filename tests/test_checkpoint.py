"""Checkpoints: whole or refused, never run, never half-written."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstnn_deploy import checkpoint
from hstnn_deploy.checkpoint import Checkpoint, load_network
from hstnn_deploy.errors import CheckpointError
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.recipe.load import load_recipe


def example() -> Checkpoint:
    recipe = load_recipe("digits", ["network.units=[3, 2]", "kind=hybrid"])
    torch.manual_seed(0)
    sizes = [Sizes(3, 3), Sizes(2, 2)]
    network = build(recipe.network, sizes)
    return Checkpoint(
        recipe=recipe.dump(),
        architecture=recipe.network,
        stage="adapt",
        sizes=sizes,
        parameters=network.state_dict(),
        epoch=4,
        metrics={"valid": {"epoch": 4, "valid_accuracy": 50.0}},
        environment={"cpu": "ein Prozessor"},
        training={"optimiser": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}, "best": {}},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    example().save(path)
    return path


def refusal(path: Path) -> CheckpointError:
    """Return how loading `path` is refused; it must be, in one line that names the file."""
    with pytest.raises(CheckpointError) as refused:
        Checkpoint.load(path).network()
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    return refused.value


def test_everything_comes_back(file: Path) -> None:
    before, after = example(), Checkpoint.load(file)
    for name, value in before.parameters.items():
        assert torch.equal(after.parameters[name], value)
    fields = {"parameters", "training"}
    assert after.model_dump(exclude=fields) == before.model_dump(exclude=fields)
    assert after.sizes == [Sizes(3, 3), Sizes(2, 2)]
    assert after.training is not None
    assert after.training["optimiser"]["param_groups"] == [{"lr": 0.1}]
    assert after.resolved_recipe() == before.resolved_recipe()


def test_the_network_comes_back_ready_to_answer(file: Path) -> None:
    x = torch.rand(8, 2, 8)
    network = load_network(file)
    assert not network.training
    assert torch.equal(network(x)[0], example().network()(x)[0])
    assert torch.equal(network(x)[0], load_network(str(file))(x)[0])


def test_only_an_adapted_network_is_redundant() -> None:
    whole = example()
    assert whole.redundant
    assert not whole.model_copy(update={"stage": "restore"}).redundant
    assert not whole.model_copy(update={"stage": "train"}).redundant


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.pt").message


def test_a_folder_is_refused_with_the_checkpoints_in_it(file: Path) -> None:
    refused = refusal(file.parent)
    assert "is a folder" in refused.message
    assert str(file) in refused.hint


def test_an_empty_folder_is_refused_too(tmp_path: Path) -> None:
    assert "best.pt" in refusal(tmp_path).hint


@pytest.mark.parametrize("left", [0, 1, 4, 100, 0.25, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(file: Path, left: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(left * len(whole)) if isinstance(left, float) else left])
    refusal(file)


@pytest.mark.parametrize("length", [1, 10, 1000, 100_000])
def test_random_bytes_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "random.pt"
    path.write_bytes(np.random.default_rng(length).bytes(length))
    refusal(path)


@given(data=st.binary(max_size=200), zipped=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_no_bytes_whatever_get_past(tmp_path: Path, data: bytes, zipped: bool) -> None:
    path = tmp_path / "any.pt"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/version", "3\n")
    else:
        path.write_bytes(data)
    refusal(path)


def test_a_flipped_byte_is_noticed_wherever_it_stands(file: Path) -> None:
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        parameters = {name: value.numpy().tobytes() for name, value in example().parameters.items()}
        inside = [whole.index(value) for value in parameters.values() if any(value)]
        pickled = archive.getinfo(next(name for name in archive.namelist() if name.endswith("data.pkl"))).header_offset
    for place in (*inside, pickled + 200):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        assert "damaged" in refusal(file).message


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"weight": torch.zeros(2)}},
        OrderedDict(weight=torch.zeros(2)),
        torch.zeros(3),
        [1, 2, 3],
        {"format": "other", "version": 1, "content": "network", "data": {}},
    ],
)
def test_a_foreign_torch_file_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "foreign.pt"
    torch.save(content, path)
    assert "was not written by hstnn" in refusal(path).message


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    assert "ran nothing in it" in refusal(path).message


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_a_torchscript_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ts"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    refused = refusal(path)
    assert "TorchScript" in refused.message
    assert "damaged" not in refused.message


class Mine:
    """A pickle with code in it: loading it as pickle.load does makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("how", ["pickle", "torch", "torch without zip", "inside our own format"])
def test_a_pickle_with_code_is_refused_and_nothing_in_it_is_run(tmp_path: Path, how: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "code.pt"
    match how:
        case "pickle":
            path.write_bytes(pickle.dumps(Mine(marker)))
        case "torch":
            torch.save({"a": Mine(marker)}, path)
        case "torch without zip":
            torch.save({"a": Mine(marker)}, path, _use_new_zipfile_serialization=False)
        case _:
            torch.save({"format": "hstnn-deploy", "version": 1, "content": "network", "data": Mine(marker)}, path)
    refused = refusal(path)
    assert not marker.exists()
    whole = how in {"torch", "inside our own format"}
    assert ("ran nothing in it" if whole else "is not a checkpoint") in refused.message
    # And it is no dud: without the safeguard the code does run.
    if how != "pickle":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert marker.exists()


def rewrite(file: Path, **changes: Any) -> None:
    whole = torch.load(file, weights_only=True)
    whole |= changes
    torch.save({key: value for key, value in whole.items() if value is not ...}, file)


def test_a_newer_format_is_refused_with_what_to_do(file: Path) -> None:
    rewrite(file, version=checkpoint.VERSION + 1)
    refused = refusal(file)
    assert f"format version {checkpoint.VERSION + 1}" in refused.message
    assert "upgrade" in refused.hint


@pytest.mark.parametrize("version", [None, "1", 1.5, 0, -1, True])
def test_a_version_that_never_was_is_refused(file: Path, version: object) -> None:
    rewrite(file, version=version)
    assert "format version" in refusal(file).message


def test_other_content_is_refused(file: Path) -> None:
    rewrite(file, content="traces")
    assert "contains 'traces', not 'network'" in refusal(file).message


@pytest.mark.parametrize("data", [..., None, [], 3, "text"])
def test_a_checkpoint_without_data_is_refused(file: Path, data: object) -> None:
    rewrite(file, data=data)
    refusal(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters", ...),
        ("epoch", "many"),
        ("stage", "distil"),
        ("sizes", [[3]]),
        ("sizes", [3]),
        ("unknown", 1),
        ("parameters", {"weight": 3}),
        ("recipe", 3),
    ],
)
def test_a_checkpoint_that_is_not_whole_names_what_is_wrong(file: Path, key: str, value: object) -> None:
    data = torch.load(file, weights_only=True)["data"]
    data[key] = value
    rewrite(file, data={name: each for name, each in data.items() if each is not ...})
    refused = refusal(file)
    assert "is incomplete" in refused.message
    assert key in refused.message


@pytest.mark.parametrize("damage", ["missing", "shape", "extra", "sizes", "negative sizes"])
def test_parameters_that_do_not_fit_are_refused(file: Path, damage: str) -> None:
    data = torch.load(file, weights_only=True)["data"]
    parameters = data["parameters"]
    match damage:
        case "missing":
            del parameters["readout.bias"]
        case "shape":
            parameters["readout.weight"] = torch.zeros(2, 2)
        case "extra":
            parameters["more"] = torch.zeros(2)
        case "sizes":
            data["sizes"] = [[1, 1], [1, 1]]
        case _:
            data["sizes"] = [[-3, 3], [2, 2]]
    rewrite(file, data=data)
    assert "not fit" in refusal(file).message


class Made(Exception):
    """A network was built."""


@pytest.mark.parametrize(
    "units", [[20_000, 20_000], [2**20, 2**20], [3] * 900], ids=["20 000 units", "a million units", "900 layers"]
)
def test_a_claim_of_a_large_network_is_refused_before_anything_is_made(
    file: Path, units: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(config: Any, sizes: Any) -> Any:
        if torch.empty(0).device.type != "meta":
            raise Made
        return build(config, sizes)

    monkeypatch.setattr(checkpoint, "build", never)
    data = torch.load(file, weights_only=True)["data"]
    data["recipe"]["network"]["units"] = data["architecture"]["units"] = units
    data["sizes"] = [[each, each] for each in units]
    rewrite(file, data=data)
    assert "do not fit the network" in refusal(file).message
    example().save(file)
    # And it is no dud: of a network that fits, all is made.
    with pytest.raises(CheckpointError, match="Made"):
        Checkpoint.load(file).network()


@pytest.mark.parametrize("how", ["expanded", "sparse", "double"])
def test_parameters_that_are_not_whole_tensors_are_refused(file: Path, how: str) -> None:
    data = torch.load(file, weights_only=True)["data"]
    weight = data["parameters"]["readout.weight"]
    data["parameters"]["readout.weight"] = {
        # A shape of any size costs four bytes.
        "expanded": torch.zeros(1).expand(weight.shape),
        "sparse": weight.to_sparse(),
        "double": weight.double(),
    }[how]
    rewrite(file, data=data)
    assert "readout.weight" in refusal(file).message


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_compressed_archive_is_refused_unread(file: Path, tmp_path: Path, method: int) -> None:
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w", method) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        new.writestr("best/data/999", bytes(10_000_000))
    refusal(packed)


def test_objects_that_torch_would_make_of_any_size_are_refused(file: Path) -> None:
    rewrite(file, data={"recipe": bytearray(10)})
    assert "ran nothing in it" in refusal(file).message


def test_a_recipe_nested_without_end_is_shown_in_bounded_time(file: Path) -> None:
    nested: Any = "x"
    for _ in range(60):
        nested = [nested] * 10
    data = torch.load(file, weights_only=True)["data"]
    data["recipe"]["about"] = nested
    rewrite(file, data=data)
    assert len(refusal(file).message) < 5000


@pytest.mark.parametrize("key", ["recipe", "metrics", "environment", "selection"])
@pytest.mark.parametrize(
    "value",
    [torch.zeros(2), float("nan"), float("inf"), 2**64, {1: 2}, "\ud800", {"\ud800": 1}, torch.float32],
    ids=str,
)
def test_what_is_not_plain_data_is_refused_with_its_key(file: Path, key: str, value: object) -> None:
    data = torch.load(file, weights_only=True)["data"]
    data[key] = {**(data[key] or {}), "one": [{"two": value}]}
    rewrite(file, data=data)
    assert f"{key}.one.0.two" in refusal(file).message


def test_a_list_repeated_in_a_list_is_refused_in_bounded_time(file: Path) -> None:
    nested: Any = "x"
    for _ in range(25):
        nested = [nested] * 10
    data = torch.load(file, weights_only=True)["data"]
    data["metrics"]["valid"] = nested
    rewrite(file, data=data)
    assert "metrics.valid" in refusal(file).message


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.int64), torch.zeros(1).expand(9), float("nan")],
    ids=["complex", "whole", "expanded", "nan"],
)
def test_state_that_no_optimiser_leaves_is_refused(file: Path, value: object) -> None:
    data = torch.load(file, weights_only=True)["data"]
    data["training"]["optimiser"]["state"][0]["exp_avg"] = value
    rewrite(file, data=data)
    assert "training.optimiser.state.0.'exp_avg'" in refusal(file).message


@pytest.mark.parametrize("value", [torch.tensor(0.1), float("nan")], ids=["tensor", "nan"])
def test_a_learning_rate_or_best_row_that_is_not_plain_is_refused(file: Path, value: object) -> None:
    data = torch.load(file, weights_only=True)["data"]
    rewrite(file, data={**data, "training": {**data["training"], "best": {"valid_loss": value}}})
    assert "training.best.valid_loss" in refusal(file).message
    data["training"]["optimiser"]["param_groups"][0]["lr"] = value
    rewrite(file, data=data)
    assert "training.optimiser.param_groups.0.lr" in refusal(file).message


def test_a_recipe_this_version_cannot_read_is_a_checkpoint_error(file: Path) -> None:
    data = torch.load(file, weights_only=True)["data"]
    data["recipe"]["data"]["name"] = "imagenet"
    rewrite(file, data=data)
    with pytest.raises(CheckpointError, match=r"data\.name"):
        Checkpoint.load(file).resolved_recipe()


def test_a_network_that_is_not_its_recipe_s_is_refused(file: Path) -> None:
    data = torch.load(file, weights_only=True)["data"]
    data["recipe"]["network"]["neuron"]["threshold"] = 0.7
    rewrite(file, data=data)
    assert "its architecture differs from that of its recipe" in refusal(file).message


def test_a_network_this_version_does_not_know_is_a_checkpoint_error(file: Path) -> None:
    data = torch.load(file, weights_only=True)["data"]
    data["architecture"]["family"] = data["recipe"]["network"]["family"] = "transformer"
    rewrite(file, data=data)
    message = refusal(file).message
    assert "architecture" in message
    assert "transformer" in message


def test_content_of_another_sort_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "traces.pt"
    checkpoint.save(path, "traces", {"samples": torch.ones(2)})
    assert checkpoint.load(path, "traces")["samples"].tolist() == [1, 1]
    refusal(path)


def test_an_older_format_passes_through_every_migration_since(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(file, version=1)
    monkeypatch.setattr(checkpoint, "VERSION", 3)
    monkeypatch.setattr(
        checkpoint,
        "MIGRATIONS",
        {1: lambda data: {**data, "epoch": data["epoch"] + 10}, 2: lambda data: {**data, "epoch": data["epoch"] * 2}},
    )
    assert Checkpoint.load(file).epoch == 28


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, wrong: float) -> None:
    """A NaN is above no threshold: the network would answer as if nothing were wrong."""
    whole = example()
    name = next(iter(whole.parameters))
    whole.parameters[name].view(-1)[1] = wrong
    whole.save(tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"contains NaN or infinity \(1 of \d+ numbers\)") as caught:
        Checkpoint.load(tmp_path / "best.pt").network()
    assert name in caught.value.message
