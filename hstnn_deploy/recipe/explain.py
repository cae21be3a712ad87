"""What pydantic found wrong, as one line and a hint."""

from typing import Any

from pydantic import BaseModel, ValidationError

from hstnn_deploy.errors import RecipeError, nearest
from hstnn_deploy.foreign import brief, one_line
from hstnn_deploy.plugins import registry as plugins


def explained(error: ValidationError, source: str, model: type[BaseModel]) -> RecipeError:
    """Turn the first thing pydantic found into one line and a hint."""
    found = error.errors(include_url=False)
    if any(each["loc"][:1] == ("train",) for each in found):
        # A plain recipe's stage also stands in the places of the hybrids'.
        found = [each for each in found if each["loc"][:1] not in {("adapt",), ("restore",)}]
    first = found[0]
    keys, allowed, choice = _located(first["loc"], model)
    path, given = one_line(".".join(keys)), first["input"]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    match first["type"]:
        case "extra_forbidden":
            return RecipeError(f"{source}: unknown key {path!r}{more}", nearest(keys[-1], allowed))
        case "missing":
            return RecipeError(f"{source}: key {path!r} is missing{more}")
        case "union_tag_not_found":
            key, values = choice["propertyName"], choice["mapping"]
            return RecipeError(f"{source}: key '{path}.{key}' is missing{more}", f"known: {', '.join(values)}")
        case "union_tag_invalid":
            key, values = choice["propertyName"], choice["mapping"]
            tag = brief(given[key])
            hint = nearest(tag.strip("'"), [*values, *(plugins.names("data") if path == "data" else ())])
            hint += f"; {plugins.hint('data')}" if path == "data" else ""
            return RecipeError(f"{source}: {path}.{key} is {tag}{more}", hint)
        case _:
            return RecipeError(
                f"{source}: {path} is {brief(given)}: {_lower(first['msg'].removeprefix('Value error, '))}{more}"
            )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _located(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return where an error is: its keys, the keys that are allowed beside the last, and the choice it stands at.

    Pydantic's location also names the branch that was taken at a choice (a discriminated union); that is not a key.
    """
    schema = model.model_json_schema()

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
