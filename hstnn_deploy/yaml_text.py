"""YAML for this project: plain data, each key once, in bounded time and memory.

Only numbers, text, true and false, null, lists, and keys with values (no dates, sets or binary). Invalid input is
refused with its place: a duplicate key, too deep nesting, aliases that expand into millions of values.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.foreign import NO_TEXT, TEXT_LIMIT, brief, one_line, read_bytes, reading

_DEPTH, _NODES = 50, 50_000
"""Limits on the nesting depth and the number of values, with every alias expanded."""

_BITS = 256
"""Bits of an integer, at most: enough to show it in an error if it is too large for its purpose."""

_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


def parse(text: str) -> Any:
    """Return the plain data of YAML text.

    Raises:
        ValueError: it is not YAML, or contains refused data; the message is one line with the place.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        # The place, without the name of a string and the arrow below the line.
        reason = str(error).replace(' in "<unicode string>",', " in")
        raise ValueError(one_line(reason).removesuffix("^").rstrip()) from error


def read(path: Path, error: type[HstnnError], hint: str = "") -> Any:
    """Return the plain data of a YAML file.

    Raises:
        HstnnError: `error`, if the file cannot be read, is too large, or is not YAML.
    """
    with reading(path, "YAML", error, hint):
        raw = read_bytes(path, TEXT_LIMIT)
        try:
            return parse(raw.decode("utf-8"))
        except ValueError as found:
            said = NO_TEXT if isinstance(found, UnicodeDecodeError) else one_line(str(found))
            raise error(f"{path} is not YAML: {said}", hint) from found


def lines(path: Path, error: type[HstnnError]) -> dict[tuple[str, ...], int]:
    """Return the line, from 1, of each key and list entry of a YAML file, by its path of keys.

    An alias has the line of the value that it refers to.

    Raises:
        HstnnError: see `read`.
    """
    with reading(path, "YAML", error, ""):
        loader = _Loader(read_bytes(path, TEXT_LIMIT).decode("utf-8"))
        root = loader.get_single_node()
    found: dict[tuple[str, ...], int] = {}
    waiting: list[tuple[tuple[str, ...], Node]] = [] if root is None else [((), root)]
    while waiting:
        place, node = waiting.pop()
        pairs: list[tuple[str, Node, Node]] = []
        if isinstance(node, MappingNode):
            pairs = [(str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, SequenceNode):
            pairs = [(str(number), value, value) for number, value in enumerate(node.value)]
        for name, first, value in pairs:
            found[*place, name] = first.start_mark.line + 1
            waiting.append(((*place, name), value))
    return found


def dump(value: Any) -> str:
    """Return plain data as YAML, keeping the order of keys."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text


class _Size(NamedTuple):
    values: int
    depth: int


_UNDER_WAY = _Size(0, 0)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > _DEPTH:
            raise self._refused(f"it is nested more than {_DEPTH} deep", self.peek_event())  # type: ignore[no-untyped-call]
        if self._nodes > _NODES:
            raise self._refused(f"it has more than {_NODES} values", self.peek_event())  # type: ignore[no-untyped-call]
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Node | None:
        node: Node | None = super().get_single_node()
        if node is not None:
            self._check_size(node, {})
        return node

    def _check_size(self, node: Node, known: dict[int, _Size]) -> _Size:
        """Return the number of values of a node, and their nesting depth, with all aliases expanded."""
        if (found := known.get(id(node))) is not None:
            if found is _UNDER_WAY:
                raise self._refused("an alias contains itself", node)
            return found
        known[id(node)] = _UNDER_WAY
        children: list[Node] = []
        if isinstance(node, SequenceNode):
            children = node.value
        elif isinstance(node, MappingNode):
            children = [each for pair in node.value for each in pair]
        count = depth = 1
        for child in children:
            below = self._check_size(child, known)
            count += below.values
            depth = max(depth, below.depth + 1)
            if count > _NODES or depth > _DEPTH:
                raise self._refused(f"its aliases expand to more than {_NODES} values, or {_DEPTH} levels", node)
        known[id(node)] = _Size(count, depth)
        return known[id(node)]

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if node.tag not in _PLAIN:
            raise self._refused(f"{_short(node.tag)} is not plain data", node)
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # a scalar that only begins as its type
            raise self._refused(f"{brief(node.value)} is not a valid {_short(node.tag)}", node) from error
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise self._refused(f"an integer of more than {_BITS} bits", node)
        return value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, MappingNode):
            seen: dict[Any, Node] = {}
            for key_node, _ in node.value:
                if isinstance(key_node, CollectionNode):
                    raise self._refused("a key is a list or a section", key_node)
                key = key_node.value if isinstance(key_node, ScalarNode) else None
                if key in seen and seen[key].tag == key_node.tag:
                    raise self._refused(f"the key {brief(key)} appears twice", key_node)
                seen[key] = key_node
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found

    def _refused(self, what: str, place: Any) -> ConstructorError:
        return ConstructorError(None, None, what, place.start_mark)


# `2001-01-01` is text: nothing here takes a date, and an impossible date would fail to parse.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _short(tag: str) -> str:
    return brief(tag.removeprefix(_TAG)).strip("'")
