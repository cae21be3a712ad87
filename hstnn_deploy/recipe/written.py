"""A recipe as YAML to edit, with an explanation of every key from the models' own descriptions.

The recipe's values stay as they are; keys that it leaves out follow as comments with their defaults. It trains to the
same bits as the recipe that it was written from.
"""

import ast
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hstnn_deploy.models.layers import LAYERS
from hstnn_deploy.recipe.recipe import Recipe

_WIDTH = 100
_RESULTS = ("experiment", "published")
"""Keys of a recipe about its published results, which do not apply to a copy."""
_FILLED_IN = {"found", "init"}
"""Sections that a training fills in."""
_OTHERS = {
    "hybrid": {"method", "train", "finetune"},
    "plain": {"method", "kind", "ratio", "adapt", "selection", "restore"},
}
"""Keys of the other method, and `method` itself, which follows from the family."""
_SAID = {
    "name": "The name of the training in run folders, tables and pictures. Default: the name of this file.",
    "data": "The training data. `hstnn data list` lists data sets; docs/own-data.md has the keys for your own data.",
    "data.name": "The data set.",
    "data.frames.by": "How a recording is cut into frames.",
    "network": "The network to train.",
    "network.family": "The family of networks; a stack lists its layers (docs/layers.md).",
    "network.neuron": "The spiking neurons; docs/layers.md has their equations.",
    "network.neuron.type": "The type of neuron.",
    "adapt": "The first stage: adaptation, or the only stage of kinds rnn, lstm, snn and ffs.",
    "selection": "The second stage: selection of the units to keep. Only for kind hybrid.",
    "restore": "The third stage: training of the selected units. Only for kind hybrid.",
    "train": "The only stage.",
}
"""Descriptions of keys whose model says too little for a reader of the recipe."""


def written(raw: Mapping[str, Any], recipe: Recipe, source: str, own: bool) -> str:
    """Return the text of a recipe to edit.

    Args:
        raw: the recipe as it was read; its values stay as they are.
        recipe: the same, validated.
        source: where it was read.
        own: whether it is already the user's own: then it keeps its name and description.
    """
    began = "Your recipe" if own else "A recipe of your own, copied from"
    lines = [
        f"# {began} {source}. Train it: hstnn train FILE.yaml",
        '# A line such as "# key: value" shows a default; remove the # to change it.',
    ]
    plain = dict(raw)
    if not own:
        lines += ["", *_comment(_SAID["name"], ""), f"# name: my-{recipe.name}"]
        about = f"My variant of {recipe.name}."
        kept = {key: value for key, value in plain.items() if key not in ("name", "about", *_RESULTS)}
        plain = {"about": about} | kept
    skip = _OTHERS[recipe.method] | ({"name", *_RESULTS} if not own else set())
    for block in _Writer().section(recipe, plain, "", "", skip):
        lines += ["", *block] if not block[0].startswith(" ") else block
    return "\n".join(lines) + "\n"


class _Writer:
    """Writes sections; each model is explained only once."""

    def __init__(self) -> None:
        self._explained = set[type[BaseModel]]()

    def section(
        self, model: BaseModel, plain: Mapping[str, Any], path: str, indent: str, skip: set[str]
    ) -> Iterator[list[str]]:
        """Yield the lines of each key: first those in the section, then those it leaves out."""
        known = {field.alias or name: (name, field) for name, field in type(model).model_fields.items()}
        new = type(model) not in self._explained
        self._explained.add(type(model))
        for key, value in plain.items():
            name, field = known.get(key, (key, None))
            comment = _comment(_said(model, name, field, path), indent) if new else []
            inner = getattr(model, name, None)
            if isinstance(value, Mapping) and value and isinstance(inner, BaseModel):
                lines = [*comment, f"{indent}{key}:"]
                for block in self.section(inner, value, f"{path}{key}.", f"{indent}  ", set()):
                    lines += block
                yield lines
            elif f"{path}{key}" == "network.layers" and isinstance(value, list):
                yield [*comment, f"{indent}{key}:", *self._layers(value, f"{indent}  ")]
            else:
                yield [*comment, f"{indent}{key}: {_flow(value)}"]
        if not new:
            return
        for key, (name, field) in known.items():
            if key in plain or key in skip | _FILLED_IN or field.is_required():
                continue
            default = field.get_default(call_default_factory=True)
            shown = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
            yield [*_comment(_said(model, name, field, path), indent), f"{indent}# {key}: {_flow(shown)}"]

    def _layers(self, layers: list[Any], indent: str) -> Iterator[str]:
        """Yield a line for each layer; the first of each kind has a description."""
        seen = set[str]()
        for layer in layers:
            kind = next((key for key in ([layer] if isinstance(layer, str) else layer) if key in LAYERS), "")
            if kind and kind not in seen:
                seen.add(kind)
                about = (LAYERS[kind].__doc__ or "").strip().partition("\n")[0]
                yield from _comment(about, indent)
            yield f"{indent}- {_flow(layer)}"


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text, _WIDTH - len(indent) - 2)] if text else []


def _said(model: BaseModel, key: str, field: FieldInfo | None, path: str) -> str:
    """Return the description of a key, and its choices if it has any."""
    text = _SAID.get(f"{path}{key}") or _docs(type(model)).get(key, "")
    if not text and field is not None:
        text = next(((each.__doc__ or "").strip().partition("\n")[0] for each in _models(field.annotation)), "")
    choices = [] if field is None else _choices(field.annotation)
    if len(choices) > 1:
        text = f"{text.removesuffix('.')} (one of: {', '.join(choices)})." if text else f"One of: {', '.join(choices)}."
    return text


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(each) for each in typing.get_args(annotation)]
    inner = [each for each in typing.get_args(annotation) if each is not type(None)]
    return _choices(inner[0]) if len(inner) == 1 else []


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in typing.get_args(annotation) for model in _models(each)]


@cache
def _docs(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field of a model, from its class or its base classes."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not (isinstance(each, type) and issubclass(each, BaseModel)) or each is BaseModel:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        (body,) = tree.body
        assert isinstance(body, ast.ClassDef)
        for line, after in zip(body.body, body.body[1:], strict=False):
            match line, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
                case _:
                    pass
    return found


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z][\w ./-]*", value):
        return json.dumps(value, ensure_ascii=False)
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()
