"""The table of weights on devices: memory in bits, and what reading it takes."""

from collections.abc import Sequence

from rich.console import RenderableType

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.show import cells
from hstnn_deploy.profile.show.cells import Notes
from hstnn_deploy.profile.show.tables import MORE
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.screen import Table

_COLUMNS = (
    ("rram_bits", "RRAM\nbit"),
    ("sram_bits", "SRAM\nbit"),
    ("sram_group_bits", "SRAM,\ngroups"),
    ("other_bits", "other\nbit"),
    ("energy_rram_reads", "RRAM\nreads, J"),
    ("energy_sram_reads", "SRAM\nreads, J"),
    ("energy_with_reads", "all\nJ"),
)


def devices(records: Sequence[Record], notes: Notes) -> RenderableType:
    """Return the table of those records that hold weights on devices: a row for each network."""
    title = "Weights on devices: memory and the energy of its reads for one sample"
    table = Table(["network", *(f">{heading}" for _, heading in _COLUMNS)], title=title, more=MORE)
    for record in records:
        if not isinstance(record.value("rram_bits"), Measured):
            continue
        shown = [notes.show(record.value(name), cells.prefixed) for name, _ in _COLUMNS]
        for place, (name, _) in enumerate(_COLUMNS):
            plain = record.value(name).plain()
            if name.startswith("energy_") and "source" in plain and "reads" in name and name != "energy_with_reads":
                shown[place] += notes.mark(f"{plain['source']}; {plain['note']}")
        table.add_row(record.configuration.subject, *shown)
    return table
