"""`hstnn data cache`: list, verify and remove the cache on disk."""

from typing import Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import DataError, UsageError, nearest

app = typer.Typer(name="cache", help="List, verify and clear the cache on disk.", no_args_is_help=True)


@app.command("info")
def info(as_json: Json = False) -> None:
    """List the files in the cache on disk."""
    from hstnn_deploy.data import cache as cached

    entries = cached.entries()
    if as_json:
        console.emit({"folder": str(cached.folder()), "entries": [_entry(entry) for entry in entries]})
        return
    rows = [
        (
            entry.data_set,
            entry.split,
            console.size(entry.bytes),
            f"{entry.created:%Y-%m-%d %H:%M}",
            _told(entry.parameters),
        )
        for entry in entries
    ]
    if rows:
        columns = ["data set", "split", ">size", "made (UTC)", "parameters"]
        console.out.print(console.table(f"Cache {cached.folder()}", columns, rows))
    total = console.size(sum(entry.bytes for entry in entries))
    console.out.print(f"{cached.folder()}: {len(entries)} files, {total}", soft_wrap=True, markup=False)


def _entry(entry: Any) -> dict[str, Any]:
    return {**entry._asdict(), "path": str(entry.path), "created": entry.created.isoformat()}


def _told(parameters: dict[str, Any]) -> str:
    """Return the parameters of a cached split in one line."""
    if not parameters:
        return "damaged: it will be rebuilt"
    return ", ".join(f"{key} {value}" for key, value in parameters.items() if key != "files")


@app.command("verify")
def verify(
    name: Annotated[str | None, typer.Argument(help="A data set (default: all of them).")] = None,
    as_json: Json = False,
) -> None:
    """Read and check every cached file completely. Exits with 3 if one is damaged; it is rebuilt when needed.

    A training run does this only for files whose size or times have changed since the last complete check.
    """
    from hstnn_deploy.cli.progress import Working
    from hstnn_deploy.data import cache as cached

    _check_name(name)
    found = []
    with Working(console.aside) as working:
        for each in cached.verify(name):
            found.append(each)
            working.report("checking the cache", len(found), unit="files")
    wrong = [(entry, problem) for entry, problem in found if problem]
    if as_json:
        entries = [{**_entry(entry), "problem": problem} for entry, problem in found]
        console.emit({"folder": str(cached.folder()), "entries": entries})
    else:
        size = console.size(sum(entry.bytes for entry, _ in found))
        said = f"{cached.folder()}: {len(found)} files, {size}, read completely; {len(found) - len(wrong)} are intact"
        console.out.print(said, soft_wrap=True, markup=False)
    if wrong:
        for entry, problem in wrong if len(wrong) > 1 else ():
            console.err.print(f"wrong: {entry.path}: {problem}", soft_wrap=True, markup=False)
        path, problem = wrong[0][0].path, wrong[0][1]
        raise DataError(
            f"{len(wrong)} of {len(found)} cached files are damaged, the first: {path}: {problem}",
            "they are rebuilt when needed; `hstnn data cache clear` removes them",
        )


@app.command("clear")
def clear(
    name: Annotated[str | None, typer.Argument(help="A data set (default: all of them).")] = None,
    as_json: Json = False,
) -> None:
    """Remove the cached files of one data set, or of all; they are rebuilt when needed."""
    from hstnn_deploy.data import cache as cached

    _check_name(name)
    gone = cached.clear(name)
    if as_json:
        console.emit({"removed": [_entry(entry) for entry in gone]})
        return
    size = console.size(sum(entry.bytes for entry in gone))
    console.out.print(f"removed {len(gone)} files, {size}, from {cached.folder()}", soft_wrap=True, markup=False)


def _check_name(name: str | None) -> None:
    """Refuse a name that is neither a data set's nor in the cache."""
    from hstnn_deploy.data import cache as cached
    from hstnn_deploy.data.registry import DATA_SETS

    known = {*DATA_SETS, *(entry.data_set for entry in cached.entries())}
    if name is not None and name not in known:
        raise UsageError(f"unknown data set {name!r}", nearest(name, known))
