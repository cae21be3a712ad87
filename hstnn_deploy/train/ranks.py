"""The processes that train one network together (ranks): a rank's number, its part of a batch, and what all share.

Every rank holds the whole network and takes its part of every batch; gradients are averaged by torch's
DistributedDataParallel, weighted by the parts' sizes, so that a step is that of one process with the whole batch.
Rank 0 leads: it alone reads and writes run folders, speaks, selects units; the others wait for what it sends.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from hstnn_deploy.errors import RunError
from hstnn_deploy.train.starter import LOST

RENDEZVOUS = "HSTNN_RENDEZVOUS"
"""Environment: where ranks that `train.starter` started find each other. Those of torchrun find each other its way."""

_PATIENCE = timedelta(days=30)
"""A rank may wait for hours while rank 0 ranks units. The starter of the ranks notices when one dies."""


class LostError(RunError):
    """Another rank ended: the starter of the ranks says which, and why."""

    exit_code = LOST


@dataclass(frozen=True)
class Ranks:
    """One rank among `size`."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Number on its machine: that of its GPU."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def part(self, whole: Tensor) -> Tensor:
        """Return this rank's part of numbers [N], in order; rank 0's is never smaller than another's."""
        return whole.tensor_split(self.size)[self.rank]

    def sum(self, *values: Tensor) -> None:
        """Replace each value by its sum over the ranks."""
        if self.size > 1:
            with watched():
                for value in values:
                    distributed.all_reduce(value)

    def share(self, value: Any) -> Any:
        """Return rank 0's value on every rank. Plain data and tensors on the CPU."""
        if self.size == 1:
            return value
        box = [value]
        with watched():
            distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def joined(self, network: nn.Module) -> nn.Module:
        """Return what trains `network` on all ranks as one, from rank 0's parameters on."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        with watched():
            return nn.parallel.DistributedDataParallel(
                network, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
            )


ALONE = Ranks()


def started() -> Ranks | None:
    """Return which rank this process was started as, by `train.starter` or torchrun; None where it was not."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    return Ranks(*(int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))


@contextmanager
def together(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Run the block with the ranks in touch with each other.

    Raises:
        LostError: another rank ended.
    """
    if ranks.size == 1:
        yield
        return
    if RENDEZVOUS in os.environ:
        _end_with_starter(ranks)
    backend = "cpu:gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend += ",cuda:nccl"
    if not ranks.leads:
        # A terminal's Ctrl-C goes to all; the first to leave would break a sum that rank 0 waits for.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with watched():
        distributed.init_process_group(
            backend, os.environ.get(RENDEZVOUS), _PATIENCE, world_size=ranks.size, rank=ranks.rank
        )
    yield
    # Not after an error: the others may be gone, and would be waited for.
    distributed.destroy_process_group()


@contextmanager
def watched() -> Iterator[None]:
    """Run the block, in which ranks exchange something; what that says of a rank that is gone becomes a `LostError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        known = isinstance(error, distributed.DistError) or any(
            word in text for word in ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
        )
        if not known:
            raise
        raise LostError("another process of this training ended") from error


def _end_with_starter(ranks: Ranks) -> None:
    """End this process when its standard input closes, that is, when its starter is gone. Rank 0 may clean up first."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        if ranks.leads:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
