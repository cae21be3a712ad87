"""Random windows of neurons, and how a GPU's kernels and the neurons' own step run them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.models.kernels import plain
from hstnn_deploy.models.kernels.generated import triton_window
from hstnn_deploy.models.neurons import Lif
from tests.models.neuron_kinds import KINDS

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

lifs = st.builds(
    Lif,
    decay=st.sampled_from([0.6, 0.5, 1.0]),
    threshold=st.sampled_from([0.6, 0.5]),
    lens=st.sampled_from([0.5, 0.3]),
    reset=st.sampled_from(["zero", "subtract"]),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["rectangular", "triangular", "arctan"]),
)
neurons = st.one_of(lifs, st.sampled_from(list(KINDS.values())))


class Window(NamedTuple):
    """A random window on the CPU in float32, its numbers such that halves hold them too, and what the layer holds."""

    current: Tensor
    state: dict[str, Tensor]
    neuron: Any
    own: dict[str, Tensor]
    lengths: Tensor | None
    pooled: bool
    given: Tensor
    """The gradient of what is handed out: zero at steps past a sample's length, where that is unspecified."""
    later: dict[str, Tensor]
    """Those of the states."""

    def valid(self, outputs: Tensor) -> Tensor:
        """Return outputs at valid steps."""
        if self.lengths is None:
            return outputs
        return outputs[torch.arange(len(outputs))[:, None] < self.lengths]


def fires(neuron: Any) -> bool:
    """Whether what neurons hand out are spikes."""
    return getattr(neuron, "tap", "") == "spikes"


def window(
    steps: int,
    batch: int,
    shape: tuple[int, ...],
    neuron: Any,
    seed: int = 0,
    padded: bool = False,
    layout: str = "contiguous",
    whole: bool = False,
) -> Window:
    """Return a window of neurons [n], or of maps [C, H, W], pooled where they fire and the maps are not `whole`."""
    generator = torch.Generator().manual_seed(seed)

    def eighths(*sizes: int) -> Tensor:
        # So coarse that membranes meet the threshold and the edges of the surrogate's window exactly.
        return (torch.randn(*sizes, generator=generator) * 8).round() / 8

    current = eighths(steps, batch, *shape)
    match layout:
        case "strided":
            current = current.repeat_interleave(2, dim=-1)[..., ::2]
        case "transposed":
            current = current.transpose(0, 2).contiguous().transpose(0, 2)
        case "expanded":
            current = current[:1].expand(steps, *current.shape[1:])
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator) if padded else None
    pooled = len(shape) == 3 and fires(neuron) and not whole
    given = eighths(steps, batch, *((shape[0], shape[1] // 2, shape[2] // 2) if pooled else shape))
    if lengths is not None:
        given[torch.arange(steps)[:, None] >= lengths] = 0
    elif layout == "expanded":
        given = given[:1].expand(steps, *given.shape[1:])  # as that of a sum over time
    state = {name: eighths(batch, *shape) for name in neuron.states}
    if "s" in state:
        state["s"] = (state["s"] > 0).float()
    own = {}
    for name, value in neuron.fresh(shape).items():
        moved = value.detach() * (1 + 0.2 * torch.rand(value.shape, generator=generator))
        own[name] = moved.requires_grad_(value.requires_grad)
    later = {name: eighths(batch, *shape) for name in neuron.states}
    return Window(current, state, neuron, own, lengths, pooled, given, later)


shapes = st.one_of(
    st.tuples(st.sampled_from([1, 5, 130])), st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5))
)
windows = st.builds(
    window,
    st.integers(1, 5),
    st.integers(1, 3),
    shapes,
    neurons,
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from(["contiguous", "strided", "transposed", "expanded"]),
    st.booleans(),
)


def definition(
    current: Tensor, state: Any, neuron: Any, lengths: Tensor | None, own: Any, pooled: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the neurons' own step, one after another."""
    out, after = plain.spiking(current, state, neuron, lengths, own)
    return plain.pooled(out) if pooled else out, after


def written(
    current: Tensor, state: Any, neuron: Any, lengths: Tensor | None, own: Any, pooled: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the kernel that is written from it, on the GPU where there is one."""
    state, own = ({name: each.to(DEVICE) for name, each in held.items()} for held in (state, own))
    found = triton_window.spiking(
        current.to(DEVICE), state, neuron, None if lengths is None else lengths.to(DEVICE), own, pooled
    )
    assert found is not None
    out, after = found
    return out.cpu(), {name: each.cpu() for name, each in after.items()}


def run(how: Callable[..., Any], of: Window, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
    """Return what is handed out and the states; and the gradients of the input, the states and what is learned."""
    current = of.current.to(dtype).detach().requires_grad_()
    state = {name: each.clone().requires_grad_() for name, each in of.state.items()}
    own = {name: each.detach().requires_grad_(each.requires_grad) for name, each in of.own.items()}
    out, after = how(current, state, of.neuron, of.lengths, own, of.pooled)
    inputs = [current, *state.values(), *(each for each in own.values() if each.requires_grad)]
    results, cotangents = [out, *after.values()], [of.given.to(out.dtype), *(of.later[name] for name in after)]
    kept = [(one, other) for one, other in zip(results, cotangents, strict=True) if one.requires_grad]
    gradients = torch.autograd.grad(
        [one for one, _ in kept], inputs, [other for _, other in kept], allow_unused=True, materialize_grads=True
    )
    return [of.valid(out).detach(), *(after[name].detach() for name in of.neuron.states)], list(gradients)


def assert_same(of: Window) -> None:
    (expected, gradients), (found, ours) = run(definition, of), run(written, of)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(gradients, ours, strict=True):
        # What a layer shares is a sum over all its neurons, in another order.
        close = 1e-4 if one.ndim == 0 else 1e-5
        torch.testing.assert_close(other, one, rtol=close, atol=close)
