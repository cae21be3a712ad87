"""Training against disturbances: which ones a network learns with, at which strongest levels.

    input     each sample of each epoch at a level of its own, drawn evenly from 0 to the strongest one
    attacks   the same, through the network as it is when the batch is asked for, undisturbed and in evaluation
    weights   each step's forward and backward pass with disturbed weights; the optimiser changes the undisturbed ones
              by the gradient at the disturbed ones (straight-through: Bengio et al., 2013)
    spikes    each step's passes with spikes that are lost or late

What is drawn follows from the seed, the epoch, the name, and the number of the sample or step alone: a resumed
training draws the same, and a sample is disturbed alike whatever batch it comes in. Where there are several, they come
in this order, those of one sort in that of the tables: events, then images or values, then attacks.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property

import torch

from hstnn_deploy.data.events.frames import EventSplit
from hstnn_deploy.data.images import ImageSplit, as_evaluated
from hstnn_deploy.data.preprocessing import Frames, preprocessing
from hstnn_deploy.data.registry import DataConfig, called
from hstnn_deploy.data.splits import Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.disturbances.disturbance import Disturbance, Trained, Where, drawn, stream
from hstnn_deploy.disturbances.hardware import WEIGHTS, disturbed_spikes
from hstnn_deploy.disturbances.inputs import (
    OF_THE_PICTURE,
    Attacked,
    DisturbedValues,
    disturbed_images,
    disturbed_recordings,
    disturbed_text,
    range_of,
)
from hstnn_deploy.disturbances.table import DISTURBANCES, why_not
from hstnn_deploy.disturbances.values import Range
from hstnn_deploy.errors import UsageError, nearest
from hstnn_deploy.models.layers.weights import weights_of
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task

LEARNT = {name: each for name, each in DISTURBANCES.items() if each.where != "neurons"}
"""What a network can be trained against."""

_OF_STEP: tuple[Where, ...] = ("weights", "spikes")
"""What is disturbed for a step, not for a sample."""

_LEVEL = 2**62
"""The number by which the level of a step is drawn: that of no weight and no layer."""

_SAMPLES = 500
"""Samples of a batch in which the range of the inputs is looked for."""


def checked(levels: Mapping[str, float]) -> dict[str, float]:
    """Return the disturbances of a training and their strongest levels, in the order of the tables.

    Raises:
        UsageError: an unknown disturbance, one that training does not support, or an invalid level.
    """
    for name, level in levels.items():
        if name not in DISTURBANCES:
            raise UsageError(f"against.{name}: unknown disturbance {name!r}", nearest(name, LEARNT))
        if name not in LEARNT:
            raise UsageError(
                f"against.{name}: a training does not disturb neurons, only `hstnn robustness` does",
                f"train against {', '.join(LEARNT)}",
            )
        if DISTURBANCES[name].check(level, "against.") == 0:
            raise UsageError(f"against.{name}: level 0 is not a disturbance", "leave it out, or give a level above 0")
    return {name: levels[name] for name in DISTURBANCES if name in levels}


class Against:
    """What one training of one network is disturbed by.

    Args:
        levels: the disturbances and their strongest levels.
        network: the network, which is attacked, and whose weights and spikes are disturbed.
        task: its loss.
        split: what is trained on, undisturbed.
        data: the `data` section of the recipe.
        seed: of the training.

    Raises:
        UsageError: a disturbance does not fit the network or the data.
    """

    def __init__(
        self, levels: Mapping[str, float], network: Network, task: Task, split: Split, data: DataConfig, seed: int
    ) -> None:
        self._levels = checked(levels)
        self._network, self._task, self._split, self._data, self._seed = network, task, split, data, seed
        for name in self._levels:
            if why := self._why_not(DISTURBANCES[name]):
                raise UsageError(f"against.{name} does not fit this training: {why}", "leave it out")

    def _why_not(self, disturbance: Disturbance) -> str:
        if why := why_not(disturbance, self._data, self._split, self._network):
            return why
        if disturbance.where == "events" and not (isinstance(self._split, EventSplit) and self._split.remade):
            return f"it acts on raw events, but {called(self._data)} has none"
        return ""

    def _of(self, *where: Where) -> dict[str, float]:
        return {name: level for name, level in self._levels.items() if DISTURBANCES[name].where in where}

    @cached_property
    def _span(self) -> Range:
        """The range of the undisturbed inputs; what they are drawn with is drawn alike, and nothing else with it."""
        with torch.random.fork_rng([]):
            torch.manual_seed(self._seed)
            return range_of(as_evaluated(self._split), _SAMPLES)

    def split(self, epoch: int) -> Split:
        """Return what is trained on in an epoch, from 1 on."""
        draw, split = Trained(self._seed, epoch), self._split
        if events := self._of("events"):
            how = preprocessing(self._data)
            assert isinstance(split, EventSplit)
            assert isinstance(how, Frames)
            split = disturbed_recordings(split, how, events, draw)
        values = self._of("values")
        if isinstance(split, ImageSplit):
            split = disturbed_images(split, {name: values.pop(name) for name in OF_THE_PICTURE if name in values}, draw)
        for name, level in values.items():
            split = DisturbedValues(split, name, level, draw, self._span, self._network.longest)
        for name, level in self._of("words").items():
            assert isinstance(split, TextSplit)
            split = disturbed_text(split, name, level, draw)
        for name, level in self._of("adversary").items():
            split = Attacked(split, name, level, draw, self._span, self._network, self._task)
        return split

    @property
    def of_steps(self) -> bool:
        """Whether weights or spikes are disturbed."""
        return bool(self._of(*_OF_STEP))

    @contextmanager
    def step(self, epoch: int, number: int) -> Iterator[None]:
        """Disturb the network's weights and spikes within the block; afterwards the weights are what they were.

        Args:
            epoch: from 1 on.
            number: of the step in the epoch, from 1 on.
        """
        draw = Trained(self._seed, epoch, number)
        with ExitStack() as spikes:
            for name, most in self._of("spikes").items():
                level, _ = drawn(DISTURBANCES[name], most, draw, _LEVEL)
                spikes.enter_context(disturbed_spikes(self._network, name, level, draw))
            with self._weights(draw):
                yield

    @contextmanager
    def _weights(self, draw: Trained) -> Iterator[None]:
        found = weights_of(self._network) if self._of("weights") else []
        clean = [weight.detach().clone() for weight in found]
        try:
            with torch.no_grad():
                for name, most in self._of("weights").items():
                    disturbance, apply = WEIGHTS[name]
                    # A number of bits is no strength: it stays as it is, and so does a yes.
                    level = most if disturbance.whole else drawn(disturbance, most, draw, _LEVEL)[0]
                    for number, weight in enumerate(found):
                        weight.copy_(apply(weight, level, stream(name, draw, number)))
            yield
        finally:
            with torch.no_grad():
                for weight, before in zip(found, clean, strict=True):
                    weight.copy_(before)
