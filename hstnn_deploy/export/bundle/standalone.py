"""A standalone folder: a bundle, a runner in one file of Python, the same in C++, and how to use them.

bundle/      the bundle as it is
run.py       this package's own runtime, its modules written one after another; needs numpy and onnxruntime
run.cpp      against ONNX Runtime's C API; compiles with its header, or without
README.md    what the network takes and gives, and the commands
"""

import ast
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from hstnn_deploy import environment, files, folders
from hstnn_deploy.data.preprocessing import Frames, Pixels, parse
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.runtime.manifest import check_files, read_manifest

MODULES = (
    *("errors", "files", "folders", "foreign", "data/files/arrays"),
    *(f"export/runtime/{name}" for name in ("schema", "manifest", "ort", "ranges", "inputs", "states", "exits")),
    *(f"export/runtime/{name}" for name in ("session", "values", "runner")),
)
"""What the runner is made of, each before those that import it."""

_OURS = "hstnn_deploy"

RUNNER, CPP, README, BUNDLE = "run.py", "run.cpp", "README.md", "bundle"


def write_standalone(bundle: Path, folder: Path) -> Path:
    """Write the folder for a bundle atomically; it replaces an earlier one.

    Raises:
        BundleError: the bundle is damaged.
        ExportError: it contains no ONNX graph, or the folder contains something else.
        RunError: the folder cannot be written.
    """
    facts = read_manifest(bundle)
    check_files(bundle, facts)
    graphs = [name for name, each in facts["files"].items() if each["engine"] == "ONNX" and "unverified" not in name]
    if not graphs:
        raise ExportError(f"{bundle} contains no verified ONNX graph", "export with --onnx")
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - _CONTENT):
        raise ExportError(f"{folder} contains something other than a standalone runner", "give another folder")
    files.make_folder(folder.parent)
    with folders.beside(folder) as staging:
        try:
            shutil.copytree(bundle, staging / BUNDLE)
            (staging / RUNNER).write_text(runner(), encoding="utf-8")
            (staging / CPP).write_text(_source("export/bundle/run.cpp"), encoding="utf-8")
            (staging / README).write_text(_readme(facts, graphs), encoding="utf-8")
        except OSError as error:
            raise files.cannot_write(folder, error) from error
        folders.put(staging, folder, _CONTENT.__contains__)
    return folder


_CONTENT = {BUNDLE, RUNNER, CPP, README}


def runner() -> str:
    """Return the runner: the modules of the runtime in one file, without their imports of each other."""
    version = environment.versions()["hstnn-deploy"]
    parts = [f'"""Runs the bundle beside it; `python {RUNNER} --help`. Written by hstnn-deploy {version}."""']
    for module in MODULES:
        parts.append(f"# {'-' * 20} hstnn_deploy/{module}.py\n\n{_inlined(_source(f'{module}.py'))}")
    return "\n\n".join(parts)


def _inlined(source: str) -> str:
    """Return a module's text without its docstring, its imports of this package, and its last lines of a script."""
    tree = ast.parse(source)
    lines = source.splitlines()
    dropped: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.ImportFrom) and _is_ours(node)]
    if ast.get_docstring(tree):
        dropped.append(tree.body[0])
    for node in dropped:
        assert node.end_lineno is not None
        for number in range(node.lineno - 1, node.end_lineno):
            lines[number] = ""
    return "\n".join(lines).strip() + "\n"


def _is_ours(node: ast.ImportFrom) -> bool:
    return (node.module or "").partition(".")[0] == _OURS


def _source(name: str) -> str:
    return (Path(str(resources.files(_OURS))) / name).read_text(encoding="utf-8")


def _raw(how: dict[str, Any]) -> str:
    """Return what a session takes where preprocessing is in the graph, as a window graph's input says it."""
    found = parse(how)
    assert isinstance(found, Pixels | Frames)
    taken = raw_input.inputs(found, "window")[0]
    return f"{taken.name} {taken.shape}, {taken.dtype}".replace("'", "")


def _readme(facts: dict[str, Any], graphs: list[str]) -> str:
    network = facts["network"]
    units = [f"layer {each['layer']}: {each['snn']} spiking, {each['rnn']} recurrent" for each in network["units"]]
    units = units or [f"layer {each['layer']}: {each['kind']} {each['output']}" for each in network["layers"]]
    graph = graphs[0]
    tensors = facts["files"][graph]
    raw = tensors["inputs"][0]["name"] != "x"
    inside = ", inside the graph" if raw else ""
    array = f"{_raw(facts['input'])}," if raw else "x[T, B, …]"
    run, now = ("raw", "now") if raw else ("x", "x_t")
    # Of raw data, `run.cpp` takes whole windows only.
    whole_windows = [name for name in graphs if not raw or facts["files"][name]["form"] != "step"]
    example = (
        f"./run bundle/{whole_windows[0]} x.npy                    # x.npy: {tensors['inputs'][0]['dtype']}, in C order"
        if whole_windows
        else "# of raw data it takes whole windows, and the bundle has a step graph only: export --form window too"
    )
    whole, step = (
        f"{call:46}" for call in (f"    logits = session.run({run})", f"        logits = stream.step({now})")
    )
    streams = f"""
    stream = session.stream(batch=1)
    for {now} in session.taking.split({run}):
{step}# as they come; stream.save, stream.reset, session.restore"""
    by_steps = "\n    python run.py --input x.npy --steps --output logits.npy"
    if "exit" in facts:
        by_steps += "\n    python run.py --input x.npy --early-exit   # each sample is answered at its exit"
    if all(facts["files"][name].get("states") == "inside" for name in graphs):
        # They begin at zeros of their own and answer whole sequences.
        streams, by_steps = "", "\n    python run.py --input x.npy --output logits.npy"
    rows = "\n".join(
        f"| `{each['name']}` | {each['dtype']} {each['shape']} | {each['meaning']} |"
        for each in (*tensors["inputs"], *tensors["outputs"])
    )
    return f"""# A {network["kind"]} network of the family {network["family"]}, ready to run

{"; ".join(units)}.

Exported from {facts["checkpoint"]["file"]}; verification: {facts["verification"]["result"]}. What was proved,
and every hash, is in `bundle/manifest.json`.

## Python

    pip install numpy onnxruntime
    python run.py --input x.npy                   # {array} as numpy.save wrote it{by_steps}

In a program of your own, `run.py` is a module:

    from run import Session

    session = Session("bundle")
{whole}# whole sequences, from zero states{streams}

## C++

With ONNX Runtime's release archive unpacked at `$ORT`:

    g++ -std=c++17 -O2 run.cpp -I$ORT/include -L$ORT/lib -lonnxruntime -Wl,-rpath,$ORT/lib -o run
    {example}

Without the header `run.cpp` declares what it calls itself. The Python package has the library, under its full version:

    capi=$(python -c 'import onnxruntime; print(onnxruntime.__path__[0])')/capi
    mkdir -p lib
    for name in libonnxruntime.so libonnxruntime.so.1; do ln -sf $capi/libonnxruntime.so.* lib/$name; done
    g++ -std=c++17 -O2 run.cpp -Llib -lonnxruntime -Wl,-rpath,$PWD/lib -o run

## What goes in and comes out of `{graph}`

| name | type and shape (T time, B batch) | meaning |
|---|---|---|
{rows}

States begin at zero. Preprocessing as in training{inside}: `{facts.get("input", {"kind": "values"})}`.
"""
