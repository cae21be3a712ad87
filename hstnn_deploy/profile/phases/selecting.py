"""Measure selection: the Hessian traces probe by probe, the ranking, and the cutting of the network.

The traces are those of `train.traces` itself. Where the recipe's probes do not fit into the time given, some are
measured and the rest is extrapolated, and the value says so.
"""

import statistics
import time
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data.splits import Split
from hstnn_deploy.models.hybrid.network import as_hybrid
from hstnn_deploy.models.hybrid.shrink import shrink
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.sizes import kept_counts
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.profile.meter import stats
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Findings, Meet
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.ranking import GroupTraces, Traces, select
from hstnn_deploy.train.traces import probe_products, rademacher, ranked_groups, selection_batch

_FEWEST = 3


class _Enough(Exception):
    """The time for probes is over."""


def measure(
    configuration: Configuration, recipe: Recipe, network: Network, train: Split, ledger: Ledger, meet: Meet
) -> Findings:
    """Compute traces, rank, cut; each is a span of its own."""
    device = next(network.parameters()).device
    groups = ranked_groups(network)
    batch = selection_batch(recipe, train, device)
    whole, most = recipe.selection.probes, configuration.max_steps or recipe.selection.probes
    sums: list[Tensor] = []
    ends: list[float] = []
    meet()

    def done(sum_: Tensor) -> None:
        sums.append(sum_)
        ends.append(time.perf_counter())
        over = configuration.max_steps is None and ends[-1] - start >= configuration.seconds
        if len(sums) >= most or (over and len(sums) >= _FEWEST):
            raise _Enough

    with ledger.span("traces"):
        start = time.perf_counter()
        try:
            drawn = (rademacher(groups, recipe.seed, number) for number in range(whole))
            probe_products(network, groups, task_for(recipe.network, recipe.loss), batch, drawn, done)
        except _Enough:
            pass
    probes = [after - before for before, after in pairwise(ends)] or [ends[0] - start]
    # As many rows as the recipe has probes: ranking and bootstrap take as long as with them.
    rows = np.resize(torch.stack(sums).numpy().astype(np.float64), (whole, len(sums[0])))
    described = [GroupTraces(layer=g.layer, kind=g.kind, scale=g.importance_scale().tolist()) for g in groups]
    counts = kept_counts(recipe.network.units, recipe.ratio)
    with ledger.span("ranking"):
        begin = time.perf_counter()
        result = select(Traces(described, rows), counts, recipe.ratio, recipe.selection.bootstraps, recipe.seed)
        ranked = time.perf_counter() - begin
    with ledger.span("cutting"):
        begin = time.perf_counter()
        shrink(as_hybrid(network), result.kept())
        cut = time.perf_counter() - begin
    facts = {"probes": len(sums), "probes_of": whole, "runs_on": f"torch {device}"}
    values = _values(probes, ends[0] - start, len(sums), whole, ends[-1] - start, ranked, cut)
    return Findings(values, facts, {"probe": probes}, "traces")


def _values(
    probes: list[float], first: float, done: int, whole: int, spent: float, ranked: float, cut: float
) -> list[Value]:
    found = stats.distribution("probe", probes, "time.perf_counter", "probes")
    note = ""
    if done < whole:
        # The first one pays for the graph that all share.
        spent = first + (whole - 1) * statistics.median(probes)
        note = f"extrapolated from {done} of {whole} probes"
    traces = Measured("traces", spent, "s", "time.perf_counter", note)
    found += [
        traces,
        Measured("ranking", ranked, "s", "time.perf_counter", f"{whole} probes, bootstraps included"),
        Measured("cutting", cut, "s", "time.perf_counter"),
        Measured("selection", spent + ranked + cut, "s", "traces + ranking + cutting", note),
    ]
    return found
