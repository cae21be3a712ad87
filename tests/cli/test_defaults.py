"""Defaults of a user's own: option, then environment, then file, then what is built in."""

import json
import os
import re
from pathlib import Path

import pytest

from hstnn_deploy.cli import defaults
from hstnn_deploy.data.files import folder as data
from tests.conftest import TINY, Hstnn, options

FILE = '# mine\ndevice = "cpu"\nthreads = 2\nruns = "my-runs"\ndata-dir = "my-data"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a project, below the home folder; the working directory is a folder in it."""
    monkeypatch.delenv("HSTNN_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(data, "_default", None)
    folder = tmp_path / "project"
    (folder / "inner").mkdir(parents=True)
    (folder / "my-data").mkdir()
    monkeypatch.chdir(folder / "inner")
    return folder


def told(data_dir: Path | None = None) -> dict[str, tuple[object, str]]:
    """Return each default that holds, and where it came from."""
    defaults.begin()
    return {row["key"]: (row["value"], row["from"]) for row in defaults.survey(data_dir)}


def test_each_is_known_with_where_it_came_from(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = told()
    assert {came for _, came in built_in.values()} == {"built in"}
    assert (built_in["device"][0], built_in["runs"][0]) == ("auto", "runs")
    path = project / "hstnn.toml"
    path.write_text(FILE, encoding="utf-8")
    assert told() == {
        "data-dir": (str(project / "my-data"), f"{path}, line 5"),
        "runs": (str(project / "my-runs"), f"{path}, line 4"),
        "device": ("cpu", f"{path}, line 2"),
        "threads": (2, f"{path}, line 3"),
    }
    monkeypatch.setenv("HSTNN_THREADS", "3")
    monkeypatch.setenv("HSTNN_DATA", str(project))
    assert told()["threads"] == ("3", "HSTNN_THREADS")
    assert told()["data-dir"] == (str(project), "HSTNN_DATA")
    assert told(project / "inner")["data-dir"] == (str(project / "inner"), "--data-dir")


def test_the_doctor_shows_them(hstnn: Hstnn, project: Path) -> None:
    (project / "hstnn.toml").write_text(FILE, encoding="utf-8")
    rows = {each["key"]: each for each in json.loads(hstnn("doctor", "--json").out)["defaults"]}
    assert (rows["device"]["value"], rows["device"]["from"]) == ("cpu", f"{project / 'hstnn.toml'}, line 2")
    assert rows["data-dir"]["value"] == str(project / "my-data")
    # A long path is broken between its letters.
    assert re.search(r"device +device +cpu ", hstnn("doctor").out)


def test_option_environment_file_built_in(hstnn: Hstnn, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "digits", "--kind", "snn", *options(TINY)]

    def trained(*more: str) -> Path:
        result = hstnn(*words, *more, "--json")
        assert result.code == 0, result.err
        return Path(json.loads(result.out)["runs"][0]["folder"])

    def threads(run: Path) -> object:
        return json.loads((run / "environment.json").read_text())["threads"]

    assert not trained().is_absolute()
    (project / "hstnn.toml").write_text(FILE, encoding="utf-8")
    by_file = trained()
    assert (by_file.parents[2], threads(by_file)) == (project / "my-runs", 2)
    monkeypatch.setenv("HSTNN_RUNS", str(project / "of-environment"))
    assert trained().parents[2] == project / "of-environment"
    assert trained("--out", str(project / "of-option"), "--threads", "1").parents[2] == project / "of-option"
    assert threads(project / "of-option" / "digits" / "snn" / "seed1111") == 1
    monkeypatch.delenv("HSTNN_RUNS")
    assert str(by_file) in hstnn("runs", "list", "--json").out


def test_a_data_folder_of_the_file_is_that_of_every_command_and_of_processes(hstnn: Hstnn, project: Path) -> None:
    (project / "hstnn.toml").write_text(FILE, encoding="utf-8")
    assert str(project / "my-data") in hstnn("data", "verify", "nmnist").err
    assert os.environ["HSTNN_DATA"] == str(project / "my-data")
    (project / "my-data").rmdir()
    refused = hstnn("data", "verify", "nmnist")
    assert refused.code == 3
    assert refused.error.endswith(f"(from {project / 'hstnn.toml'}, line 5) does not exist")
    (project / "hstnn.toml").unlink()
    assert hstnn("recipes").code == 0
    assert "HSTNN_DATA" not in os.environ


def test_the_nearest_file_counts_and_a_projects_own_file_where_it_names_us(project: Path) -> None:
    (project.parent / "hstnn.toml").write_text("threads = 5\n", encoding="utf-8")
    assert told()["threads"][0] == 5
    (project / "pyproject.toml").write_text('[project]\nname = "x"\n', encoding="utf-8")
    assert told()["threads"][0] == 5
    (project / "pyproject.toml").write_text("[project]\nthreads = 1\n\n[tool.hstnn]\nthreads = 6\n", encoding="utf-8")
    assert told()["threads"] == (6, f"{project / 'pyproject.toml'}, line 5")
    (project / "hstnn.toml").write_text("threads = 7\n", encoding="utf-8")
    assert told()["threads"][0] == 7


def test_nothing_above_the_home_folder_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.parent / "hstnn.toml").write_text("threads = 5\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(project))
    assert told()["threads"][1] == "built in"


def test_a_file_can_be_named_or_switched_off(hstnn: Hstnn, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "hstnn.toml").write_text("threads = 5\n", encoding="utf-8")
    (project / "other.toml").write_text("threads = 6\n", encoding="utf-8")
    monkeypatch.setenv("HSTNN_CONFIG", str(project / "other.toml"))
    assert told()["threads"][0] == 6
    monkeypatch.setenv("HSTNN_CONFIG", "")
    assert told()["threads"][1] == "built in"
    monkeypatch.setenv("HSTNN_CONFIG", "none.toml")
    assert "which does not exist" in hstnn("recipes").error


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("\ndevise = 1", "line 2: unknown key 'devise'", "did you mean 'device'?"),
        ("data_dir = 'x'", "line 1: unknown key 'data_dir'", "did you mean 'data-dir'?"),
        ("[threads]\nx = 1", "line 1: threads is {'x': 1}, not a whole number of at least 1", "threads = 1"),
        ("threads = 0", "line 1: threads is 0, not a whole number of at least 1", "threads = 1"),
        ("threads = true", "line 1: threads is True", "threads = 1"),
        ("device = 3", "line 1: device is 3, not a device name", 'device = "auto"'),
        ("device = 'gpu'", "line 1: device is 'gpu'", "choose auto, cpu, cuda or cuda:N"),
        ("runs = ''", "line 1: runs is '', not a path", 'runs = "runs"'),
        ("threads = 1\nx = [", "is not TOML", "for example"),
        ("threads = 1\nthreads = 2", "line 2 is not TOML: Cannot overwrite a value", ""),
        ("x = " + "[" * 100_000, "hstnn.toml", ""),
        ("\0", "line 1 is not TOML", ""),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(
    hstnn: Hstnn, project: Path, text: str, message: str, hint: str
) -> None:
    (project / "hstnn.toml").write_text(text, encoding="utf-8")
    result = hstnn("recipes")
    assert result.code == 2
    assert f"{project / 'hstnn.toml'}" in result.error
    assert message in result.error
    assert hint in result.hint
    assert hstnn("recipes", "--help").code == 0


def test_a_wrong_environment_variable_is_named(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSTNN_THREADS", "many")
    result = hstnn("train", "digits")
    assert result.code == 2
    assert "HSTNN_THREADS" in result.error


def test_the_file_on_the_page_of_commands_is_taken(project: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (project / "hstnn.toml").write_text(text, encoding="utf-8")
    found = told()
    assert list(found) == list(defaults.KEYS)
    assert {came.partition(",")[0] for _, came in found.values()} == {str(project / "hstnn.toml")}
    for key, each in defaults.KEYS.items():
        assert f"| `{key}` |" in page
        assert f"`{each.variable}`" in page
