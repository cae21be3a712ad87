"""Which figures there are of what was read, each as a `Plot`."""

import re
from collections.abc import Iterator, Sequence
from statistics import fmean

from hstnn_deploy.data.pictures.variation import label
from hstnn_deploy.metrics import titled
from hstnn_deploy.profile.record import Record
from hstnn_deploy.report import costs, robust
from hstnn_deploy.report.aggregate import Cell, Study
from hstnn_deploy.report.collect import Collected, Run
from hstnn_deploy.report.paper.plots import Plot, Series
from hstnn_deploy.report.tradeoff import COSTS, undominated
from hstnn_deploy.robustness.pictures import panels
from hstnn_deploy.train.variation import Curve, Measurement

_RATIO = "spiking share of the units"


def plots(studies: Sequence[Study], collected: Collected) -> list[Plot]:
    """Return all figures that runs, profile records and measurements give; names of files differ."""
    found: list[Plot] = []
    for study in studies:
        found += _of_study(study)
    for number, measured in enumerate(collected.variations.values(), 1):
        found += _of_variation(measured, "" if number == 1 else f"-{number}")
    found += _of_robustness(collected)
    found += _of_costs(collected)
    names: list[str] = []
    made = []
    for plot in found:
        names.append(plot.name)
        again = names.count(plot.name)
        made.append(plot if again == 1 else Plot(**{**vars(plot), "name": f"{plot.name}-{again}"}))
    return made


def _slug(*words: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(words)).strip("-").lower()


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit.strip()})" if unit.strip() else name


def _of_study(study: Study) -> Iterator[Plot]:
    task = study.task
    metric = _with_unit(f"test {task.metric}", task.unit)
    cells = [cell for cell in study.cells if cell.runs and cell.stage != "adapt"]
    if any(cell.network.kind != "plain" and cell.network.step is None for cell in cells):
        series = [*_by_ratio(study, cells), *_published(study)]
        if series:
            ratios = sorted({x for one in series if one.kind == "line" for x in one.x})
            ticks = [(ratio, f"{ratio:g}") for ratio in ratios]
            yield Plot(_slug(study.title, "ratio"), _RATIO, metric, series, ticks, limits=(-0.02, 1.02))
    quantity = f"valid_{task.metric}"
    series = []
    for name, runs in _by_network(study).items():
        values: dict[int, list[float]] = {}
        for run in runs:
            for row in run.curve:
                if isinstance(row.get(quantity), int | float) and "epoch" in row:
                    values.setdefault(row["epoch"], []).append(row[quantity])
        epochs = sorted(values)
        spread = [(min(values[epoch]), max(values[epoch])) for epoch in epochs]
        low, high = ([pair[0] for pair in spread], [pair[1] for pair in spread]) if len(runs) > 1 else (None, None)
        if epochs:
            means = [fmean(values[epoch]) for epoch in epochs]
            series.append(Series(name, runs[0].network.family, epochs, means, low, high, area=True, marker=False))
    if series:
        chosen = "chosen on" if study.protocol == "test" else "validation"
        yield Plot(_slug(study.title, "curves"), "epoch", _with_unit(f"{chosen} {task.metric}", task.unit), series)
    yield from _kept(study, cells)


def _by_network(study: Study) -> dict[str, list[Run]]:
    order = [f"{cell.network} redundant" if cell.stage == "adapt" else str(cell.network) for cell in study.cells]
    found: dict[str, list[Run]] = {name: [] for name in order}
    for run in study.runs:
        found[f"{run.network} redundant" if run.stage == "adapt" else str(run.network)].append(run)
    return {name: runs for name, runs in found.items() if runs}


def _by_ratio(study: Study, cells: Sequence[Cell]) -> Iterator[Series]:
    most = 100.0 if study.task.unit.strip() == "%" else float("inf")
    for family in study.families:
        own = [cell for cell in cells if cell.network.family == family]
        if own:
            ratios = [cell.network.ratio or 0.0 for cell in own]
            ends = [_ends(cell, most) for cell in own]
            seeds = [
                (cell.network.ratio or 0.0, seed, value)
                for cell in own
                if len(cell.runs) > 1
                for seed, value in cell.values.items()
            ]
            low, high = ([pair[place] for pair in ends] for place in (0, 1))
            yield Series(family, family, ratios, [_mean(cell) for cell in own], low, high, seeds=seeds)
    for cell in cells:
        if cell.network.ratio is None:
            least, largest = _ends(cell, most)
            place = 1.0 if cell.network.kind == "snn" else 0.0
            seeds = [(place, seed, value) for seed, value in cell.values.items()] if len(cell.runs) > 1 else []
            name = cell.network.family
            yield Series(name, name, [place], [_mean(cell)], [least], [largest], "level", seeds=seeds)


def _mean(cell: Cell) -> float:
    return fmean(cell.values.values())


def _ends(cell: Cell, most: float) -> tuple[float, float]:
    """Return the 95 % interval of the mean, or the mean twice where one seed gives none."""
    half = cell.summary.half or 0.0
    return max(0.0, _mean(cell) - half), min(most, _mean(cell) + half)


def _published(study: Study) -> Iterator[Series]:
    published = study.published
    if published is None:
        return
    for family, figures in (("ffs", published.ffs), ("hybrid", published.hybrid)):
        if figures:
            ratios = sorted(figures)
            yield Series(f"{family}, published", family, ratios, [figures[ratio] for ratio in ratios], published=True)
    for kind in ("rnn", "lstm", "snn"):
        figure = getattr(published, kind)
        if figure is not None:
            yield Series(f"{kind}, published", kind, [0.0], [figure], kind="level", published=True)


def _kept(study: Study, cells: Sequence[Cell]) -> Iterator[Plot]:
    restored = [cell for cell in cells if cell.stage == "restore"]
    if not restored:
        return
    ticks = [(float(place), str(cell.network)) for place, cell in enumerate(restored)]
    layers = len(next(iter(restored[0].runs.values())).sizes)
    for layer in range(layers):
        series = []
        for place, (family, name) in enumerate((("snn", "spiking"), (restored[0].network.recurrent, "recurrent"))):
            means = [fmean(run.sizes[layer][place] for run in cell.runs.values()) for cell in restored]
            series.append(Series(name, family, [x for x, _ in ticks], means, kind="bars"))
        what = f"units kept in layer {layer + 1}, mean over seeds"
        yield Plot(_slug(study.title, "kept layer", str(layer + 1)), "network", what, series, ticks)


def _of_variation(measured: Measurement, end: str) -> Iterator[Plot]:
    metric = titled(measured.networks[0].metric)
    unit = "%" if measured.networks[0].metric == "accuracy" else ""
    for bits in sorted({each.bits for each in measured.networks}):
        own = [each for each in measured.networks if each.bits == bits]
        series = [_varied(each, [other for other in own if other.step == each.step]) for each in own]
        name = f"variation-{bits}-bit{'' if bits == 1 else 's'}{end}"
        yield Plot(name, "variation (times sigma)", _with_unit(metric, unit), series)


def _varied(each: Curve, like: Sequence[Curve]) -> Series:
    half = [draws.half_width or 0.0 for draws in each.scales.values()]
    means = [draws.mean for draws in each.scales.values()]
    x, y = [0.0, *each.scales], [each.clean, *means]
    low = [each.clean, *(mean - width for mean, width in zip(means, half, strict=True))]
    high = [each.clean, *(mean + width for mean, width in zip(means, half, strict=True))]
    return Series(label(each, like), each.step, x, y, low, high)


def _of_robustness(collected: Collected) -> Iterator[Plot]:
    for measured in robust.by_data(collected):
        metric = _with_unit(measured[0].metric, measured[0].unit)
        for panel in panels(measured):
            for elsewhere in (False, True):
                lines = [line for line in panel.lines if line.dashed == elsewhere]
                series = [
                    Series(line.name, line.kind, line.axis, line.means, line.lows, line.highs, area=True)
                    for line in lines
                ]
                title = f"{panel.title}, made on another seed" if elsewhere else panel.title
                name = f"robustness-{_slug(measured[0].data, measured[0].metric, title)}"
                if series:
                    yield Plot(name, f"{title}: {panel.unit}", metric, series, sorted(panel.ticks))
    found = robust.compared(collected)
    if len({each.metric for each in found}) != 1:
        return
    several = len({each.recipe for each in found}) > 1
    unit = "%" if found[0].metric == "accuracy" else ""
    for name, cost in COSTS.items():
        there = [each for each in found if name in each.costs]
        front = {each.name for each in undominated(found, name)}
        series = []
        for kind in dict.fromkeys(each.kind for each in there):
            own = [each for each in there if each.kind == kind]
            labels = [(each.name if several else each.network) if each.name in front else "" for each in own]
            prices, figures = [each.costs[name] for each in own], [each.figure for each in own]
            series.append(Series(kind, kind, prices, figures, kind="points", labels=labels))
        if series:
            log = all(each.costs[name] > 0 for each in there)
            yield Plot(
                f"tradeoff-{name}",
                f"{name} ({cost.unit})",
                _with_unit(f"test {found[0].metric}", unit),
                series,
                log=log,
            )


def _of_costs(collected: Collected) -> Iterator[Plot]:
    series = []
    timed = [profile for profile in collected.profiles if costs.latencies(profile.plain)]
    for profile, name in zip(timed, _short([profile.record for profile in timed]), strict=True):
        pairs = costs.latencies(profile.plain)
        times, shares = zip(*pairs, strict=True)
        kind, _ = costs.network(profile.record)
        milliseconds = [1e3 * seconds for seconds in times]
        percent = [100 * share for share in shares]
        series.append(Series(name, kind, milliseconds, percent, marker=len(pairs) < 10))
    if series:
        yield Plot("latency", "time of one call (ms)", "calls within it (%)", series, log=True)


def _short(records: Sequence[Record]) -> list[str]:
    """Return a name for each record: its network, and what else tells it from the others."""
    parts = []
    for record in records:
        asked = record.configuration
        kind, ratio = costs.network(record)
        network = kind if ratio is None else f"{kind} {ratio:g}"
        recipe = str(asked.recipe.get("name", asked.subject))
        seed = f"seed {asked.recipe.get('seed')}" if asked.ckpt else ""
        parts.append([recipe, network, seed, asked.engine, f"batch {asked.batch}", asked.device])
    # A seed that goes with its network tells nothing more.
    one_seed = len({(*row[:2], *row[3:]) for row in parts}) == len({tuple(row) for row in parts})
    told = [place for place in range(6) if place == 1 or len({row[place] for row in parts}) > 1]
    told = [place for place in told if place != 2 or not one_seed]
    return [", ".join(row[place] for place in told if row[place]) for row in parts]
