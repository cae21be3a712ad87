"""Text for language models: words per line and `<eos>`, one vocabulary over all splits, windows of a column each.

Shapes: T steps of a window, B columns (the batch), V words.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from hstnn_deploy.data.splits import Batch, Splits
from hstnn_deploy.errors import DataError

EOS = "<eos>"
UNKNOWN = "<unk>"
SPLITS = ("train", "valid", "test")


class TextConfig(BaseModel):
    """What a recipe says of a text."""

    model_config = ConfigDict(extra="forbid")

    bptt: int = Field(35, gt=0)
    """Steps of a window: how far the gradient goes back in time."""


@dataclass(frozen=True)
class TextSplit:
    """A text as tokens in order, read in `batch` columns side by side, window after window.

    Args:
        tokens: [N] int64.
        bptt: steps T of a window.
        name: what errors call it.
    """

    tokens: Tensor
    bptt: int
    name: str

    def __len__(self) -> int:
        """Return the number of whole windows of the text as one column."""
        return (len(self.tokens) - 1) // self.bptt

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return whole windows by number, each by itself: x and target [T, B]."""
        places = torch.arange(self.bptt)[:, None] + indices * self.bptt
        return Batch(self.tokens[places].to(device), self.tokens[places + 1].to(device))

    def columns(self, batch: int) -> Tensor:
        """Return the text cut into `batch` columns, [N // batch, batch]; what does not fill a row is left out.

        Raises:
            DataError: a column would hold no token with a successor.
        """
        rows = len(self.tokens) // batch
        if rows < 2:
            raise DataError(
                f"{self.name} has {len(self.tokens)} words, too few for a batch of {batch} columns",
                f"give a batch of at most {len(self.tokens) // 2}, or more text",
            )
        return self.tokens[: rows * batch].view(batch, rows).t().contiguous()

    def steps(self, batch: int) -> int:
        """Return the number of windows that `windows` yields."""
        return -(-(len(self.columns(batch)) - 1) // self.bptt)

    def windows(self, batch: int, device: torch.device) -> Iterator[Batch]:
        """Yield the windows in order: x [T, B], and as target the word that follows each. The last may be shorter."""
        columns = self.columns(batch).to(device)
        for seen, following in zip(columns[:-1].split(self.bptt), columns[1:].split(self.bptt), strict=True):
            yield Batch(seen, following)


def vocabulary_hash(words: Iterable[str]) -> str:
    """Return what tells a vocabulary from another: the SHA-256 of its words in the order of their numbers."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def make_splits(
    words: Mapping[str, Sequence[str]], bptt: int, origin: str, protocol: str, known: Sequence[str] | None = None
) -> Splits:
    """Return the splits of train, valid and test as words.

    A text has a validation split of its own; under the demo's protocol the epoch is chosen on the test split.

    Args:
        words: of each split.
        bptt: words of a window.
        origin: where they came from.
        protocol: `validation` or `test`.
        known: the vocabulary, in which `<unk>` stands for every other word; None: all words of the three, in order.
    """
    vocabulary: dict[str, int] = {}
    for word in chain.from_iterable(words[split] for split in SPLITS) if known is None else known:
        vocabulary.setdefault(word, len(vocabulary))
    other = vocabulary.get(UNKNOWN)
    train, valid, test = (
        TextSplit(
            torch.tensor([vocabulary.get(word, other) for word in words[split]]), bptt, f"{origin}: the {split} split"
        )
        for split in SPLITS
    )
    count = sum(len(split.tokens) for split in (train, valid, test))
    return Splits(
        train,
        test if protocol == "test" else valid,
        test,
        inputs=1,
        classes=len(vocabulary),
        origin=f"{origin}, {count} words",
        family="language",
        vocabulary=vocabulary_hash(vocabulary),
        words=tuple(vocabulary),
    )
