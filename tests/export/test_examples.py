"""The recipes in docs/examples: they are valid and fit their data, and a small copy trains, exports and is replayed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.data import registry
from hstnn_deploy.export.graph.forms import FORMS
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.export.proof.replay import replay
from hstnn_deploy.models.stack import Stack, StackConfig
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.recipe.load import load_recipe
from tests.export.test_stacks import T, engine, same

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.yaml"))
SEW = next(path for path in EXAMPLES if path.stem == "sew-resnet18")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_its_data(path: Path) -> None:
    recipe = load_recipe(str(path))
    assert recipe.name == path.stem
    shape = registry.shape(recipe.data)
    assert shape is not None
    recipe.check_fits(shape.family, shape.sizes)


def test_sew_resnet18_has_the_parameters_and_shapes_of_resnet18() -> None:
    config = load_recipe(str(SEW)).network
    assert isinstance(config, StackConfig)
    with torch.device("meta"):
        network = config.build([])
    # ResNet-18 of images in colour with 1000 classes has 11 689 512; here are 2 colours and 11 classes.
    assert sum(each.numel() for each in network.parameters()) == 11_689_512 - 64 * 49 - 989 * 513 == 11_179_019
    told = network.described()
    assert [each.kind for each in told].count("residual") == 8
    assert sum(each.kind in {"conv", "linear"} for each in told) == 18 + 3  # and three convolutions in shortcuts
    blocks = [each.output for each in told if each.kind == "residual"]
    assert blocks == [[64, 32, 32]] * 2 + [[128, 16, 16]] * 2 + [[256, 8, 8]] * 2 + [[512, 4, 4]] * 2


def smaller(layers: list[Any]) -> list[Any]:
    """Return layers with a sixteenth of the channels."""
    found = []
    for each in layers:
        changed = {key: smaller(value) for key, value in each.items() if key in {"residual", "shortcut", "layers"}}
        found.append(each | changed | ({"conv": each["conv"] // 16} if "conv" in each else {}))
    return found


def test_a_small_sew_resnet18_trains_a_step_and_is_exported_with_proof(tmp_path: Path) -> None:
    recipe = load_recipe(str(SEW))
    assert isinstance(recipe.network, StackConfig)
    config = {"input": [2, 32, 32], "layers": smaller(recipe.network.layers), "readout": recipe.network.readout}
    torch.manual_seed(0)
    network: Stack = StackConfig.model_validate(config).build([])
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("scale"):
                value.fill_(2)  # so that every layer of this small one fires
    x = torch.randint(0, 4, (T, 4, 2, 32, 32), generator=torch.Generator().manual_seed(1)).float()
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), recipe.train.lr if recipe.train else 1e-3)
    answer, _ = network.train()(x)
    loss = task_for(recipe.network, recipe.loss).loss(answer, torch.tensor([0, 3, 7, 10]), len(x))
    loss.backward()
    optimiser.step()
    assert loss.isfinite()
    assert not [name for name, value in network.named_parameters() if torch.equal(before[name], value)]
    with torch.no_grad():
        for _ in range(60):
            network(x)  # the running statistics follow those of the batch
    network.eval()
    expected = network_engine(network, show=True)(x, None)
    # The stem, two a block, and three shortcuts.
    assert len(expected.taps) == 1 + 2 * 8 + 3
    assert all(handed.any() for handed in expected.taps.values())
    for form in FORMS:
        run = engine(network, form, tmp_path)(x, None)
        same(run, expected)
        certificate = replay(network, x, run)
        assert certificate.passed, (form, str(certificate))
    # A replay of something else does not pass.
    with torch.no_grad():
        network.get_parameter("layers.4.body.0.weight").mul_(1.01)
    assert not replay(network, x, run).passed
