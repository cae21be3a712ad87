"""The published resource table, row by row, and what other systems publish: what a measurement is compared with."""

from typing import NamedTuple

MACHINE = "two RTX 3080 Ti 12 GB, two Xeon Gold 6248R, PyTorch 1.13.1, CUDA 11.7"
CAVEAT = "the published epoch time includes the evaluation after the epoch: compare it with the sum"


class Row(NamedTuple):
    """Ranges as published: least and most; None where nothing is published. MB and GB as their sources print them."""

    experiment: str
    cpu_cores: str | None = None
    cuda_mb: tuple[int, int] | None = None
    ram_gb: tuple[float, float] | None = None
    epoch_s: tuple[float, float] | None = None
    note: str = ""
    """Of the epoch time."""
    source: str = ""
    """Of a row that is not the paper's: where its figures come from."""

    @property
    def figures(self) -> bool:
        """Whether anything is published."""
        return any((self.cpu_cores, self.cuda_mb, self.ram_gb, self.epoch_s))


ROWS = (
    Row("RNN-PTB", "1 per instance", (600, 650), (1.9, 2.0), (30, 60)),
    Row("RNN-SMNIST", "1 per instance", (350, 400), (1.9, 2.0), (33, 47)),
    Row("RCNN-DVSGes", "1 per instance", (7000, 11500), (3.8, 4.4), (20, 30), "per 20 epochs"),
    Row("RCNN-NMNIST", "1 per instance", (4000, 9000), (11.0, 12.0), (100, 200)),
    Row(
        "LIF-DVS128",
        epoch_s=(18.2, 27.8),
        note="layer by layer, and step by step",
        source="SpikingJelly's tutorial: training only; it does not name its GPU or precision",
    ),
    Row("PLIF-DVS128", source="memory and time were not published"),
    Row("Leaky-DVS", source="memory and time were not published"),
    Row(
        "IAF-SSC",
        cuda_mb=(8000, 9000),
        source="sinabs' tutorial on loaders: the whole data set on a GPU that it does not name",
    ),
    Row("IAF-SHD", source="memory and time were not published"),
    Row("BNTT-VGG9", source="memory and time were not published"),
    Row("BNTT-VGG11", source="memory and time were not published"),
    Row("BNTT-VGG5", source="memory and time were not published"),
    Row("BNTT-VGG19", source="memory and time were not published"),
)
"""The paper's four rows, and the experiments of the other systems that are followed."""


def matching(experiment: str | None) -> Row | None:
    """Return the row of an experiment, or None where there is none."""
    return next((row for row in ROWS if row.experiment == experiment), None)
