"""Memory and reads of weights on devices in records of work, against counts by hand; and records of before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.data.registry import load
from hstnn_deploy.errors import UsageError
from hstnn_deploy.profile import resource_table
from hstnn_deploy.profile.phases import networks, work
from hstnn_deploy.profile.phases.on_devices import SRAM_READ_JOULES
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.show import report
from hstnn_deploy.profile.values import Measured, NotMeasured, Value
from hstnn_deploy.recipe.load import load_recipe, shipped
from tests.profile.conftest import configured


def found(step: str, **options: Any) -> tuple[Configuration, dict[str, Value]]:
    recipe = load_recipe("rram-digits", [f"network.weights.step={step}", "network.weights.sram.bits=2"])
    configuration = configured(recipe, "work", **options)
    network = networks.fresh_network(configuration).eval()
    values = work.measure(configuration, network, load(recipe.data, recipe.protocol).test).values
    return configuration, {value.name: value for value in values}


def number(value: Value) -> float:
    assert isinstance(value, Measured), value
    return value.number


def test_bits_and_reads_are_counted_for_every_operation_of_a_convolution() -> None:
    _, values = found("recover", rram_read=0.5)
    assert (number(values["rram_bits"]), number(values["sram_bits"])) == (4 * 4752, 2 * 4752)
    operations = sum(number(values[f"{kind}.layer{layer}.conv"]) for kind in ("acs", "macs") for layer in (1, 5))
    assert operations > 0
    assert number(values["rram_reads"]) == pytest.approx(4 * operations)
    assert number(values["sram_reads"]) == pytest.approx(2 * operations)
    rram, sram = number(values["energy_rram_reads"]), number(values["energy_sram_reads"])
    assert rram == pytest.approx(0.5e-12 * 4 * operations)
    assert sram == pytest.approx(SRAM_READ_JOULES * 2 * operations) == pytest.approx(10e-12 / 64 * 2 * operations)
    assert number(values["energy_with_reads"]) == pytest.approx(number(values["energy"]) + rram + sram)
    assert "as given" in str(values["energy_rram_reads"].plain()["source"])
    assert "Horowitz" in str(values["energy_sram_reads"].plain()["source"])
    _, own = found("recover", sram_read=1.0)
    assert number(own["energy_sram_reads"]) == pytest.approx(1e-12 * 2 * operations)


def test_what_nobody_published_or_is_not_there_is_not_a_number() -> None:
    _, values = found("baseline")
    for name, why in (
        ("energy_rram_reads", "give --rram-read"),
        ("energy_with_reads", "give --rram-read"),
        ("energy_sram_reads", "the network has no SRAM part"),
        ("sram_bits", "the step baseline has no SRAM part"),
    ):
        assert isinstance(values[name], NotMeasured)
        assert why in values[name].plain()["reason"]
    assert isinstance(found("recover")[1]["sram_group_bits"], NotMeasured)
    assert isinstance(found("prune")[1]["sram_group_bits"], Measured)


def test_poisson_input_counts_as_spikes_at_its_measured_rate() -> None:
    configuration, values = found("baseline")
    recipe = load_recipe("rram-digits")
    x = load(recipe.data, recipe.protocol).test.batch(torch.arange(4), torch.device("cpu")).x
    assert set(x.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert number(values["spike_rate.input"]) == pytest.approx(float((x != 0).double().mean()))
    assert number(values["macs"]) == 0
    assert number(values["acs.layer1.conv"]) > 0
    repeated = configured(load_recipe("rram-digits", ["data.images.encoding=repeat"]), "work")
    network = networks.fresh_network(repeated).eval()
    data = load(load_recipe("rram-digits", ["data.images.encoding=repeat"]).data, "validation")
    plain = {value.name: value for value in work.measure(repeated, network, data.test).values}
    assert "spike_rate.input" not in plain
    assert number(plain["macs.layer1.conv"]) > 0
    record = Record(configuration, "measured", list(values.values()), {"cpu": "x", "cores": 1, "versions": {}})
    text = report.text([record])
    assert "input, as spikes" in text
    assert "Weights on devices: memory" in text


def test_a_network_without_devices_has_none_of_these_values(tiny: Any) -> None:
    configuration = configured(tiny, "work", rram_read=0.5)
    assert configuration.rram_read is None
    network = networks.fresh_network(configuration).eval()
    values = work.measure(configuration, network, load(tiny.data, tiny.protocol).test).values
    assert not [value.name for value in values if "bits" in value.name or "reads" in value.name]


def test_it_is_trained_with_its_devices_and_measured_as_deployed() -> None:
    configuration = configured(load_recipe("rram-digits"), "train")
    assert getattr(networks.trained_network(configuration), "devices", None) is not None
    assert getattr(networks.fresh_network(configuration), "devices", None) is None


def test_records_of_before_are_those_without_the_new_keys() -> None:
    plain = configured(load_recipe("rram-digits"), "work").plain()
    assert not plain.keys() & {"rram_read", "sram_read"}
    assert Configuration.from_plain(plain).plain() == plain
    given = configured(load_recipe("rram-digits"), "work", rram_read=0.5)
    assert given.plain()["rram_read"] == pytest.approx(5e-13)
    assert Configuration.from_plain(given.plain()) == given


@pytest.mark.parametrize("option", ["rram_read", "sram_read"])
def test_an_energy_is_positive(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} -1 is not a positive number"):
        plan(["rram-digits"], phases=["work"], gpus=[None], **{option: -1.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bntt-vgg5", "bntt-vgg9", "bntt-vgg11", "bntt-vgg19"])
def test_the_networks_have_rows_of_the_resource_table(name: str) -> None:
    row = resource_table.matching(load_recipe(name).experiment)
    assert row is not None
    assert not row.figures
    assert "memory and time were not published" in row.source


def test_every_row_has_a_recipe() -> None:
    recipes = {load_recipe(name).experiment for name in shipped()}
    assert {row.experiment for row in resource_table.ROWS} <= recipes


def test_a_matrix_may_hold_the_energies(tmp_path: Path) -> None:
    from hstnn_deploy.profile.plan.matrix import read

    (tmp_path / "m.yaml").write_text("recipe: rram-digits\nrram-read: 0.5\nsram-read: 1\n")
    assert read(tmp_path / "m.yaml") == {"recipes": ["rram-digits"], "rram_read": 0.5, "sram_read": 1}
