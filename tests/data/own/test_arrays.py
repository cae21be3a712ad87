"""Arrays of one's own: every layout of files and axes, classes and values; what is odd is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy.data.array_input import as_input
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.own.arrays import ArrayFileSplit
from hstnn_deploy.data.own.resolve import load, load_folder
from hstnn_deploy.errors import DataError

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(30, 6, 2)).astype(np.float32)
Y = np.arange(30) % 3


def all_of(split: Any) -> Any:
    return split.batch(torch.arange(len(split)), torch.device("cpu"))


def saved(folder: Path, x: Any = X, y: Any = Y) -> Path:
    folder.mkdir()
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


def seen(splits: Any) -> torch.Tensor:
    """All samples, [N, …], in an order of their own."""
    return torch.cat([all_of(splits.split(name)).x for name in ("train", "valid", "test")], 1).movedim(1, 0)


def same_samples(found: torch.Tensor, wanted: Any) -> None:
    one, other = (np.sort(each.reshape(len(each), -1).sum(1)) for each in (found.numpy(), wanted))
    assert np.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "axes", "step", "steps"),
    [
        ((6,), None, (1,), 6),
        ((6,), "I", (6,), 10),
        ((6, 2), None, (2,), 6),
        ((2, 6), "IT", (2,), 6),
        ((3, 4, 4), None, (3, 4, 4), 10),
        ((4, 4, 3), "HWC", (3, 4, 4), 10),
        ((3, 4, 5), "CHW", (3, 4, 5), 10),
        ((7, 2, 5), "TCL", (2, 5), 7),
        ((6, 2, 3, 3), None, (2, 3, 3), 6),
    ],
)
def test_axes(tmp_path: Path, shape: tuple[int, ...], axes: str | None, step: tuple[int, ...], steps: int) -> None:
    x = DRAW.normal(size=(30, *shape)).astype(np.float32)
    config, splits = load_folder(saved(tmp_path / "a", x), axes=axes)
    assert splits.sizes.step == step
    batch = all_of(splits.train)
    assert batch.x.shape[0] == steps
    assert tuple(batch.x.shape[2:]) == step
    known = config.found
    assert known is not None
    whole = as_input(x, known.axes, steps)  # type: ignore[union-attr]
    same_samples(seen(splits), whole.swapaxes(0, 1))
    again = all_of(splits.train)
    assert torch.equal(batch.x, again.x)


def test_what_as_input_makes_of_axes() -> None:
    x = np.arange(12, dtype=np.float64).reshape(2, 2, 3)
    assert np.array_equal(as_input(x, "IT", 1)[:, 0], x[0].T)
    assert np.array_equal(as_input(x, "TI", 1)[:, 1], x[1])
    shown = as_input(x[:, 0], "I", 4)
    assert shown.shape == (4, 2, 3)
    assert (shown == x[:, 0]).all()
    normal = as_input(x, "IT", 1, [1.0, 2.0], [2.0, 4.0])
    assert np.allclose(normal[:, 0, 1], (x[0, 1] - 2) / 4)
    assert as_input(x, "TI", 1).dtype == np.float32


def files(folder: Path, how: str) -> Path:
    folder.mkdir(parents=True)
    test = slice(24, None)
    match how:
        case "npy":
            np.save(folder / "X.npy", X)
            np.save(folder / "y.npy", Y)
        case "split npy":
            for name, part in (("train", slice(0, 24)), ("test", test)):
                np.save(folder / f"x_{name}.npy", X[part])
                np.save(folder / f"y_{name}.npy", Y[part])
        case "split npz":
            np.savez(folder / "data.npz", x_train=X[:24], y_train=Y[:24], x_test=X[test], y_test=Y[test])
        case "npz of each":
            np.savez(folder / "train.npz", x=X[:24], y=Y[:24])
            np.savez(folder / "test.npz", x=X[test], y=Y[test])
        case "pt":
            torch.save({"x": torch.from_numpy(X), "y": torch.from_numpy(Y)}, folder / "data.pt")
        case "pt pair":
            torch.save((torch.from_numpy(X), torch.from_numpy(Y)), folder / "data.pt")
        case "folders":
            for number, (x, y) in enumerate(zip(X, Y, strict=True)):
                (folder / str(y)).mkdir(exist_ok=True)
                np.save(folder / str(y) / f"{number}.npy", x)
    return folder


@pytest.mark.parametrize("how", ["npy", "split npy", "split npz", "npz of each", "pt", "pt pair", "folders"])
def test_layouts_of_files(tmp_path: Path, how: str) -> None:
    config, splits = load_folder(files(tmp_path / "a", how))
    assert config.kind == "arrays"
    assert config.found is not None
    assert config.found.classes == ["0", "1", "2"]
    same_samples(seen(splits), X)
    if "split" in how or how == "npz of each":
        assert np.array_equal(all_of(splits.test).x.movedim(1, 0).numpy(), X[24:])
        assert all_of(splits.test).target.tolist() == Y[24:].tolist()


def test_a_file_may_stand_in_the_place_of_a_folder(tmp_path: Path) -> None:
    _, splits = load_folder(saved(tmp_path / "a") / "data.npz")
    same_samples(seen(splits), X)


def test_names_and_numbers_of_classes_come_in_their_order(tmp_path: Path) -> None:
    config, splits = load_folder(saved(tmp_path / "a", y=np.array(["b10", "b2", "a"])[Y]))
    assert config.found is not None
    assert config.found.classes == ["a", "b2", "b10"]
    every = torch.cat([all_of(splits.split(name)).target for name in ("train", "valid", "test")])
    assert every.bincount().tolist() == [10, 10, 10]
    assert load_folder(saved(tmp_path / "b", y=Y * 7))[0].found.classes == ["0", "7", "14"]  # type: ignore[union-attr]


@pytest.mark.parametrize("y", [X.mean((1, 2)), X[:, 0].astype(np.float64)])
def test_values(tmp_path: Path, y: Any) -> None:
    _, splits = load_folder(saved(tmp_path / "a", y=y))
    wanted = y.reshape(30, -1)
    assert (splits.targets, splits.classes) == ("values", wanted.shape[1])
    every = torch.cat([all_of(splits.split(name)).target for name in ("train", "valid", "test")])
    assert every.dtype == torch.float32
    assert np.allclose(np.sort(every.numpy(), 0), np.sort(wanted, 0))


def test_whole_numbers_as_fractions_are_asked_for(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", y=Y.astype(np.float32))
    with pytest.raises(DataError, match="are they classes, or values") as error:
        load_folder(folder)
    assert "data.targets=classes" in error.value.hint
    assert load_folder(folder, targets="classes")[1].classes == 3
    assert load_folder(folder, targets="values")[1].classes == 1


def test_normalise(tmp_path: Path) -> None:
    x = 5 + 3 * X * np.array([1, 10], np.float32)
    _, splits = load_folder(saved(tmp_path / "a", x), normalise="auto")
    train = all_of(splits.train).x.flatten(0, 1)
    assert torch.allclose(train.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(train.std(0, correction=0), torch.ones(2), atol=1e-4)
    _, said = load_folder(tmp_path / "a", normalise={"mean": [5, 5], "std": [3, 30]})
    same_samples(seen(said), X)


def spoiled(value: Any, place: tuple[int, ...], by: float) -> Any:
    found = value.copy()
    found[place] = by
    return found


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (spoiled(X, (7, 2, 1), np.nan), Y, "contains nan at [7, 2, 1]"),
        (spoiled(X.astype(np.float64), (7, 2, 1), 1e300), Y, "contains 1e+300 at [7, 2, 1]"),
        (X, Y[:-1], "contains 30 samples, and"),
        (X, np.zeros(30, int), "only one class, '0'"),
        (X, np.eye(3)[Y].astype(int), "save y.argmax(1)"),
        (X, spoiled(X.mean((1, 2)), (4,), np.nan), "y contains nan at [4]"),
        (X[:, 0, 0], Y, "has shape [30]"),
        (X.astype(np.complex64), Y, "complex64"),
        (np.zeros((30, 2, 2, 2, 2, 2)), Y, "more axes than samples have"),
        (X[:4], Y[:4], "too few to hold some out for"),
        (X, Y[:, None].astype(float), "are they classes, or values?"),
        (X, np.eye(3)[Y], "are they classes, or values?"),
        (X, Y[:, None], "save y[:, 0]"),
        (X, np.array([b"a", b"\xff"])[Y % 2], "bytes that are not UTF-8 text"),
        (X, spoiled(X.mean((1, 2)).astype(float), (4,), 1e300), "y contains 1e+300, too large for float32"),
        (np.arange(360).reshape(30, 6, 2) + 2**60, Y, "where float32 has steps of"),
        (X.astype(np.float64) + 1.6e9, Y, "where float32 has steps of 128"),
        (X, np.arange(30) * 1e-3 + 1.6e9, "y channel 0 ranges from"),
    ],
)
def test_what_is_odd_is_refused(tmp_path: Path, x: Any, y: Any, words: str) -> None:
    with pytest.raises(DataError) as error:
        load_folder(saved(tmp_path / "a", x, y))
    assert words in error.value.message + error.value.hint


def test_classes_that_are_fractions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="targets is classes"):
        load_folder(saved(tmp_path / "a", y=X.mean((1, 2))), targets="classes")


class Code:
    """Would run something when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("it ran",)


def test_a_pickle_is_refused_and_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pickle

    (tmp_path / "old.pt").write_bytes(pickle.dumps({"x": X, "y": Y}))
    with pytest.raises(DataError, match="contains a pickle, which could run code"):
        load_folder(tmp_path / "old.pt")
    torch.save({"x": torch.from_numpy(X), "y": Code()}, tmp_path / "code.pt")
    with pytest.raises(DataError, match="more than tensors and plain data"):
        load_folder(tmp_path / "code.pt")
    np.savez(tmp_path / "objects.npz", x=X, y=np.array([Code()] * 30, dtype=object))
    with pytest.raises(DataError, match="Python objects, which could run code"):
        load_folder(tmp_path / "objects.npz")
    assert "it ran" not in capsys.readouterr().out


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1).expand(2**40, 3), "y": torch.zeros(2)}, tmp_path / "large.pt")
    with pytest.raises(DataError, match="has fewer numbers than its shape"):
        load_folder(tmp_path / "large.pt")


@pytest.mark.parametrize("cut", [30, 200, -40])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    for how, name in (("pt", "data.pt"), ("npy", "X.npy")):
        path = files(tmp_path / how, how) / name
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DataError):
            load_folder(tmp_path / how)


def test_samples_of_several_shapes_are_refused_by_name(tmp_path: Path) -> None:
    folder = files(tmp_path / "a", "folders")
    np.save(folder / "1" / "4.npy", X[4, :3])
    with pytest.raises(DataError, match=r"1/4.npy has shape \[3, 2\], but .*0/0.npy has \[6, 2\]"):
        load_folder(folder, kind="arrays")


def test_groups_of_arrays(tmp_path: Path) -> None:
    people = np.array([f"s{number % 5}" for number in range(30)])
    np.savez(tmp_path / "data.npz", x=np.arange(30.0)[:, None, None] * np.ones((1, 2, 1)), y=Y, group=people)
    _, splits = load_folder(tmp_path / "data.npz", split={"test": 0.3, "valid": 0.3})
    sides = [
        {int(number) % 5 for number in all_of(splits.split(name)).x[0, :, 0]} for name in ("train", "valid", "test")
    ]
    assert sum(map(len, sides)) == 5


def test_groups_beside_arrays_of_splits_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y, x_test=X, y_test=Y, group=Y)
    with pytest.raises(DataError, match=r"data\.npz: group lies next to arrays of splits"):
        load_folder(tmp_path)


def test_large_numbers_that_float32_tells_apart_are_taken(tmp_path: Path) -> None:
    for number, x in enumerate(
        (X * 1e9, X.astype(np.int64) + 2**20, (X * 1e12).astype(np.int64), np.full_like(X, 1e9))
    ):
        _, splits = load_folder(saved(tmp_path / f"{number}", x))
        assert isinstance(splits.train, ArrayFileSplit)
        assert torch.equal(
            all_of(splits.train).x.movedim(1, 0), torch.from_numpy(x[splits.train.numbers].astype(np.float32))
        )


def test_normalise_of_large_numbers(tmp_path: Path) -> None:
    x = (X * 50 + 101_325).astype(np.float32)
    x[..., 1] = 77_777.7
    _, splits = load_folder(saved(tmp_path / "a", x), normalise="auto")
    assert isinstance(splits.train, ArrayFileSplit)
    rows = x[splits.train.numbers].astype(np.float64)
    wanted = (rows[..., 0] - rows[..., 0].mean()) / rows[..., 0].std()
    found = all_of(splits.train).x.movedim(1, 0).numpy()
    assert np.abs(found[..., 0] - wanted).max() < 1e-3
    # A channel that never changes stays at 0.
    assert (found[..., 1] == 0).all()


def test_names_of_classes_in_bytes(tmp_path: Path) -> None:
    config, _ = load_folder(saved(tmp_path / "a", y=np.array(["é".encode(), b"b"])[Y % 2]))
    assert config.found
    assert config.found.classes == ["b", "é"]


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, X=X[::-1], y=Y)
    with pytest.raises(DataError, match="have the same name in lowercase"):
        load_folder(tmp_path / "a.npz")
    folder = tmp_path / "b"
    folder.mkdir()
    for name in ("train", "training", "test"):
        np.savez(folder / f"{name}.npz", x=X, y=Y)
    with pytest.raises(DataError, match="two files for one split"):
        load_folder(folder)


def test_a_list_beside_its_samples(tmp_path: Path) -> None:
    lines = ["file,label"]
    for number, (x, y) in enumerate(zip(X, Y, strict=True)):
        np.save(tmp_path / f"{number}.npy", x)
        lines.append(f"{number}.npy,class {y}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    config, splits = load_folder(tmp_path)
    assert config.found
    assert config.found.classes == ["class 0", "class 1", "class 2"]
    same_samples(seen(splits), X)


@pytest.mark.parametrize("folders", [False, True])
def test_arrays_of_other_numbers_are_not_those_that_were_trained_on(tmp_path: Path, folders: bool) -> None:
    def save(x: Any) -> None:
        if not folders:
            np.save(tmp_path / "x.npy", x)
            np.save(tmp_path / "y.npy", Y)
            return
        for number, each in enumerate(x):
            (tmp_path / f"c{Y[number]}").mkdir(exist_ok=True)
            np.save(tmp_path / f"c{Y[number]}" / f"{number}.npy", each)

    save(X)
    config, _ = load_folder(tmp_path)
    load(config, Source())
    save(X[::-1])
    with pytest.raises(DataError, match="differs from the data that the recipe was made for"):
        load(config, Source())
