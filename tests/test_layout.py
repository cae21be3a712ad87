"""The layout: four packages that are linked in the root and never installed under those names; light imports."""

import ast
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import hstnn_deploy
from tests.conftest import PATIENCE, TINY, options

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hstnn_deploy"
LINKED = ("train", "export", "profile", "data")
HEAVY = ("torch", "scipy", "onnx", "onnxruntime", "sklearn", "matplotlib", "numpy", "tonic")


def python(*words: str) -> str:
    """Run Python in the repository root and return what it prints."""
    result = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("package", LINKED)
def test_each_package_is_in_the_root_as_a_relative_link(package: str) -> None:
    link = ROOT / package
    assert link.is_symlink()
    assert link.readlink() == Path("hstnn_deploy") / package
    assert link.resolve() == (PACKAGE / package).resolve()
    assert link.is_dir()


@pytest.mark.parametrize("package", LINKED)
def test_none_is_a_regular_package(package: str) -> None:
    assert list((PACKAGE / package).rglob("*.py"))
    assert not (PACKAGE / package / "__init__.py").exists()


def test_the_links_do_not_shadow_the_standard_library() -> None:
    out = python("-c", "import cProfile, profile; cProfile.Profile(); print(profile.__file__, profile.run)")
    assert str(ROOT) not in out
    assert "profile.py" in out


def test_no_file_bears_the_name_of_a_package_it_uses() -> None:
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"onnx", "torch", "typer", "rich", "numpy", "yaml", "pydantic"}


@pytest.mark.parametrize(
    "code",
    [
        "import hstnn_deploy",
        "import hstnn_deploy.cli.app",
        "import sys; sys.argv = ['hstnn', '--help']; from hstnn_deploy.cli.app import main; main()",
        "import sys; sys.argv = ['hstnn', 'train', '--help']; from hstnn_deploy.cli.app import main; main()",
    ],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    report = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", *[name for name in {HEAVY!r} if name in sys.modules]))
{code}
"""
    assert python("-c", report).splitlines()[-1].split() == ["heavy:"]


UNUSED = (
    *("sklearn", "scipy", "pandas", "matplotlib", "tonic", "librosa", "onnx", "onnxruntime", "triton"),
    *("sympy", "torch._dynamo", "torch._inductor", "torch.onnx"),
)
"""What no small training uses, though torch or this package uses it elsewhere."""


def imported(tmp_path: Path, *words: str) -> set[str]:
    """Run a command in a process of its own; return which modules it had imported at its end."""
    report = tmp_path / "modules.txt"
    code = f"""
import atexit, sys
from pathlib import Path
atexit.register(lambda: Path({str(report)!r}).write_text("\\n".join(sys.modules)))
sys.argv = ["hstnn", *sys.argv[1:]]
from hstnn_deploy.__main__ import main
main()
"""
    python("-c", code, *words)
    return set(report.read_text().split())


def test_a_command_imports_only_what_it_needs(tmp_path: Path) -> None:
    found = imported(tmp_path, "train", "digits", *options(TINY), "--out", str(tmp_path), "--json")
    assert "torch" in found
    assert not found & {*UNUSED, "hstnn_deploy.cli.sweep"}
    [ckpt] = map(str, tmp_path.glob("digits/*/*/ratio-0.5/best.pt"))
    assert not imported(tmp_path, "evaluate", "--ckpt", ckpt) & {*UNUSED, "hstnn_deploy.cli.train"}
    robustness = imported(tmp_path, "robustness", "--ckpt", ckpt, "--disturb", "gaussian=0.1", "--draws", "1")
    assert not robustness & {*UNUSED, "hstnn_deploy.cli.train"}
    # The check itself sees what is imported.
    assert {"onnx", "onnxruntime"} <= imported(tmp_path, "export", "--ckpt", ckpt, "--out", str(tmp_path / "bundle"))
    np.save(tmp_path / "x.npy", np.zeros((8, 2, 8), np.float32))
    run = imported(tmp_path, "run", str(tmp_path / "bundle"), "--input", str(tmp_path / "x.npy"))
    assert "onnxruntime" in run
    assert not run & {*UNUSED[:7], "torch", "numpy.ma", "yaml", "PIL", "hstnn_deploy.cli.train"}


def test_a_bundle_is_run_and_a_ledger_kept_without_torch() -> None:
    code = "import sys, hstnn_deploy as hd; hd.Session, hd.measure, hd.HstnnError; print('torch' in sys.modules)"
    assert python("-c", code) == "False\n"


@pytest.mark.parametrize("name", hstnn_deploy.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(hstnn_deploy, name) is not None
    assert name in dir(hstnn_deploy)


def test_public_names_stay_what_they_are_whatever_is_imported() -> None:
    # A package's own name would become the package at its first import.
    out = python(
        "-c",
        """
import hstnn_deploy
from hstnn_deploy import *
before = {name: getattr(hstnn_deploy, name) for name in hstnn_deploy.__all__}
import hstnn_deploy.train.stages, hstnn_deploy.data.registry, hstnn_deploy.models.registry
after = {name: getattr(hstnn_deploy, name) for name in hstnn_deploy.__all__}
assert before == after
assert all(callable(value) for name, value in after.items() if name not in ("__version__", "custom", "layers")), after
print("same")
""",
    )
    assert out == "same\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'frob'"):
        _ = getattr(hstnn_deploy, "frob")  # noqa: B009


def test_the_package_is_typed_and_named_as_released() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert 'version = { attr = "hstnn_deploy.__version__" }' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy of the sources, so that the repository stays clean."""
    import shutil

    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(PACKAGE, copy / "hstnn_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for package in LINKED:
        (copy / package).symlink_to(Path("hstnn_deploy") / package)
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", build, str(out)], cwd=copy, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_every_file_of_the_package_is_in_the_wheel(wheel: list[str]) -> None:
    sources = [
        path
        for path in PACKAGE.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix in {".py", ".yaml", ".typed", ".html", ".css", ".js"}
    ]
    assert len(sources) > 40
    assert {"py.typed", "digits.yaml", "smnist.yaml", "page.html", "page.css", "charts.js"} <= {
        path.name for path in sources
    }
    assert {str(path.relative_to(ROOT)) for path in sources} <= set(wheel)


def test_the_wheel_installs_no_package_but_its_own(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hstnn_deploy"}


def test_the_wheel_brings_the_command_and_the_licence(wheel: list[str]) -> None:
    names = {name.partition("/")[2] for name in wheel if ".dist-info/" in name}
    assert {"entry_points.txt", "METADATA", "licenses/LICENSE"} <= names


CODE_MAP = runpy.run_path(str(ROOT / "scripts/code-map"))
IMPORTED = {path: CODE_MAP["imported"](path) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}
"""What each module imports of the package, at its top, in a function or for types alone; not the list of public names,
which only a type checker imports."""


def test_no_package_imports_from_one_above_it() -> None:
    """Packages in order; what all of them share imports from none."""
    order = ["", *CODE_MAP["PACKAGES"]]
    upwards = {
        (str(path.relative_to(PACKAGE)), str(other.relative_to(PACKAGE)))
        for path, found in IMPORTED.items()
        for other in found
        if order.index(CODE_MAP["package_of"](other)) > order.index(CODE_MAP["package_of"](path))
    }
    # The command's own start, which has to be as short as it is.
    assert upwards == {("__main__.py", "cli/app.py"), ("__main__.py", "cli/imports.py")}


def test_no_modules_import_each_other() -> None:
    left = {path: set(found) - {path} for path, found in IMPORTED.items()}
    while ready := {path for path, found in left.items() if not found & left.keys()}:
        left = {path: found for path, found in left.items() if path not in ready}
    assert not left, sorted(str(path.relative_to(PACKAGE)) for path in left)


def test_no_folder_is_a_heap() -> None:
    """Of commands there is one file each."""
    counts = {folder: len(CODE_MAP["modules"](folder)) for folder in CODE_MAP["FOLDERS"] if folder != "cli"}
    assert max(counts.values()) <= 16, counts


_CLASSES = {
    *("Group", "SpikingGroup", "RnnGroup", "LstmGroup", "SpikingConvolution", "RecurrentConvolution"),
    *("ConvolutionalGroup", "HybridLayer", "HybridNetwork", "SequenceClassifier", "ConvClassifier", "LanguageModel"),
    *("Network", "Stack", "Layer", "Chain", "Block", "Spiking", "Recurrent", "Feedback", "Norm", "Linear", "Maps"),
    *("Rows", "Embedding", "Pool", "Flatten", "Vote", "Scale", "Delay", "Dropout", "Residual", "Parallel"),
}
"""Of networks and their layers."""


def _told_apart(path: Path) -> int:
    """Return how often a module asks which class of network or layer it has."""
    found = 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, classes]):
                found += any(isinstance(each, ast.Name) and each.id in _CLASSES for each in ast.walk(classes))
            case ast.MatchClass(cls=ast.Name(id=name)):
                found += name in _CLASSES
    return found


def test_only_models_tell_networks_and_layers_apart_by_their_class() -> None:
    """Everything else reads their equations (`models/algebra.py`); NIR has nodes for whole layers instead."""
    asked = {
        path.name: count
        for path in PACKAGE.rglob("*.py")
        if "models" not in path.parts and (count := _told_apart(path))
    }
    # Of stacks, whose layers have a table, only that a network is one, what its first layer is, and what is folded.
    assert set(asked) == {"neuromorphic.py", "nir_layers.py"}
    assert asked["neuromorphic.py"] <= 17
    assert asked["nir_layers.py"] <= 2
