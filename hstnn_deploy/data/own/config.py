"""The `data` section for a user's own data, `data: {name: own, kind: …, path: DIR, …}`, and what was found there.

Nobody writes the key `found`: it has what network and bundle need to know about the files, so that a recipe that
was trained, and a checkpoint, say it without them.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from hstnn_deploy.data.array_input import ORDERS, STEPS, order_of
from hstnn_deploy.data.dataset import Shape
from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.images import ImageConfig, shape_of
from hstnn_deploy.data.splits import Targets, frame_of
from hstnn_deploy.data.text import TextConfig
from hstnn_deploy.errors import UsageError

Kind = Literal["images", "arrays", "events", "text"]

MOST_CLASSES = 5000
"""Classes at most: their names stand in every recipe, checkpoint and bundle."""

BINS = 16
"""Frames of a recording, if no way to cut it is given."""


class Drawn(BaseModel):
    """How samples are divided where neither folders nor a list do it."""

    model_config = ConfigDict(extra="forbid")

    test: float = Field(0.2, gt=0, lt=1)
    """The share of all samples that tests."""
    valid: float = Field(0.1, gt=0, lt=1)
    """The share of the others on which the best epoch is chosen."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of the draw; the seed of the training has no part in it."""
    group: str | None = Field(None, min_length=1, max_length=20)
    """The text up to which a file's name says its group, such as "_" of subject03_take2.png: all files of a group come
    to the same side. null: as the column `group` of labels.csv says, or no groups."""


class Found(BaseModel):
    """What was found in the files."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    classes: list[str] = Field([], max_length=MOST_CLASSES)
    """The names of the classes, in the order of a network's outputs; none where samples have numbers."""
    train: list[int]
    """Samples of each class; of numbers, in all; of a text, words."""
    valid: list[int]
    test: list[int]
    listing: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The SHA-256 of the files' names, sizes and labels."""

    @property
    def trained(self) -> int:
        """Samples that are trained or chosen on."""
        return sum(self.train) + sum(self.valid)


class FoundImages(Found):
    """What was found of images: what they are once they have been resized."""

    height: PositiveInt
    width: PositiveInt
    colours: Literal[1, 3]


class FoundArrays(Found):
    """What was found of arrays."""

    axes: str
    """What the axes of a sample are in the file; see `array_input.ORDERS`."""
    shape: list[PositiveInt]
    """Their lengths."""
    outputs: PositiveInt | None = None
    """Numbers that are told of a sample; null: it has a class."""
    mean: list[float] = []
    """What is taken from each channel; none where values stay as they are."""
    std: list[float] = []
    """What that is divided by."""


class FoundEvents(Found):
    """What was found of recordings."""

    sensor: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Width, height and polarities."""
    longest: PositiveInt
    """Microseconds of the longest of those that were looked at."""
    span: PositiveInt | None = None
    """Microseconds from first to last event of the longest; it tells the unit of times that do not say it."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if (key, value) != ("span", None)}


class FoundText(Found):
    """What was found of a text: train, valid and test count words."""

    words: PositiveInt
    """Of the vocabulary, `<eos>` and `<unk>` among them."""


class _Own(BaseModel):
    """What every kind has."""

    name: Literal["own"] = "own"
    path: str = Field(min_length=1, max_length=4096)
    """The folder, or the file where one holds everything."""
    split: Drawn = Drawn()
    fit: bool = True
    """Whether sizes and classes fit themselves into the recipe's network; else the network is as the recipe says."""
    found: Any = None
    _measured: bool = PrivateAttr(False)

    @property
    def measured(self) -> bool:
        """Whether nothing is trained on the data: if no splits are given, each split is all of it."""
        return self._measured

    def measuring(self) -> Self:
        """Return the configuration of data that is only measured on."""
        copy = self.model_copy()
        copy._measured = True
        return copy

    def without(self, told: dict[str, Any]) -> dict[str, Any]:
        """Leave out of what is written down what says nothing."""
        return {key: value for key, value in told.items() if (key, value) not in (("found", None), ("fit", True))}


class OwnImages(ImageConfig, _Own):
    """Images in folders by class, or in a list."""

    kind: Literal["images"] = "images"
    resize: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    """Height and width to which all are brought, bilinearly; one number for both; null: they are of one size."""
    colours: Literal[1, 3] | None = None
    """Grey or red, green and blue; null: as the first image is."""
    normalise: Literal["auto"] | None = None
    """`auto`: the mean and deviation of each colour over the training images become `images.mean` and `images.std`."""
    unlabelled: Literal["refuse", "ignore"] = "refuse"
    """What to do with files that labels.csv does not name."""
    found: FoundImages | None = None

    @model_validator(mode="after")
    def _whole_alone(self) -> Self:
        if self.normalise and self.images is None:
            raise ValueError("normalise is for whole images: also give the section images, such as {steps: 10}")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without(handler(self))

    @property
    def size(self) -> tuple[int, int] | None:
        """The height and width that `resize` asks for."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    def found_shape(self) -> Shape | None:
        """Return the size of the data set, once it was looked at."""
        if (found := self.found) is None:
            return None
        columns = Shape(found.trained, sum(found.test), found.width, found.height * found.colours, len(found.classes))
        whole = shape_of(self, columns, found.colours)
        if self.images is None:
            return whole
        size, frame = frame_of((found.colours, found.height, found.width))
        return whole._replace(size=size, frame=frame)


class Normalise(BaseModel):
    """What arrays are brought to: (x - mean) / std of each channel."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    mean: list[float] = Field([0.0], min_length=1, max_length=2**16)
    std: list[float] = Field([1.0], min_length=1, max_length=2**16)

    @field_validator("std")
    @classmethod
    def _above_zero(cls, std: list[float]) -> list[float]:
        if min(std) <= 0:
            raise ValueError("std must be above 0")
        return std


class OwnArrays(_Own):
    """Arrays of numbers: x and y of .npy, .npz and .pt files, or a .npy file for each sample in folders by class."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["arrays"] = "arrays"
    axes: str | None = Field(None, max_length=4)
    """What the axes of a sample are: letters of T time, I inputs, C channels, L places of a row, H height and W width,
    in the file's order. null: T, TI, CHW or TCHW, by their number."""
    steps: PositiveInt | None = Field(None, le=100_000)
    """Of samples without time: the steps for which each is shown; null: 10."""
    normalise: Literal["auto"] | Normalise | None = None
    """`auto`: by the mean and deviation of each channel over the training samples."""
    targets: Targets | None = None
    """What y holds; null: values where they are fractions, else classes."""
    unlabelled: Literal["refuse", "ignore"] = "refuse"
    found: FoundArrays | None = None

    @field_validator("axes")
    @classmethod
    def _known(cls, axes: str | None) -> str | None:
        if axes is not None and not any(sorted(axes) == sorted(each) for each in ORDERS):
            raise ValueError(f"axes must be the letters of one of {', '.join(ORDERS)}, in the order of the file")
        return axes

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without(handler(self))

    def found_shape(self) -> Shape | None:
        """Return the size of the data set, once it was looked at."""
        if (found := self.found) is None:
            return None
        length = dict(zip(found.axes, found.shape, strict=True))
        step = tuple(length[letter] for letter in order_of(found.axes) if letter != "T") or (1,)
        size, frame = frame_of(step)
        return Shape(
            found.trained,
            sum(found.test),
            length.get("T", self.steps or STEPS),
            step[0],
            found.outputs or len(found.classes),
            size,
            frame,
            "classes" if found.outputs is None else "values",
        )


class OwnEvents(EventConfig, _Own):
    """Recordings of events in folders by class, or in a list; of one sensor, whatever its size."""

    kind: Literal["events"] = "events"
    frame_time: PositiveInt = 10_000
    steps: PositiveInt | None = None
    sensor_size: tuple[PositiveInt, PositiveInt] | tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Width, height and perhaps polarities of the sensor; null: as the files say."""
    events: str = Field("", max_length=1000)
    """What the files do not state, as `hstnn run --events` takes it: unit=us,order=txyp,sort and so on."""
    unlabelled: Literal["refuse", "ignore"] = "refuse"
    found: FoundEvents | None = None
    square: ClassVar[bool] = False

    @property
    def sensor(self) -> Sensor:  # type: ignore[override]
        """What the recordings come from."""
        return Sensor(*self.found.sensor) if self.found else Sensor(2**15, 2**15)

    @property
    def longest(self) -> int:  # type: ignore[override]
        """Microseconds of the longest recording, about."""
        return self.found.longest if self.found else 1_000_000

    @field_validator("events")
    @classmethod
    def _options(cls, events: str) -> str:
        from hstnn_deploy.data.readers.event_options import parse_options

        try:
            parse_options(events)
        except UsageError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise ValueError(error.message.removeprefix("--events: ") + hint) from error
        return events

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without(self.shortened(handler(self)))

    def found_shape(self) -> Shape | None:
        """Return the size of the data set, once it was looked at."""
        if (found := self.found) is None:
            return None
        return self.shape(found.trained, sum(found.test), len(found.classes))


class OwnText(TextConfig, _Own):
    """Text: train.txt and perhaps valid.txt and test.txt; or one file, divided by its lines."""

    kind: Literal["text"] = "text"
    tokens: Literal["spaces", "punctuation"] = "spaces"
    """Whether words stand between spaces, or each mark of punctuation is a word too."""
    lower: bool = False
    """Whether capitals are made small first."""
    words: PositiveInt | None = Field(None, gt=1, le=2**20)
    """Words of the vocabulary at most, the most frequent of the training text; null: all. Others are `<unk>`."""
    found: FoundText | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without(handler(self))


Own = OwnImages | OwnArrays | OwnEvents | OwnText

OwnConfig = Annotated[Own, Field(discriminator="kind")]
"""A recipe's `data` section of the name `own`, told apart by its `kind`."""

CONFIGS: dict[Kind, type[OwnImages] | type[OwnArrays] | type[OwnEvents] | type[OwnText]] = {
    "images": OwnImages,
    "arrays": OwnArrays,
    "events": OwnEvents,
    "text": OwnText,
}
