"""Check a module before it is read, and copy it for everything else."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.alone import parts_of
from hstnn_deploy.importing.parts import Branches, Chain
from hstnn_deploy.importing.running import copied, first_of, reset
from hstnn_deploy.importing.tree import is_bare, kind_of, named, rule_of

_WRAPPERS = {
    "OptimizedModule": "what was given to torch.compile, or module._orig_mod",
    "DataParallel": "module.module",
    "DistributedDataParallel": "module.module",
    "RecursiveScriptModule": "the module that it was scripted from",
    "ScriptModule": "the module that it was scripted from",
    "TopLevelTracedModule": "the module that it was traced from",
}


def ready(module: Any, example: Any) -> tuple[nn.Module, Tensor, list[str]]:
    """Return a copy of a module and of the example on the CPU in float32, and notes about them.

    Raises:
        ImportRefused: a module or an example that does not show what evaluation computes.
    """
    if not isinstance(module, nn.Module):
        raise ImportRefused(f"{type(module).__name__} is not a torch module")
    if training := next((name for name, each in module.named_modules() if each.training), None):
        where = f"its part {training}" if training else type(module).__name__
        raise ImportRefused(f"{where} is in training mode", "call module.eval() first")
    if not isinstance(example, Tensor) or example.is_complex() or example.dtype is torch.bool:
        raise ImportRefused("the example must be a tensor of numbers, of the shape that the module takes")
    if example.numel() == 0 or example.device.type == "meta" or not bool(example.isfinite().all()):
        raise ImportRefused(f"the example {list(example.shape)} is empty or contains values that are not finite")
    if (inside := _WRAPPERS.get(type(module).__name__)) and type(module).__module__.startswith("torch."):
        raise ImportRefused(f"{type(module).__name__} only wraps a module", f"give {inside}")
    _check_tensors(module)
    for path, each in module.named_modules():
        if "forward" in vars(each):
            raise ImportRefused(f"{named(path)} ({kind_of(each)}): its forward was replaced by another function")
    reset(module)
    copy = copied(module).cpu()
    notes = _notes(copy)
    copy = copy.float()
    example = example.detach().cpu()
    example = example.float() if example.is_floating_point() else example.long()
    try:
        with torch.no_grad():
            given = first_of(copy(example))
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImportRefused(
            f"{type(module).__name__} fails on the example {list(example.shape)}: {said}",
            "the example must be what module(example) takes; a forward's states need defaults",
        ) from error
    if not isinstance(given, Tensor):
        raise ImportRefused(f"{type(module).__name__} gives {type(given).__name__}, not a tensor")
    if not bool(given.isfinite().all()):
        raise ImportRefused(f"{type(module).__name__} gives values that are not finite for the example")
    reset(copy)
    return copy, example, notes


def _check_tensors(module: nn.Module) -> None:
    for path, value in [*module.named_parameters(), *module.named_buffers()]:
        if is_lazy(value):
            raise ImportRefused(f"{path} has no shape yet (a lazy module)", "run the module once, or load its weights")
        if value.device.type == "meta":
            raise ImportRefused(f"{path} is on the device meta: it has no values", "load the module's weights")
        if value.is_complex() or value.is_sparse or value.is_quantized:
            raise ImportRefused(f"{path} is complex, sparse or quantised; hstnn takes dense real numbers")
        if bool(value.isnan().any()):
            raise ImportRefused(f"{path} contains NaN")


def _notes(module: nn.Module) -> list[str]:
    """Return what the stack does not take over, and is seen before it is made."""
    found = []
    kinds = sorted({str(each.dtype) for each in module.parameters() if each.is_floating_point()} - {"torch.float32"})
    if kinds:
        found.append(f"weights of {', '.join(kinds)} are float32 in the stack; the comparison used float32")
    for path, each in module.named_modules():
        hooks = [*each._forward_hooks.values(), *each._forward_pre_hooks.values()]
        if any(not type(hook).__module__.startswith("torch.nn.utils") for hook in hooks):
            found.append(
                f"{named(path)} ({kind_of(each)}): the stack omits its forward hooks; they changed no output here"
            )
    return found


def check_shared(module: nn.Module, chain: Chain) -> None:
    """Refuse a module of weights or neurons that runs in several places; others lose their path.

    Raises:
        ImportRefused: it would have to be in the stack twice, with one state.
    """
    places: dict[nn.Module, list[str]] = {}
    last: nn.Module | None = None

    def walk(parts: Chain) -> None:
        nonlocal last
        for each in parts:
            if isinstance(each, Branches):
                for branch in each.chains:
                    last = None
                    walk(branch)
                last = None
            elif each.path:
                here = module.get_submodule(each.path)
                if rule_of(here) is not None and (here is not last or places[here][-1] != each.path):
                    places.setdefault(here, []).append(each.path)
                last = here

    walk(chain)
    for each, paths in places.items():
        if len(paths) < 2:
            continue
        if not is_bare(each):
            raise ImportRefused(
                f"{paths[1]} ({kind_of(each)}) runs in two places with one set of weights and states",
                "give each place a module of its own",
            )
        _unnamed(chain, set(paths))


def _unnamed(chain: Chain, paths: set[str]) -> None:
    for each in chain:
        if isinstance(each, Branches):
            for branch in each.chains:
                _unnamed(branch, paths)
        elif each.path in paths:
            each.path = ""


def tied(module: nn.Module, chain: Chain) -> list[str]:
    """Return the notes on weights that several modules share."""
    seen: dict[Tensor, str] = {}
    found = []
    for path in parts_of(chain):
        each = module.get_submodule(path)
        for name, value in each.named_parameters(path, recurse=False):
            first = seen.setdefault(value, name)
            if first != name:
                found.append(f"{first} and {name} share one tensor; in the stack each layer has its own")
    return found
