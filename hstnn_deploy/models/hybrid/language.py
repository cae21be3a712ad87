"""The language model: an embedding, hybrid layers, and a decoder at every step (docs/mathematics.md, section 2).

Shapes: T time, B batch (columns of text), V words of the vocabulary.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.eager import Fast
from hstnn_deploy.models.hybrid.groups import Emitted, HybridLayer, RecurrentUnit, fresh_layers
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.network import LossName, State
from hstnn_deploy.models.neurons import Lif, SpikingNeuron
from hstnn_deploy.models.sizes import Sizes


class LanguageConfig(BaseModel):
    """A language model's keys in a recipe."""

    model_config = ConfigDict(extra="forbid")

    usual_loss: ClassVar[LossName] = "next-word"
    """The default task of its networks."""
    data_keys: ClassVar[dict[str, str]] = {"vocabulary": "classes"}
    """The property of a data set that each of these keys must equal."""

    family: Literal["language"] = "language"
    vocabulary: int = Field(gt=1)
    """Size V of the vocabulary, with `<eos>`."""
    inputs: int = Field(gt=0)
    """Width of the embedding."""
    units: list[PositiveInt] = Field(min_length=1)
    """Units per layer: of the only kind, of both kinds together (ffs), or of each kind (hybrid)."""
    neuron: SpikingNeuron = Lif()
    recurrent: RecurrentUnit = "rnn"
    """The type of the recurrent units; the pure kinds rnn and lstm set it themselves."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout of the embedding's and the last layer's outputs in training."""

    def build(self, sizes: Sequence[Sizes]) -> "LanguageModel":
        """Return a freshly initialised network with the given units per layer."""
        layers = fresh_layers(self.inputs, sizes, self.neuron, self.recurrent)
        # The weights are drawn below: what torch would draw at first is left out.
        embedding = nn.utils.skip_init(nn.Embedding, self.vocabulary, self.inputs)
        decoder = nn.utils.skip_init(nn.Linear, layers[-1].units, self.vocabulary)
        nn.init.uniform_(embedding.weight, -0.1, 0.1)
        nn.init.uniform_(decoder.weight, -0.1, 0.1)
        nn.init.zeros_(decoder.bias)
        return LanguageModel(embedding, layers, decoder, self.dropout)


class LanguageModel(HybridNetwork):
    """Embedding, dropout, hybrid layers, dropout, and a linear decoder with bias at every step.

    State: that of the layers. What of it is reset from one window of text to the next is the task's business.
    """

    every_step = True
    tokens = True

    def __init__(
        self, embedding: nn.Embedding, layers: Sequence[HybridLayer], decoder: nn.Linear, dropout: float
    ) -> None:
        super().__init__(layers)
        self.embedding = embedding
        self.decoder = decoder
        self.dropout = nn.Dropout(dropout)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Nothing: a token is a scalar."""
        return ()

    @property
    def outputs(self) -> int:
        """The number of words."""
        return self.decoder.out_features

    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch of tokens shaped as `like` [T, B]."""
        return super().initial_state(self.embedding.weight.new_empty(1, like.shape[1]))

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window; see `HybridNetwork.forward`.

        Args:
            x: tokens, [T, B] int64.
            state: what the window before returned, or None for zeros.
            lengths: valid steps per sample, [B], or None. The logits of steps past them mean nothing.

        Returns:
            Logits of the token that follows each, [T, B, V], and the state after the window.
        """
        return self.window(Fast(lengths), x, self.initial_state(x) if state is None else state)

    def enter(self, o: Algebra[V], x: V) -> V:
        """Return the embedded tokens."""
        return o.dropout(o.embed(x, self.embedding, "embedded"), self.dropout)

    def answer(self, o: Algebra[V], last: Emitted[V], state: Mapping[str, V]) -> V:
        """Return the decoder's output at every step."""
        seen = self.side_by_side(o, len(self.layers), last, window=True)
        return o.linear_at_each(o.dropout(seen, self.dropout), self.decoder, "logits")

    def with_layers(self, layers: Sequence[HybridLayer], outputs: Tensor) -> "LanguageModel":
        """Return a language model over `layers` whose decoder sees the last layer's outputs `outputs` (indices)."""
        old = self.decoder
        decoder = nn.Linear(len(outputs), old.out_features, device=old.weight.device, dtype=old.weight.dtype)
        with torch.no_grad():
            decoder.weight.copy_(old.weight[:, outputs])
            decoder.bias.copy_(old.bias)
        return LanguageModel(copy.deepcopy(self.embedding), layers, decoder, self.dropout.p)
