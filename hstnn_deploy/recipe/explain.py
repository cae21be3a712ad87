"""Pydantic's validation errors in plain words: each with its place, the given value and what would work."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError, create_model

from hstnn_deploy.errors import HstnnError, RecipeError, nearest
from hstnn_deploy.foreign import brief, one_line, rule_broken
from hstnn_deploy.plugins import registry as plugins

Where = Callable[[Sequence[str]], str]
"""Returns where a key was written in its source: ", line 12", or "" if that is unknown."""


_MOST = 20
"""Mistakes that are reported at once."""


class Mistake(NamedTuple):
    """A mistake in plain data."""

    keys: tuple[str, ...]
    """The path of the key."""
    message: str
    hint: str = ""
    sort: str = ""
    """`unknown` or `missing` of keys."""
    ours: bool = False
    """Whether the message comes from one of our own errors, which names its key itself."""


def explained(error: ValidationError, source: str, model: type[BaseModel]) -> RecipeError:
    """Return all of pydantic's findings as one error, with the others in its `others`."""
    return together(mistakes(error, model), source, lambda _: "")


def together(found: Sequence[Mistake], source: str, where: Where) -> RecipeError:
    """Return mistakes as one error: the first, with the others in its `others`.

    Args:
        found: one or more.
        source: their origin, such as the name of a file.
        where: returns where a key was written.
    """
    told = sorted({each.message: each for each in _without_typos(found)}.values(), key=lambda each: _line(each, where))
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    first, *rest = [RecipeError(_begun(each, source, where) + each.message, each.hint) for each in told[:_MOST]]
    error = RecipeError(f"{first.message}{more}", first.hint)
    error.others = tuple(rest)
    return error


def _line(mistake: Mistake, where: Where) -> int:
    """Return the line of a mistake, by which a reader goes through the file; 0 where none is known."""
    return int(found[1]) if (found := re.search(r", line (\d+)", where(mistake.keys))) else 0


def _begun(mistake: Mistake, source: str, where: Where) -> str:
    place = where(mistake.keys)
    return f"{source}{place}: " if place.startswith(", line") or not mistake.ours else ""


def _without_typos(found: Sequence[Mistake]) -> list[Mistake]:
    """Drop missing keys that are present with a typo: the error of the unknown key suggests them."""
    meant = {
        (*each.keys[:-1], key[0])
        for each in found
        if each.sort == "unknown" and (key := re.findall(r"^did you mean '(.*)'\?$", each.hint))
    }
    return [each for each in found if each.sort != "missing" or each.keys not in meant]


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return pydantic's findings in plain words."""
    found = error.errors(include_url=False)
    if any(each["loc"][:1] == ("train",) for each in found):
        # A plain recipe's stage is also copied to the hybrids' stages.
        found = [each for each in found if each["loc"][:1] not in {("adapt",), ("restore",)}]
    schema = model.model_json_schema()
    return [_mistake(each, schema) for each in found]


def by_section(raw: Mapping[str, Any], error: HstnnError, model: type[BaseModel]) -> list[Mistake]:
    """Return all mistakes of plain data that failed a check of the whole, by checking each section separately.

    Args:
        raw: the plain data.
        error: the first error of that check, which stopped there.
        model: the expected model.
    """
    found = [
        Mistake((key,), f"unknown key {one_line(key)!r}", nearest(key, model.model_fields), "unknown")
        for key in map(str, raw)
        if key not in model.model_fields
    ]
    for key, field in model.model_fields.items():
        if key not in raw:
            continue
        # A model of this key alone: validated as it is in the whole.
        only: dict[str, Any] = {key: (field.annotation, copy(field))}
        alone = create_model(key, __config__=model.model_config, **only)
        try:
            alone.model_validate({key: raw[key]})
        except ValidationError as wrong:
            schema = model.model_json_schema()
            found += [_mistake(each, schema) for each in wrong.errors(include_url=False)]
        except HstnnError as wrong:
            found += [_told(each) for each in (wrong, *wrong.others)]
    return [*found, *(_told(each) for each in (error, *error.others))]


def _told(error: HstnnError) -> Mistake:
    """Return one of our errors as a mistake; its message begins with the key's path, or has it in quotes."""
    message = re.sub(r" \(and \d+ more\)$", "", error.message)
    key = re.search(r"^(?:unknown )?(?:key ')?([a-z_]+(?:\.[\w-]+)*)", message)
    keys = tuple(key[1].split(".")) if key else ()
    missing = re.search(r"^key '.*' is missing$", message)
    return Mistake(keys, message, error.hint, "missing" if missing else "", ours=True)


def _mistake(found: Mapping[str, Any], schema: dict[str, Any]) -> Mistake:
    keys, allowed, choice = _located(found["loc"], schema)
    path, given = one_line(".".join(keys)), found["input"]
    match found["type"]:
        case "extra_forbidden":
            return Mistake(tuple(keys), f"unknown key {path!r}", nearest(keys[-1], allowed), "unknown")
        case "missing":
            return Mistake(tuple(keys), f"key {path!r} is missing", "", "missing")
        case "union_tag_not_found":
            key, values = choice["propertyName"], choice["mapping"]
            return Mistake((*keys, key), f"key '{path}.{key}' is missing", f"known: {', '.join(values)}", "missing")
        case "union_tag_invalid":
            key, values = choice["propertyName"], choice["mapping"]
            tag = brief(given[key])
            hint = nearest(tag.strip("'"), [*values, *(plugins.names("data") if path == "data" else ())])
            hint += f"; {plugins.hint('data')}" if path == "data" else ""
            return Mistake((*keys, key), f"{path}.{key} is {tag}", hint)
        case _:
            said = _lower(rule_broken(found["msg"]))
            return Mistake(tuple(keys), f"{path} is {brief(given)}: {said}")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _located(location: tuple[int | str, ...], schema: dict[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return the location of an error: its keys, the keys allowed at the last level, and the choice there, if any.

    Pydantic's location also names the branch taken at a choice (a discriminated union), which is not a key.
    """

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        # A key that may be null: take its other type.
        some = [each for each in node.get("anyOf", ()) if each.get("type") != "null"]
        node = some[0] if len(some) == 1 else node
        found: dict[str, Any] = (
            schema.get("$defs", {}).get(node["$ref"].rsplit("/", 1)[-1], {}) if "$ref" in node else node
        )
        return found

    node, keys, allowed = schema, [], list[str]()
    for part in location:
        if "discriminator" in node:
            branch = node["discriminator"]["mapping"].get(part, "")
            # A nested choice is in the mapping itself.
            node = branch if isinstance(branch, dict) else resolved({"$ref": branch})
        else:
            keys.append(str(part))
            allowed = list(node.get("properties", {}))
            inside = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
            node = resolved(inside)
    return keys, allowed, node.get("discriminator", {})
