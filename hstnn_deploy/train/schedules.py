"""Optimisers, their steps, and how their learning rate falls: torch's own, as a stage of a recipe asks for them."""

from inspect import unwrap
from typing import Literal

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, ReduceLROnPlateau, StepLR

from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.recipe.sections import Schedule, Stage


class _Eager(Optimizer):
    """torch's methods as they are, without what hides them from torch.compile.

    That imports torch's compiler, which takes longer than importing torch; no optimiser is compiled here.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class Adam(_Eager, torch.optim.Adam):
    """torch's Adam, without torch's compiler. Nothing differentiates through a step."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class SGD(_Eager, torch.optim.SGD):
    """torch's stochastic gradient descent, without torch's compiler. Nothing differentiates through a step."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


def make_optimiser(stage: Stage, network: nn.Module) -> Optimizer:
    """Return the stage's optimiser over a network's parameters.

    Raises:
        UsageError: it has none.
    """
    if next(network.parameters(), None) is None:
        raise UsageError("the network has no parameters to train", "add a layer with weights")
    if stage.optimiser == "adam":
        return Adam(network.parameters(), lr=stage.lr, weight_decay=stage.weight_decay, fused=True)
    return SGD(network.parameters(), lr=stage.lr, momentum=stage.momentum, weight_decay=stage.weight_decay, fused=True)


def descend(network: nn.Module, optimiser: Optimizer, clip: float | None, scaler: GradScaler | None = None) -> None:
    """Do one optimiser step along the gradients at hand, their common norm clipped to `clip`.

    Scaled gradients are brought back first; a step in which they overflowed is left out, and the scale halved.
    """
    if scaler is not None:
        scaler.unscale_(optimiser)
    if clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip)
    if scaler is None:
        optimiser.step()
    else:
        scaler.step(optimiser)
        scaler.update()


def make_scaler(precision: Precision, device: torch.device) -> GradScaler | None:
    """Return what scales gradients that half precision could not hold, or None in other precisions."""
    return GradScaler(device.type) if precision == "fp16" else None


def make_schedule(stage: Stage, optimiser: Optimizer, higher_is_better: bool = True) -> LRScheduler | None:
    """Return the stage's schedule of the learning rate, stepped after each epoch, or None where it stays.

    That of a plateau is stepped with the validation metric; whether higher or lower is better depends on the metric.
    """
    schedule = stage.schedule
    if schedule is None:
        return None
    if schedule.name == "cosine":
        return CosineAnnealingLR(optimiser, T_max=schedule.every or stage.epochs, eta_min=stage.lr * schedule.factor)
    if schedule.name == "milestones":
        return MultiStepLR(optimiser, milestones(schedule, stage.epochs), schedule.factor)
    assert schedule.every is not None, "a recipe is checked for it"
    if schedule.name == "step":
        return StepLR(optimiser, step_size=schedule.every, gamma=schedule.factor)
    mode: Literal["max", "min"] = "max" if higher_is_better else "min"
    # torch waits for one epoch more than its patience says.
    return ReduceLROnPlateau(optimiser, mode, factor=schedule.factor, patience=schedule.every - 1)


def milestones(schedule: Schedule, epochs: int) -> list[int]:
    """Return after how many epochs the learning rate falls."""
    shares = schedule.at or []
    if schedule.late:
        # As BNTT's code compares the epoch, counted from 0 and done, with a float.
        return [int(share * epochs) + 1 for share in shares if share * epochs == int(share * epochs)]
    return [round(share * epochs) for share in shares]


def check_state(optimiser: Optimizer) -> None:
    """Refuse state of another shape than its parameter's; a fused step would not look.

    Raises:
        ValueError: there is some.
    """
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            wanted = torch.Size() if name == "step" else parameter.shape
            if isinstance(value, torch.Tensor) and value.shape != wanted:
                raise ValueError(f"{name} has shape {list(value.shape)}, not {list(wanted)}")
