"""No data: used where no data set is available. It has a length, but no samples."""

from typing import ClassVar, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from hstnn_deploy.data.dataset import Card, DataSet, Source
from hstnn_deploy.errors import DataError

STEPS = 28
"""Steps of a window, if not given."""


class AbsentConfig(BaseModel):
    """What is known of data that is not at hand: how long a window is."""

    model_config = ConfigDict(extra="forbid")

    why: ClassVar[str]
    """Why it is not, in words that a comma follows."""

    steps: int = Field(STEPS, gt=0)
    """Time steps of a window of random input."""


class NoDataConfig(AbsentConfig):
    """What is known of the data of a network without a recipe: nothing but how long a window is to be."""

    why: ClassVar[str] = "the network has no recipe"

    name: Literal["none"] = "none"


class PythonDataConfig(AbsentConfig):
    """What a recipe says of data that was handed over in Python (`hstnn_deploy.fit`): what tells it from other data."""

    why: ClassVar[str] = "the network was trained on data that was given in Python"

    name: Literal["python"] = "python"
    input: list[int]
    """The shape of one time step of one sample; [] of tokens."""
    classes: int
    samples: dict[str, int]
    """How many there are, by split; no `test` where none was given."""
    sha256: dict[str, str]
    """Of their classes and some of the samples, by split."""


def _refuse(config: AbsentConfig, _source: Source) -> NoReturn:
    raise DataError(
        f"{config.why}, so no data is available",
        "evaluate, export and show take a recipe with data of its shape: --recipe NAME",
    )


NO_DATA = DataSet(
    "none",
    AbsentConfig,
    Card("no data: of a network without a recipe", "none", "none", ""),
    _refuse,
    lambda _config: None,
)
