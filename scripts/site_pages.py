"""A hook of MkDocs: the pages of the site that the code itself says: options, keys of recipes, the Python interface."""

import importlib
import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import annotated_types
import click
import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

import hstnn_deploy
from hstnn_deploy.cli.app import COMMANDS, commands
from hstnn_deploy.cli.examples import EXAMPLES, epilog
from hstnn_deploy.recipe.recipe import Recipe

_INNER = {"found"}
"""Sections that a training fills in by itself."""
_SIGNS = {
    annotated_types.Gt: ("gt", ">"),
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Lt: ("lt", "<"),
    annotated_types.Le: ("le", "≤"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder."""
    for name, page in {"options": options(), "recipes": keys(), "api": api()}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    r"""Take `\|` in the code of a table for `|`, as GitHub does; MkDocs would show the backslash."""
    lines = markdown.split("\n")
    return "\n".join(
        re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), line) if line.startswith("|") else line
        for line in lines
    )


def options() -> str:
    """Every option of every command, as `--help` says them."""
    command = typer.main.get_command(commands(*COMMANDS))
    text = get_docs_for_click(
        obj=command, ctx=click.Context(command, info_name="hstnn"), name="hstnn", title="Every option"
    )
    for short, whole in _summaries(command, "hstnn"):
        text = text.replace(short, whole)
    for path in EXAMPLES:
        title, *lines = epilog(path).splitlines()
        block = "\n".join([title, "", "```console", *map(str.strip, lines), "```", ""])
        text = text.replace(f"{epilog(path)}\n", block)
    parts = text.split("`")  # every second one is code, where Markdown escapes by itself
    return "`".join(part if n % 2 else part.replace("<", "&lt;") for n, part in enumerate(parts))


def _summaries(command: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the cut line of each command in a list of commands, and the whole one with a link."""
    for name, inner in getattr(command, "commands", {}).items():
        about = (inner.help or "").partition("\n\n")[0]
        link = f"{path} {name}".replace(" ", "-")
        yield f"* `{name}`: {inner.get_short_help_str()}\n", f"* [`{name}`](#{link}): {about}\n"
        yield from _summaries(inner, f"{path} {name}")


def api() -> str:
    """The public names, with their docstrings."""
    text = ["# Python API", "`import hstnn_deploy as hd`; [From Python](../python.md) has an example of each."]
    for name, place in sorted(hstnn_deploy._PUBLIC.items()):
        module, _, attribute = place.partition(":")
        members = _members(module)
        text.append(f"## {name}")
        if attribute:
            text += _described(name, members[attribute])
        else:
            text.append(importlib.import_module(module).__doc__ or "")
            for inner, found in _public(module).items():
                text += [f"### {name}.{inner}", *_described(f"{name}.{inner}", found)]
    return "\n\n".join(text)


def _public(module: str) -> dict[str, griffe.Object | griffe.Alias]:
    """Return the functions and classes that a module offers, those of other modules of ours among them."""
    found: dict[str, griffe.Object | griffe.Alias] = {}
    for name, member in _members(module).items():
        if member.is_alias:
            origin, _, original = member.target_path.rpartition(".")
            there = _members(origin).get(original) if origin.startswith("hstnn_deploy.models.custom") else None
        else:
            there = member
        if there is not None and not name.startswith("_") and (there.is_function or there.is_class):
            found[name] = there
    return found


def _described(name: str, found: griffe.Object | griffe.Alias) -> list[str]:
    """Return a function or a class with its public members."""
    parts = []
    if found.is_function:
        parts.append(f"```python\n{found.signature()}\n```".replace(found.name, name, 1))
    parts += _docstring(found)
    if not found.is_class:
        return parts
    for member in found.members.values():
        if member.name.startswith("_") or member.docstring is None:
            continue
        if member.is_function and "property" not in member.labels:
            parts += [f"**`{name}.{member.name}`**", f"```python\n{member.signature()}\n```"]
        else:
            parts.append(f"**`{name}.{member.name}`**: `{member.annotation}`")
        parts += _docstring(member)
    return parts


def _docstring(found: griffe.Object | griffe.Alias) -> list[str]:
    parts = []
    for section in found.docstring.parse("google") if found.docstring else []:
        if isinstance(section.value, str):
            parts.append(section.value)
        else:
            rows = [
                f"- `{getattr(each, 'name', None) or each.annotation}`: {' '.join(each.description.split())}"
                for each in section.value
            ]
            parts += [f"*{section.kind.value.capitalize()}:*", "\n".join(rows)]
    return parts


def keys() -> str:
    """Every key of a recipe."""
    text = [
        "# Recipe keys",
        "`hstnn recipes NAME > mine.yaml` writes a recipe to start from. A key with a default may be left out.",
        _table(Recipe, skip={"data", "network"}),
    ]
    for key in ("data", "network"):
        text.append(f"## {key}")
        for model in _models(Recipe.model_fields[key].annotation):
            (name,) = [each for each in ("name", "family") if each in model.model_fields][:1]
            named = [model.model_fields[each].annotation for each in (name, "kind") if each in model.model_fields]
            called = ", ".join(each for one in named for each in typing.get_args(one))
            text += [f"### {key}: {called}", _doc(model), _table(model, f"{key}.")]
    return "\n\n".join(text)


def _table(model: type[BaseModel], prefix: str = "", skip: set[str] = frozenset()) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field, doc in _fields(model, prefix, skip):
        default = "required" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
        lines.append(f"| `{key}` | {_type(field)} | {default} | {doc} |")
    return "\n".join(lines)


def _fields(model: type[BaseModel], prefix: str, skip: set[str]) -> Iterator[tuple[str, FieldInfo, str]]:
    for name, field in model.model_fields.items():
        if name in skip | _INNER:
            continue
        yield f"{prefix}{field.alias or name}", field, _field_doc(model, name)
        for inner in _models(field.annotation):
            yield from _fields(inner, f"{prefix}{field.alias or name}.", set())


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation names, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(model for each in typing.get_args(annotation) for model in _models(each)))


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {_number(getattr(each, name))}"
        for each in field.metadata
        for kind, (name, sign) in _SIGNS.items()
        if isinstance(each, kind)
    ]
    return _words(field.annotation) + (f", {', '.join(bounds)}" if bounds else "")


def _number(value: float) -> str:
    power = value.bit_length() - 1 if isinstance(value, int) else 0
    return f"2^{power}" if power > 20 and value == 2**power else f"{value:g}"


def _words(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(inner[0])
    if origin is typing.Literal:
        return " \\| ".join(f"`{each}`" for each in inner)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(dict.fromkeys(map(_words, inner)))
    if origin is dict:
        return f"map from {' to '.join(map(_words, inner))}"
    if origin is not None:
        return f"{origin.__name__} of {', '.join(map(_words, inner))}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return getattr(annotation, "__name__", str(annotation))


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "its defaults"
    if value == "":
        return '""'
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value).replace("|", "\\|")
    )


def _doc(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip()


@cache
def _members(module: str) -> dict[str, griffe.Object | griffe.Alias]:
    """Return what a module of this package defines."""
    if not module.startswith("hstnn_deploy"):
        return {}
    path = Path(importlib.import_module(module).__file__ or "")
    return griffe.visit(module, path, path.read_text(encoding="utf-8")).members


def _field_doc(model: type[BaseModel], name: str) -> str:
    """Return what stands below a field, in its class or the one that it is from."""
    for each in model.__mro__:
        found = _members(each.__module__).get(each.__name__)
        member = found.members.get(name) if found is not None else None
        if member is not None and member.docstring:
            return " ".join(member.docstring.value.split()).replace("|", "\\|")
    # Of a section, what the section is.
    return next((_doc(each).partition("\n")[0] for each in _models(model.model_fields[name].annotation)), "")
