"""One small trained network and its bundle, shared by the tests of `export`: an export takes seconds."""

from pathlib import Path

import pytest

from hstnn_deploy.export.bundle.export import Bundle, export_bundle
from hstnn_deploy.export.graph.forms import FORMS
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, settings
from tests.export.cases import Case


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one seed of a hybrid: adapt, traces, ratio-0.5."""
    out = tmp_path_factory.mktemp("runs")
    recipe = load_recipe("digits", settings({**TINY, "network.units": [12, 10]}))
    train(recipe, out)
    return out / "digits" / "hybrid" / "seed1111"


@pytest.fixture(scope="session")
def best(runs: Path) -> Path:
    """The restored network's checkpoint."""
    return runs / "ratio-0.5" / "best.pt"


@pytest.fixture(scope="session")
def bundle(best: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the restored network, in every format."""
    return export_bundle(best, tmp_path_factory.mktemp("export") / "bundle", ("onnx", "torchscript", "pt2"))


@pytest.fixture(scope="session")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles with preprocessing inside, proved: of images and of events, in every form."""
    folder = tmp_path_factory.mktemp("fronts")
    made = {}
    for name, case in (("images", Case("sequence", "hybrid")), ("events", Case("nmnist", "ffs"))):
        bundle = export_bundle(case.checkpoint(folder / f"{name}.pt"), folder / name, forms=FORMS, preprocess=True)
        assert not bundle.failed
        checks = [check for check in bundle.checks if "raw samples" in check.name]
        assert [check.outcome for check in checks] == ["passed"] * 3
        assert all("360 of 360 samples equal training's to the bit" in check.figure for check in checks)
        made[name] = bundle.folder
    return made
