"""`hstnn doctor`: what works on this machine, and what is missing."""

from typing import Any

import typer

from hstnn_deploy.cli import console, defaults
from hstnn_deploy.cli.options import DataDir, Json
from hstnn_deploy.errors import HstnnError


def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what works on this machine (Python, torch, ONNX Runtime, GPUs, data), and which defaults apply.

    Exits with 1 if something essential is missing.
    """
    from hstnn_deploy.profile.survey.survey import survey

    with console.aside.status("querying torch, ONNX Runtime and NVML"):
        facts = survey(data_dir)
    facts["defaults"] = defaults.survey(data_dir)
    facts["abilities"] += _of_default_device(facts["defaults"])
    if as_json:
        console.emit(facts)
    else:
        _print(facts)
        _print_defaults(facts["defaults"])
    if any(ability["needed"] and ability["missing"] for ability in facts["abilities"]):
        raise typer.Exit(1)


def _of_default_device(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return whether commands can use the default device; nothing for `auto`, which takes what is there."""
    from hstnn_deploy.devices import resolve

    asked = next(row["value"] for row in rows if row["key"] == "device")
    if asked == "auto":
        return []
    try:
        resolve(asked)
    except HstnnError as error:
        return [{"what": "use the default device", "missing": error.message, "needed": True}]
    return [{"what": f"use the default device, {asked}", "missing": "", "needed": True}]


def _print(facts: dict[str, Any]) -> None:
    from rich.text import Text

    from hstnn_deploy.screen import Table

    shown = Table(["", ""], style="plain")
    for name, value in _rows(facts):
        shown.add_row(Text(name, "bold"), value)
    console.out.print(shown)
    console.out.print("\nWhat works, and what is missing", style="bold")
    able = Table(["", ""], style="plain")
    for ability in facts["abilities"]:
        mark = Text("missing" if ability["needed"] else "no", "red" if ability["needed"] else "yellow")
        able.add_row(
            mark if ability["missing"] else Text("yes", "green"),
            ability["what"] + (f": {ability['missing']}" if ability["missing"] else ""),
        )
    console.out.print(able)


def _print_defaults(rows: list[dict[str, Any]]) -> None:
    drawn = [(row["key"], row["what"], row["value"], row["from"]) for row in rows]
    console.out.print()
    console.out.print(console.table("Defaults", ["key", "what", "value", "from"], drawn, dense=True))


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    machine, torch, runtime, nvml, data = (facts[key] for key in ("machine", "torch", "onnxruntime", "nvml", "data"))
    llvm = facts["llvm"]
    memory = f", {machine['memory'] / 1e9:.1f} GB of memory" if machine["memory"] else ""
    build = f"for CUDA {torch['cuda']}" if torch.get("cuda") else "without CUDA"
    rows = [
        ("hstnn-deploy", facts["versions"]["hstnn-deploy"]),
        ("Python", f"{facts['python']['version']}, {facts['python']['executable']}"),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores{memory}, {machine['platform']}"),
        (
            "torch",
            torch["problem"] or f"{torch['version']}, built {build}, {console.counted(torch['threads'], 'thread')}",
        ),
        ("llvmlite", llvm["problem"] or f"{llvm['version']}, kernels in {llvm['kernels']}"),
        ("Triton", facts["triton"]["problem"] or facts["triton"]["version"]),
        ("ONNX Runtime", runtime["problem"] or runtime["version"]),
    ]
    for provider in runtime["providers"]:
        state = "loads" if provider["loads"] else f"does not load: {provider['reason']}"
        rows.append(("", f"{provider['name']} {state}"))
    rows.append(("GPUs of torch", torch["why_no_gpu"] or torch["problem"] or _listed(torch["gpus"])))
    gpus = [f"{each['name']} ({each['memory'] / 1e9:.0f} GB, {each['uuid']})" for each in nvml["gpus"]]
    rows.append(("GPUs of NVML", nvml["problem"] or f"driver {nvml['driver']}; {_listed(gpus)}"))
    rows.append(("Ray", facts["ray"]["version"] or facts["ray"]["problem"]))
    there = "" if data["exists"] else " (does not exist yet)"
    rows.append(("data folder", data["problem"] or f"{data['folder']}{there}"))
    for number, each in enumerate(facts["plugins"]):
        came = f", from {each['from']}" if each["from"] else ""
        state = f": {each['problem']}" if each["problem"] else came
        rows.append(("" if number else "your own parts", f"{each['group']}: {each['name']}{state}"))
    return rows


def _listed(gpus: list[str]) -> str:
    return ", ".join(f"{number}: {name}" for number, name in enumerate(gpus)) or "none"
