"""What pydantic found wrong, in words: each mistake with its place, what was given and what would work."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError

from hstnn_deploy.errors import HstnnError, RecipeError, nearest
from hstnn_deploy.foreign import brief, one_line
from hstnn_deploy.plugins import registry as plugins

Where = Callable[[Sequence[str]], str]
"""Says where in its source a key was written: ", line 12", or "" where nobody knows."""


_MOST = 20
"""Mistakes that are said at once."""


class Mistake(NamedTuple):
    """Something that is wrong."""

    keys: tuple[str, ...]
    """The path of the key."""
    message: str
    hint: str = ""
    sort: str = ""
    """`unknown` or `missing` of keys."""
    ours: bool = False
    """Whether the message is that of an error of ours, which says itself what it is about."""


def explained(error: ValidationError, source: str, model: type[BaseModel]) -> RecipeError:
    """Return all that pydantic found, as one error with the others beside it."""
    return together(mistakes(error, model), source, lambda _: "")


def together(found: Sequence[Mistake], source: str, where: Where) -> RecipeError:
    """Return mistakes as one error: the first, with the others in its `others`.

    Args:
        found: one or more.
        source: what has them, such as the name of a file.
        where: says where a key was written.
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
    """Leave out the missing keys that are there with a typo: an unknown key beside them says so."""
    meant = {
        (*each.keys[:-1], key[0])
        for each in found
        if each.sort == "unknown" and (key := re.findall(r"^did you mean '(.*)'\?$", each.hint))
    }
    return [each for each in found if each.sort != "missing" or each.keys not in meant]


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return what pydantic found, in words."""
    found = error.errors(include_url=False)
    if any(each["loc"][:1] == ("train",) for each in found):
        # A plain recipe's stage also stands in the places of the hybrids'.
        found = [each for each in found if each["loc"][:1] not in {("adapt",), ("restore",)}]
    schema = model.model_json_schema()
    return [_mistake(each, schema) for each in found]


def by_section(raw: Mapping[str, Any], error: HstnnError, model: type[BaseModel]) -> list[Mistake]:
    """Return all mistakes of plain data that a check of the whole refused, each section being judged by itself.

    Args:
        raw: the plain data.
        error: what that check said; nothing is known of what comes after it.
        model: what the data should be.
    """
    found = [
        Mistake((key,), f"unknown key {one_line(key)!r}", nearest(key, model.model_fields), "unknown")
        for key in map(str, raw)
        if key not in model.model_fields
    ]
    for key, field in model.model_fields.items():
        if key not in raw or (key == "data" and _of_own_kind(raw[key])):
            continue
        annotation: Any = Annotated[field.annotation, field]
        try:
            TypeAdapter[Any](annotation).validate_python(raw[key])
        except ValidationError as wrong:
            schema = model.model_json_schema()
            for each in wrong.errors(include_url=False):
                found.append(_mistake({**each, "loc": (key, *each["loc"])}, schema))
        except HstnnError as wrong:
            found += [_told(each) for each in (wrong, *wrong.others)]
    return [*found, *(_told(each) for each in (error, *error.others))]


def _of_own_kind(data: Any) -> bool:
    """Whether data is of a kind that a user registered, which the section's type does not know."""
    return isinstance(data, Mapping) and data.get("name") in plugins.names("data")


def _told(error: HstnnError) -> Mistake:
    """Return an error of ours; its message begins with the key's path, or has it in quotes."""
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
            said = _lower(found["msg"].removeprefix("Value error, "))
            return Mistake(tuple(keys), f"{path} is {brief(given)}: {said}")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _located(location: tuple[int | str, ...], schema: dict[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return where an error is: its keys, the keys that are allowed beside the last, and the choice it stands at.

    Pydantic's location also names the branch that was taken at a choice (a discriminated union); that is not a key.
    """

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        # A key that may be null: what it is else.
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
            # A choice within a choice stands there itself.
            node = branch if isinstance(branch, dict) else resolved({"$ref": branch})
        else:
            keys.append(str(part))
            allowed = list(node.get("properties", {}))
            inside = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
            node = resolved(inside)
    return keys, allowed, node.get("discriminator", {})
