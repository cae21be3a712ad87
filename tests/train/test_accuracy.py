"""The three stages make a network that classifies well, not one that merely runs."""

from pathlib import Path
from statistics import mean

from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.stages import train


def test_restored_hybrids_of_three_seeds_average_92_percent_on_the_digits(tmp_path: Path) -> None:
    """With the shipped recipe as it is; the test split is fixed, the epoch chosen on the validation split."""
    accuracies = []
    for seed in (1111, 2222, 3333):
        *_, restored = train(load_recipe("digits", [f"seed={seed}"]), tmp_path)
        result = restored.status()["result"]
        assert result["protocol"] == "validation"
        accuracies.append(result["test"]["accuracy"])
    assert mean(accuracies) >= 92, accuracies
