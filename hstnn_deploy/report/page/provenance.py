"""Where the figures of a report come from: when, on what machine, by which versions, commit and command."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy import yaml_text
from hstnn_deploy.report.aggregate import VARIED, Study, described
from hstnn_deploy.report.collect import Collected
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet

_MOST = 4
"""Different values of one fact that a table lists; the rest are counted."""


class Source(NamedTuple):
    """What some results say of how they were obtained; of each fact all values that differ, as they come first."""

    name: str
    """Of the results, such as "digits: 36 runs"."""
    facts: dict[str, list[str]]


def sources(studies: Sequence[Study], collected: Collected) -> list[Source]:
    """Return where the runs of each study, the profile records and the robustness records come from.

    The name of a host is left out: the processor and the operating system say what a figure depends on.
    """
    found = []
    for study in studies:
        facts = [run.made for run in study.runs]
        found.append(_source(f"{study.title}: {_counted(len(facts), 'run')}", facts))
    if collected.profiles:
        records = [profile.record for profile in collected.profiles]
        facts = [{"device": record.configuration.device, **record.facts} for record in records]
        found.append(_source(_counted(len(facts), "profile record"), facts))
    if collected.robustness:
        facts = [each.environment for each in collected.robustness.values()]
        found.append(_source(_counted(len(facts), "robustness record"), facts))
    return found


def sheet(found: Sequence[Source]) -> Sheet | None:
    """Return them as a table, a row for each fact; None where nothing was read that has any."""
    names = list(dict.fromkeys(name for each in found for name in each.facts))
    if not names:
        return None
    columns = [Column("", numeric=False), *(Column(each.name, numeric=False) for each in found)]
    rows = [[Entry(name), *(Entry(_listed(each.facts.get(name, []), name)) for each in found)] for name in names]
    notes = ["n/a: older versions of hstnn-deploy did not record it."] if _lacks(rows) else []
    return Sheet("Where these figures come from", columns, rows, notes)


def recipe(study: Study) -> str:
    """Return the recipe of a study in full, as YAML; what varies within the study is listed."""
    varied: dict[str, Any] = {}
    for key in ("kind", "ratio", "seed"):
        values = {getattr(run.recipe, key) for run in study.runs}
        varied[key] = sorted(values, key=str)
    first = study.runs[0].recipe.dump()
    shared = {key: value for key, value in (first | described(study.runs)).items() if key not in VARIED}
    varied["network.recurrent"] = sorted({run.network.recurrent for run in study.runs})
    lines = "".join(f"# {key}: {', '.join(map(str, values))}\n" for key, values in varied.items())
    return f"# Varied in this study:\n{lines}{yaml_text.dump(shared)}"


def plain(found: Sequence[Source]) -> list[dict[str, Any]]:
    """Return them as plain data, every value listed."""
    return [{"of": each.name, **each.facts} for each in found]


def _source(name: str, every: Iterable[dict[str, Any]]) -> Source:
    facts: dict[str, list[str]] = {key: [] for key in _FACTS}
    times = []
    for each in every:
        times += [each[key] for key in ("started", "updated", "measured_at") if isinstance(each.get(key), str)]
        versions = each.get("versions") if isinstance(each.get("versions"), dict) else {}
        assert isinstance(versions, dict)
        git = each.get("git") if isinstance(each.get("git"), dict) else {}
        assert isinstance(git, dict)
        changed = " with changes" if git.get("changed") else ""
        said = {
            "processor": each.get("cpu"),
            "GPU": each.get("gpu"),
            "operating system": each.get("platform"),
            "device": each.get("device"),
            "threads": each.get("threads"),
            "hstnn-deploy": versions.get("hstnn-deploy"),
            "commit": f"{git['commit'][:12]}{changed}" if isinstance(git.get("commit"), str) else None,
            "python": versions.get("python"),
            "torch": versions.get("torch"),
            "other packages": ", ".join(
                f"{key} {value}" for key, value in versions.items() if key not in {"hstnn-deploy", "python", "torch"}
            ),
            "command": _command(each.get("command")),
        }
        for key, value in said.items():
            if value and str(value) not in facts[key]:
                facts[key].append(str(value))
    if times:
        facts["when"] = [min(times)] if min(times) == max(times) else [f"{min(times)} to {max(times)}"]
    if not facts["GPU"]:
        # A machine without one says nothing of it.
        del facts["GPU"]
    return Source(name, facts)


_FACTS = (
    *("when", "processor", "GPU", "operating system", "device", "threads", "hstnn-deploy", "commit", "python", "torch"),
    *("other packages", "command"),
)


def _command(words: Any) -> str | None:
    """Return a command as it is typed."""
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        return None
    first = "hstnn" if Path(words[0]).name == "__main__.py" else Path(words[0]).name
    return shlex.join([first, *words[1:]])


def commands(found: Sequence[Source]) -> str:
    """Return every command, one per line below the name of its results; empty where a table lists them all."""
    parts = [(each.name, each.facts.get("command", [])) for each in found]
    if all(len(words) < 2 for _, words in parts):
        return ""
    return "\n".join("\n".join([f"# {name}", *words]) for name, words in parts if words)


def _listed(values: Sequence[str], name: str) -> str:
    if not values:
        return NONE
    # A command is long: one shows how it was done.
    most = 1 if name == "command" else _MOST
    more = f"\n… and {len(values) - most} more" if len(values) > most else ""
    return "\n".join(values[:most]) + more


def _lacks(rows: Sequence[Sequence[Entry]]) -> bool:
    return any(entry.text == NONE for row in rows for entry in row)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
