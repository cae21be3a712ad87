"""Measure export: how long each format takes to write, how much memory, and how large the file is."""

import time

from hstnn_deploy import files
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.write import FORMATS, write_graphs
from hstnn_deploy.models.network import Network
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Findings, Meet
from hstnn_deploy.profile.values import Measured, NotMeasured, Value


def measure(network: Network, ledger: Ledger, meet: Meet) -> Findings:
    """Write the network in every format, once; each is a span of its own. Verification is not part of it.

    Raises:
        ExportError: no format can express the network.
    """
    meet()
    values: list[Value] = []
    refused: list[ExportError] = []
    with files.temporary_folder("export") as folder:
        for form in FORMATS:
            try:
                with ledger.span(f"export {form}"):
                    start = time.perf_counter()
                    written = write_graphs(network, folder / form, {form})
                    spent = time.perf_counter() - start
            except ExportError as error:
                refused.append(error)
                values += [NotMeasured(f"export_{form}{end}", error.message) for end in ("", "_size")]
                continue
            note = "the first format, including the exporter's start" if not values else ""
            values.append(Measured(f"export_{form}", spent, "s", "time.perf_counter, once", note))
            size = sum(path.stat().st_size for path in written)
            values.append(Measured(f"export_{form}_size", size, "B", f"{len(written)} files"))
    if len(refused) == len(FORMATS):
        raise refused[0]
    return Findings(values, {"runs_on": "torch cpu"}, {}, f"export {FORMATS[0]}")
