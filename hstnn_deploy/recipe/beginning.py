"""A recipe to start from for a user's own data: a small network of the right kind, with commented keys.

It is only a starting point: sizes, steps and epochs follow from the sizes of the data; nothing is tuned.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from hstnn_deploy import yaml_text
from hstnn_deploy.data.checking.checked import Checked
from hstnn_deploy.data.dataset import Shape
from hstnn_deploy.data.own.config import BINS, OwnConfig
from hstnn_deploy.data.own.resolve import complete
from hstnn_deploy.data.registry import shape
from hstnn_deploy.errors import DataError
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.own_data import slug

_UPDATES = 600
"""Steps of the optimiser after which a small network should have learned easy data."""
_LARGEST = 48
"""Largest side of a frame in pixels; larger frames are downsampled."""
_WORDS = 10_000
_CONFIG: TypeAdapter[Any] = TypeAdapter(OwnConfig)


class _Key(NamedTuple):
    """A line of a recipe."""

    key: str
    value: Any
    comment: str = ""
    off: bool = False
    """Whether it is commented out, for the user to enable."""


def recipe_text(found: Checked, data: dict[str, Any]) -> str:
    """Return the text of a recipe for data that was checked.

    Args:
        found: the result of the check.
        data: the `data` section that was checked; its keys stay as they are.

    Raises:
        DataError: training would be refused.
        RecipeError: the recipe would be invalid: a fault of this function, or a path that YAML cannot express.
    """
    if found.notes.refused:
        raise DataError("training would be refused, so no recipe is written", "fix the problems above first")
    path = Path(found.path)
    try:
        found.path.encode()
    except UnicodeEncodeError as error:
        raise DataError("the path of the data is not valid UTF-8, which a recipe needs", "rename the folder") from error
    kept = {key: value for key, value in data.items() if key not in ("name", "kind", "path")}
    keys = _data_keys(found, kept)
    section = {"name": "own", "kind": found.kind, "path": found.path}
    section |= {each.key: each.value for each in keys if not each.off}
    # The training computes means and deviations: they need all images.
    looked = {key: value for key, value in section.items() if (key, value) != ("normalise", "auto")}
    config = _CONFIG.validate_python(complete(looked))
    known = shape(config)
    made = _recurrent(config.found.words) if known is None else _stack(known)
    train = sum(config.found.train)
    lines = [
        f"# A recipe to start from, for the {found.kind} that `hstnn data check` found in this folder.",
        "# Lines that begin with # are off. docs/own-data.md explains the keys of data, docs/layers.md layers.",
        f"name: {json.dumps(slug(path)[:100])}",
        "data:",
        "  name: own",
        f"  kind: {found.kind}",
        f"  path: {json.dumps(found.path, ensure_ascii=False)}",
        *(f"  {line}" for line in map(_line, keys)),
        *made,
        *(_stages(train, known is None, config)),
    ]
    text = "\n".join(lines) + "\n"
    plain = yaml_text.parse(text)
    if plain["data"].get("normalise") == "auto":
        del plain["data"]["normalise"]
    parse(plain, "the recipe to start from")
    return text


def _data_keys(found: Checked, kept: dict[str, Any]) -> list[_Key]:
    keys: list[_Key]
    facts = found.facts
    match found.kind:
        case "images":
            first = facts["sizes"] and next(iter(facts["sizes"]))
            side = max(map(int, first.split("x"))) if first else 0
            flat = facts["brightness"].get("min") == facts["brightness"].get("max")
            keys = [
                _Key("images", {"steps": 4, "encoding": "repeat"}, "show each image for 4 steps; or: poisson"),
                _Key("resize", 32, "height and width", off=side <= 2 * _LARGEST),
                _Key("normalise", "auto", "by mean and standard deviation of each colour over train", off=flat),
                _Key("colours", 1, "convert images to grey", off=True),
            ]
        case "arrays":
            keys = [
                _Key("normalise", "auto", "by mean and standard deviation of each channel over train"),
                _Key("axes", facts.get("axes") or "TI", "the axes of a sample", off=True),
            ]
        case "events":
            width, height, _ = facts["sensor"]
            factor = -(-max(width, height) // _LARGEST) if height > 1 else 1
            keys = [
                _Key("frames", {"by": "bins", "bins": BINS}, f"cut a recording into {BINS} equal periods"),
                _Key("transforms", [{"name": "downsample", "factor": max(2, factor)}], "", off=factor == 1),
                _Key("augment", [{"name": "drop-event", "p": 0.1}], "at random, different in every epoch", off=True),
            ]
        case _:
            many = facts.get("vocabulary", 0) > _WORDS
            keys = [
                _Key("bptt", 20, "steps of a window"),
                _Key("words", _WORDS, "keep the most frequent words; others become <unk>", off=not many),
                _Key("lower", True, "convert to lower case", off=True),
            ]
    split = _Key(
        "split",
        {"test": 0.2, "valid": 0.1, "seed": 0},
        "chosen at random where folders or a list do not define the splits",
    )
    own = [_Key(key, value, "set with --set") for key, value in kept.items()]
    taken = {"frame_time", "steps"} & kept.keys()
    return [*own, *(each for each in (*keys, split) if each.key not in kept and not (each.key == "frames" and taken))]


def _line(key: _Key) -> str:
    value = json.dumps(key.value, ensure_ascii=False)
    behind = f"  # {key.comment}" if key.comment else ""
    return f"{'# ' if key.off else ''}{key.key}: {value}{behind}"


def _stack(known: Shape) -> list[str]:
    """Return a network of spiking layers for steps [I], [C, L] or [C, H, W]."""
    lif = "{lif: {tau: 2.0, threshold: 0.5, detach_reset: true, surrogate: {arctan: 2.0}}}"
    layers: list[str] = []
    if len(known.step) == 3:
        _, height, width = known.step
        for channels in (16, 32, 32):
            layers += [f"{{conv: {channels}, kernel: 3, padding: 1, bias: false}}", "{norm: {over: all}}", lif]
            if min(height, width) < 4:
                break
            layers.append("{pool: max, size: 2}")
            height, width = height // 2, width // 2
        layers.append("flatten")
    else:
        layers += ["flatten"] if len(known.step) > 1 else []
        units = 64 if known.inputs < 256 else 128
        layers += [f"{{linear: {units}}}", lif] * 2
    layers.append(f"{{linear: {known.classes}}}")
    what = "one output per value" if known.targets == "values" else "one output per class"
    return [
        "network:",
        f"  family: stack  # its input is {known.steps} steps of {list(known.step)}, one after another",
        "  layers:",
        *(f"    - {layer}" for layer in layers[:-1]),
        f"    - {layers[-1]}  # {what}",
        "  readout: mean  # over time, of the last layer's output; or: sum, last",
    ]


def _recurrent(words: int) -> list[str]:
    return [
        "network:",
        "  family: language",
        f"  vocabulary: {words}",
        "  inputs: 48",
        "  units: [64, 64]",
        "  neuron: {decay: 0.6, threshold: 0.2, lens: 0.5}",
        "  dropout: 0.2",
        "kind: snn  # spiking units; or: rnn, lstm, ffs, hybrid (the last two with ratio: 0.5)",
    ]


def _stages(train: int, text: bool, config: Any) -> list[str]:
    if text:
        batch = max(1, min(20, train // (4 * config.bptt)))
        windows = max(1, train // (batch * config.bptt))
        epochs = min(40, max(4, round(2 * _UPDATES / windows)))
        schedule = f"schedule: {{every: {max(1, epochs // 2)}, factor: 0.5}}"
        stage = f"{{epochs: {epochs}, optimiser: adam, lr: 5.0e-3, clip: 1.0, {schedule}}}"
        return [
            f"batch: {batch}  # parts of the text that are read in parallel",
            "seed: 1111",
            "protocol: validation  # the best epoch is chosen on valid",
            f"adapt: {stage}",
            "selection: {probes: 100, bootstraps: 1000}  # only for kind hybrid, like restore",
            f"restore: {stage}",
        ]
    batch = 8 if train < 200 else 32 if train < 5000 else 64
    epochs = min(60, max(5, round(_UPDATES * batch / max(1, train))))
    return [
        f"batch: {batch}",
        "seed: 1111",
        "protocol: validation  # the best epoch is chosen on valid",
        "train:",
        f"  epochs: {epochs}",
        "  lr: 5.0e-3",
    ]
