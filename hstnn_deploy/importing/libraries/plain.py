"""torch's own layers as layers of a stack; layers of libraries that only wrap them are taken by the same rules."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.parts import Chain, Folded, Part, Taken
from hstnn_deploy.models.layers.base import Shape

Rule = Callable[[Any, Shape, int], Taken]
"""From a module, the shape that comes in at a step of a sample, and how many axes stand before it (1: batch, 2: time
too; `FOLDED`: both as one), to what it is taken as."""


def held(module: nn.Module, **names: str) -> dict[str, Tensor]:
    """Return tensors of a module under a layer's names; those that are None are left out."""
    found = {ours: getattr(module, theirs) for ours, theirs in names.items()}
    return {name: value.detach().clone() for name, value in found.items() if value is not None}


def one(config: dict[str, Any], weights: dict[str, Tensor] | None = None) -> Taken:
    """Return one layer."""
    return Taken([Part(config, weights or {})])


def linear(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take nn.Linear."""
    if len(shape) != 1:
        raise ImportRefused(f"a linear layer over the shape {list(shape)}: only over units, after a flatten")
    return one(
        {"linear": module.out_features, "bias": module.bias is not None}, held(module, weight="weight", bias="bias")
    )


def _sizes(value: Any) -> Any:
    found = [int(each) for each in (value if isinstance(value, tuple | list) else (value,))]
    return found[0] if len(set(found)) == 1 else found


def conv(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take nn.Conv1d and nn.Conv2d."""
    if module.padding_mode != "zeros":
        raise ImportRefused(f"padding_mode is {module.padding_mode!r}; hstnn takes only zeros")
    padding = module.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        around = [step * (size - 1) for step, size in zip(module.dilation, module.kernel_size, strict=True)]
        if any(each % 2 for each in around):
            raise ImportRefused("padding 'same' of an even kernel, which pads its two sides differently")
        padding = tuple(each // 2 for each in around)
    found = {
        "conv": module.out_channels,
        "kernel": _sizes(module.kernel_size),
        "stride": _sizes(module.stride),
        "padding": _sizes(padding),
        "dilation": _sizes(module.dilation),
        "groups": module.groups,
        "bias": module.bias is not None,
    }
    return one(found, held(module, weight="weight", bias="bias"))


def norm(module: Any, _shape: Shape, axes: int) -> Taken:
    """Take nn.BatchNorm1d and nn.BatchNorm2d, as they are in evaluation."""
    if module.running_mean is None:
        raise ImportRefused("a batch normalisation without running statistics, which depends on the batch it sees")
    found = {
        "over": "all" if axes == 2 or isinstance(axes, Folded) else "step",
        "eps": module.eps,
        "momentum": 0.1 if module.momentum is None else module.momentum,
        "scale": module.weight is not None,
        "shift": module.bias is not None,
    }
    weights = held(module, mean="running_mean", variance="running_var", scale="weight", shift="bias")
    note = "momentum None (a running average) is taken as 0.1" if module.momentum is None else ""
    return Taken([Part({"norm": found}, weights)], note=note)


def pool(how: str) -> Rule:
    """Return the rule of nn.MaxPool and nn.AvgPool."""

    def take(module: Any, shape: Shape, _axes: int) -> Taken:
        if any(each not in (0, 1) for each in _all(getattr(module, "dilation", 1))):
            raise ImportRefused("a pool with dilation")
        size, padding = _sizes(module.kernel_size), _sizes(module.padding)
        stride = size if module.stride in (None, (), []) else _sizes(module.stride)
        windows = (_several(each, len(shape) - 1) for each in (size, stride, padding))
        if module.ceil_mode and any(
            (length + 2 * sides - window) % step
            for length, window, step, sides in zip(shape[1:], *windows, strict=False)
        ):
            raise ImportRefused("a pool with ceil_mode whose last windows are not whole")
        kind, divisor = how, getattr(module, "divisor_override", None)
        if divisor is not None:
            if divisor != 1:
                raise ImportRefused(f"a pool with divisor_override {divisor}")
            kind = "sum"
        elif any(_all(padding)) and not getattr(module, "count_include_pad", True):
            raise ImportRefused("a mean over padded windows that does not count the padding (count_include_pad)")
        padded = {"padding": padding} if any(_all(padding)) else {}
        return one({"pool": kind, "size": size, "stride": stride, **padded})

    return take


def _all(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def adaptive_pool(module: Any, shape: Shape, _axes: int) -> Taken:
    """Take nn.AdaptiveAvgPool, where its windows are all of one size."""
    wanted = [
        length if size is None else size
        for size, length in zip(_several(module.output_size, len(shape) - 1), shape[1:], strict=True)
    ]
    if any(length % size for length, size in zip(shape[1:], wanted, strict=True)):
        raise ImportRefused(f"an adaptive pool of {list(shape[1:])} to {wanted}: its windows differ in size")
    return one({"pool": "mean", "size": [a // b for a, b in zip(shape[1:], wanted, strict=True)]})


def _several(value: Any, count: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


def flatten(module: Any, shape: Shape, axes: int) -> Taken:
    """Take nn.Flatten of all that belongs to a sample and step."""
    last = module.end_dim if module.end_dim >= 0 else module.end_dim + axes + len(shape)
    if module.start_dim not in (axes, axes - axes - len(shape)) or last != axes + len(shape) - 1:
        what = f"start_dim {module.start_dim} and end_dim {module.end_dim}"
        raise ImportRefused(f"a flatten with {what} of {axes + len(shape)} axes: it must flatten all axes of a step")
    return Taken([]) if len(shape) == 1 else one({"flatten": True})


def dropout(shared: bool) -> Rule:
    """Return the rule of dropout, whose mask is the same at all steps or not."""
    return lambda module, _shape, _axes: one(
        {"dropout": module.p, "shared_over_time": shared} if module.p else {"scale": 1}
    )


def activation(name: str) -> Rule:
    """Return the rule of a function of every value."""
    return lambda _module, _shape, _axes: one({"activation": name})


def nothing(_module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take what does nothing."""
    return Taken([])


def embedding(module: Any, _shape: Shape, _axes: int) -> Taken:
    """Take nn.Embedding."""
    if module.max_norm is not None:
        raise ImportRefused("an embedding with max_norm, which changes its weights while it runs")
    return one({"embedding": module.embedding_dim, "words": module.num_embeddings}, held(module, weight="weight"))


def recurrent(kind: str) -> Rule:
    """Return the rule of nn.RNN, nn.LSTM and nn.GRU: a layer for each of theirs."""
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]

    def take(module: Any, _shape: Shape, _axes: int) -> Taken:
        if module.bidirectional:
            raise ImportRefused("a bidirectional network, which sees the future")
        if getattr(module, "proj_size", 0):
            raise ImportRefused("proj_size is not 0")
        chain: Chain = []
        for layer in range(module.num_layers):
            if layer and module.dropout:
                chain.append(Part({"dropout": module.dropout}))
            config: dict[str, Any] = {kind: module.hidden_size, "bias": module.bias}
            if kind == "rnn":
                config["nonlinearity"] = module.nonlinearity
            weights = {}
            for ours, theirs in (("weight_input", "weight_ih"), ("weight_recurrent", "weight_hh")):
                weights[ours] = _gated(getattr(module, f"{theirs}_l{layer}").detach(), gates)
            if module.bias:
                of_input, own = (
                    getattr(module, f"{name}_l{layer}").detach().unflatten(0, (gates, -1))
                    for name in ("bias_ih", "bias_hh")
                )
                if kind == "gru":
                    weights["bias_recurrent"] = own[2].clone()
                    own = own.clone()
                    own[2] = 0
                total = of_input.double() + own.double()
                weights["bias"] = total[0] if kind == "rnn" else total
            chain.append(Part(config, weights))
        return Taken(chain)

    return take


def _gated(weight: Tensor, gates: int) -> Tensor:
    """From torch's (gates * n, inputs) to (inputs, n), or (inputs, gates, n)."""
    turned: Tensor = weight.unflatten(0, (gates, -1)).movedim(-1, 0)
    return (turned[:, 0] if gates == 1 else turned).contiguous()


RULES: dict[str, Rule] = {
    "Linear": linear,
    "Conv1d": conv,
    "Conv2d": conv,
    "BatchNorm1d": norm,
    "BatchNorm2d": norm,
    "MaxPool1d": pool("max"),
    "MaxPool2d": pool("max"),
    "AvgPool1d": pool("mean"),
    "AvgPool2d": pool("mean"),
    "AdaptiveAvgPool1d": adaptive_pool,
    "AdaptiveAvgPool2d": adaptive_pool,
    "Flatten": flatten,
    "Dropout": dropout(False),
    "Identity": nothing,
    "ReLU": activation("relu"),
    "Tanh": activation("tanh"),
    "Sigmoid": activation("sigmoid"),
    "Embedding": embedding,
    "RNN": recurrent("rnn"),
    "LSTM": recurrent("lstm"),
    "GRU": recurrent("gru"),
}
"""Of torch.nn, by the class's name."""
