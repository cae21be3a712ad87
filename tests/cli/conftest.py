"""Bundles that commands are tried on."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.export.bundle.export import export_bundle
from tests.export.cases import Case


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each family, of tiny networks of shipped recipes."""
    folder = tmp_path_factory.mktemp("bundles")
    cases = {"images": Case("sequence", "ffs"), "events": Case("dvs", "ffs"), "text": Case("language", "ffs")}
    return {
        name: export_bundle(case.checkpoint(folder / f"{name}.pt"), folder / name, verify=False).folder
        for name, case in cases.items()
    }


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)), encoding="utf-8"))

    return give
