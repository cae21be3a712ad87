"""`hstnn runs`: list, show and remove runs, and read their logs."""

import calendar
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console, defaults
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import HstnnError, RunError, UsageError
from hstnn_deploy.files import cannot_write
from hstnn_deploy.foreign import brief, reading
from hstnn_deploy.metrics import shown

if TYPE_CHECKING:
    from hstnn_deploy.runs import RunFolder

app = typer.Typer(name="runs", help="List, show and remove runs, and read their logs.", no_args_is_help=True)

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", help="Run folders, or folders of them.")]


@app.command("list")
def list_runs(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Folders (default: runs).")] = None,
    as_json: Json = False,
) -> None:
    """List the runs in some folders and below them."""
    facts = [_facts(run) for run in _found(paths or [defaults.runs_folder()])]
    if as_json:
        console.emit({"runs": facts})
        return
    rows = [
        (
            each["recipe"] or "",
            each["kind"] or "",
            "" if each["ratio"] is None else f"{each['ratio']:g}",
            "" if each["seed"] is None else each["seed"],
            each["stage"] or "",
            each["state"],
            "" if each["epoch"] is None else f"{each['epoch']}/{each['epochs'] or 'n/a'}",
            _figure(each["valid"]),
            _figure(each["test"]),
            _age(each["age_seconds"]),
            _bytes(each["bytes"]),
        )
        for each in facts
    ]
    columns = ["recipe", "kind", ">ratio", ">seed", "stage", "state", ">epoch", ">valid", ">test", ">age", ">size"]
    metrics = " or ".join(sorted({name for each in facts if (name := _metric(each["valid"]))}))
    best = f"valid, test: {metrics} of the best epoch; " if metrics else ""
    caption = f"{best}age: since the last change"
    console.out.print(console.table("Runs", columns, rows, caption, dense=True, drop=["size", "age", "valid", "stage"]))
    for each in facts:
        if each["error"]:
            console.out.print(f"{each['folder']}: {each['error']}", markup=False, soft_wrap=True)


@app.command("show")
def show(path: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Show everything about one run."""
    run = _run(path)
    status, environment = run.status(), run.environment()
    files = {
        each.name: each.stat().st_size for each in sorted(path.iterdir()) if each.is_file() and each.name[0] != "."
    }
    if as_json:
        facts = {**_facts(run), "status": status, "environment": environment, "recipe": run.recipe(), "files": files}
        console.emit(facts)
        return
    with reading(path, "a run folder as this version writes them", RunError, ""):
        lines = _lines(_facts(run), status, environment, files)
    console.out.print(console.table(str(path), ["", ""], [(key, value) for key, value in lines.items() if value]))
    if run.log.exists():
        console.out.print(f"log: hstnn runs logs {path}", markup=False, soft_wrap=True)


def _lines(
    facts: dict[str, Any], status: dict[str, Any], environment: dict[str, Any], files: dict[str, int]
) -> dict[str, Any]:
    """Return the values to show for a run, by heading; an empty value is not shown."""
    usage, best, result = (status.get(key) or {} for key in ("usage", "best", "result"))
    versions = environment.get("versions", {})
    return {
        "recipe": f"{facts['recipe']} ({facts['kind']}, seed {facts['seed']}, stage {facts['stage']})",
        "ratio": facts["ratio"],
        "state": facts["state"],
        "error": status.get("error"),
        "process": f"{status['pid']} on {status.get('host', 'n/a')}" if "pid" in status else None,
        "started": status.get("started"),
        "last change": status.get("updated"),
        "epoch": None if facts["epoch"] is None else f"{facts['epoch']} of {facts['epochs'] or 'n/a'}",
        "best epoch": ", ".join(f"{key} {_round(value)}" for key, value in best.items() if key != "best"),
        "test": ", ".join(f"{key} {_round(value)}" for key, value in (result.get("test") or {}).items()),
        "protocol": result.get("protocol"),
        "took": f"{usage['seconds']:.1f} s in its last process" if "seconds" in usage else None,
        "peak memory": f"{_bytes(usage['host_ram_peak'])} of RAM" if usage.get("host_ram_peak") else None,
        "peak on the GPU": _bytes(usage["cuda_peak"]) if usage.get("cuda_peak") else None,
        "ran on": f"{environment['device']}, {console.counted(environment['threads'], 'thread')}, {environment['cpu']}"
        if environment
        else None,
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("hstnn-deploy", "torch") if name in versions),
        "files": ", ".join(f"{name} ({_bytes(size)})" for name, size in files.items()),
    }


@app.command("rm")
def rm(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Run folders.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Remove run folders. Folders in use, and folders that are not runs, are refused."""
    runs = list({path.resolve(): _run(path) for path in paths}.values())
    for run in runs:
        if run.path.is_symlink():
            raise UsageError(f"{run.path} is a symbolic link", "give the folder itself")
        if within := [each.path for each in _found([run.path]) if each.path != run.path]:
            raise UsageError(f"{run.path} contains other runs, such as {within[0]}", "remove those first")
        if _state(run) == "running":
            raise RunError(f"{run.path} is running", "stop it first")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"removing {console.counted(len(runs), 'run')} needs confirmation", "add --yes")
        for run in runs:
            console.err.print(f"{run.path} ({_state(run)}, {_bytes(_size(run))})", markup=False, soft_wrap=True)
        if not typer.confirm(f"Remove {console.counted(len(runs), 'run')}?", err=True):
            raise UsageError("nothing was removed")
    for run in runs:
        with run.lock():
            try:
                # stage.yaml goes last: after an interrupted removal, the rest is still a run folder.
                for path in sorted(run.path.iterdir(), key=lambda each: each.name in {"stage.yaml", ".lock"}):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                run.path.rmdir()
            except OSError as error:
                raise cannot_write(run.path, error) from error
        if not as_json:
            console.out.print(f"removed {run.path}", markup=False, soft_wrap=True)
    if as_json:
        console.emit({"removed": [str(run.path) for run in runs]})


@app.command("logs")
def logs(
    paths: Paths,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the logs until the runs end.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=0, help="Start with the last N lines.")] = None,
) -> None:
    """Print the output of a sweep's jobs."""
    runs = [run for run in _found(paths) if run.log.exists()]
    if not runs:
        raise RunError(
            f"there is no log in {', '.join(map(str, paths))}", "only runs that a sweep started have a log.txt"
        )
    read = dict.fromkeys((run.path for run in runs), 0)
    shown: Path | None = None
    while True:
        alive = any(_state(run) == "running" for run in runs)  # asked before reading: what comes last is not lost
        for run in runs:
            with run.log.open("rb") as file:
                file.seek(read[run.path])
                new = file.read()
            if not new:
                continue
            if lines is not None and read[run.path] == 0:
                cut = b"".join(new.splitlines(keepends=True)[-lines:] if lines else [])
            else:
                cut = new
            read[run.path] += len(new)
            if len(runs) > 1 and run.path != shown and cut:
                console.out.print(f"==> {run.path} <==", markup=False, soft_wrap=True)
            shown = run.path
            console.write(cut.decode("utf-8", errors="replace"))
            sys.stdout.flush()
        if not follow or not alive:
            return
        time.sleep(0.3)


def _found(paths: list[Path]) -> "list[RunFolder]":
    from hstnn_deploy.runs import find_runs

    return list({run.path.resolve(): run for path in paths for run in find_runs(path)}.values())


def _run(path: Path) -> "RunFolder":
    """Return a run folder.

    Raises:
        RunError: it is not a run folder; the hint names those below it.
    """
    from hstnn_deploy.runs import RunFolder, find_runs

    run = RunFolder(path)
    if (path / "stage.yaml").is_file():
        return run
    below = [str(each.path) for each in find_runs(path)][:3]
    raise RunError(f"{path} is not a run folder", f"did you mean {' or '.join(below)}?" if below else "")


def _state(run: "RunFolder") -> str:
    try:
        return run.state or "begun"
    except HstnnError:
        return "damaged"


def _facts(run: "RunFolder") -> dict[str, Any]:
    """Return the facts about a run in a list; a damaged run has the state `damaged` and the reason as its error."""
    facts: dict[str, Any] = dict.fromkeys(
        (
            "recipe",
            "kind",
            "ratio",
            "seed",
            "stage",
            "state",
            "epoch",
            "epochs",
            "valid",
            "test",
            "error",
            "age_seconds",
        )
    )
    facts |= {"folder": str(run.path), "bytes": _size(run)}
    try:
        return facts | _told(run)
    except HstnnError as error:
        return facts | {"state": "damaged", "error": error.message}
    except (AttributeError, KeyError, TypeError, ValueError):
        return facts | {"state": "damaged", "error": "it differs from the run folders of this version of hstnn"}


def _told(run: "RunFolder") -> dict[str, Any]:
    recipe, status = run.recipe(), run.status()
    kind = str(recipe.get("kind", "plain"))
    lstm = kind in {"ffs", "hybrid"} and (recipe.get("network") or {}).get("recurrent") == "lstm"
    # The step distinguishes runs with weights on devices.
    step = ((recipe.get("network") or {}).get("weights") or {}).get("step")
    by_ratio = kind == "ffs" or run.stage == "restore"
    best, result = status.get("best") or {}, status.get("result") or {}
    return {
        "stage": str(step) if step else run.stage,
        "state": run.state or "begun",
        "recipe": _known(run, recipe, "name", str),
        "kind": f"{kind}-lstm" if lstm else kind,
        "ratio": _known(run, recipe, "ratio", int, float) if by_ratio else None,
        "seed": _known(run, recipe, "seed", int),
        "epoch": status.get("epoch"),
        "epochs": status.get("epochs"),
        "valid": {key.removeprefix("valid_"): best[key] for key in best if key.startswith("valid_")} or None,
        "test": result.get("test"),
        "error": status.get("error"),
        "age_seconds": _seconds_since(status.get("updated")),
    }


def _known(run: "RunFolder", recipe: dict[str, Any], key: str, *types: type) -> Any:
    """Return the value of a key in a run's recipe; None if it is missing.

    Raises:
        RunError: the value has the wrong type, or is a number beyond 64 bits.
    """
    value = recipe.get(key)
    if value is None or (type(value) in types and (isinstance(value, str) or abs(value) < 2**63)):
        return value
    wanted = "text" if str in types else "a number" if float in types else "a whole number"
    raise RunError(f"the recipe of {run.path} is damaged: its {key} is {brief(value)}, not {wanted}")


def _seconds_since(moment: str | None) -> int | None:
    try:
        return int(time.time() - calendar.timegm(time.strptime(moment or "", "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None


def _size(run: "RunFolder") -> int:
    return sum(path.stat().st_size for path in run.path.iterdir() if path.is_file())


def _metric(measured: dict[str, float] | None) -> str:
    """Return the name of the metric among measured values; "" if there is none."""
    return next((key for key in measured or {} if key not in {"loss", "seconds"}), "")


def _figure(measured: dict[str, float] | None) -> str:
    name = _metric(measured)
    return shown(name, measured[name]) if measured and name else ""


def _age(seconds: int | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _round(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
