"""The published resource table, row by row: what a measurement is compared with."""

from typing import NamedTuple

MACHINE = "two RTX 3080 Ti 12 GB, two Xeon Gold 6248R, PyTorch 1.13.1, CUDA 11.7"
CAVEAT = "the published epoch time includes the evaluation after the epoch: compare it with the sum"


class Row(NamedTuple):
    """Ranges as published: least and most. MB and GB as the paper prints them."""

    experiment: str
    cpu_cores: str
    cuda_mb: tuple[int, int]
    ram_gb: tuple[float, float]
    epoch_s: tuple[int, int]
    note: str = ""
    """Of the epoch time."""


ROWS = (
    Row("RNN-PTB", "1 per instance", (600, 650), (1.9, 2.0), (30, 60)),
    Row("RNN-SMNIST", "1 per instance", (350, 400), (1.9, 2.0), (33, 47)),
    Row("RCNN-DVSGes", "1 per instance", (7000, 11500), (3.8, 4.4), (20, 30), "per 20 epochs"),
    Row("RCNN-NMNIST", "1 per instance", (4000, 9000), (11.0, 12.0), (100, 200)),
)


def matching(experiment: str | None) -> Row | None:
    """Return the row of an experiment, or None where the paper has none."""
    return next((row for row in ROWS if row.experiment == experiment), None)
