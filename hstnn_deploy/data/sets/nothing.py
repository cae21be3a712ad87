"""No data: what stands in the place of a data set where a network has no recipe. It has a length, and no samples."""

from typing import Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from hstnn_deploy.data.dataset import Card, DataSet, Source
from hstnn_deploy.errors import DataError

STEPS = 28
"""Steps of a window, where nobody says how many."""


class NoDataConfig(BaseModel):
    """What is known of the data of a network without a recipe: nothing but how long a window is to be."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["none"] = "none"
    steps: int = Field(STEPS, gt=0)
    """Time steps of a window of random input."""


def _refuse(_config: NoDataConfig, _source: Source) -> NoReturn:
    raise DataError(
        "the network has no recipe, so no data belongs to it", "name a recipe with data of its shape, with --recipe"
    )


NO_DATA = DataSet(
    "none",
    NoDataConfig,
    Card("no data: of a network without a recipe", "none", "none", ""),
    _refuse,
    lambda _config: None,
)
