"""What may stand in a forward between modules: functions and methods as layers, sums and concatenations as branches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.libraries import plain
from hstnn_deploy.importing.parts import Chain, Part
from hstnn_deploy.importing.tree import after
from hstnn_deploy.importing.values import Value


def _layer(reader: Any, node: fx.Node, value: Value, config: dict[str, Any] | None) -> Value:
    """Return a value behind a layer without weights; None is no layer."""
    chain: Chain = [] if config is None else [Part(config)]
    return Value(node, after(chain, value.shape, reader.path), [value], chain=chain)


Operation = Callable[[Any, fx.Node, Value], Value]
"""From the reader, a node and the first value that it takes, to the value it gives."""


def argument(node: fx.Node, place: int, name: str, usual: Any) -> Any:
    """Return an argument of a call, given by place or by name, or else the usual one."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, usual)


def _add(reader: Any, node: fx.Node, _value: Value) -> Value:
    both = [each for each in node.args[:2] if isinstance(each, fx.Node)]
    if len(both) != 2 or node.kwargs.get("alpha", 1) != 1 or len(node.args) > 2:
        raise reader.refused(node, "adds something that is not a value of the network")
    a, b = reader.found[both[0]], reader.found[both[1]]
    if not isinstance(a, Value) or not isinstance(b, Value) or a.shape != b.shape:
        raise reader.refused(node, "adds values of different shapes, or states")
    return Value(node, a.shape, [a, b], how="residual")


def _cat(reader: Any, node: fx.Node, _value: Value) -> Value:
    given: Any = node.args[0]
    parts: list[Any] = [reader.found[each] for each in given]
    dim = argument(node, 1, "dim", 0)
    if not all(isinstance(each, Value) for each in parts) or len(parts) < 2:
        raise reader.refused(node, "joins something that is not a value of the network")
    rank = reader.axes + len(parts[0].shape)
    if dim not in (reader.axes, reader.axes - rank):
        raise reader.refused(node, f"joins values along axis {dim}, not along the channels")
    shape = (sum(each.shape[0] for each in parts), *parts[0].shape[1:])
    return Value(node, shape, parts, how="parallel")


def _mul(reader: Any, node: fx.Node, value: Value) -> Value:
    factor = next((each for each in node.args if isinstance(each, int | float)), None)
    if factor is None or len(node.all_input_nodes) != 1:
        raise reader.refused(node, "multiplies values with one another")
    return _layer(reader, node, value, {"scale": float(factor)})


def _div(reader: Any, node: fx.Node, value: Value) -> Value:
    by = argument(node, 1, "other", None)
    if not isinstance(by, int | float) or not by or node.args[:1] != (value.node,) or node.kwargs.get("rounding_mode"):
        raise reader.refused(node, "must divide a value by a number that is not 0")
    return _layer(reader, node, value, {"scale": 1 / by})


def _neg(reader: Any, node: fx.Node, value: Value) -> Value:
    return _layer(reader, node, value, {"scale": -1.0})


def _clamp(reader: Any, node: fx.Node, value: Value) -> Value:
    if argument(node, 1, "min", None) != 0 or argument(node, 2, "max", None) is not None:
        raise reader.refused(node, "must clamp to 0 or more, which is relu")
    return _layer(reader, node, value, {"activation": "relu"})


def _to(reader: Any, node: fx.Node, value: Value) -> Value:
    given = [*node.args[1:], *node.kwargs.values()]
    if any(isinstance(each, torch.dtype) and each not in (torch.float32, torch.float64) for each in given):
        raise reader.refused(node, "converts to a type other than torch.float32 or torch.float64")
    return _layer(reader, node, value, None)


def _flatten(reader: Any, node: fx.Node, value: Value) -> Value:
    start, end = argument(node, 1, "start_dim", 0), argument(node, 2, "end_dim", -1)
    fake = type("F", (), {"start_dim": start, "end_dim": end})
    try:
        chain = plain.flatten(fake, value.shape, reader.axes).chain
    except ImportRefused as error:
        raise reader.refused(node, error.message) from error
    return Value(node, after(chain, value.shape, reader.path), [value], chain=chain)


def _view(reader: Any, node: fx.Node, value: Value) -> Value:
    """Take a view that flattens what belongs to a sample: view(B, -1), or with the number that -1 stands for."""
    wanted: Any = node.args[1:] if not isinstance(node.args[1], tuple | list) else node.args[1]
    total = 1
    for length in value.shape:
        total *= length
    if len(wanted) != reader.axes + 1 or wanted[-1] not in (-1, total):
        raise reader.refused(node, "changes the shape other than by flattening each sample")
    return _layer(reader, node, value, None if len(value.shape) == 1 else {"flatten": True})


def _function(name: str) -> Operation:
    return lambda reader, node, value: _layer(reader, node, value, {"activation": name})


def _pool(how: str) -> Operation:
    def take_pool(reader: Any, node: fx.Node, value: Value) -> Value:
        size = argument(node, 1, "kernel_size", None)
        found = {"kernel_size": size, "stride": argument(node, 2, "stride", None)}
        found |= {"padding": argument(node, 3, "padding", 0), "ceil_mode": node.kwargs.get("ceil_mode", False)}
        found["dilation"] = node.kwargs.get("dilation", 1)
        found["divisor_override"] = node.kwargs.get("divisor_override")
        found["count_include_pad"] = node.kwargs.get("count_include_pad", True)
        if len(node.args) > 4:
            raise reader.refused(node, "has too many positional arguments; give them by name")
        try:
            chain = plain.pool(how)(type("P", (), found), value.shape, reader.axes).chain
        except ImportRefused as error:
            raise reader.refused(node, f"is {error.message}") from error
        return Value(node, after(chain, value.shape, reader.path), [value], chain=chain)

    return take_pool


def _dropout(reader: Any, node: fx.Node, value: Value) -> Value:
    if argument(node, 2, "training", True):
        raise reader.refused(node, "also drops in evaluation; give it training=self.training")
    return _layer(reader, node, value, {"dropout": float(argument(node, 1, "p", 0.5))})


def _same(reader: Any, node: fx.Node, value: Value) -> Value:
    return _layer(reader, node, value, None)


OPERATIONS: dict[str, Operation] = {
    "add": _add,
    "iadd": _add,
    "cat": _cat,
    "concat": _cat,
    "mul": _mul,
    "div": _div,
    "truediv": _div,
    "neg": _neg,
    "clamp": _clamp,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    "relu": _function("relu"),
    "tanh": _function("tanh"),
    "sigmoid": _function("sigmoid"),
    "max_pool2d": _pool("max"),
    "max_pool1d": _pool("max"),
    "avg_pool2d": _pool("mean"),
    "avg_pool1d": _pool("mean"),
    "dropout": _dropout,
    "contiguous": _same,
    "float": _same,
    "double": _same,
    "detach": _same,
    "clone": _same,
    "cpu": _same,
    "cuda": _same,
    "to": _to,
}
"""What may stand in a forward between layers, by the name of the function or method; in place or not."""
