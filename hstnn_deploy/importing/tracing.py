"""What a module's own forward does, traced by torch.fx: of one step, or of a window whose sizes are known."""

import inspect
import operator
from typing import Any

import torch
from torch import fx, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.loops import STEP
from hstnn_deploy.importing.tree import derived_from, is_container, library, rule_of


class _Window(fx.Proxy):
    """The input, whose sizes are known: a loop over its steps can be traced."""

    def size(self, axis: int | None = None) -> Any:
        """Return its sizes, or one of them."""
        return self.tracer.sizes if axis is None else self.tracer.sizes[axis]  # type: ignore[attr-defined]

    @property
    def shape(self) -> Any:
        """Its sizes."""
        return self.size()

    def __len__(self) -> int:
        return int(self.size(0))

    def __iter__(self) -> Any:
        return (operator.getitem(self, step) for step in range(len(self)))

    def dim(self) -> int:
        """Return how many axes it has."""
        return len(self.size())

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return self.dim()

    def unbind(self, dim: int = 0) -> Any:
        """Return its steps, or its samples."""
        if dim not in (0, 1):
            raise ImportRefused(f"unbind along axis {dim}: time must be the first or the second")
        return tuple(operator.getitem(self, (slice(None), step) if dim else step) for step in range(self.size(dim)))

    def transpose(self, dim0: int, dim1: int) -> Any:
        """Return it with two axes exchanged: of the first two, what is known of it stays so."""
        return self._moved("transpose", {dim0, dim1} == {0, 1}, (dim0, dim1))

    def permute(self, *dims: Any) -> Any:
        """Return it with its axes in another order: with the first two exchanged, what is known of it stays so."""
        order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
        return self._moved("permute", order == (1, 0, *range(2, self.dim())), order)

    def _moved(self, name: str, exchanged: bool, dims: tuple[int, ...]) -> fx.Proxy:
        node = self.tracer.create_node("call_method", name, (self.node, *dims), {})
        return _Turned(node, self.tracer, self) if exchanged and self.dim() > 1 else fx.Proxy(node, self.tracer)

    @classmethod
    def __torch_function__(cls, orig_method: Any, types: Any, args: Any = None, kwargs: Any = None) -> Any:
        """Call a function of torch on it as the method that it is."""
        if orig_method in _METHODS and isinstance(args[0], _Window):
            return getattr(args[0], orig_method.__name__)(*args[1:], **(kwargs or {}))
        return super().__torch_function__(orig_method, types, args, kwargs)


class _Turned(_Window):
    """The input with its first two axes exchanged: its steps are those of the input's second axis, and no others."""

    def __init__(self, node: fx.Node, tracer: Any, window: _Window) -> None:
        super().__init__(node, tracer)
        self.window = window

    def size(self, axis: int | None = None) -> Any:
        """Return its sizes, or one of them."""
        first, second, *others = self.window.size()
        return (second, first, *others) if axis is None else (second, first, *others)[axis]

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, int):
            return operator.getitem(self.window, (slice(None), where))
        if isinstance(where, tuple) and len(where) == 2 and where[0] == slice(None) and isinstance(where[1], int):
            return operator.getitem(self.window, where[1])
        return self.tracer.create_proxy("call_function", operator.getitem, (self, where), {})


_METHODS = {torch.unbind, torch.transpose, torch.permute}


class _Tracer(fx.Tracer):
    def __init__(self, sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.sizes = sizes
        self._begun = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for a value; the first input knows its sizes, where they were given."""
        if node.op == "placeholder" and not self._begun and self.sizes:
            self._begun = True
            node.meta["sizes"] = self.sizes
            return _Window(node, self)
        return super().proxy(node)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is taken as a whole."""
        return rule_of(m) is not None or is_container(m) or bool(library(m))


def graph_of(module: nn.Module, path: str, sizes: tuple[int, ...]) -> fx.Graph:
    """Return what a module's forward does, node by node.

    Args:
        module: the module.
        path: its name within the whole.
        sizes: of the input that it is traced for; () where they are not known.

    Raises:
        ImportRefused: its forward cannot be traced, or it computes something else than the neurons it is derived from.
    """
    if base := derived_from(module):
        raise ImportRefused(
            f"{whole_name(path, module)} derives from {base} but computes something else", f"use {base} itself"
        )
    try:
        graph = _Tracer(sizes).trace(module, _settings(module))
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200]
        raise ImportRefused(
            f"{whole_name(path, module)}: its forward depends on values, or loops over time in an unsupported way "
            f"({said})",
            STEP,
        ) from error
    for node in graph.find_nodes(op="call_method", target="transpose") + graph.find_nodes(
        op="call_method", target="permute"
    ):
        if not node.users:
            # Steps of the input were taken instead.
            graph.erase_node(node)
    return graph


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return what a forward takes that is no tensor, such as a number of steps, with its default."""
    taken = inspect.signature(module.forward).parameters
    return {name: each.default for name, each in taken.items() if isinstance(each.default, bool | int | float | str)}


def whole_name(path: str, module: nn.Module) -> str:
    """Return how an error calls a module whose forward is read."""
    return f"{path} ({type(module).__name__})" if path else type(module).__name__
