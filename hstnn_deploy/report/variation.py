"""How weights on devices do under variation: tables of what was measured, rows of CSV, and data of pictures."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from hstnn_deploy.data.pictures.variation import label
from hstnn_deploy.metrics import ends, shown, titled
from hstnn_deploy.report.sheets import Column, Entry, Sheet, figure
from hstnn_deploy.train.variation import Curve, Draws, Measurement


def sheets(measured: Measurement) -> list[Sheet]:
    """Return two tables, a row for each network: the metric at each scale of the variation, and bits of memory."""
    return [_accuracy(measured), _memory(measured)]


def heading(measured: Measurement) -> str:
    """Return what was measured, such as "rram-digits: accuracy (%) under variation, test split"."""
    whose = f"{measured.networks[0].name}: " if _alike(measured) else ""
    metric = measured.networks[0].metric
    unit = " (%)" if metric == "accuracy" else ""
    norms = f", norms after {measured.readapted} training batches" if measured.readapted else ""
    rest = f"{unit} under variation, {measured.split} split{norms}"
    return f"{whose}{metric}{rest}" if whose else f"{titled(metric)}{rest}"


def _accuracy(measured: Measurement) -> Sheet:
    networks = measured.networks
    scales = sorted({scale for each in networks for scale in each.scales})
    columns = [*_leading_columns(measured), Column("bits"), Column("without")]
    columns += [Column(f"{scale:g}", "times sigma") for scale in scales]
    rows = [
        [
            *_leading(each, measured),
            Entry(str(each.bits), each.bits),
            figure(each.clean, metric=each.metric),
            *(_mean(each.metric, each.scales[scale]) if scale in each.scales else Entry("") for scale in scales),
        ]
        for each in networks
    ]
    notes = ["Without: no variation; all weights have their quantised values."]
    if scales:
        of = "one draw, so no interval" if measured.draws == 1 else f"mean of {measured.draws} draws"
        interval = "" if measured.draws == 1 else ", ± half width of its 95 % interval (Student's t)"
        notes.append(f"Times sigma: {of}{interval}. A draw is one device, used for the whole split.")
    return Sheet(heading(measured), columns, rows, notes)


def _memory(measured: Measurement) -> Sheet:
    columns = [
        *_leading_columns(measured),
        Column("RRAM", "bits"),
        Column("SRAM", "bits"),
        Column("SRAM by groups", "bits"),
        Column("other", "bits"),
        Column("weights, %", "zero"),
        Column("groups, %", "zero"),
    ]
    rows = []
    for each in measured.networks:
        memory = each.memory
        bits = (memory.rram, memory.sram, memory.sram_groups, memory.other)
        zero = [Entry("")] * 2 if each.sparsity is None else [_percent(share) for share in each.sparsity]
        rows.append([*_leading(each, measured), *(Entry(str(count), count) for count in bits), *zero])
    notes = [
        "RRAM, SRAM: weights of convolutions. SRAM stores every weight; a weight of a pruned layer takes one bit"
        " more, for zero, where the quantiser has no level at zero.",
        "SRAM by groups: pruned layers store only nonzero groups, plus one bit per group.",
        "Other: everything else, in float32.",
    ]
    beyond = [each.memory.beyond for each in measured.networks if each.memory.beyond]
    if beyond:
        of = "1 network" if len(beyond) == 1 else f"{len(beyond)} networks"
        notes.append(
            f"{sum(beyond)} weights of {of} lie beyond 1, where the quantiser does not clamp: the bits above cannot"
            " represent them."
        )
    return Sheet("Memory and sparsity", columns, rows, notes)


def _alike(measured: Measurement) -> bool:
    """Whether all networks are of one recipe and seed: they need no column to tell them apart."""
    return len({(each.name, each.seed) for each in measured.networks}) == 1


def _leading_columns(measured: Measurement) -> list[Column]:
    names = ["step"] if _alike(measured) else ["network", "step"]
    return [Column(name, numeric=False) for name in names]


def _leading(network: Curve, measured: Measurement) -> list[Entry]:
    if _alike(measured):
        return [Entry(network.step)]
    one_seed = len({each.seed for each in measured.networks}) == 1
    return [Entry(network.name if one_seed else f"{network.name}, seed {network.seed}"), Entry(network.step)]


def _mean(metric: str, draws: Draws) -> Entry:
    spread = "" if draws.half_width is None else f"±{shown(metric, draws.half_width)}"
    return Entry(f"{shown(metric, draws.mean)}{spread}", draws.mean)


def _percent(share: float) -> Entry:
    return Entry(f"{100 * share:.1f}", 100 * share)


def as_csv(measurements: Sequence[Measurement]) -> str:
    """Return a row for each network and scale, in full precision; the clean network has scale 0 and no interval."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = ["checkpoint", "recipe", "seed", "step", "bits", "metric", "split", "readapted"]
    names += ["scale", "sigma", "draws", "mean", "deviation", "half_width_95", "worst", "best"]
    names += ["element_sparsity", "group_sparsity", "rram_bits", "sram_bits", "sram_group_bits", "other_bits"]
    table.writerow(names)
    for measured in measurements:
        for each in measured.networks:
            memory = each.memory
            before = [each.checkpoint, each.name, each.seed, each.step, each.bits, each.metric]
            before += [measured.split, measured.readapted]
            after = [*(each.sparsity or ("", "")), memory.rram, memory.sram, memory.sram_groups, memory.other]
            table.writerow([*before, 0.0, 0.0, 0, each.clean, "", "", "", "", *after])
            for scale, draws in each.scales.items():
                # csv writes None as nothing.
                found = [scale, draws.sigma, len(draws.values), draws.mean, draws.deviation, draws.half_width]
                best, worst = ends(each.metric, draws.values)
                table.writerow([*before, *found, worst, best, *after])
    return text.getvalue()


def charted(measured: Measurement) -> dict[str, Any]:
    """Return what the pictures of a page show, as plain data; an interval that is unknown is None."""
    networks = []
    for each in measured.networks:
        like = [other for other in measured.networks if (other.step, other.bits) == (each.step, each.bits)]
        points = [{"scale": 0.0, "mean": each.clean, "half_width_95": None}]
        points += [{"scale": scale, **_point(draws)} for scale, draws in each.scales.items()]
        nominal = each.nominal
        networks.append(
            {
                "label": label(each, like),
                "name": each.name,
                "step": each.step,
                "bits": each.bits,
                "place": next(place for place, other in enumerate(like) if other is each),
                "points": points,
                "devices": each.memory.devices,
                "nominal": points[0] if nominal is None else {"scale": nominal, **_point(each.scales[nominal])},
            }
        )
    metric = measured.networks[0].metric
    unit = "%" if metric == "accuracy" else ""
    return {"metric": metric, "unit": unit, "draws": measured.draws, "networks": networks}


def _point(draws: Draws) -> dict[str, Any]:
    return {"mean": draws.mean, "half_width_95": draws.half_width}
