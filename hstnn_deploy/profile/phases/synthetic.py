"""Random data in a data set's place: as many samples of the same shape and density, held as the real ones are."""

from dataclasses import dataclass, replace
from math import log1p, prod
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.data import registry
from hstnn_deploy.data.cache import Ragged
from hstnn_deploy.data.dataset import Shape
from hstnn_deploy.data.events.frames import EventSplit, Framing, Kept, Packed
from hstnn_deploy.data.events.kinds import lasting
from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.images import Images, ImageSplit
from hstnn_deploy.data.own.config import OwnText
from hstnn_deploy.data.sets.nothing import AbsentConfig, PythonDataConfig
from hstnn_deploy.data.splits import ArraySplit, Batch, Split, Splits, with_validation
from hstnn_deploy.data.text import TextConfig, TextSplit
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.recipe.recipe import Recipe

_WORDS = {
    "ptb": {"train": 929_589, "valid": 73_760, "test": 82_430},
    "wikitext2": {"train": 2_088_628, "valid": 217_646, "test": 245_569},
}
"""The published texts' words, `<eos>` of every line among them."""

_DENSITY = {"mnist": (0.191, "MNIST's own"), "digits": (0.512, "the digits' own")}
"""The share of inputs that are not zero, by data set, and where that was found; else half of them are."""


class _Like(NamedTuple):
    """What recordings of events are like, in frames of the recipes' time."""

    density: float = 0.5
    """The share of inputs that are not zero."""
    events: float = 1.0
    """Per input that is not zero."""
    whose: str = "assumed"
    """Where that was found."""
    lasts: int | None = None
    """Microseconds of a whole recording; None: as long as the longest."""


_EVENTS = {
    "digit-events": _Like(0.134, 1.32, "the events' own"),
    "nmnist": _Like(0.0175, 1.04, "that of 1000 real recordings", 309_000),
    # A gesture lasts about 6 s (Amir et al., CVPR 2017); 5 GB of files, 8 bytes an event, are some 300 000 events each.
    "dvs-gesture": _Like(0.1, 5, "assumed", 6_000_000),
    # Some 180 000 events in 20 frames of 64 x 64 in two polarities; a third of these places is assumed to have any.
    "cifar10-dvs": _Like(0.33, 3.3, "assumed", 1_300_000),
}

_AT_ONCE = 2**20
"""Events that are drawn at once: what is drawn takes several times the memory of what is kept."""


def synthetic(recipe: Recipe) -> Splits:
    """Return random bytes, events or words as a data set of the recipe's size; the same on every call.

    As many of the inputs are zero as of the real ones, so that what depends on it (synaptic operations, spikes) is of
    the same order. So is the memory: events are packed and framed per batch, whole recordings where training crops.
    """
    if isinstance(recipe.network, LanguageConfig):
        return _random_text(recipe, recipe.network.vocabulary)
    if isinstance(recipe.data, EventConfig):
        return _random_events(recipe, recipe.data)
    size = _shape(recipe.data)
    generator = torch.Generator().manual_seed(0)
    if images := getattr(recipe.data, "images", None):
        return _random_images(recipe, size, images, generator)
    density, whose = _DENSITY.get(recipe.data.name, (0.5, "assumed"))

    def part(count: int) -> ArraySplit:
        x = torch.empty(count, size.steps, *size.step, dtype=torch.uint8)
        # Sample by sample: the random numbers behind them take eight times the memory.
        for some in x.split(256):
            kept = torch.rand(some.shape, generator=generator) < density
            torch.randint(1, 256, some.shape, dtype=torch.uint8, generator=generator, out=some)
            some.mul_(kept)
        return ArraySplit(x, _targets(size, count, generator), scale=1 / 255)

    test = part(size.test)
    train, valid = with_validation(part(size.train), recipe.protocol)
    what = f"random samples of the same number and shape, {100 * density:g} % of the inputs nonzero ({whose})"
    return Splits(
        train, valid or test, test, size.inputs, size.classes, what, size.family, size=size.size, targets=size.targets
    )


def _targets(size: Shape, count: int, generator: torch.Generator) -> Tensor:
    """Return random classes [N], or normally distributed values [N, K]."""
    if size.targets == "values":
        return torch.randn(count, size.classes, generator=generator)
    return torch.randint(0, size.classes, (count,), generator=generator)


_BARE = 100
"""Random samples for a network whose data is not at hand."""


def random_inputs(recipe: Recipe) -> tuple[Splits, str]:
    """Return random inputs for a network whose data is not at hand, and what they are.

    Half of the values are 0, the rest up to 1. They have no classes: every target is 0, and nothing is trained on them.
    """
    data, network = recipe.data, recipe.network
    assert isinstance(data, AbsentConfig)
    if isinstance(data, PythonDataConfig):
        step, classes = data.input, data.classes
    else:
        assert isinstance(network, StackConfig), "only stacks have no recipe"
        step, classes = network.input, network.outputs
    generator = torch.Generator().manual_seed(0)
    shape = (_BARE, data.steps, *step)
    if step:
        x, what = torch.rand(shape, generator=generator), "half of the values 0, the rest uniform in (0, 1)"
        x *= torch.rand(shape, generator=generator) < 0.5
        split: Split = ArraySplit(x, torch.zeros(_BARE, dtype=torch.int64))
    else:
        what = "tokens, all equally frequent"
        split = _Tokens(torch.randint(0, _words(network), shape, generator=generator))
    said = f"synthetic: {_BARE} random samples of {shape[1]} steps, {what}; {data.why}"
    return Splits(split, split, split, (step or [0])[0], classes, said), said


def _words(network: NetworkConfig) -> int:
    if not isinstance(network, StackConfig):
        return int(getattr(network, "vocabulary", 0))
    with torch.device("meta"):
        return network.build([]).words


@dataclass(frozen=True)
class _Tokens:
    """Random tokens [N, T]."""

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Return the samples `indices`; see `Split`."""
        return Batch(self.x[indices].T.contiguous().to(device), torch.zeros(len(indices), dtype=torch.int64))


def _random_images(recipe: Recipe, size: Shape, how: Images, generator: torch.Generator) -> Splits:
    def part(count: int) -> ImageSplit:
        pixels = torch.randint(0, 256, (count, *size.step), dtype=torch.uint8, generator=generator)
        return ImageSplit(pixels, _targets(size, count, generator), 255, how)

    test = part(size.test)
    train, valid = with_validation(part(size.train), recipe.protocol)
    what = f"random images of the same number and shape, encoded as the recipe says ({how.encoding})"
    return Splits(
        *(replace(train, training=True), valid or test, test, size.inputs, size.classes, what, size.family),
        size=size.size,
        targets=size.targets,
    )


def nbytes(recipe: Recipe) -> int:
    """Return the bytes in which `synthetic` data of a recipe is held; 0 of a text, whose size its files tell."""
    size = registry.shape(recipe.data)
    if size is None:
        return 0
    if isinstance(recipe.data, EventConfig):
        train, test = (int(_counts(recipe.data, framing).sum()) + framing.ended for framing in _framings(recipe.data))
        return 4 * (size.train * train + size.test * test)
    steps = 1 if getattr(recipe.data, "images", None) else size.steps
    return (size.train + size.test) * steps * prod(size.step)


def _shape(config: registry.DataConfig) -> Shape:
    size = registry.shape(config)
    assert size is not None, "a text has no shape"
    return size


def _random_events(recipe: Recipe, config: EventConfig) -> Splits:
    size, like = _shape(recipe.data), _like(config)
    generator = np.random.default_rng(0)

    def part(count: int, framing: Framing) -> EventSplit:
        drawn = torch.Generator().manual_seed(count)
        values = size.targets == "values"
        target = (
            _targets(size, count, drawn) if values else torch.from_numpy(generator.integers(0, size.classes, count))
        )
        return EventSplit.of(Kept(_packed(config, framing, count, generator)), framing, target)

    training, fixed = _framings(config)
    test = part(size.test, fixed)
    train, valid = with_validation(part(size.train, training), recipe.protocol)
    if training.random:
        train = train.cropped_at_random()
    what = f"random packed events, as many recordings and frames of the same shape, {100 * like.density:g} % of the "
    what += f"inputs nonzero, {like.events:g} events each ({like.whose})"
    return Splits(
        train, valid or test, test, size.inputs, size.classes, what, size.family, size=size.size, targets=size.targets
    )


def _like(config: EventConfig) -> _Like:
    name: str = getattr(config, "name", "")
    return _EVENTS.get(name, _Like())


def _framings(config: EventConfig) -> tuple[Framing, Framing]:
    """Return how recordings of training and of test are framed; nothing but training is cropped at random."""
    return config.framing, config.framing.fixed()


def _frames(config: EventConfig, framing: Framing) -> int:
    """Return how many frames of a recording are packed: those that are used, or all where any might be."""
    if framing.steps is not None and not framing.random:
        return framing.steps
    if framing.kind is not None:
        return framing.kind.most(lasting(config.longest, config.transforms))
    lasts = _like(config).lasts if framing.random else None
    return max(framing.steps or 1, -(-(lasts or config.longest) // config.frame_time))


def _counts(config: EventConfig, framing: Framing) -> NDArray[np.int64]:
    """Return how many events each place that is drawn gets, for one recording: geometrically distributed from 1 on.

    Places are drawn with repetition, so more are drawn than there are to be inputs that are not zero.
    """
    like, inputs = _like(config), _frames(config, framing) * framing.sensor.places
    draws = max(1, round(-log1p(-like.density) * inputs))
    mean = like.density * inputs * like.events / draws
    if mean <= 1:
        return np.ones(draws, np.int64)
    shares = (np.arange(draws) + 0.5) / draws
    return np.maximum(1, np.ceil(np.log(shares) / log1p(-1 / mean))).astype(np.int64)


def _packed(config: EventConfig, framing: Framing, count: int, generator: np.random.Generator) -> Packed:
    """Return random recordings, packed as `Framing.pack` packs real ones; each has as many events."""
    counts = generator.permutation(_counts(config, framing))
    cells, events = _frames(config, framing) * framing.per_frame * framing.sensor.places, int(counts.sum())
    width = events + framing.ended
    # A last cell says how many frames there are, where recordings differ in it.
    rows = np.full((count, width), cells, np.int32)
    for some in np.array_split(rows, -(-rows.size // _AT_ONCE)):
        drawn = generator.integers(0, cells, (len(some), len(counts)), dtype=np.int32)
        drawn.sort(axis=1)
        # Of one tick, so that wherever a frame begins, as many of its inputs are not zero.
        some[:, :events] = np.repeat(drawn, counts, axis=1)
    offsets = torch.arange(count + 1, dtype=torch.int64) * width
    return Packed(Ragged(torch.from_numpy(rows.reshape(-1)), offsets), framing)


def _random_text(recipe: Recipe, vocabulary: int) -> Splits:
    data = recipe.data
    assert isinstance(data, TextConfig)
    lengths = _WORDS.get(data.name)
    if isinstance(data, OwnText) and data.found is not None:
        lengths = {name: sum(getattr(data.found, name)) for name in ("train", "valid", "test")}
    if lengths is None:
        # It ships with Python: as long as it is.
        own = registry.load(data, recipe.protocol)
        lengths = {name: len(cast(TextSplit, own.split(name)).tokens) for name in ("train", "valid", "test")}
    generator = torch.Generator().manual_seed(0)
    parts = {
        name: TextSplit(torch.randint(0, vocabulary, (count,), generator=generator), data.bptt, f"random words: {name}")
        for name, count in lengths.items()
    }
    valid = parts["test" if recipe.protocol == "test" else "valid"]
    what = "as many random words"
    return Splits(parts["train"], valid, parts["test"], 1, vocabulary, what, family="language")
