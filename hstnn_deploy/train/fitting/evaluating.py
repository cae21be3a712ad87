"""`hstnn_deploy.evaluate`: how a network does on data that is given in Python, or on a split."""

from collections.abc import Sequence
from typing import Any, overload

import torch

from hstnn_deploy.data.given.given import Data, split_of
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.train import evaluation
from hstnn_deploy.train.fitting.given import (
    BATCH,
    Loss,
    check_network,
    config_of,
    device_of,
    loss_of,
    wanted,
)
from hstnn_deploy.train.fitting.history import Evaluation
from hstnn_deploy.train.ranks import ALONE, Ranks


@overload
def evaluate(
    network: Network,
    data: Data,
    *,
    loss: Loss | None = None,
    metrics: Sequence[str] = (),
    batch: int | None = None,
    device: torch.device | str | None = None,
    precision: Precision = "fp32",
) -> Evaluation: ...


@overload
def evaluate(
    network: Network,
    task: Task,
    split: Split,
    size: int,
    device: torch.device,
    precision: Precision = "fp32",
    ranks: Ranks = ALONE,
) -> dict[str, float]: ...


def evaluate(network: Network, *given: Any, **options: Any) -> Any:
    """Return how a network does on data: loss, metric, and of how many samples.

    Two forms: `evaluate(network, data)`, with the data that `fit` takes and its options `loss`, `metrics`, `batch`,
    `device` and `precision`, returns an `Evaluation`; `evaluate(network, task, split, size, device)` returns a dict,
    see `train.evaluation.evaluate`.

    Raises:
        UsageError: no network, no data, or a loss that does not fit the network.
        DataError: data of a wrong shape, type or class, or a Dataset that raises; says which.
        DeviceError: the device is not available.
    """
    if "data" in options:
        given = (options.pop("data"), *given)
    if len(given) > 1 or options.keys() & {"task", "split", "size", "ranks"}:
        return evaluation.evaluate(network, *given, **options)
    if not given:
        raise UsageError("evaluate got no data", "give (x, y), a Dataset, a DataLoader or a split")
    return _evaluate(network, given[0], **options)


def _evaluate(
    network: Network,
    data: Any,
    loss: Any = None,
    metrics: Sequence[str] = (),
    batch: int | None = None,
    device: Any = None,
    precision: Precision = "fp32",
) -> Evaluation:
    check_network(network)
    where, before, training = device_of(network, device), network.device, network.training
    asked = loss_of(network, loss)
    task = task_for(config_of(network), asked)
    split = split_of(data, wanted(network, asked), "data", lambda *_: None)
    size = batch if batch is not None else getattr(data, "batch_size", None) or BATCH
    if size < 1:
        raise UsageError(f"batch must be at least 1 (got {size})")
    try:
        network.to(where)
        figures = evaluation.Figures(metrics, task)
        found = evaluation.evaluate(network, task, split, size, where, precision, shown=figures.take)
        return Evaluation.of(found | figures.plain(), task)
    finally:
        network.to(before).train(training)
