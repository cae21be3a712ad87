"""How a foreign file becomes what a network was trained on: plain data, which a bundle carries in its manifest.

Each data set of the registry has one of these. Shapes: T time, I values of a step.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from hstnn_deploy.data.array_input import ORDERS, STEPS, order_of
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.events.kinds import FrameKind
from hstnn_deploy.data.events.transforms import Transform
from hstnn_deploy.errors import BundleError
from hstnn_deploy.foreign import rule_broken

if TYPE_CHECKING:
    from torch import Tensor

    from hstnn_deploy.data.events.frames import Framing


class _Preprocessing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Picture(_Preprocessing):
    """What an image is, however it is read."""

    height: int
    width: int
    colours: Literal[1, 3]
    white: int = 255
    """What a white pixel is in the data set's own files."""
    resize: bool = False
    """Whether images of other sizes were brought to this one, and are so again."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the key that there was not always, where it says nothing."""
        return {key: value for key, value in handler(self).items() if (key, value) != ("resize", False)}


class Pixels(Picture):
    """An image read column by column: x[t] is column t, its rows in each colour; 0 is black, 1 white.

    The steps T are the image's width; raw pixels are multiplied by 1 / white.
    """

    kind: Literal["pixels"] = "pixels"


class Whole(Picture):
    """A whole image at every step, normalised, and encoded in spikes or repeated; see `data.encoding`."""

    kind: Literal["images"] = "images"
    steps: int = Field(ge=1, le=100_000)
    """T."""
    encoding: Literal["poisson", "repeat"]
    mean: list[float]
    """Subtracted from each colour, of 0 to 1; one number, or one for each colour."""
    std: list[float]
    """Divides the difference."""
    seed: int = Field(ge=0, lt=2**31)
    """Of the draws."""

    @model_validator(mode="after")
    def _fits_the_colours(self) -> Self:
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, self.colours):
                raise ValueError(
                    f"{key} has {len(getattr(self, key))} numbers, but an image has {self.colours} colours"
                )
        if not all(0 < value < float("inf") for value in self.std):
            raise ValueError("std must be above 0")
        return self


class Frames(_Preprocessing):
    """Events of a camera, or spikes of a cochlea, counted into frames: of equal time, or as `frames` says."""

    kind: Literal["frames"] = "frames"
    sensor: Sensor
    """What the recordings come from."""
    transforms: list[Transform]
    """What happens to the events before they are framed, in order."""
    frame_time: int = 0
    """Microseconds of a frame."""
    steps: int | None = None
    """Frames, from the recording's beginning; None: as many as there are."""
    binary: bool
    """Whether a frame says only that there were events, not how many."""
    frames: FrameKind | None = None
    """How a recording is cut into frames, in the place of `frame_time` and `steps`."""
    events: str = ""
    """What the files did not state, as `hstnn run --events` takes it."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = {"frame_time", "steps"} & self.model_fields_set
        if self.frames is None and len(given) < 2:
            raise ValueError("give frame_time and steps, or frames")
        if self.frames is not None and given:
            raise ValueError(f"{min(given)} and frames both define what frames are")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out of what is written down what says nothing."""
        found: dict[str, Any] = handler(self)
        without = {"frames"} if self.frames is None else {"frame_time", "steps"}
        without |= set() if self.events else {"events"}
        return {key: value for key, value in found.items() if key not in without}

    @property
    def length(self) -> int | None:
        """Frames of every recording; None where that depends on the recording."""
        return self.steps if self.frames is None else self.frames.fixed

    @property
    def framing(self) -> "Framing":
        """How the transformed events become frames."""
        from hstnn_deploy.data.events.frames import Framing
        from hstnn_deploy.data.events.transforms import sensor_after

        if self.frames is not None:
            return Framing.of_kind(self.sensor, self.transforms, self.frames, self.binary)
        seen = sensor_after(self.transforms, self.sensor)
        return Framing(seen, self.frame_time, self.steps, binary=self.binary)


class Words(_Preprocessing):
    """A text as words by number."""

    kind: Literal["words"] = "words"
    split: Literal["spaces", "punctuation"]
    """Whether words stand between spaces, or each mark of punctuation is a word too."""
    lower: bool
    """Whether capitals are made small first."""
    window: int
    """Words of a window; see `Session.window`."""


class Arrays(_Preprocessing):
    """Samples of an array, with the axes that its file has: [N, …]; see `array_input`."""

    kind: Literal["arrays"] = "arrays"
    axes: str = Field(max_length=4)
    """What the axes of a sample are, a letter each."""
    shape: list[PositiveInt] = Field(max_length=4)
    """Their lengths."""
    steps: int = Field(ge=1, le=100_000)
    """Steps for which a sample without time is shown."""
    mean: list[float] = []
    """Subtracted from each channel; none where values stay as they are."""
    std: list[float] = []
    """Divides the difference."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not any(sorted(self.axes) == sorted(each) for each in ORDERS) or len(self.axes) != len(self.shape):
            raise ValueError(f"axes are {self.axes!r} for a sample of shape {self.shape}")
        if not all(0 < value < float("inf") for value in self.std):
            raise ValueError("std must be above 0")
        order = order_of(self.axes).replace("T", "")[:1]
        channels = dict(zip(self.axes, self.shape, strict=True)).get(order, 1)
        if any(len(each) not in (0, 1, channels) for each in (self.mean, self.std)) or bool(self.mean) != bool(
            self.std
        ):
            raise ValueError(f"mean and std must be numbers for {channels} channels")
        return self


class Values(_Preprocessing):
    """Nothing is known of the files that x comes from."""

    kind: Literal["values"] = "values"


Preprocessing = Annotated[Pixels | Whole | Frames | Words | Arrays | Values, Field(discriminator="kind")]

_PIXELS = {
    "digits": Pixels(height=8, width=8, colours=1, white=16),
    "mnist": Pixels(height=28, width=28, colours=1),
    "cifar10": Pixels(height=32, width=32, colours=3),
    "cifar100": Pixels(height=32, width=32, colours=3),
    "tiny-imagenet": Pixels(height=64, width=64, colours=3),
}


def preprocessing(config: Any) -> Preprocessing:
    """Return what was done to the files of a data set, from the `data` section of a recipe."""
    from hstnn_deploy.data.events.recordings import EventConfig
    from hstnn_deploy.data.images import ImageConfig
    from hstnn_deploy.data.own.config import OwnArrays, OwnEvents, OwnImages, OwnText
    from hstnn_deploy.data.text import TextConfig

    match config:
        case OwnImages() | OwnArrays() if config.found is not None:
            return _of_own(config)
        case OwnImages() | OwnArrays():
            return Values()
        case OwnText():
            return Words(split=config.tokens, lower=config.lower, window=config.bptt)
        case OwnEvents(events=said) if said:
            return preprocessing(config.model_copy(update={"events": ""})).model_copy(update={"events": said})
        case EventConfig(frames=kind) if kind is not None:
            return Frames(sensor=config.sensor, transforms=config.transforms, binary=config.binary, frames=kind)
        case EventConfig():
            return Frames(
                sensor=config.sensor,
                transforms=config.transforms,
                frame_time=config.frame_time,
                steps=config.steps,
                binary=config.binary,
            )
        case TextConfig():
            plain = config.name != "pydoc-text"  # type: ignore[attr-defined]
            return Words(split="spaces" if plain else "punctuation", lower=not plain, window=config.bptt)
        case ImageConfig(images=None):
            return _PIXELS[config.name]  # type: ignore[attr-defined]
        case ImageConfig(images=how):
            assert how is not None
            picture = _PIXELS[config.name].model_dump(exclude={"kind"})  # type: ignore[attr-defined]
            return Whole(**picture, **how.model_dump(include={"steps", "encoding", "mean", "std", "seed"}))
        case _:
            return Values()


def _of_own(config: Any) -> Preprocessing:
    found = config.found
    if config.kind == "arrays":
        steps = config.steps or (1 if "T" in found.axes else STEPS)
        return Arrays(axes=found.axes, shape=found.shape, steps=steps, mean=found.mean, std=found.std)
    picture = {
        "height": found.height, "width": found.width, "colours": found.colours, "resize": config.resize is not None,
    }  # fmt: skip
    if config.images is None:
        return Pixels(**picture)
    return Whole(**picture, **config.images.model_dump(include={"steps", "encoding", "mean", "std", "seed"}))


def counts_events(config: Any) -> bool:
    """Whether a network's inputs count events or spikes, by the `data` section of a recipe; else they are numbers."""
    how = preprocessing(config)
    return isinstance(how, Frames) or (isinstance(how, Whole) and how.encoding == "poisson")


def framed(events: Events, how: Frames) -> "Tensor":
    """Return one recording's events as frames [T, …], as training makes them."""
    from hstnn_deploy.data.events.frames import frames_of
    from hstnn_deploy.data.events.transforms import chain

    return frames_of(chain(how.transforms, how.sensor)(events), how.framing)


def parse(plain: Any) -> Preprocessing:
    """Return the preprocessing that plain data describes.

    Raises:
        BundleError: this version of hstnn does not know it.
    """
    try:
        made: Preprocessing = TypeAdapter(Preprocessing).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(
            f"the manifest's preprocessing is invalid: {where}: {rule_broken(first['msg'])}", "export the bundle again"
        ) from error
    return made
