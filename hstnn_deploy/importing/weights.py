"""The weights of a torch module from a file: a state dict, read without running anything in it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.checkpoint import read_archive
from hstnn_deploy.errors import CheckpointError, ImportRefused
from hstnn_deploy.foreign import brief

_WITHIN = ("state_dict", "model_state_dict", "model", "net", "network")
"""Where libraries' checkpoints put a state dict, beside other things."""


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a module the weights of a file that `torch.save` wrote.

    Args:
        module: which gets them.
        path: of a state dict, or of a checkpoint that holds one under a usual name.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain data.
        ImportRefused: the weights are not those of the module; names the first that differs.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", "give a file that torch.save(module.state_dict(), FILE) wrote")
    wanted = module.state_dict()
    hint = "save it again with torch.save(module.state_dict(), FILE)"
    try:
        held: Any = read_archive(path, path)
    except CheckpointError as error:
        message = error.message.replace("not a checkpoint", "not a state dict of torch.save")
        raise CheckpointError(message, hint) from error
    if isinstance(held, dict) and not wanted.keys() & held.keys():
        held = next((held[key] for key in _WITHIN if isinstance(held.get(key), dict)), held)
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError(f"{path} contains no state dict", hint)
    if missing := sorted(wanted.keys() - held.keys()):
        raise ImportRefused(f"{path} has no {brief(missing[0])}, which the module has ({len(missing)} missing)", _SAME)
    if odd := sorted(map(str, held.keys() - wanted.keys())):
        raise ImportRefused(f"{path} has {brief(odd[0])}, which the module does not have ({len(odd)} too many)", _SAME)
    for name, value in held.items():
        if value.device.type == "meta" or value.layout is not torch.strided or value.is_quantized:
            raise CheckpointError(f"{path}: {brief(name)} is sparse, quantised or empty", hint)
        kinds = [(each.is_complex(), each.is_floating_point()) for each in (value, wanted[name])]
        if kinds[0] != kinds[1]:
            what = f"{brief(name)} has type {value.dtype}, but the module's has {wanted[name].dtype}"
            raise ImportRefused(f"{path}: {what}", _SAME)
        if wanted[name].shape != value.shape and wanted[name].numel():
            what = f"{list(value.shape)}, but the module's is {list(wanted[name].shape)}"
            raise ImportRefused(f"{path}: {name} is {what}", _SAME)
    module.load_state_dict(
        {name: value for name, value in held.items() if wanted[name].shape == value.shape}, strict=False
    )


_SAME = "the factory must make the network whose weights were saved"
