"""Mutations: of bytes; of the structure of JSON and YAML; and of what lies inside, behind checksums."""

import copy
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

import yaml

HOLE = "@odd@"
DEEP, VERY_DEEP = 900, 100_000

COMMON = [
    *("-1", "0", "0.5", "1180591620717411303424", "1e999", "9" * 5000, '""', "[]", "{}", "[[]]", "true", "null"),
    *('"../../evil"', '"/etc/passwd"', '"\\u001b[31mred"', '"\\ud800"', '"\\u202e"', '"\\u0000"', '"%s{0}%n"'),
    f'"{"x" * 300}"',
    f'"{"y" * 100_000}"',
    "[" * DEEP + "]" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
]
JSON = [*COMMON, "NaN", "Infinity", "-Infinity", "[" * VERY_DEEP + "]" * VERY_DEEP, '{"a": 1, "a": 2}', "01", "'x'"]
YAML = [
    *COMMON,
    *("2001-99-99", "2001-01-01", "2001-01-01 99:99:99", "0x_", "0b_", "0o_", "1:99:99", "190:20:30", ".nan", ".inf"),
    *("!!float x", "!!int z", "!!timestamp x", "!!binary '@'", "!!set {a}", "!!omap [1]", "!!bool x", "!!null x"),
    *("!!python/object/apply:os.system [touch CANARY]", "!!python/name:os.system", "!unknown x", "*nowhere"),
    *("&a [*a]", "{? [a] : 1}", "{a: 1, a: 2}", "{<<: 1}", "{<<: [1]}", "=", "~", "no", "1e3", "|", "x: y: z", "@x"),
    "&a [1,1]\nb: [*a]",
]
"""What may stand in the place of a value; `CANARY` is the file that must not be touched."""


class Inside(NamedTuple):
    """How a file is taken apart and put together again, with every checksum right."""

    split: Callable[[bytes], dict[str, bytes]]
    join: Callable[[dict[str, bytes]], bytes]


def mutated(
    content: bytes, form: str, random: Random, inside: Inside | None = None, others: Sequence[bytes] = ()
) -> bytes:
    """Return a damaged copy.

    Args:
        content: a valid file.
        form: bytes, json, yaml, lines (of JSON), or torch (what `torch.save` writes).
        random: where the choice comes from.
        inside: how to reach what lies behind checksums.
        others: valid files of other kinds, to take for this one.
    """
    if form == "torch" and random.random() < 0.4:
        return _saved(content, random)
    if inside is not None and random.random() < 0.7:
        parts = inside.split(content)
        name = random.choice(sorted(parts))
        parts[name] = mutated(parts[name], _form(name), random)
        return inside.join(parts)
    if form in {"json", "yaml"} and random.random() < 0.75:
        return _structured(content, form, random)
    if form == "lines" and random.random() < 0.75:
        lines = content.splitlines(keepends=True)
        number = random.randrange(len(lines))
        lines[number] = _structured(lines[number], "json", random).replace(b"\n", b" ") + b"\n"
        return b"".join(lines)
    if others and random.random() < 0.04:
        return random.choice(others)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        damage: Callable[[bytes, Random], bytes] = random.choice(_BYTES)
        content = damage(content, random)
    return content


def _form(name: str) -> str:
    return "json" if name.endswith(".json") else "bytes"


def _at(content: bytes, random: Random) -> int:
    # Headers matter more than what they describe.
    end = len(content) if random.random() < 0.5 else min(len(content), 128)
    return random.randrange(end) if end else 0


def _cut(content: bytes, random: Random) -> bytes:
    return content[: _at(content, random)]


def _flip(content: bytes, random: Random) -> bytes:
    changed, place = bytearray(content or b"\0"), _at(content, random)
    changed[place] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, random: Random) -> bytes:
    place, length = _at(content, random), random.choice((1, 2, 4, 8, 40))
    return content[:place] + random.randbytes(length) + content[place + length :]


def _blow_up(content: bytes, random: Random) -> bytes:
    """Put a huge or odd number where a size may stand, in a header's width and either order; or in its digits."""
    width = random.choice((2, 4, 8))
    number = random.choice((2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 2**40, 2**31, 0, 1))
    place = _at(content, random)
    digits = [n for n, byte in enumerate(content[:2000]) if chr(byte).isdigit()]
    if digits and random.random() < 0.5:
        place = random.choice(digits)
        return content[:place] + str(random.choice((2**31, 2**63, 2**64, 4 * 10**12))).encode() + content[place + 1 :]
    raw: bytes = (number % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))
    return content[:place] + raw + content[place + width :]


def _insert(content: bytes, random: Random) -> bytes:
    place = _at(content, random)
    return content[:place] + random.choice((random.randbytes(random.randrange(1, 50)), b"\0" * 16)) + content[place:]


def _double(content: bytes, random: Random) -> bytes:
    start, end = sorted((_at(content, random), _at(content, random)))
    return content[:end] + content[start:end] * random.choice((1, 2, 50)) + content[end:]


def _drop(content: bytes, random: Random) -> bytes:
    place = _at(content, random)
    return content[:place] + content[place + random.randrange(1, 20) :]


def _whole(content: bytes, random: Random) -> bytes:
    return random.choice((b"", bytes(len(content)), b"\xff" * len(content), content * 2, random.randbytes(64), b"\n"))


_BYTES = [_cut, _flip, _flip, _overwrite, _blow_up, _blow_up, _insert, _double, _drop, _whole]


def _structured(content: bytes, form: str, random: Random) -> bytes:
    """Change one place of a tree."""
    tree = json.loads(content) if form == "json" else yaml.safe_load(content)
    odd = random.choice(JSON if form == "json" else YAML)
    tree = _changed(tree, random)
    text = _text(tree, form)
    if random.random() < 0.1:
        lines = text.split("\n")
        place = random.randrange(len(lines))
        lines.insert(place, lines[place])
        text = "\n".join(lines)
    for quoted in (f'"{HOLE}"', f"'{HOLE}'", HOLE):
        text = text.replace(quoted, odd)
    return text.encode("utf-8", "surrogatepass")


def _saved(content: bytes, random: Random) -> bytes:
    """Change one place of what `torch.save` wrote."""
    import torch

    tree = _changed(torch.load(io.BytesIO(content), weights_only=True), random)
    nan, one = float("nan"), torch.ones(1)
    odd: list[Any] = [
        None,
        True,
        -1,
        0,
        2**62,
        2**70,
        nan,
        "",
        "../../evil",
        "\x1b[31m",
        "x" * 300,
        b"",
        [],
        {},
        {"a": {}},
        [[]],
    ]
    odd += [
        torch.empty(0),
        one[0],
        one,
        one.bool(),
        one.to(torch.complex64),
        one.half(),
        one * nan,
        torch.ones(3, 5, 7),
    ]
    # A weight that claims to be many, in a file of a few bytes.
    odd += [one.expand(10**10), one.expand(10**5, 10**5), torch.ones(2, 2).to_sparse(), torch.arange(4)]
    file = io.BytesIO()
    torch.save(_filled(tree, random.choice(odd)), file)
    return file.getvalue()


def _filled(tree: Any, value: Any) -> Any:
    """Return a tree with a value in the place of every hole."""
    if isinstance(tree, dict):
        return {_filled(key, "extra"): _filled(each, value) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        return [_filled(each, value) for each in tree]
    return value if isinstance(tree, str) and tree == HOLE else tree


def _text(tree: Any, form: str) -> str:
    if form == "json":
        return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=10**6)


def _changed(tree: Any, random: Random) -> Any:
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places or random.random() < 0.03:
        return HOLE
    holder, key = random.choice(places)
    match random.randrange(10):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[f"{key}_"] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[random.choice(("extra", HOLE, "", "x\x1b[31m", "__class__"))] = copy.deepcopy(holder[key])
        case 3 if isinstance(holder, list):
            holder.extend([copy.deepcopy(holder[key])] * random.choice((1, 3, 1000)))
        case 4:
            other, name = random.choice(places)
            holder[key] = copy.deepcopy(other[name])
        case 5:
            holder[key] = [holder[key]]
        case _:
            holder[key] = HOLE
    return tree


def _places(tree: Any) -> Any:
    """Yield every place of a tree: what holds it, and under which key or number."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _unzip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}


def zipped(parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive of members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


ZIP = Inside(_unzip, zipped)
