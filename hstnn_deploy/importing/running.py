"""Other libraries' modules at work: what they take, their states set to the start, and what each part gives."""

import copy
import pickle
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries import of_spikingjelly
from hstnn_deploy.importing.parts import Chain, every_part
from hstnn_deploy.importing.tree import is_neuron, kind_of, library

Layout = Literal["step", "time-first", "batch-first", "squeezed", "constant"]
"""What a module takes: one step [B, …]; a window [T, B, …] or [B, T, …]; a window as [B * T, …] (sinabs' Squeeze); or
[B, …], which it shows its layers at as many steps as it says itself."""


def reset(module: nn.Module) -> None:
    """Set the states that a library's neurons keep to their start."""
    each: Any
    for each in module.modules():
        match library(each):
            case "snntorch":
                for name in ("mem", "spk", "syn"):
                    if name in each._buffers:
                        each._buffers[name] = torch.zeros(0)
            case "spikingjelly":
                if hasattr(each, "reset"):
                    each.reset()
            case "sinabs":
                if hasattr(each, "reset_states"):
                    each.reset_states()


def double(module: nn.Module) -> nn.Module:
    """Return a copy of a module that computes in float64."""
    twin = copied(module).double()
    for each in twin.modules():
        p: Any = getattr(each, "p", None)
        if library(each) == "norse" and hasattr(p, "_replace"):
            tensors = {name: value.double() for name, value in p._asdict().items() if isinstance(value, Tensor)}
            each.p = p._replace(**tensors)
        for hook in each._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils"):
                # Weights that torch computes of others (weight_norm, prune) before each call.
                hook(each, ())
        each.register_forward_pre_hook(lambda _module, inputs: tuple(map(_doubled, inputs)))
        own = vars(each).get("V")
        if library(each) == "snntorch" and isinstance(own, Tensor):
            # Recurrent weights that are not learned are no buffer of the module that computes with them.
            each.V = own.double()
        if is_neuron(each):
            # Some give spikes of single precision whatever they are given.
            each.register_forward_hook(lambda _module, _inputs, output: _doubled(output))
            if hasattr(each, "spike_grad"):
                each.spike_grad = _doubling(each.spike_grad)
            if library(each) == "sinabs" and getattr(each, "spike_fn", None) is not None:
                each.spike_fn = _doubling_class(each.spike_fn)
    return twin


@contextmanager
def made_in_double() -> Iterator[None]:
    """Let what a forward makes itself, such as zeros to add to, be of float64."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a module.

    Raises:
        ImportRefused: it cannot be copied.
    """
    # What backward made of weights or states is copied as what it is now.
    made = [
        value
        for each in module.modules()
        for value in (*vars(each).values(), *each._buffers.values())
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in made}
    try:
        return copy.deepcopy(module, memo)
    except Exception:
        # sinabs 3.1 copies no layer of neurons with a module inside it.
        try:
            again: nn.Module = pickle.loads(pickle.dumps(module))
        except Exception as error:
            said = " ".join(str(error).split())
            raise ImportRefused(
                f"could not copy {type(module).__name__}: {said}", "remove what it keeps, such as counters"
            ) from error
        return again


def _doubling(function: Any) -> Any:
    return lambda x: function(x).double()


def _doubling_class(function: Any) -> Any:
    """Return sinabs' spike function with spikes of double precision, under its own name."""
    name = getattr(function, "__name__", type(function).__name__)
    apply = staticmethod(lambda *given: function.apply(*given).double())
    return type(name, (), {"required_states": function.required_states, "apply": apply})


def _doubled(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.double() if output.is_floating_point() else output
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor) and type(output) is tuple:
        return (output[0].double(), *output[1:])
    return output


@torch.no_grad()
def run(module: nn.Module, x: Tensor, layout: Layout, carries: bool = False, reads: bool = False) -> Tensor:
    """Return what a module gives at every step of x[T, B, …], [T, B, …]; of a module that reads out, its answer.

    Args:
        module: the module; its states are reset first.
        x: the input.
        layout: what it takes.
        carries: whether it takes and gives back states, beside x and y.
        reads: whether its answer has no time.
    """
    reset(module)
    with _listed(module):
        return _run(module, x, layout, carries, reads)


@contextmanager
def _listed(module: nn.Module) -> Iterator[None]:
    """Put snnTorch's neurons on its list of all that were made, by which a forward may reset them; copies are not."""
    neurons: list[Any] = [each for each in module.modules() if library(each) == "snntorch" and is_neuron(each)]
    added = [each for each in neurons if not any(each is other for other in each.instances)]
    for each in added:
        each.instances.append(each)
    try:
        yield
    finally:
        for each in added:
            # The forward may have emptied it.
            each.instances[:] = [other for other in each.instances if other is not each]


def _run(module: nn.Module, x: Tensor, layout: Layout, carries: bool, reads: bool) -> Tensor:
    steps, batch = x.shape[:2]
    match layout:
        case "step":
            rows, states = [], None
            for now in x:
                if not carries:
                    rows.append(first_of(module(now)))
                    continue
                given = module(now) if states is None else module(now, *states)
                rows.append(first_of(given))
                states = None if isinstance(given, Tensor) else given[1:]
            return torch.stack(rows)
        case "time-first":
            return first_of(module(x))
        case "batch-first":
            found: Tensor = first_of(module(x.transpose(0, 1)))
            return found if reads else found.transpose(0, 1)
        case "squeezed":
            return _by_time(first_of(module(x.transpose(0, 1).flatten(0, 1))), steps, batch)
        case "constant":
            return first_of(module(x[0]))


def _by_time(rows: Tensor, steps: int, batch: int) -> Tensor:
    """Return rows [B * T, …] as [T, B, …]."""
    found: Tensor = rows.unflatten(0, (batch, steps))
    return found.transpose(0, 1)


def first_of(output: Any) -> Tensor:
    """Return what a module gives, without what it gives beside."""
    found: Tensor = output[0] if isinstance(output, tuple | list) else output
    return found


def given_by(output: Any, membrane: bool) -> Tensor:
    """Return what a module gives: the first, or its membrane, which it gives last."""
    found: Tensor = output[-1] if membrane else first_of(output)
    return found


def watched(
    module: nn.Module, paths: Iterable[str], membranes: Container[str] = ()
) -> tuple[dict[str, list[Tensor]], Callable[[], None]]:
    """Return where the outputs of modules go from now on, call by call, and what ends that.

    Args:
        module: the whole.
        paths: of the modules.
        membranes: the paths of those whose membrane counts, and not what they give first.
    """
    found: dict[str, list[Tensor]] = {}
    handles = []
    for path in paths:
        rows = found.setdefault(path, [])

        def keep(
            _module: Any, _inputs: Any, output: Any, rows: list[Tensor] = rows, last: bool = path in membranes
        ) -> None:
            # A copy: the next module may work in place.
            rows.append(given_by(output, last).detach().clone())

        handles.append(module.get_submodule(path).register_forward_hook(keep))

    def end() -> None:
        for handle in handles:
            handle.remove()

    return found, end


def over_time(rows: list[Tensor], steps: int, batch: int, layout: Layout) -> Tensor:
    """Return a module's outputs of a run as [T, B, …]."""
    if layout == "constant" and len(rows) == 1:
        # Its forward repeats the input as a window itself.
        layout = "time-first"
    if layout in ("step", "constant") or len(rows) == steps > 1:
        return torch.stack(rows)
    (whole,) = rows
    if whole.shape[:2] == (steps, batch) and layout == "time-first":
        return whole
    if layout == "batch-first" and whole.shape[:2] == (batch, steps):
        return whole.transpose(0, 1)
    if layout in ("squeezed", "batch-first"):
        return _by_time(whole, steps, batch)
    # Layers that were given time and batch as one axis, by a container.
    return _by_time(whole, batch, steps).transpose(0, 1)


def paths_of(chain: Chain) -> list[str]:
    """Return the paths of the modules that a chain was made of, in order, each once."""
    return list(dict.fromkeys(part.path for part in every_part(chain) if part.path))


def run_alone(module: nn.Module, x: Tensor, layout: Layout, membrane: bool = False) -> Tensor:
    """Run neurons alone; norse's take and give back their state. Their membrane counts, or what they give first."""
    if library(module) == "norse" and layout == "step":
        rows, state = [], None
        for now in x:
            y, state = module(now, state)
            rows.append(y)
        return torch.stack(rows)
    if library(module) == "snntorch" and (membrane or not getattr(module, "init_hidden", False)):
        reset(module)
        return torch.stack([given_by(module(now), membrane) for now in x])
    return run(module, x, layout)


def layout_of(module: nn.Module) -> Layout:
    """Return what a module takes, by its layers.

    Raises:
        ImportRefused: they disagree, or none says.
    """
    said: dict[Layout, str] = {}

    def ask(each: nn.Module, path: str) -> None:
        if found := layout_of_one(each):
            said.setdefault(found, path or type(each).__name__)
        if kind_of(each) not in _STEPPING.get(library(each), ()):
            for name, child in each.named_children():
                ask(child, f"{path}.{name}" if path else name)

    ask(module, "")
    if len(said) > 1:
        what = " and ".join(f"{path} takes {name}" for name, path in said.items())
        raise ImportRefused(f"layers disagree on their input: {what}", "choose one with the argument layout")
    if not said:
        return "step"
    return next(iter(said))


_STEPPING: dict[str, frozenset[str]] = {
    "spikingjelly": of_spikingjelly.CONTAINERS | {"LinearRecurrentContainer"},
    "norse": frozenset({"Lift"}),
}
"""Classes that take what they say, whatever the layers inside them are set to."""


def layout_of_one(module: nn.Module) -> Layout | None:
    """Return what a module takes by its class, or None where it takes anything."""
    name = kind_of(module)
    match library(module):
        case "snntorch":
            return "step" if is_neuron(module) else None
        case "spikingjelly":
            mode = getattr(module, "step_mode", None)
            keeps = any(each.__name__ == "MemoryModule" for each in type(module).__mro__)
            if not keeps and name not in _STEPPING["spikingjelly"]:
                return None
            return {"s": "step", "m": "time-first"}.get(mode or "m")  # type: ignore[return-value]
        case "sinabs":
            if not hasattr(module, "reset_states"):
                return None
            return "squeezed" if name.endswith("Squeeze") else "batch-first"
        case "norse":
            if not is_neuron(module):
                return "time-first" if name == "Lift" else None
            return "step" if name.endswith("Cell") else "time-first"
        case "torch" if name in {"RNN", "LSTM", "GRU"}:
            return "batch-first" if getattr(module, "batch_first", False) else "time-first"
    return None
