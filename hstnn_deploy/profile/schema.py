"""The shape of a record's plain data, as tables and reports take it: types and ranges, checked where it is read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.foreign import one_line
from hstnn_deploy.models.sizes import Kind
from hstnn_deploy.profile.record import Configuration, Status

_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    # There may be more than is known here: programs that measure may add to it.
    model_config = ConfigDict(extra="allow", strict=True)


class _Network(_Part):
    family: str | None = None


class _Data(_Part):
    name: str | None = None


class _Plain(_Part):
    """A recipe of method plain, which has neither kind nor ratio."""

    name: str | None = None
    seed: int | None = None
    precision: str = "fp32"
    experiment: str | None = None
    protocol: str | None = None
    network: _Network | None = None
    data: _Data | None = None


class _Recipe(_Plain):
    kind: Kind
    ratio: _Number


class _Input(_Part):
    name: str
    shape: list[int]
    type: str


class _Foreign(_Part):
    kind: Literal["onnx", "module"]
    inputs: list[_Input]


class _WarmUp(_Part):
    steady: bool | None = None
    rule: str = ""


class _Sampler(_Part):
    cores: _Number


class _Project(_Part):
    commit: str | None
    changed: bool = False
    of: str = ""
    reason: str = ""


class _Facts(_Part):
    """Of the facts, those that a report shows."""

    versions: dict[str, str | None] = {}
    cpu: str = ""
    cores: _Number = 1
    gpu: str = ""
    driver: str | None = None
    node: str = ""
    data: str = ""
    search: str = ""
    calls: int = 0
    memory_limit: list[int] = []
    warm_up: _WarmUp = _WarmUp()
    sampler: _Sampler | None = None
    project: _Project | None = None
    measured_at: str = ""
    loss: str = ""
    states: str = ""
    train_steps: int = 0
    train_steps_of: int = 0
    train_steps_repeats: int = 0
    eval_steps: int = 0
    eval_steps_of: int = 0
    eval_steps_repeats: int = 0


class _Value(_Part):
    name: str
    value: _Number | None
    unit: str = ""
    source: str = ""
    note: str = ""
    reason: str = ""


class _Span(_Part):
    name: str
    start: _Number
    seconds: _Number
    values: list[_Value]


class _Timeline(_Part):
    columns: dict[str, list[_Number | None]] = {}


class _Record(_Part):
    status: Status
    reason: str
    values: list[_Value]
    spans: list[_Span]
    facts: _Facts
    series: dict[str, list[_Number | None]]
    timeline: _Timeline


_CONFIGURATION: TypeAdapter[Configuration] = TypeAdapter(Configuration)
_MEASURED = {"versions", "cpu", "cores"}
"""Facts that say on what something was measured."""


def check_shape(plain: dict[str, Any]) -> None:
    """Refuse plain data that no record has.

    Raises:
        ProfileError: with the place of the first value that is wrong.
    """
    try:
        _Record.model_validate(plain)
        _CONFIGURATION.validate_python(plain["configuration"])
        recipe = plain["configuration"]["recipe"]
        foreign = plain["configuration"].get("foreign")
        if foreign is not None:
            _Foreign.model_validate(foreign)
        (_Plain if foreign is not None or recipe.get("method") == "plain" else _Recipe).model_validate(recipe)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ProfileError(f"a record is damaged: {one_line(place)}: {one_line(first['msg'])}") from error
    if plain["status"] == "measured" and (missing := sorted(_MEASURED - plain["facts"].keys())):
        raise ProfileError(f"a record is damaged: its facts lack {missing[0]}")
