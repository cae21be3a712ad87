"""S-MNIST: found where it lies, checked before it is believed, and never a mystery when it is missing."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.data.dataset import Protocol, Source
from hstnn_deploy.data.files import remotes
from hstnn_deploy.data.files.folder import Report, data_folder
from hstnn_deploy.data.files.remotes import Remote
from hstnn_deploy.data.sets.mnist import MnistConfig, load_mnist, missing_files
from hstnn_deploy.errors import DataError
from tests.conftest import write_idx

OWN = MnistConfig(checksum=False)
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def everything(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    split = load_mnist(OWN, Source("test", folder)).train
    x, target, _ = split.batch(torch.arange(len(split)), torch.device("cpu"))
    return x, target


def test_your_own_idx_files_are_read(mnist: Path) -> None:
    splits = load_mnist(OWN, Source("validation", mnist))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (108, 12, 20)
    assert (splits.inputs, splits.classes) == (28, 10)


def test_step_t_is_column_t_of_the_image_and_pixels_are_in_0_to_1(mnist: Path) -> None:
    raw = np.frombuffer((mnist / FILES[0]).read_bytes(), np.uint8, offset=16).reshape(120, 28, 28)
    x, target = everything(mnist)
    assert x.shape == (28, 120, 28)
    np.testing.assert_allclose(x.permute(1, 2, 0).numpy(), raw / 255, rtol=1e-6)
    assert target.tolist() == [n % 10 for n in range(120)]


def test_files_may_be_gzipped_some_or_all(mnist: Path) -> None:
    plain = everything(mnist)[0]
    for name in FILES[:2]:
        (mnist / f"{name}.gz").write_bytes(gzip.compress((mnist / name).read_bytes()))
        (mnist / name).unlink()
        assert torch.equal(everything(mnist)[0], plain)


def test_files_may_lie_in_a_folder_called_mnist(mnist: Path, tmp_path: Path) -> None:
    plain = everything(mnist)[0]
    root = tmp_path / "root"
    root.mkdir()
    mnist.rename(root / "mnist")
    assert torch.equal(everything(root)[0], plain)


def test_the_canonical_checksum_is_asked_for_by_default(mnist: Path) -> None:
    with pytest.raises(DataError, match="wrong checksum") as refused:
        load_mnist(MnistConfig(), Source("validation", mnist))
    assert "data.checksum=false" in refused.value.hint


def test_the_validation_split_is_held_out_of_training_and_never_of_the_test_set(mnist: Path) -> None:
    def samples(protocol: Protocol, name: str) -> list[bytes]:
        split = load_mnist(OWN, Source(protocol, mnist)).split(name)
        x, _, _ = split.batch(torch.arange(len(split)), torch.device("cpu"))
        return sorted(sample.numpy().tobytes() for sample in x.unbind(1))

    train, valid = samples("validation", "train"), samples("validation", "valid")
    assert not set(train) & set(valid)
    assert sorted(train + valid) == samples("test", "train")
    assert samples("validation", "test") == samples("test", "test") == samples("test", "valid")


def test_images_of_another_size_are_refused(mnist: Path) -> None:
    write_idx(mnist / FILES[0], np.zeros((120, 27, 28), np.uint8))
    with pytest.raises(DataError, match=r"\(27, 28\), not 28 x 28"):
        load_mnist(OWN, Source("validation", mnist))


def test_as_many_images_as_labels_are_asked_for(mnist: Path) -> None:
    write_idx(mnist / FILES[1], np.zeros(119, np.uint8))
    with pytest.raises(DataError, match="120 train images but 119 labels"):
        load_mnist(OWN, Source("validation", mnist))


def test_labels_beyond_9_are_refused(mnist: Path) -> None:
    write_idx(mnist / FILES[3], np.full(20, 10, np.uint8))
    with pytest.raises(DataError, match="test labels"):
        load_mnist(OWN, Source("validation", mnist))


def test_an_empty_set_is_refused(mnist: Path) -> None:
    write_idx(mnist / FILES[0], np.zeros((0, 28, 28), np.uint8))
    write_idx(mnist / FILES[1], np.zeros(0, np.uint8))
    with pytest.raises(DataError, match="empty"):
        load_mnist(OWN, Source("validation", mnist))


def test_too_few_samples_for_a_validation_split_are_refused_with_what_to_do(mnist: Path) -> None:
    write_idx(mnist / FILES[0], np.zeros((12, 28, 28), np.uint8))
    write_idx(mnist / FILES[1], (np.arange(12) % 10).astype(np.uint8))
    with pytest.raises(DataError, match="cannot hold out"):
        load_mnist(OWN, Source("validation", mnist))
    assert len(load_mnist(OWN, Source("test", mnist)).train) == 12


def test_missing_files_are_named_without_a_download(mnist: Path, tmp_path: Path) -> None:
    assert missing_files(mnist) == []
    (mnist / FILES[2]).unlink()
    assert missing_files(mnist) == [FILES[2]]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert missing_files(empty) == list(FILES)
    assert list(empty.iterdir()) == []


def test_without_network_the_error_says_which_four_files_go_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not download") as refused:
        load_mnist(MnistConfig(), Source("validation", tmp_path))
    for name in FILES:
        assert name in refused.value.hint
    assert str(tmp_path / "mnist") in refused.value.hint
    assert "--data-dir" in refused.value.hint
    assert "HSTNN_DATA" in refused.value.hint


def test_one_missing_file_is_looked_for_beside_the_others(mnist: Path) -> None:
    (mnist / FILES[3]).unlink()
    with pytest.raises(DataError, match=f"{FILES[3]} is missing") as refused:
        load_mnist(OWN, Source("validation", mnist))
    assert f"into {mnist}," in refused.value.hint


def test_missing_files_are_fetched_where_the_network_allows(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = gzip.compress((mnist / FILES[2]).read_bytes())
    (mnist / FILES[2]).unlink()
    asked = []

    def download(remote: Remote, folder: Path, _report: Report) -> None:
        asked.append(remote)
        (folder / remote.name).write_bytes(stored)

    monkeypatch.setattr(remotes, "download", download)
    assert len(load_mnist(OWN, Source("validation", mnist)).test) == 20
    assert len(load_mnist(OWN, Source("validation", mnist)).test) == 20
    remote = asked.pop()
    assert not asked  # once
    assert remote.url.endswith(f"/mnist/{FILES[2]}.gz")
    assert remote.checksum == "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"


def test_the_data_folder_is_the_one_given_else_the_environments_else_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert data_folder().name == "data"
    monkeypatch.setenv("HSTNN_DATA", str(one))
    assert data_folder() == one
    assert data_folder(other) == other


def test_a_data_folder_that_does_not_exist_is_refused_with_where_its_name_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="from --data-dir"):
        data_folder(tmp_path / "none")
    monkeypatch.setenv("HSTNN_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match="from HSTNN_DATA"):
        data_folder()
    (tmp_path / "none").write_text("a file")
    with pytest.raises(DataError, match="is not a folder"):
        data_folder()
