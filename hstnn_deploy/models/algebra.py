"""The operations in which every equation of a network is written, once; and which each reading of it carries out.

A layer states what it computes as `step(o, drive, state)`, a network as `window(o, x, state)`. `o` is a reading:

    Eager      tensors, differentiable as often as you like: the definition itself, run         (models/eager.py)
    Fast       tensors, whole windows by the kernels of models/kernels/                         (models/eager.py)
    Traced     tensors, time inside a scan: what torch.export reads                             (export)
    Onnx       nodes of a graph                                                                 (export)
    Script     lines of a TorchScript program                                                   (export)
    Bounded    float64 values with the rounding error that float32 allows: the proof            (export)
    Counted    what is multiplied and what is added up                                          (profile)

A reading that lacks an operation raises `Unreadable`, which names it; it never computes something else instead.

Values are of a type V that only the reading knows. An operand may be a number as well. `name` is what a reading that
gives its values names calls the result; it has no other meaning. Shapes: T time, B batch, I inputs, n units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, Protocol, Self, TypeVar

from torch import Tensor, nn

from hstnn_deploy.errors import ExportError
from hstnn_deploy.models.surrogates import Surrogate

V = TypeVar("V")

Fires = Literal["above", "at", "several"]
"""When a neuron fires, and how often; see `Algebra.spike`."""

Pooling = Literal["mean", "max", "sum"]
Sizes = tuple[int, ...]
"""A number for each axis of maps or rows."""

Comparison = Literal["at least", "below"]
"""How a value is compared with a threshold: >= or <."""

Convolution = nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class Strand(Generic[V]):
    """One of the things that step through time side by side: none sees what another does at the same step."""

    name: str
    """Of what is stepped through."""
    over: V
    """What is stepped through, [T, B, …]."""
    step: "Callable[[Algebra[V], V, Mapping[str, V]], tuple[V, dict[str, V]]]"
    """From the reading inside, what there is now and what is carried, to what is handed out and what is carried on."""
    states: Sequence[str]
    """The names of what it carries."""
    tap: str = ""
    """The name of what it hands out."""
    needed: bool = False
    """Whether its output at every step is used."""


class Units(Protocol):
    """Units that step side by side, as far as a reading may know a faster way of its own for them."""

    @property
    def tap(self) -> str:
        """The name of what they hand out at every step."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of what they carry from step to step."""

    @property
    def units(self) -> int:
        """Their number n."""

    def ranked(self) -> list[nn.Parameter]:
        """Return their weights, those on the input first."""

    def biases(self) -> list[nn.Parameter]:
        """Return what is added to their sums: beside the input, then beside the state before (of GRU units alone)."""

    def __call__(self, x: Tensor, state: dict[str, Tensor], lengths: Tensor | None) -> Any:
        """Run a window by the fast kernels; return what goes up, and their states after it."""


class Normed(Protocol):
    """What normalises channels: statistics and learned numbers, [C] each, or [S, C] where every step has its own."""

    @property
    def scale(self) -> Tensor | None:
        """What it is multiplied by; None is one."""

    @property
    def shift(self) -> Tensor | None:
        """What is added; None is zero."""

    @property
    def mean(self) -> Tensor:
        """The running mean."""

    @property
    def variance(self) -> Tensor:
        """The running variance."""

    @property
    def eps(self) -> float:
        """What is added to the variance."""

    @property
    def maps(self) -> int:
        """Axes of a channel: 2 of maps, 0 of single units."""


class Unreadable(ExportError):
    """A reading has no rule for an operation."""


class Algebra(ABC, Generic[V]):
    """A reading. Operations act on single steps [B, …], and those that take weights on windows [T, B, …] too."""

    reads: str
    """What the reading gives, for an error: such as "an ONNX graph"."""

    layer: int = 0
    """The layer that is read, counted from 1; 0 is the readout."""

    def at(self, layer: int) -> Self:
        """Return the reading of a layer, counted from 1; 0 is the readout."""
        return self._with(layer=layer)

    def _with(self, **changes: object) -> Self:
        """Return this reading with other attributes; both add to the same collection."""
        other = object.__new__(type(self))  # takes a third of the time of copy.copy, and runs at every step
        vars(other).update(vars(self), **changes)
        return other

    def lacks(self, operation: str, hint: str = "") -> NoReturn:
        """Refuse an operation."""
        raise Unreadable(f"{self.reads} cannot express {operation}", hint)

    # ------------------------------------------------------------------------------------------------- arithmetic

    @abstractmethod
    def add(self, a: V | float, b: V | float, name: str = "") -> V:
        """Return a + b."""

    @abstractmethod
    def sub(self, a: V | float, b: V | float, name: str = "") -> V:
        """Return a - b."""

    @abstractmethod
    def mul(self, a: V | float, b: V | float, name: str = "") -> V:
        """Return a * b."""

    @abstractmethod
    def sigmoid(self, a: V, name: str = "") -> V:
        """Return 1 / (1 + e^-a)."""

    @abstractmethod
    def tanh(self, a: V, name: str = "") -> V:
        """Return tanh a."""

    @abstractmethod
    def relu(self, a: V, name: str = "") -> V:
        """Return max(0, a)."""

    @abstractmethod
    def clip(self, a: V, low: float | None, high: float | None, name: str = "") -> V:
        """Return a, clipped to two bounds; None means unbounded."""

    @abstractmethod
    def parameter(self, value: Tensor) -> V:
        """Return a learned or stored number, or one for each unit, as an operand."""

    @abstractmethod
    def share(self, total: V, count: V, name: str = "") -> V:
        """Return total / count, and 0 where nothing was counted."""

    # ------------------------------------------------------------------------------------------- what units hand out

    @abstractmethod
    def spike(
        self, membrane: V, threshold: V | float, surrogate: Surrogate, name: str = "spikes", fires: Fires = "above"
    ) -> V:
        """Return how often neurons fire at a step; backward, the surrogate takes the place of the step's slope.

        Args:
            membrane: m, before any reset.
            threshold: theta.
            surrogate: in the place of ds/dm, as a function of m - theta.
            name: what the result is called.
            fires: above: 1 where m > theta, else 0; at: 1 where m >= theta, else 0; several: max(0, floor(m / theta)).
        """

    def exceeds(self, a: V, threshold: V | float, name: str = "exceeds") -> V:
        """Return 1 where a > threshold, else 0, as a constant to the backward pass; nothing is handed out."""
        return self.fixed(self.spike(a, threshold, Surrogate("rectangular", 1.0), name))

    def fixed(self, a: V) -> V:
        """Return `a`, as a constant to the backward pass."""
        return a

    def tap(self, a: V, name: str) -> V:
        """Return `a`, which the layer hands out under a name: a proof may claim it, a profile may count it."""
        return a

    # --------------------------------------------------------------------------------------------------------- weights

    @abstractmethod
    def product(self, x: V, weight: Tensor, name: str = "") -> V:
        """Return x[…, I] @ weight (I, n); with weight (I, k, n), […, k, n]."""

    @abstractmethod
    def linear(self, x: V, layer: nn.Linear, name: str = "") -> V:
        """Return a linear layer's output of x[B, I]."""

    @abstractmethod
    def linear_at_each(self, x: V, layer: nn.Linear, name: str = "") -> V:
        """Return a linear layer's output at every step of x[…, I]."""

    @abstractmethod
    def convolve(self, x: V, layer: Convolution, name: str = "") -> V:
        """Return the convolution of x[B, I, H, W] or x[B, I, L], or of every step of x[T, …]."""

    @abstractmethod
    def normalise(self, x: V, norm: Normed, step: V | None = None, name: str = "") -> V:
        """Return (x - mean) / sqrt(variance + eps) * scale + shift of each channel of x[B, C, …].

        Args:
            x: values; axis 1 is the channels.
            norm: the statistics and what was learned, [C] each, or [S, C] where every step has its own.
            step: how many steps came before, [B, 1], where every step has its own; past S it is an error of the engine.
            name: what the result is called.
        """

    def dropout(self, x: V, layer: nn.Dropout) -> V:
        """Return x, with a part of it dropped while training."""
        return x

    @abstractmethod
    def embed(self, tokens: V, layer: nn.Embedding, name: str = "") -> V:
        """Return the row of each token."""

    # ------------------------------------------------------------------------------------------------------ early exit

    def likeliest(self, logits: V, name: str = "") -> V:
        """Return the largest probability, max softmax(logits), of logits[B, n], [B]."""
        return self.lacks("probabilities")

    def mean_scale(self, norm: Normed, step: V, name: str = "") -> V:
        """Return the mean over channels of |scale| of a normalisation at a step [B, 1] of its own, [B]."""
        return self.lacks("the mean scale of a normalisation")

    def compared(self, a: V, how: Comparison, threshold: float, name: str = "") -> V:
        """Return 1 where a value is at least, or below, a threshold, else 0; of NaN, 0. Nothing is handed out."""
        return self.lacks("a comparison")

    # ---------------------------------------------------------------------------------------------------------- shapes

    @abstractmethod
    def parts(self, x: V, count: int, name: str = "") -> list[V]:
        """Cut x[B, count, n] into `count` values [B, n]."""

    @abstractmethod
    def concat(self, values: Sequence[V], axis: int, name: str = "") -> V:
        """Put values side by side."""

    @abstractmethod
    def pool(self, x: V, how: Pooling, size: Sizes, stride: Sizes, name: str = "", padding: Sizes = ()) -> V:
        """Return the mean, the largest or the sum of each `size` of maps […, n, H, W] or rows […, n, L].

        Padding adds positions on both sides of each axis: a mean or sum takes 0 there and counts them, the largest
        leaves them out. Empty: none.
        """

    def mean_pool(self, x: V, name: str = "") -> V:
        """Return the mean of each 2x2 of maps […, n, H, W]."""
        return self.pool(x, "mean", (2, 2), (2, 2), name)

    @abstractmethod
    def flatten(self, x: V, name: str = "") -> V:
        """Return x[B, …] as [B, n]."""

    @abstractmethod
    def vote(self, x: V, voters: int, name: str = "") -> V:
        """Return the mean of each `voters` consecutive ones of x[B, n], [B, n / voters]."""

    # ------------------------------------------------------------------------------------------------------------ time

    @abstractmethod
    def total(self, x: V, name: str = "") -> V:
        """Return the sum over the valid steps of x[T, …]."""

    @abstractmethod
    def length(self, x: V, name: str = "") -> V:
        """Return the number of valid steps of x[T, …], as a value that adds to [B, 1]."""

    @abstractmethod
    def loop(self, strands: Sequence[Strand[V]], state: Mapping[str, V]) -> tuple[list[V | None], dict[str, V]]:
        """Step through time.

        Args:
            strands: what steps side by side.
            state: what the first step starts from.

        Returns:
            What each strand hands out, stacked [T, B, …] (None if not needed); and what all of them carry after
            the last valid step.
        """

    def whole_step(self, group: Units, x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]] | None:
        """Return one step of a group of units, x[B, …], where the reading knows a way of its own; else None."""
        return None

    def whole(self, group: Units, x: V, state: Mapping[str, V], needed: bool) -> tuple[V, dict[str, V]] | None:
        """Return what a group of units does over a window at once, where the reading knows a way; else None.

        Args:
            group: the units.
            x: what they see, [T, B, …].
            state: their states, by their own names.
            needed: whether what they emit is needed, or only their states after the window.

        Returns:
            What goes up, [T, B, …] (anything, where it is not needed), and the states.
        """
        return None
