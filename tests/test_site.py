"""The documentation as a site: whole, without anything from elsewhere, and with what the code itself says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hstnn_deploy import __all__ as public
from hstnn_deploy.cli.app import COMMANDS, commands

ROOT = Path(__file__).parent.parent
FROM_ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?https?:[^"'>]*""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a page that leads nowhere, or that no menu names, is an error."""
    pytest.importorskip("material", reason="pip install 'hstnn-deploy[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert FROM_ELSEWHERE.search('<script src="https://x.org/a.js">')
    for page in site.rglob("*.html"):
        found = [each for each in FROM_ELSEWHERE.findall(page.read_text(encoding="utf-8")) if "canonical" not in each]
        assert not found, (page, found)


def test_every_command_is_there_with_its_options(site: Path) -> None:
    text = (site / "reference/options/index.html").read_text(encoding="utf-8")
    for command in commands(*COMMANDS).registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert f"<code>hstnn {name}</code>" in text, name
    assert "--disturb" in text
    assert "One of: rnn, lstm, snn, ffs, hybrid." in text
    assert "hstnn train digits --kind hybrid --ratio 0.5\n" in re.sub(r"<[^>]*>", "", text)
    assert "hybrids in three stages (adapt, select, restore)" in text


def test_every_key_of_a_recipe_is_there_with_its_meaning(site: Path) -> None:
    text = (site / "reference/recipes/index.html").read_text(encoding="utf-8")
    for key in ("seed", "adapt.schedule.every", "network.neuron.decay", "data.frame_time", "selection.probes"):
        row = re.search(rf"<td><code>{re.escape(key)}</code></td>(.*?)</tr>", text, flags=re.DOTALL)
        assert row, key
        assert re.findall(r"<td>(.*?)</td>", row[1], flags=re.DOTALL)[-1].strip(), key


def test_a_bar_in_the_code_of_a_table_has_no_backslash(site: Path) -> None:
    text = (site / "commands/index.html").read_text(encoding="utf-8")
    assert "<code>--recurrent rnn|lstm</code>" in text


def test_every_public_name_is_there(site: Path) -> None:
    text = (site / "reference/api/index.html").read_text(encoding="utf-8")
    for name in public:
        assert name == "__version__" or re.search(rf'<h2 id="{name.lower()}"', text), name
    assert "PreprocessingError" not in text
