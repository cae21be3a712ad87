"""Tensors and plain data in a .pt file that `torch.save` wrote: nothing in it is run, and no shape is believed."""

import pickle
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief, check_stored, reading

_AGAIN = 'save tensors alone: torch.save({"x": x, "y": y}, "data.pt")'
_ALLOWED = ("torch ", "torch._utils _rebuild_tensor_v2", "torch.storage ", "collections OrderedDict")


def read_torch(path: Path) -> Any:
    """Return what a .pt file holds, its tensors mapped from the file.

    Raises:
        DataError: it is missing or damaged; it holds a pickle of other things, which could run code; or a tensor does
            not hold the numbers of its shape.
    """
    with reading(path, "a .pt file of tensors", hint=_AGAIN), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise DataError(f"{path} contains a pickle, which could run code; hstnn did not open it", _AGAIN)
        with zipfile.ZipFile(path) as archive:
            check_stored(archive, path.stat().st_size)
            names = {member.rpartition("/")[2]: member for member in archive.namelist()}
            if "data.pkl" not in names or "constants.pkl" in names:
                raise DataError(f"{path} contains no tensors that torch.save wrote", _AGAIN)
            for operation, argument, _ in pickletools.genops(archive.read(names["data.pkl"])):
                if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not str(argument).startswith(_ALLOWED):
                    raise DataError(
                        f"{path} contains more than tensors and plain data ({brief(str(argument))}); hstnn refused it "
                        "and ran nothing in it",
                        _AGAIN,
                    )
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise DataError(f"{path} contains more than tensors and plain data; hstnn refused it", _AGAIN) from error


def numbers_of(value: Any, name: str) -> Any:
    """Return a tensor as a numpy array, and anything else as it is.

    Raises:
        DataError: the tensor does not hold the numbers of its shape, or has another layout than one of numbers.
    """
    if not isinstance(value, torch.Tensor):
        return value
    if value.layout != torch.strided or value.is_complex() or value.is_quantized:
        raise DataError(f"{name} is a tensor of {value.dtype}, {value.layout}", "save plain real numbers")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise DataError(f"{name} has fewer numbers than its shape", "save value.clone()")
    if value.dtype == torch.bfloat16:
        value = value.float()
    return value.detach().numpy()
