"""Warnings at export for a network that does not spike or learned nothing: its proof says little."""

from collections.abc import Iterable, Iterator

import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.export.proof.comparisons import Check, Subject
from hstnn_deploy.models.activity import Activity, extremes
from hstnn_deploy.train.doubts import WARNINGS, layers

SPIKES = "the network spikes"
LEARNED = "the training learned something"


@torch.no_grad()
def check_activity(subject: Subject, names: Iterable[str]) -> Iterator[Check]:
    """Say of each file how often each layer of its network spikes on the windows that it is replayed on.

    "not run" of a layer that is silent or saturated: the replay compares its spikes, and there is nothing to compare.
    A network without spiking units has no such check.
    """
    names = list(names)
    if not names:
        return
    network = subject.network
    was_training = network.training
    network.eval()
    with Activity(network) as activity:
        for x in subject.windows:
            network(x)
    network.train(was_training)
    rates = activity.rates()
    if not rates:
        return
    windows = subject.sampled or ("random windows" if subject.test is None else "windows of the test split")
    on = f"{sum(x.shape[1] for x in subject.windows)} {windows}"
    figures = ", ".join(f"layer {number} {rate:.4g}" for number, rate in rates.items())
    figure = f"spikes per unit and step on {on}: {figures}"
    vacuous = [
        f"{layers(numbers)}: {said}, so the checks prove nothing about thresholds and weights there"
        for wanted, said in (("silent", "no unit ever spikes"), ("saturated", "every unit spikes at every step"))
        if (numbers := [number for number, extreme in extremes(rates).items() if extreme == wanted])
    ]
    for name in names:
        yield Check(name, SPIKES, "not run" if vacuous else "passed", "; ".join([*vacuous, figure]))


def check_training(checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[Check]:
    """Repeat beside each file what was doubtful of the training in the epoch that is exported, if anything was."""
    found = checkpoint.metrics.get("valid", {}).get(WARNINGS)
    if isinstance(found, list) and found:
        for name in names:
            yield Check(name, LEARNED, "not run", "; ".join(map(str, found)))
