"""The reading of a network's equations that TorchScript takes (see `models.algebra`): the lines of a program.

The networks of `models` hold kernels and configuration objects, which TorchScript does not take. The program has the
network's one call and the same names for the weights; and it can hand out what every layer's units emitted, from the
same equations: that is what a proof replays.

Shapes: T time, B batch.
"""

import linecache
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.export.graph.interface import frozen, interface, taps_of
from hstnn_deploy.models.algebra import Algebra, Comparison, Convolution, Fires, Normed, Pooling, Sizes, Strand
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.surrogates import Surrogate

_NO_ROWS = "torch.jit.annotate(List[Tensor], [])"


class Script(Algebra[str]):
    """Lines of a program; values are the names of its variables.

    Args:
        network: for the names of its weights.
        tapped: whether what is tapped at every step is kept, in variables of the tap's name.
    """

    reads = "TorchScript"

    def __init__(self, network: Network, tapped: bool = False) -> None:
        self.lines: list[str] = []
        self._indent, self._tapped, self._inside = 1, tapped, False
        self._weights = {
            id(value): f"self.{_path(name)}" for name, value in (*network.named_parameters(), *network.named_buffers())
        }

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * self._indent + text)

    def _set(self, name: str, expression: str) -> str:
        variable = self._named(name)
        self.line(f"{variable} = {expression}")
        return variable

    def _named(self, name: str) -> str:
        return f"layer{self.layer}_{name}" if self.layer else name

    def _weight(self, value: Tensor) -> str:
        return self._weights[id(value)]

    # ------------------------------------------------------------------------------------------------- arithmetic

    @override
    def add(self, a: str | float, b: str | float, name: str = "") -> str:
        return self._set(name, f"{a} + {b}")

    @override
    def sub(self, a: str | float, b: str | float, name: str = "") -> str:
        return self._set(name, f"{a} - {b}")

    @override
    def mul(self, a: str | float, b: str | float, name: str = "") -> str:
        return self._set(name, f"{a} * {b}")

    @override
    def sigmoid(self, a: str, name: str = "") -> str:
        return self._set(name, f"torch.sigmoid({a})")

    @override
    def tanh(self, a: str, name: str = "") -> str:
        return self._set(name, f"torch.tanh({a})")

    @override
    def relu(self, a: str, name: str = "") -> str:
        return self._set(name, f"torch.relu({a})")

    @override
    def clip(self, a: str, low: float | None, high: float | None, name: str = "") -> str:
        return self._set(name, f"{a}.clamp({low}, {high})")

    @override
    def parameter(self, value: Tensor) -> str:
        return self._weight(value)

    @override
    def share(self, total: str, count: str, name: str = "") -> str:
        """A window has at least one step."""
        return self._set(name, f"{total} / {count}")

    @override
    def spike(
        self, membrane: str, threshold: str | float, surrogate: Surrogate, name: str = "spikes", fires: Fires = "above"
    ) -> str:
        if fires == "several":
            return self._set(name, f"torch.floor({membrane} / {threshold}).clamp(min=0.0)")
        return self._set(name, f"({membrane} {'>' if fires == 'above' else '>='} {threshold}).to({membrane}.dtype)")

    @override
    def tap(self, a: str, name: str) -> str:
        if self._tapped:
            self.line(f"{self._named(name)}_rows.append({a})")
        return a

    # --------------------------------------------------------------------------------------------------------- weights

    @override
    def product(self, x: str, weight: Tensor, name: str = "") -> str:
        if weight.ndim == 2:
            return self._set(name, f"torch.matmul({x}, {self._weight(weight)})")
        shape = list(weight.shape[1:])
        return self._set(name, f"torch.matmul({x}, {self._weight(weight)}.flatten(1)).unflatten(-1, {shape})")

    @override
    def linear(self, x: str, layer: nn.Linear, name: str = "") -> str:
        bias = "None" if layer.bias is None else self._weight(layer.bias)
        return self._set(name, f"torch.nn.functional.linear({x}, {self._weight(layer.weight)}, {bias})")

    @override
    def linear_at_each(self, x: str, layer: nn.Linear, name: str = "") -> str:
        return self.linear(x, layer, name)

    @override
    def convolve(self, x: str, layer: Convolution, name: str = "") -> str:
        bias = "None" if layer.bias is None else self._weight(layer.bias)
        how = [list(each) for each in (layer.stride, layer.padding, layer.dilation)]
        settings = ", ".join(map(str, [*how, layer.groups]))
        flat = "1d" if layer.weight.ndim == 3 else "2d"
        return self._set(name, f"torch.conv{flat}({x}, {self._weight(layer.weight)}, {bias}, {settings})")

    @override
    def normalise(self, x: str, norm: Normed, step: str | None = None, name: str = "") -> str:
        mean, variance = self._weight(norm.mean), self._weight(norm.variance)
        scale, shift = ("None" if each is None else self._weight(each) for each in (norm.scale, norm.shift))
        if step is None:
            taken = f"{x}, {mean}, {variance}, {scale}, {shift}, False, 0.0, {norm.eps}"
            return self._set(name, f"torch.nn.functional.batch_norm({taken})")
        place = self._set(f"{name}_place", f"{step}.select(1, 0).to(torch.int64)")
        beside = "".join(f".unsqueeze({axis})" for axis in range(2, 2 + norm.maps))

        def row(table: str) -> str:
            return f"{table}.index_select(0, {place}){beside}"

        factor = f"torch.rsqrt({row(variance)} + {norm.eps})" + ("" if norm.scale is None else f" * {row(scale)}")
        y = f"({x} - {row(mean)}) * ({factor})"
        return self._set(name, y if norm.shift is None else f"{y} + {row(shift)}")

    @override
    def embed(self, tokens: str, layer: nn.Embedding, name: str = "") -> str:
        return self._set(name, f"torch.nn.functional.embedding({tokens}, {self._weight(layer.weight)})")

    # ---------------------------------------------------------------------------------------------------------- shapes

    @override
    def likeliest(self, logits: str, name: str = "") -> str:
        return self._set(name, f"{logits}.softmax(-1).amax(-1)")

    @override
    def mean_scale(self, norm: Normed, step: str, name: str = "") -> str:
        assert norm.scale is not None
        place = self._set(f"{name}_place", f"{step}.select(1, 0).to(torch.int64)")
        return self._set(name, f"{self._weight(norm.scale)}.abs().mean(1).index_select(0, {place})")

    @override
    def compared(self, a: str, how: Comparison, threshold: float, name: str = "") -> str:
        return self._set(name, f"({a} {'>=' if how == 'at least' else '<'} {threshold}).to({a}.dtype)")

    @override
    def parts(self, x: str, count: int, name: str = "") -> list[str]:
        return [self._set(f"{name}{n}", f"{x}.select(1, {n})") for n in range(count)]

    @override
    def concat(self, values: Sequence[str], axis: int, name: str = "") -> str:
        return self._set(name, f"torch.cat([{', '.join(values)}], dim={axis})")

    @override
    def pool(self, x: str, how: Pooling, size: Sizes, stride: Sizes, name: str = "", padding: Sizes = ()) -> str:
        if (how, size, stride, padding) == ("mean", (2, 2), (2, 2), ()):
            return self._set(name, f"torch.nn.functional.avg_pool2d({x}, 2)")
        if len(size) == 1:
            x, size, stride, padding = f"{x}.unsqueeze(-2)", (1, *size), (1, *stride), padding and (0, *padding)
            return self._set(name, self._pooled(x, how, size, stride, padding) + ".squeeze(-2)")
        return self._set(name, self._pooled(x, how, size, stride, padding))

    def _pooled(self, x: str, how: Pooling, size: Sizes, stride: Sizes, padding: Sizes) -> str:
        settings = f"{x}, {list(size)}, {list(stride)}" + (f", {list(padding)}" if padding else "")
        if how == "max":
            return f"torch.nn.functional.max_pool2d({settings})"
        divisor = (", False, True, 1" if padding else ", [0, 0], False, True, 1") if how == "sum" else ""
        return f"torch.nn.functional.avg_pool2d({settings}{divisor})"

    @override
    def vote(self, x: str, voters: int, name: str = "") -> str:
        return self._set(name, f"{x}.unflatten(-1, [-1, {voters}]).mean(-1)")

    @override
    def flatten(self, x: str, name: str = "") -> str:
        return self._set(name, f"{x}.flatten(1)")

    # ------------------------------------------------------------------------------------------------------------ time

    @override
    def total(self, x: str, name: str = "") -> str:
        return self._set(name, f"{x}.sum(0)")

    @override
    def length(self, x: str, name: str = "") -> str:
        return f"{x}.size(0)"

    @override
    def loop(self, strands: Sequence[Strand[str]], state: Mapping[str, str]) -> tuple[list[str | None], dict[str, str]]:
        now = {name: self._set(f"{name}_before", state[name]) for strand in strands for name in strand.states}
        rows = [self._set(f"{strand.name}_rows", _NO_ROWS) if strand.needed else None for strand in strands]
        self.line(f"for t in range({strands[0].over}.size(0)):")
        inside = self._with(_indent=self._indent + 1)
        after: dict[str, str] = {}
        for strand, row in zip(strands, rows, strict=True):
            drive = inside._set(f"{strand.name}_now", f"{strand.over}[t]")
            handed, new = strand.step(inside, drive, now)
            after |= new
            if row:
                inside.line(f"{row}.append({handed})")
        for name, variable in now.items():
            inside.line(f"{variable} = {after[name]}")
        stacked = [
            self._set(f"{strand.name}_all", f"torch.stack({row})") if row else None
            for strand, row in zip(strands, rows, strict=True)
        ]
        return stacked, now


def _path(name: str) -> str:
    """Return how a program names a weight: layers[0].snn.weight of layers.0.snn.weight."""
    path = ""
    for part in name.split("."):
        path += f"[{part}]" if part.isdigit() else f".{part}" if path else part
    return path


class _Weights(nn.Module):
    """The weights of a network under their names, and nothing else."""


def _held(network: Network) -> nn.Module:
    """Return a module that holds a network's weights under the same names."""

    def copied(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.ModuleList):
            return nn.ModuleList(copied(each) for each in module)
        held = _Weights()
        for name, value in module.named_parameters(recurse=False):
            held.register_parameter(name, value)
        for name, stored in module.named_buffers(recurse=False):
            held.register_buffer(name, stored)
        for name, child in module.named_children():
            if any(True for _ in (*child.parameters(), *child.buffers())):
                held.add_module(name, copied(child))
        return held

    return copied(network)


def source(network: Network, shown: bool = True) -> str:
    """Return the program that TorchScript compiles: `forward`, and `forward_shown`, which hands out taps too."""
    methods = [_method("forward", network, tapped=False)]
    return "\n\n".join([*methods, _method("forward_shown", network, tapped=True)] if shown else methods)


def _method(name: str, network: Network, tapped: bool) -> str:
    o = Script(network, tapped)
    for each in interface(network).states:
        shape = ", ".join(["x.size(1)", *map(str, each.shape)])
        o.line(f"{each.name} = torch.zeros([{shape}], device=x.device)")
        o.line(f'if state is not None and "{each.name}" in state:')
        o.line(f'    {each.name} = state["{each.name}"]')
    taps = taps_of(network) if tapped else []
    for tap in taps:
        o.line(f"{tap}_rows = {_NO_ROWS}")
    logits, after = network.window(o, "x", {each.name: each.name for each in interface(network).states})
    states = ", ".join(f'"{state}": {value}' for state, value in after.items())
    o.line(f"after = {{{states}}}")
    found, result = [logits, "after"], ["Tensor", "Dict[str, Tensor]"]
    if network.exit is not None:
        found.append(network.may_leave(o, logits, after))
        result.append("Tensor")
    if tapped:
        found.append(f"[{', '.join(f'torch.stack({tap}_rows)' for tap in taps)}]")
        result.append("List[Tensor]")
    o.line(f"return {', '.join(found)}")
    head = f"def {name}(self, x: Tensor, state: Optional[Dict[str, Tensor]] = None) -> Tuple[{', '.join(result)}]:"
    return "\n".join([head, *o.lines])


def scripted(network: Network, shown: bool = True) -> Any:
    """Return a network as a TorchScript module: `logits, state = module(x, state)`, where what is not given is zero.

    One with an exit returns as a third whether the answer after the window may be given, [B].

    Args:
        network: the network.
        shown: whether it has `forward_shown` as well: `logits, state, taps`, see `taps_of`.
    """
    network = frozen(network)
    text = source(network, shown)
    file = f"<{type(network).__name__} as TorchScript>"
    # TorchScript reads the source of what it compiles: here is where it finds it.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, Any] = {"torch": torch, "Tensor": Tensor}
    exec("from typing import Dict, List, Optional, Tuple", names)
    # Our own lines, of names and numbers.
    exec(compile(text, file, "exec"), names)
    methods = {"forward": names["forward"]}
    if shown:
        methods["forward_shown"] = torch.jit.export(names["forward_shown"])
    held = _held(network)
    held.__class__ = type(type(network).__name__, (_Weights,), methods)
    return torch.jit.script(held.eval())
