"""The layers of a stack. To add one: write its configuration and its layer, and name the former in `LAYERS`.

A layer's configuration is told by the one key that all others lack: `{conv: 128, kernel: 3}` is a `ConvConfig`.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from hstnn_deploy.errors import HstnnError, RecipeError, nearest
from hstnn_deploy.foreign import brief, rule_broken
from hstnn_deploy.models.layers.base import Layer, Shape
from hstnn_deploy.models.layers.blocks import (
    Chain,
    Parallel,
    ParallelConfig,
    RepeatConfig,
    Residual,
    ResidualConfig,
)
from hstnn_deploy.models.layers.maps import (
    ActivationConfig,
    DelayConfig,
    DropoutConfig,
    FlattenConfig,
    PoolConfig,
    ScaleConfig,
    VoteConfig,
)
from hstnn_deploy.models.layers.norm import NormConfig
from hstnn_deploy.models.layers.recurrent import RecurrentConfig
from hstnn_deploy.models.layers.units import (
    AdaptiveConfig,
    FeedbackConfig,
    IntegratorConfig,
    LifConfig,
)
from hstnn_deploy.models.layers.weights import ConvConfig, EmbeddingConfig, LinearConfig
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.plugins import registry as plugins

__all__ = ["LAYERS", "MOST_LAYERS", "WIDEST", "Chain", "Layer", "Misfit", "Shape", "build_chain", "checked"]

MOST_LAYERS = 1000
"""Of a stack, repetitions counted."""
WIDEST = 2**26
"""Values that a layer may give at a step of one sample."""
_DEEPEST = 20
"""Blocks within blocks."""


LAYERS: dict[str, type[BaseModel]] = {
    "linear": LinearConfig,
    "conv": ConvConfig,
    "embedding": EmbeddingConfig,
    "norm": NormConfig,
    "pool": PoolConfig,
    "flatten": FlattenConfig,
    "vote": VoteConfig,
    "activation": ActivationConfig,
    "scale": ScaleConfig,
    "delay": DelayConfig,
    "dropout": DropoutConfig,
    "lif": LifConfig,
    "adaptive": AdaptiveConfig,
    "integrator": IntegratorConfig,
    "rnn": RecurrentConfig,
    "lstm": RecurrentConfig,
    "gru": RecurrentConfig,
    "feedback": FeedbackConfig,
    "residual": ResidualConfig,
    "parallel": ParallelConfig,
    "repeat": RepeatConfig,
}
"""The layers by the key that tells them apart. A user may have registered more: see `hstnn_deploy.custom`."""

# A key of a layer's options is no layer's name either: it would tell two apart.
plugins.reserve("layers", {*LAYERS, *(key for each in LAYERS.values() for key in each.model_fields)})


class Misfit(RecipeError):
    """Layers that do not fit together, or an unknown layer; says where."""


def checked(layers: Any, path: str, depth: int = 0) -> list[dict[str, Any]]:
    """Return layers as plain data, each checked and with its defaults left out.

    Args:
        layers: as a recipe has them.
        path: of the list within the recipe.
        depth: how many blocks it stands in.

    Raises:
        Misfit: an unknown layer or key, or a wrong value; says its path.
    """
    if not isinstance(layers, list):
        raise Misfit(f"{path} is {brief(layers)}, not a list of layers")
    # Before any is checked: a short recipe may come to very many.
    if depth == 0 and _count(layers, path) > MOST_LAYERS:
        raise Misfit(f"{path} has more than {MOST_LAYERS} layers, counting blocks and repetitions")
    found, wrong = list[dict[str, Any]](), list[HstnnError]()
    for place, each in enumerate(layers):
        try:
            found.append(_checked(each, f"{path}.{place}", depth))
        except Misfit as error:
            wrong += [error, *error.others]
            error.others = ()
    if wrong:
        # The message names all of them, not the first alone.
        first, *rest = wrong
        first.others = tuple(rest)
        raise first
    return found


def _count(layers: Any, path: str, depth: int = 0) -> int:
    """Return how many layers a list as a recipe has it comes to; where they are too many, only so far.

    Raises:
        Misfit: blocks stand in too many blocks.
    """
    if depth > _DEEPEST:
        raise Misfit(f"{path} has blocks within blocks, more than {_DEEPEST} deep")
    total = 0
    for each in layers if isinstance(layers, list) else ():
        if total > MOST_LAYERS:
            break
        if not isinstance(each, dict):
            total += 1
            continue
        branches, inside = each.get("parallel"), 0
        chains = [each.get("residual"), each.get("shortcut"), each.get("layers")]
        for chain in chains + (branches if isinstance(branches, list) else []):
            inside += _count(chain, path, depth + 1)
            if inside > MOST_LAYERS:
                break
        # A block is a layer itself; what repeats is not.
        times = each.get("repeat")
        total += max(1, inside * times) if isinstance(times, int) else inside + 1
    return total


def registered(kind: str) -> type[BaseModel] | None:
    """Return the configuration of a custom layer or neuron; None if none is registered under the name.

    Raises:
        UsageError: see `plugins.find`.
    """
    part = plugins.find("neurons", kind) or plugins.find("layers", kind)
    found: type[BaseModel] | None = part.value if part else None
    return found


def _unknown(name: str) -> str:
    """Return a hint for an unknown layer name."""
    own = [*plugins.names("neurons"), *plugins.names("layers")]
    return f"{nearest(name, [*LAYERS, *own])}; {plugins.hint('layers')}"


def _checked(given: Any, path: str, depth: int) -> dict[str, Any]:
    given = {given: None} if isinstance(given, str) else given
    if not isinstance(given, dict):
        raise Misfit(f"{path} is {brief(given)}, not a layer such as {{linear: 100}}")
    kinds = [key for key in given if key in LAYERS]
    if len(kinds) != 1:
        if kinds:
            raise Misfit(f"{path} names {len(kinds)} layers: {', '.join(kinds)}", "make each a list item of its own")
        name = str(next(iter(given), ""))
        if len(given) == 1 and (own := registered(name)):
            plain = {name: {} if given[name] is None else given[name]}
            return _validated(own, name, plain, path).model_dump(mode="json", by_alias=True)
        raise Misfit(f"{path}: {brief(name)} is not a layer", _unknown(name))
    (kind,) = kinds
    if given[kind] is None and kind != "flatten" and not _keys(LAYERS[kind], [kind]):
        raise Misfit(f"{path} is {kind} without a value: give one, as in {{{kind}: …}}")
    # `- lif` alone, or `lif:` with nothing behind it, is one with its defaults.
    plain = {key: ({} if key == kind and value is None else value) for key, value in given.items()}
    if kind == "flatten":
        plain = {key: True if key == kind else value for key, value in plain.items()}
    config = _validated(LAYERS[kind], kind, plain, path)
    if large := [key for key, value in plain.items() if _is_large(value)]:
        raise Misfit(f"{path}.{large[0]} is {brief(plain[large[0]])}: at most {WIDEST}")
    told = config.model_dump(mode="json", exclude_defaults=True)
    value = getattr(config, kind)
    found = {kind: told.get(kind, {} if isinstance(value, BaseModel) else value), **told}
    match config:
        case ResidualConfig():
            found["residual"] = checked(config.residual, f"{path}.residual", depth + 1)
            if config.shortcut:
                found["shortcut"] = checked(config.shortcut, f"{path}.shortcut", depth + 1)
        case ParallelConfig():
            found["parallel"] = [
                checked(each, f"{path}.parallel.{place}", depth + 1) for place, each in enumerate(config.parallel)
            ]
        case RepeatConfig():
            found["layers"] = checked(config.layers, f"{path}.layers", depth + 1)
    return found


def _validated(model: type[BaseModel], kind: str, plain: dict[str, Any], path: str) -> BaseModel:
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([path, *(str(part) for part in first["loc"] if not _names_type(part))])
        if first["type"] == "extra_forbidden":
            *parents, key = first["loc"]
            known = _keys(model, parents)
            raise Misfit(f"unknown key '{place}'", nearest(str(key), known)) from error
        if first["type"] == "missing":
            raise Misfit(f"{place} is missing") from error
        if first["type"] == "value_error" and isinstance(first["input"], dict):
            raise Misfit(f"{place}: {rule_broken(first['msg'])}") from error
        said = rule_broken(first["msg"])
        if first["type"] == "model_type":
            said = f"it takes its options by name, as in {{{kind}: {{…}}}}"
        raise Misfit(f"{place} is {brief(first['input'])}: {said}") from error


def _names_type(part: int | str) -> bool:
    """Whether a part of where pydantic found an error is which of several types it tried, and not a key."""
    return isinstance(part, str) and (part == "int" or "constrained-int" in part or "[" in part)


def _is_large(value: Any) -> bool:
    """Whether a number, or one of a list, is past every size."""
    return any(isinstance(each, int | float) and abs(each) > WIDEST for each in _listed(value))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _keys(config: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    """Return the keys that are known at a place of a layer."""
    for part in parents:
        # Of a user's own layer, its name is the only key.
        field = config.model_fields.get(str(part)) or config.model_fields.get("own")
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        config = inner
    keys = [key for key in config.model_fields if key != "type"]
    return [*keys, "tau"] if issubclass(config, Lif) else keys


def build_chain(layers: Sequence[dict[str, Any]], shape: Shape, path: str) -> tuple[Chain, Shape]:
    """Return checked layers, freshly initialised, for inputs of a shape; and the shape after them.

    Raises:
        Misfit: a layer does not take the shape that the one before it gives; says which two, and both shapes.
    """
    made: list[Layer] = []
    before = "the input"
    for place, plain in _flat(layers, path):
        kind = next(iter(plain))
        if shape == () and kind not in {"embedding", "residual", "parallel"}:
            raise Misfit(
                f"{place} ({kind}) takes values, but {before} gives tokens (input: [])",
                "put an embedding first, such as {embedding: 100, words: 10000}",
            )
        try:
            layer, after = _build(plain, kind, shape, place)
        except Misfit:
            raise
        except ValueError as error:
            raise Misfit(f"{place} ({kind}) does not fit after {before}, which gives {list(shape)}: {error}") from error
        if prod(after) > WIDEST:
            raise Misfit(f"{place} ({kind}) gives {list(after)}: more than {WIDEST} values")
        layer.output = after
        made.append(layer)
        shape, before = after, f"{place} ({kind})"
    return Chain(made), shape


def _flat(layers: Sequence[dict[str, Any]], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield layers with their paths, those that repeat as often as they do."""
    for place, plain in enumerate(layers):
        if "repeat" in plain:
            for _ in range(plain["repeat"]):
                yield from _flat(plain["layers"], f"{path}.{place}.layers")
        else:
            yield f"{path}.{place}", plain


def _build(plain: dict[str, Any], kind: str, shape: Shape, path: str) -> tuple[Layer, Shape]:
    if kind == "residual":
        body, after = build_chain(plain["residual"], shape, f"{path}.residual")
        shortcut, beside = None, shape
        if plain.get("shortcut"):
            shortcut, beside = build_chain(plain["shortcut"], shape, f"{path}.shortcut")
        if beside != after:
            raise ValueError(
                f"its layers give {list(after)}, but {'its shortcut' if shortcut else 'the input'} is {list(beside)}"
            )
        return Residual(body, shortcut), after
    if kind == "parallel":
        branches = [build_chain(each, shape, f"{path}.parallel.{n}") for n, each in enumerate(plain["parallel"])]
        shapes = [after for _, after in branches]
        if any(each[1:] != shapes[0][1:] or not each for each in shapes):
            raise ValueError(f"its branches give {', '.join(str(list(each)) for each in shapes)}, which differ in size")
        joined = (sum(each[0] for each in shapes), *shapes[0][1:])
        return Parallel([chain for chain, _ in branches], len(joined)), joined
    config: Any = (LAYERS.get(kind) or registered(kind) or _gone(kind)).model_validate(plain)
    built: tuple[Layer, Shape] = config.build(shape)
    return built


def _gone(kind: str) -> NoReturn:
    raise Misfit(f"{brief(kind)} is not a layer", plugins.hint("layers"))
