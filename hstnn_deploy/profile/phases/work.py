"""The work of one inference: parameters, bytes, FLOPs, synaptic operations, spike rates, and an estimate of energy."""

from pathlib import Path

import torch

from hstnn_deploy.data.preprocessing import counts_events
from hstnn_deploy.data.splits import Split
from hstnn_deploy.models.network import Network
from hstnn_deploy.profile.phases import on_devices
from hstnn_deploy.profile.phases.findings import Findings
from hstnn_deploy.profile.phases.operations import Operations, count
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured, NotMeasured, Value
from hstnn_deploy.recipe.load import parse

MAC_JOULES, AC_JOULES = 4.6e-12, 0.9e-12
"""Of a float32 multiplication and addition (3.7 + 0.9 pJ), and of the addition alone, in 45 nm at 0.9 V."""
ENERGY_SOURCE = "4.6 pJ per MAC, 0.9 pJ per AC: float32 in 45 nm (Horowitz, ISSCC 2014, 1.1)"

_SAMPLES, _FRAMED_SAMPLES = 100, 4
"""Samples of the test split to count on; frames are expensive."""


def measure(configuration: Configuration, network: Network, test: Split) -> Findings:
    """Count what a network does for one sample, as a mean over samples of the test split."""
    wanted = _FRAMED_SAMPLES if len(network.input_shape) > 1 else _SAMPLES
    samples = min(wanted, len(test))
    x = test.batch(torch.arange(samples), torch.device("cpu")).x
    events = counts_events(parse(configuration.recipe, configuration.subject).data)
    found = count(network, x, events)
    weights = "" if configuration.ckpt else "with random weights; a trained network spikes at other rates"
    values = [*_size(configuration, network), *_totals(found, samples, weights)]
    values += on_devices.measure(configuration, found, samples, MAC_JOULES, AC_JOULES)
    if events:
        rate = float(x.abs().double().mean())
        source = f"counted, mean of {samples} samples"
        values.append(Measured("spike_rate.input", rate, "spikes/step", source, "per input value; -1 counts as 1"))
    for operations in found:
        values += _of(operations, samples, weights)
    return Findings(values, {"samples": samples, "runs_on": "torch cpu"}, {}, "counting")


def _size(configuration: Configuration, network: Network) -> list[Value]:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    found: list[Value] = [
        Measured("parameters", parameters, "parameters", "counted"),
        Measured("parameter_bytes", size, "B", "counted, as they are in memory"),
    ]
    if configuration.ckpt:
        disk = Path(configuration.ckpt).stat().st_size
        found.append(Measured("checkpoint_bytes", disk, "B", "the file's size"))
    else:
        found.append(NotMeasured("checkpoint_bytes", "no checkpoint was given"))
    return found


def _totals(found: list[Operations], samples: int, note: str) -> list[Value]:
    dense, macs, acs = (sum(getattr(each, key) for each in found) / samples for key in ("dense", "macs", "acs"))
    source = f"counted, mean of {samples} samples"
    plain = MAC_JOULES * dense
    return [
        Measured("flops", 2 * dense, "FLOP", "2 x dense MACs", "products only, without activation functions"),
        Measured("macs_dense", dense, "MAC", "counted from shapes"),
        Measured("macs", macs, "MAC", source, note),
        Measured("acs", acs, "AC", source, note),
        Measured("energy", MAC_JOULES * macs + AC_JOULES * acs, "J", f"estimate: {ENERGY_SOURCE}", _ENERGY_NOTE),
        Measured("energy_dense", plain, "J", f"estimate: {ENERGY_SOURCE}", "every operation as a MAC, zeros included"),
    ]


_ENERGY_NOTE = "arithmetic only, without memory and idle power, which dominate on a real chip"


def _of(operations: Operations, samples: int, note: str) -> list[Value]:
    source = f"counted, mean of {samples} samples"
    found: list[Value] = [
        Measured(f"macs_dense.{operations.name}", operations.dense / samples, "MAC", "counted from shapes"),
        Measured(f"macs.{operations.name}", operations.macs / samples, "MAC", source, note),
        Measured(f"acs.{operations.name}", operations.acs / samples, "AC", source, note),
    ]
    if operations.rate is not None:
        found.append(Measured(f"spike_rate.{operations.name}", operations.rate, "spikes/step", source, note))
    return found
