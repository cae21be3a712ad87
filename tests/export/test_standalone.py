"""The standalone folder: it runs, in Python with two packages and in C++, and gives what the session gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hstnn_deploy.errors import BundleError, ExportError
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.bundle.standalone import write_standalone
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.runtime.session import Session
from tests.conftest import PATIENCE
from tests.export.cases import Case
from tests.export.test_runtime import clean_environment, isolated

CASES = {"sequence": Case("sequence", "hybrid"), "language": Case("language", "ffs-lstm"), "dvs": Case("dvs", "ffs")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """For each family: a standalone folder, and an input x beside it as x.npy."""
    root = tmp_path_factory.mktemp("standalone")
    made = {}
    for name, case in CASES.items():
        bundle = export_bundle(
            case.checkpoint(root / f"{name}.pt"), root / f"{name}-bundle", states="both", verify=False
        ).folder
        folder = write_standalone(bundle, root / name)
        x = interface(case.network()).example(6, 2).numpy()
        np.save(root / f"{name}.npy", x)
        made[name] = (folder, x)
    return made


@pytest.mark.parametrize("name", CASES)
def test_the_python_runner_needs_two_packages_and_gives_what_the_session_gives(
    folders: dict[str, tuple[Path, Any]], name: str, tmp_path: Path
) -> None:
    folder, x = folders[name]
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert {path.name for path in moved.iterdir()} == {"bundle", "run.py", "run.cpp", "README.md"}
    expected = Session(folder / "bundle").run(x)
    packages = clean_environment(tmp_path)
    start = f"import runpy; runpy.run_path({str(moved / 'run.py')!r}, run_name='__main__')"
    for steps in ([], ["--steps"]):
        command = [*isolated(packages), start, "--input", str(folder.with_suffix(".npy"))]
        output = tmp_path / "logits.npy"
        done = run([*command, *steps, "--output", str(output)], tmp_path)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
        last = expected[-1] if name == "language" else expected
        said = [line.split()[3].rstrip(",") for line in done.stdout.splitlines()]
        assert said == [str(number) for number in last.argmax(1)]


def test_the_python_runner_says_what_is_wrong(folders: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    folder, _ = folders["sequence"]
    np.save(tmp_path / "wide.npy", np.zeros((3, 1, 99), np.float32))
    np.save(tmp_path / "raw.npy", np.full((8, 1, 8), 255, np.uint8))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    for given, code, message in (
        (str(tmp_path / "wide.npy"), 3, "error: x has shape [3, 1, 99]; the network takes [T, B, 8]"),
        ("nowhere.npy", 3, "error: cannot read nowhere.npy: No such file"),
        (".", 3, "error: cannot read .: Is a directory"),
        (str(tmp_path / "raw.npy"), 3, "error: x contains 255 at [0, 0, 0]; the network was trained on 0 to 1"),
        (str(tmp_path / "cut.npy"), 3, f"error: {tmp_path / 'cut.npy'} is damaged"),
    ):
        done = run([sys.executable, str(folder / "run.py"), "--input", given], tmp_path)
        assert done.returncode == code
        assert done.stderr.startswith(message)
    moved = shutil.copytree(folder, tmp_path / "damaged")
    (moved / "bundle" / "model.step.onnx").write_bytes(b"nothing")
    done = run([sys.executable, str(moved / "run.py"), "--input", str(folder.with_suffix(".npy"))], tmp_path)
    assert done.returncode == 11
    assert "is not the file that was exported" in done.stderr


@pytest.fixture(scope="module")
def compiled(folders: dict[str, tuple[Path, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ example, compiled against the API that it declares, or ONNX Runtime's header where it is installed."""
    compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("there is no C++ compiler: it runs where c++, g++ or clang++ is installed")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.*"))
    if sys.platform != "linux" or not libraries:
        pytest.skip("no library to link with: it runs on Linux, where the onnxruntime package brings libonnxruntime")
    place = tmp_path_factory.mktemp("cpp")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (place / name).symlink_to(libraries[0])
    source = folders["sequence"][0] / "run.cpp"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-L{place}", "-lonnxruntime", f"-Wl,-rpath,{place}"]
    done = run([compiler, str(source), *flags, "-o", str(place / "run")], place)
    assert done.returncode == 0, done.stderr
    return place / "run"


@pytest.mark.parametrize("name", CASES)
def test_the_cpp_example_gives_what_the_session_gives(
    folders: dict[str, tuple[Path, Any]], compiled: Path, name: str, tmp_path: Path
) -> None:
    folder, x = folders[name]
    expected = Session(folder / "bundle").run(x)
    for graph in ("model.window.onnx", "model.window.inside.onnx", "model.step.onnx"):
        done = run([str(compiled), str(folder / "bundle" / graph), str(folder.with_suffix(".npy"))], tmp_path)
        assert done.returncode == 0, done.stderr
        logits = np.array([[float(word) for word in line.split()] for line in done.stdout.splitlines()])
        np.testing.assert_allclose(logits, expected[-1] if name == "language" else expected, atol=1e-5)


RAW = {
    "sequence": np.random.default_rng(0).integers(0, 17, (3, 8, 8), dtype=np.uint8),
    "dvs": np.array([[0, 10, 3, 4, 1], [2, 5000, 15, 0, 0], [0, 35_999, 0, 15, 1], [2, 36_000, 1, 1, 0]]),
}
"""For each of these families: three raw samples, one of the recordings without events."""


@pytest.mark.parametrize("name", RAW)
def test_both_runners_take_raw_samples_where_preprocessing_is_in_the_graph(
    compiled: Path, name: str, tmp_path: Path
) -> None:
    checkpoint = CASES[name].checkpoint(tmp_path / "best.pt")
    bundle = export_bundle(checkpoint, tmp_path / "bundle", preprocess=True, verify=False).folder
    folder = write_standalone(bundle, tmp_path / "alone")
    raw = tmp_path / "raw.npy"
    np.save(raw, RAW[name])
    expected = Session(bundle).run(RAW[name])
    for steps in ([], ["--steps"]):
        command = [sys.executable, str(folder / "run.py"), "--input", str(raw), "--output", str(tmp_path / "out.npy")]
        done = run([*command, *steps], tmp_path)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)
    done = run([str(compiled), str(bundle / "model.window.onnx"), str(raw)], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    logits = np.array([[float(word) for word in line.split()] for line in done.stdout.splitlines()])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    refused = run([str(compiled), str(bundle / "model.step.onnx"), str(raw)], tmp_path)
    assert refused.returncode == 1
    assert "raw steps: give the window graph" in refused.stderr
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Preprocessing as in training, inside the graph" in text
    assert ("image [B, 8, T], uint8" if name == "sequence" else "events [N, 5], int64") in text


def test_the_cpp_example_says_what_is_wrong(
    folders: dict[str, tuple[Path, Any]], compiled: Path, tmp_path: Path
) -> None:
    folder, x = folders["sequence"]
    graph = str(folder / "bundle" / "model.step.onnx")
    np.save(tmp_path / "double.npy", x.astype(np.float64))
    np.save(tmp_path / "flat.npy", x[0, 0])
    whole = folder.with_suffix(".npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-4])
    (tmp_path / "long.npy").write_bytes(whole + b"1234")
    (tmp_path / "short.npy").write_bytes(whole[:20])
    for name, value in (("nan", np.nan), ("inf", -np.inf)):
        changed = x.copy()
        changed[3, 1, 5] = value
        np.save(tmp_path / f"{name}.npy", changed)
    np.save(tmp_path / "big.npy", x.astype(">f4"))
    np.save(tmp_path / "turned.npy", np.asfortranarray(x))
    np.save(tmp_path / "fields.npy", np.zeros((6, 2), [("a", "<f4")]))
    np.save(tmp_path / "whole.npy", x.astype(np.int64))
    np.save(tmp_path / "wide.npy", np.zeros((6, 2, 9), np.float32))
    np.save(tmp_path / "none.npy", np.zeros((0, 2, 8), np.float32))
    for name, shape in (
        ("huge", "(1000000000000, 2, 8)"),
        ("overflow", f"({2**62}, {2**62}, 8)"),
        ("less", "(-1, 2, 8)"),
    ):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
        (tmp_path / f"{name}.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    (tmp_path / "folder").mkdir()
    for words, message in (
        ([graph], "give a graph and an array"),
        ([graph, "nowhere.npy"], "cannot read nowhere.npy"),
        (["nowhere.onnx", "double.npy"], "nowhere.onnx"),
        ([graph, "folder"], "cannot read folder: Is a directory"),
        (["folder", "double.npy"], ""),  # in the words of ONNX Runtime
        ([str(folder / "README.md"), "double.npy"], "README.md"),
        ([graph, "double.npy"], "has type '<f8', neither float32 nor int64"),
        ([graph, "big.npy"], "has type '>f4', neither float32 nor int64"),
        ([graph, "fields.npy"], "neither float32 nor int64"),
        ([graph, "turned.npy"], "is not in C order: save numpy.ascontiguousarray(x)"),
        ([graph, "nan.npy"], "x contains NaN or an infinity, at value 61"),
        ([graph, "inf.npy"], "x contains NaN or an infinity, at value 61"),
        ([graph, "whole.npy"], "x is int64; the graph takes float32"),
        ([graph, "wide.npy"], "x has shape [2, 9] at each step; the graph takes [any, 8]"),
        ([graph, "none.npy"], "x is empty"),
        ([graph, "long.npy"], "contains more than its array"),
        ([graph, "short.npy"], "is truncated"),
        ([graph, "huge.npy"], "is truncated"),
        ([graph, "overflow.npy"], "has no such shape"),
        ([graph, "less.npy"], "has no such shape"),
        ([graph, "/dev/zero"], "is not a .npy file"),
        ([graph, "flat.npy"], "another rank"),
        ([graph, "cut.npy"], "is truncated"),
    ):
        done = run([str(compiled), *words], tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_readme_says_what_goes_in_and_comes_out(folders: dict[str, tuple[Path, Any]]) -> None:
    folder, _ = folders["sequence"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    for words in ("python run.py --input x.npy", "g++ -std=c++17", "| `v1` |", "| `logits` |", "verification: not run"):
        assert words in text


def test_the_readme_of_a_raw_step_graph_says_what_each_runner_takes(tmp_path: Path) -> None:
    ckpt = Case("sequence", "snn").checkpoint(tmp_path / "best.pt")
    bundle = export_bundle(ckpt, tmp_path / "bundle", forms=["step"], preprocess=True, verify=False)
    text = (write_standalone(bundle.folder, tmp_path / "alone") / "README.md").read_text(encoding="utf-8")
    assert "# image [B, 8, T], uint8, as numpy.save wrote it" in text
    assert "./run bundle/" not in text
    assert "it takes whole windows" in text


def test_a_bundle_that_answers_whole_sequences_only_runs_by_itself_and_promises_no_streams(tmp_path: Path) -> None:
    case = CASES["sequence"]
    bundle = export_bundle(
        case.checkpoint(tmp_path / "best.pt"), tmp_path / "b", forms=["window"], states="inside", verify=False
    )
    folder = write_standalone(bundle.folder, tmp_path / "alone")
    readme = (folder / "README.md").read_text()
    assert "stream" not in readme
    assert "--steps" not in readme
    assert "model.window.inside.onnx" in readme
    np.save(tmp_path / "x.npy", interface(case.network()).example(6, 2).numpy())
    words = [sys.executable, str(folder / "run.py"), "--input", str(tmp_path / "x.npy")]
    done = run(words, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    refused = run([*words, "--steps"], tmp_path)
    assert refused.returncode == 2
    assert "states inside: they answer whole sequences, not streams" in refused.stderr


def test_an_earlier_folder_gives_way_and_another_is_left_alone(
    folders: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    bundle = folders["sequence"][0] / "bundle"
    write_standalone(bundle, tmp_path / "out")
    (tmp_path / "out" / "run.py").write_text("old")
    write_standalone(bundle, tmp_path / "out")
    assert (tmp_path / "out" / "run.py").read_text(encoding="utf-8") != "old"
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(ExportError, match="contains something other"):
        write_standalone(bundle, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_bundle_that_is_damaged_or_holds_no_onnx_makes_none(best: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        write_standalone(tmp_path / "nowhere", tmp_path / "out")
    bundle = export_bundle(best, tmp_path / "bundle", ("torchscript",), verify=False).folder
    with pytest.raises(ExportError, match="contains no verified ONNX graph"):
        write_standalone(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE, cwd=folder, env=environment
    )
