"""A network by the name of the function that makes it: what is found, and every way in which it is not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from hstnn_deploy.errors import OutOfMemoryError, UsageError
from hstnn_deploy.factories import load_factory, looks_like_factory

NETS = """
import torch
from torch import nn

SIZE = 3
whole = nn.Linear(2, 5)


class Net(nn.Module):
    def __init__(self, hidden=4):
        super().__init__()
        self.layer = nn.Linear(2, hidden)

    @classmethod
    def large(cls):
        return cls(100)


def make():
    return Net()


def sized(hidden):
    return Net(hidden)


def pair():
    return Net(), 3


def nothing():
    Net()


def broken():
    return nn.Linear(2, "many")


def leaves():
    raise SystemExit(2)


def huge():
    raise MemoryError
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a user's, with a package of networks; nothing of it stays imported."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "zoo"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(NETS)
    (package / "missing.py").write_text("import no_such_library_here\n")
    (package / "sibling.py").write_text("import zoo.absent\n")
    (package / "raises.py").write_text("x = 1\nraise ValueError('the\\n first line')\n")
    (package / "wrong.py").write_text("def make(:\n    pass\n")
    (package / "script.py").write_text("import sys\nsys.exit(2)\n")
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] == "zoo":
            del sys.modules[name]


@pytest.mark.parametrize(("name", "outputs"), [("make", 4), ("Net", 4), ("Net.large", 100), ("whole", None)], ids=str)
def test_a_factory_a_class_and_a_network_that_is_there_are_taken(name: str, outputs: int | None) -> None:
    network = load_factory(f"zoo.nets:{name}")
    assert isinstance(network, nn.Module)
    if outputs:
        assert next(network.parameters()).shape[0] == outputs


def test_the_current_folder_comes_first(here: Path) -> None:
    other = here / "other"
    (other / "zoo").mkdir(parents=True)
    (other / "zoo" / "__init__.py").write_text("raise ValueError('the wrong one')")
    sys.path.insert(0, str(here))
    sys.path.append(str(other))
    assert isinstance(load_factory("zoo.nets:make"), nn.Module)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("zoo.nets", "'zoo.nets' has no colon: a factory is PACKAGE.MODULE:FACTORY", "for example nets.conv:make"),
        ("zoo.nets:", "'zoo.nets:' is not PACKAGE.MODULE:FACTORY", "for example"),
        ("zoo nets:make", "'zoo nets:make' is not PACKAGE.MODULE:FACTORY", "for example"),
        ("zoo/nets.py:make", "'zoo/nets.py:make' names a file, not a module", "write zoo.nets:make, and run this in"),
        ("zoo.netz:make", "there is no module zoo.netz: searched ", "did you mean 'nets'?"),
        ("zo.nets:make", "there is no module zo, the first part of zo.nets: searched ", "did you mean 'zoo'?"),
        ("zoo.nets.deep:make", "there is no module zoo.nets.deep: zoo.nets is one file, not a package", "for example"),
        ("zoo.missing:make", "zoo.missing imports no_such_library_here, which is not installed", "install it into"),
        ("zoo.sibling:make", "zoo.sibling imports zoo.absent, which is not installed", "install it into"),
        (
            "zoo.raises:make",
            "zoo.raises raises when it is imported: ValueError: the (zoo/raises.py, line 2)",
            "--traceback",
        ),
        ("zoo.wrong:make", "zoo.wrong raises when it is imported: SyntaxError: ", "--traceback"),
        ("zoo.script:make", "zoo.script raises when it is imported: SystemExit: 2 (zoo/script.py, line 2)", ""),
        ("zoo.nets:mak", "zoo.nets:mak: zoo.nets has no mak", "did you mean 'make'?"),
        ("zoo.nets:Net.huge", "zoo.nets:Net.huge: zoo.nets:Net has no huge", "known: large"),
        ("zoo.nets:SIZE", "zoo.nets:SIZE is a value of type int, not a callable", "name a function"),
        (
            "zoo.nets:sized",
            "zoo.nets:sized requires arguments: missing a required argument: 'hidden'",
            "name a function",
        ),
        (
            "zoo.nets:pair",
            "zoo.nets:pair returns a value of type tuple, not a torch.nn.Module",
            "let the factory return",
        ),
        ("zoo.nets:nothing", "zoo.nets:nothing returns None, not a torch.nn.Module", "let the factory return"),
        ("zoo.nets:broken", "zoo.nets:broken raises: TypeError: ", "--traceback"),
        ("zoo.nets:leaves", "zoo.nets:leaves raises: SystemExit: 2 (zoo/nets.py, line ", "--traceback"),
    ],
)
def test_what_gives_no_network_is_one_line(name: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_factory(name)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    assert caught.value.hint.startswith(hint)


def test_the_error_says_where_the_module_was_looked_for(here: Path) -> None:
    with pytest.raises(UsageError, match="the current folder") as caught:
        load_factory("nowhere:make")
    assert str(here) in caught.value.message


def test_too_large_a_network_is_no_mistake_of_the_name() -> None:
    with pytest.raises(OutOfMemoryError, match=r"zoo\.nets:huge raises: out of memory"):
        load_factory("zoo.nets:huge")


@pytest.mark.parametrize("text", ["a:b", "a.b:c", "a.b:C.d"])
def test_the_form_of_a_factory(text: str) -> None:
    assert looks_like_factory(text)


@pytest.mark.parametrize("text", ["a", "a:", ":b", "a/b.py:c", "C:\\net.yaml", "a b:c", "smnist", "a:1"])
def test_what_has_not_the_form_of_a_factory(text: str) -> None:
    assert not looks_like_factory(text)
