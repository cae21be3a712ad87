"""A network bears what it was trained against better than one that was not, on digits."""

from pathlib import Path

import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.disturbances.table import DISTURBANCES
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.robustness.measure import Bench
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from tests.conftest import in_part

PLAIN = ["network.layers=[{linear: 64}, {lif: {}}, {linear: 10}]", "batch=100", "train.lr=0.01", "train.epochs=40"]


def _bench(run: RunFolder, recipe: Recipe) -> Bench:
    return Bench(Checkpoint.load(run.best), load(recipe.data, recipe.protocol), "test", 100, torch.device("cpu"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    recipe = load_recipe("stack-digits", PLAIN)
    return _bench(train(recipe, tmp_path_factory.mktemp("plain"))[-1], recipe)


@pytest.mark.parametrize(
    ("name", "trained", "measured", "margin"),
    in_part(
        [
            ("gaussian", 0.4, 0.3, 5),
            ("fgsm", 0.15, 0.1, 15),
            ("weight-gaussian", 0.2, 0.2, 10),
            ("weight-bits", 3, 3, 10),
            ("spike-loss", 0.6, 0.5, 5),
        ],
        2,
    ),
)
def test_a_network_bears_what_it_was_trained_against(
    plain: Bench, tmp_path: Path, name: str, trained: float, measured: float, margin: float
) -> None:
    recipe = load_recipe("stack-digits", [*PLAIN, f"against={{{name}: {trained}}}"])
    hardened = _bench(train(recipe, tmp_path)[-1], recipe)
    found = [sum(each.value(DISTURBANCES[name], measured, draw) for draw in (0, 1)) / 2 for each in (plain, hardened)]
    assert found[1] > found[0] + margin, found
