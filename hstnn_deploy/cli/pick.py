"""`hstnn pick`: choose the network to deploy from those that were trained and measured."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import ReportError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.report.tradeoff import Candidate


class CostChoice(StrEnum):
    """Costs."""

    energy = "energy"
    macs = "macs"
    acs = "acs"
    latency = "latency"
    ram = "ram"
    bytes = "bytes"


class PreferChoice(StrEnum):
    """The criterion that decides between networks within the bounds."""

    accuracy = "accuracy"
    robustness = "robustness"
    cost = "cost"


def _most(name: str, unit: str, what: str) -> Any:
    return typer.Option(f"--max-{name}", metavar=unit, help=f"Largest {what}.")


def pick(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="Folders of runs, of profile records (records.jsonl) and of robustness.json."
        ),
    ],
    min_accuracy: Annotated[float | None, typer.Option(metavar="%", help="Smallest mean test accuracy.")] = None,
    max_perplexity: Annotated[float | None, typer.Option(metavar="N", help="Largest mean perplexity.")] = None,
    min_robustness: Annotated[
        float | None, typer.Option(metavar="%", help="Smallest mean accuracy under disturbances.")
    ] = None,
    max_energy: Annotated[float | None, _most("energy", "nJ", "arithmetic energy per sample")] = None,
    max_macs: Annotated[float | None, _most("macs", "N", "number of multiply-accumulates")] = None,
    max_acs: Annotated[float | None, _most("acs", "N", "number of accumulates")] = None,
    max_latency: Annotated[float | None, _most("latency", "ms", "median latency")] = None,
    max_ram: Annotated[float | None, _most("ram", "MB", "memory of a process")] = None,
    max_bytes: Annotated[float | None, _most("bytes", "kB", "size of the network")] = None,
    cost: Annotated[CostChoice, typer.Option(help="The cost to show and to compare networks by.")] = (
        CostChoice.energy
    ),
    prefer: Annotated[
        PreferChoice, typer.Option(help="The criterion that decides between networks within the bounds.")
    ] = PreferChoice.accuracy,
    disturbance: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Use the robustness under this disturbance (default: the mean over those measured for all networks).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy, robustness and cost of all networks.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Name the network to deploy, and the command that exports it.

    The candidates are the networks of finished runs; figures are means over seeds. A bound on a figure excludes
    networks for which it was not measured.
    """
    import_torch()
    from hstnn_deploy.report.collect import collect
    from hstnn_deploy.report.robust import networks
    from hstnn_deploy.report.tradeoff import candidates, undominated

    collected = collect(paths)
    for problem in collected.problems:
        console.err.print(f"warning: {problem}", soft_wrap=True, markup=False)
    robust = networks(collected)
    _check_known(disturbance, robust)
    joined = candidates(collected.runs, collected.profiles, robust, disturbance)
    for line in joined.left_out:
        console.note(line)
    found = joined.networks
    if not found:
        raise ReportError("there is no finished run to choose from", "give a folder of runs")
    if len({each.metric for each in found}) > 1:
        raise UsageError(
            f"these runs have different metrics: {' and '.join(sorted({each.metric for each in found}))}",
            "give runs of one task at a time",
        )
    most = {
        CostChoice.energy: max_energy,
        CostChoice.macs: max_macs,
        CostChoice.acs: max_acs,
        CostChoice.latency: max_latency,
        CostChoice.ram: max_ram,
        CostChoice.bytes: max_bytes,
    }
    bounds = {name.value: bound for name, bound in most.items() if bound is not None}
    why = {each.name: _why_not(each, min_accuracy, max_perplexity, min_robustness, bounds) for each in found}
    left = [each for each in found if not why[each.name]]
    front = {each.name for each in undominated(found, cost.value)}
    chosen = _best(left, prefer, cost.value) if left else None
    if as_json:
        console.emit(
            {
                "picked": None if chosen is None else {"network": chosen.name, "checkpoint": str(chosen.best)},
                "networks": [_facts(each, each.name in front, why[each.name]) for each in found],
            }
        )
    else:
        _print(found, cost.value, front, why, chosen)
    if out is not None:
        _draw(out, found, cost.value)
    if chosen is None:
        raise ReportError(
            f"none of the {len(found)} networks is within the bounds",
            "the last column says which bound each one misses",
        )


def _check_known(disturbance: str | None, robust: Sequence[Any]) -> None:
    names = {curve.name for network in robust for curve in network.curves}
    if disturbance is not None and disturbance not in names:
        raise UsageError(
            f"no network was measured under the disturbance {disturbance!r}",
            f"measured: {', '.join(sorted(names))}" if names else "`hstnn robustness RUNS --out DIR` measures it",
        )


def _why_not(
    each: "Candidate",
    min_accuracy: float | None,
    max_perplexity: float | None,
    min_robustness: float | None,
    bounds: dict[str, float],
) -> str:
    """Return the first bound that a network misses, or ""."""
    if min_accuracy is not None and (each.metric != "accuracy" or each.figure < min_accuracy):
        return (
            f"accuracy below {min_accuracy:g}" if each.metric == "accuracy" else f"it has {each.metric}, not accuracy"
        )
    if max_perplexity is not None and (each.metric != "perplexity" or each.figure > max_perplexity):
        known = each.metric == "perplexity"
        return f"perplexity above {max_perplexity:g}" if known else f"it has {each.metric}, not perplexity"
    if min_robustness is not None and (each.robustness is None or each.robustness < min_robustness):
        return "robustness not measured" if each.robustness is None else f"robustness below {min_robustness:g}"
    for name, bound in bounds.items():
        price = each.costs.get(name)
        if price is None:
            return f"{name} not measured"
        if price > bound:
            return f"{name} {price:.4g}, above {bound:g}"
    return ""


def _best(left: "Sequence[Candidate]", prefer: PreferChoice, cost: str) -> "Candidate":
    order = {PreferChoice.accuracy: 0, PreferChoice.robustness: 1, PreferChoice.cost: 2}[prefer]

    def rank(each: "Candidate") -> tuple[float, ...]:
        objectives = [-float("inf") if value is None else value for value in each.objectives(cost)]
        return (objectives[order], *objectives)

    return max(left, key=rank)


def _facts(each: "Candidate", undominated: bool, why: str) -> dict[str, Any]:
    return {
        "network": each.name,
        "checkpoint": str(each.best),
        each.metric: each.figure,
        "seeds": len(each.figures),
        "robustness": each.robustness,
        "costs": dict(each.costs),
        "undominated": undominated,
        "left_out": why or None,
    }


def _print(
    found: "Sequence[Candidate]", cost: str, front: set[str], why: dict[str, str], chosen: "Candidate | None"
) -> None:
    from hstnn_deploy.metrics import shown, titled
    from hstnn_deploy.report.tradeoff import COSTS

    price = COSTS[cost]
    metric = found[0].metric
    rows = []
    for each in sorted(found, key=lambda one: (one.recipe, one.network)):
        paid = each.costs.get(cost)
        rows.append(
            (
                each.name,
                f"{shown(metric, each.figure)} ({len(each.figures)})",
                "n/a" if each.robustness is None else shown(metric, each.robustness),
                "n/a" if paid is None else f"{paid:.4g}",
                "yes" if each.name in front else "no",
                "picked" if each is chosen else why[each.name],
            )
        )
    columns = ["network", f">{metric}\n(seeds)", ">robustness", f">{cost},\n{price.unit}", "undominated", "decision"]
    console.out.print(console.table("Networks", columns, rows, dense=True, drop=["undominated", "robustness"]))
    console.out.print(
        f"{titled(metric)}: mean over seeds, test split. Robustness: mean {metric} over all levels of disturbances. "
        f"{cost.capitalize()}: {price.about}. n/a: not measured. Undominated: no other network is at least as good in "
        "all three.",
        markup=False,
        soft_wrap=True,
    )
    if chosen is not None:
        console.out.print(f"Picked: {chosen.name}. Next:", markup=False)
        console.out.print(console.again(f"  hstnn export --ckpt {chosen.best} --onnx"), markup=False, soft_wrap=True)


def _draw(out: Path, found: "Sequence[Candidate]", cost: str) -> None:
    from hstnn_deploy.data.pictures.figure import save
    from hstnn_deploy.report.robust import draw

    if out.suffix != ".png":
        raise UsageError(f"--out {out} does not end in .png", "give a name that ends in .png")
    if not any(cost in each.costs for each in found):
        raise ReportError(f"no network has a measured {cost}", "`hstnn profile --ckpt …` measures it")
    save(draw(found, cost), out)
    console.aside.print(f"written: {out}", markup=False, soft_wrap=True)
