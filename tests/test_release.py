"""A release: built, compared with what git tracks, and run from an empty folder without the checkout."""

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE

ROOT = Path(__file__).parent.parent
PACKED: dict[str, Any] = runpy.run_path(str(ROOT / "scripts/packed"))


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages, built from a copy of what git tracks: a build writes into the folder that it builds."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: clone the repository to compare packages with it")
    copy = tmp_path_factory.mktemp("copy")
    for name in PACKED["tracked"]():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return out


def test_the_packages_hold_what_git_tracks(dist: Path) -> None:
    assert PACKED["differences"](dist) == []


def test_a_missing_file_is_named(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(tmp_path / wheel.name, "w") as part:
        for name in whole.namelist():
            if not name.endswith("/digits.yaml"):
                part.writestr(name, whole.read(name))
        part.writestr("hstnn_deploy/left_behind.py", "")
    (sdist,) = dist.glob("*.tar.gz")
    (tmp_path / sdist.name).write_bytes(sdist.read_bytes())
    missing, extra = PACKED["differences"](tmp_path)
    assert missing.startswith("missing in the wheel: ")
    assert missing.endswith("/digits.yaml")
    assert "left_behind.py" in extra


def test_the_installed_wheel_trains_exports_and_runs(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")  # what pip does with it, but for the script `hstnn`
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}

    def hstnn(*words: str) -> str:
        command = [sys.executable, "-m", "hstnn_deploy", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import hstnn_deploy; print(hstnn_deploy.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(tmp_path / "installed"))
    hstnn("train", "digits", "--kind", "snn", "--set", "adapt.epochs=1", "--threads", "1")
    assert "checks passed" in hstnn(
        "export", "--ckpt", "runs/digits/snn/seed1111/best.pt", "--out", "b", "--standalone", "d"
    )
    hstnn("report", "runs", "--out", "report")
    assert (folder / "d/run.py").exists()
    assert (folder / "report/report.html").exists()
