"""A Hutchinson probe of selection against the textbook's, which copies the product for every unit.

The textbook walks the graph of its own network with its own loop; ours is `probe_products` on the same weights, batch
and probe. `copying` is the textbook's loop on the graph of our network: what the loop alone costs. The graph is built
once per selection of some 300 probes, and is left out everywhere.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import floor, textbook
from benchmarks.harness import Measure, Result, turns, wall
from benchmarks.networks import TOLERANCE, Pair, make_pair
from hstnn_deploy.data.splits import Batch
from hstnn_deploy.models import kernels
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification
from hstnn_deploy.train.traces import Probe, RankedGroup, probe_products, rademacher, ranked_groups


def selection(rounds: int) -> Iterator[Result]:
    """Time a probe over all units of a network in training."""
    for sizes in (Sizes(800, 800), Sizes(400, 400)):
        pair = make_pair(sizes)
        groups = ranked_groups(pair.ours)
        probe = rademacher(groups, seed=0, number=0)
        baseline = Copying(groups, *_graph_of_theirs(pair, groups), probe)
        copying = Copying(groups, *_graph_of_ours(pair, groups), probe)
        ours = Ours(groups, pair, probe)
        products = floor.probe_products(sizes)
        candidates: dict[str, Measure] = {
            "baseline": baseline,
            "ours": ours,
            "floor": wall(floor.runner(products)),
            "copying": copying,
        }
        # A round takes seconds, so half as many do.
        times = turns(candidates, max(2, rounds // 2), warm_up=1)
        errors = [float((found - ours.sums).norm() / ours.sums.norm()) for found in (baseline.sums, copying.sums)]
        # On one graph the traces differ by rounding; between the two by what their gradients do.
        assert errors[0] < 10 * TOLERANCE, f"the traces differ from the textbook's by {errors[0]:.1e}"
        assert errors[1] < TOLERANCE, f"the traces differ on one graph by {errors[1]:.1e}"
        facts = {"units": len(ours.sums), "gflop": floor.flops(products) / 1e9, "trace_errors": errors}
        note = f"the loop alone, on our graph: {times.ratio('copying', 'ours').show()}"
        yield Result("selection", f"{sizes.snn}+{sizes.rnn}", times, facts, note)


class Copying:
    """The textbook's loop over the units."""

    def __init__(self, groups: list[RankedGroup], gradients: list[Tensor], weights: list[Tensor], probe: Probe) -> None:
        self.groups, self.gradients, self.weights = groups, gradients, weights
        self.vectors = [vector for vectors in probe for vector in vectors]
        self.sums = torch.empty(0)

    def __call__(self) -> float:
        """Run one probe; return its seconds."""
        start = time.perf_counter()
        sums = textbook.unit_traces_by_copying(  # type: ignore[no-untyped-call]
            self.gradients, self.weights, [self.vectors]
        )
        seconds = time.perf_counter() - start
        rest = iter(sums)
        self.sums = torch.cat([torch.stack([next(rest) for _ in group.weights]).sum(0) for group in self.groups])
        return seconds


class Ours:
    """`probe_products`, from where it takes a probe to where it hands out the sums."""

    def __init__(self, groups: list[RankedGroup], pair: Pair, probe: Probe) -> None:
        self.groups, self.pair, self.probe = groups, pair, probe
        self.sums = torch.empty(0)
        self.start = self.end = 0.0

    def __call__(self) -> float:
        """Run one probe; return its seconds."""
        batch = Batch(self.pair.x, self.pair.target)
        probe_products(self.pair.ours, self.groups, Classification(), batch, self._handed_out(), self._done)
        return self.end - self.start

    def _handed_out(self) -> Iterator[Probe]:
        self.start = time.perf_counter()
        yield self.probe

    def _done(self, sums: Tensor) -> None:
        self.end = time.perf_counter()
        self.sums = sums


def _graph_of_theirs(pair: Pair, groups: list[RankedGroup]) -> tuple[list[Tensor], list[Tensor]]:
    names = {"snn": ("w_s",), "rnn": ("w_i", "w_h")}
    weights = [getattr(pair.theirs, name)[group.layer] for group in groups for name in names[group.kind]]
    return _gradients(pair.forward_theirs(), pair, weights), weights


def _graph_of_ours(pair: Pair, groups: list[RankedGroup]) -> tuple[list[Tensor], list[Tensor]]:
    weights: list[Tensor] = [weight for group in groups for weight in group.weights]
    with kernels.using("plain"):
        return _gradients(pair.forward_ours(), pair, weights), weights


def _gradients(logits: Tensor, pair: Pair, weights: list[Tensor]) -> list[Tensor]:
    loss = functional.cross_entropy(logits, pair.target)
    return list(torch.autograd.grad(loss, weights, create_graph=True))
