"""`python -m benchmarks.engines`: run every export case in every form in the engines that install, and compare.

Each engine is installed into a folder of its own that is removed again: OpenVINO from PyPI into a virtual environment,
onnxruntime-node and onnxruntime-web from npm. They are compared with what this environment's ONNX Runtime finds. The
table goes into docs/engines.md, between its two marks.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import VARIANTS, Variant, build_onnx
from hstnn_deploy.export.proof.engines import onnxruntime_session
from tests.export.cases import CASES, Case

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
BEGIN, END = "<!-- written by `make engines` -->", "<!-- end of what `make engines` writes -->"
HERE = Path(__file__).parent

OPSETS = (20, 17)
STEPS = 6
SHAPES = ((STEPS, 3), (STEPS, 1), (STEPS + 3, 2))
"""(T, B); an unrolled graph is of the first T only, and of a step graph T says nothing."""
CLOSE = 1e-5
"""How far numbers may be from ONNX Runtime's, of values around 1: another order of sums, no other spike."""

_SECONDS = 3600


class Job(NamedTuple):
    """A graph, what goes into it, and what ONNX Runtime makes of that."""

    case: Case
    variant: Variant
    opset: int
    graph: Path
    feeds: list[dict[str, NDArray[Any]]]
    expected: list[dict[str, NDArray[Any]]]


class Answers(NamedTuple):
    """What an engine made of the jobs, in their order."""

    engine: str
    outputs: list[list[dict[str, NDArray[Any]]] | str]
    """For each job the outputs of each of its inputs, or why there are none."""


def jobs(folder: Path) -> list[Job]:
    """Write every graph into a folder; return them with their inputs and ONNX Runtime's outputs."""
    made = []
    for case in CASES:
        network = case.network()
        for variant in VARIANTS.values():
            feeds = [_feeds(case, variant, steps, batch) for steps, batch in _shapes(variant)]
            for opset in OPSETS:
                model = build_onnx(network, variant.form, {}, steps=STEPS, states=variant.states, opset=opset)
                path = folder / f"{'-'.join((*case, *variant))}-{opset}.onnx"
                path.write_bytes(model.SerializeToString())
                session = onnxruntime_session(model)
                made.append(Job(case, variant, opset, path, feeds, [session(each) for each in feeds]))
    return made


def _shapes(variant: Variant) -> list[tuple[int, int]]:
    return [(steps, batch) for steps, batch in SHAPES if variant.form == "window" or steps == STEPS]


def _feeds(case: Case, variant: Variant, steps: int, batch: int) -> dict[str, NDArray[Any]]:
    """Return inputs; states that go in by name are not zero, as after an earlier window."""
    face = interface(case.network())
    x = face.example(steps, batch).numpy()
    found = {"x": x[0] if variant.form == "step" else x}
    if variant.states == "named":
        generator = np.random.default_rng(0)
        found |= {s.name: generator.random((batch, *s.shape), np.float32) * np.float32(0.3) for s in face.states}
    return found


def in_onnxruntime(_folder: Path, asked: list[Job]) -> Answers:
    """Run the jobs without ONNX Runtime's own optimisations: the nodes as they are."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[list[dict[str, NDArray[Any]]] | str] = []
    for job in asked:
        session = onnxruntime.InferenceSession(str(job.graph), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        found.append([dict(zip(names, session.run(None, feeds), strict=True)) for feeds in job.feeds])
    return Answers(f"ONNX Runtime {onnxruntime.__version__}, its optimisations off", found)


def in_openvino(folder: Path, asked: list[Job]) -> Answers:
    """Run the jobs in OpenVINO, in a virtual environment of its own."""
    venv.create(folder / "openvino", with_pip=True)
    python = folder / "openvino" / "bin" / "python"
    _call([str(python), "-m", "pip", "install", "--quiet", "openvino"], folder)
    return _elsewhere("OpenVINO", [str(python), str(HERE / "in_openvino.py")], folder, asked)


def in_node(engine: str, folder: Path, asked: list[Job]) -> Answers:
    """Run the jobs in onnxruntime-node or onnxruntime-web, in a folder of its own."""
    if not shutil.which("npm"):
        raise FileNotFoundError("npm is not installed")
    # The install script would load CUDA; the CPU's library comes with the package.
    _call(["npm", "install", "--silent", "--ignore-scripts", engine], folder)
    script = shutil.copy(HERE / "in_node.js", folder)
    return _elsewhere(engine, ["node", str(script), engine], folder, asked)


ENGINES: dict[str, Callable[[Path, list[Job]], Answers]] = {
    "ONNX Runtime": in_onnxruntime,
    "OpenVINO": in_openvino,
    "onnxruntime-node": partial(in_node, "onnxruntime-node"),
    "onnxruntime-web": partial(in_node, "onnxruntime-web"),
}


def _elsewhere(name: str, command: list[str], folder: Path, asked: list[Job]) -> Answers:
    """Run the jobs by a program that reads them from one file and writes its answers into another."""
    given, answered = folder / "jobs.json", folder / "answers.json"
    given.write_text(
        json.dumps(
            [
                {
                    "graph": str(job.graph),
                    "feeds": [{name: _plain(value) for name, value in feeds.items()} for feeds in job.feeds],
                    "outputs": list(job.expected[0]),
                }
                for job in asked
            ]
        )
    )
    _call([*command, str(given), str(answered)], folder)
    read = json.loads(answered.read_text())
    outputs: list[list[dict[str, NDArray[Any]]] | str] = []
    for job, answer in zip(asked, read["answers"], strict=True):
        if "error" in answer:
            outputs.append(answer["error"])
            continue
        outputs.append(
            [
                {key: np.array(values, np.float32).reshape(job.expected[n][key].shape) for key, values in each.items()}
                for n, each in enumerate(answer["outputs"])
            ]
        )
    return Answers(f"{name} {read['version'].partition('-')[0]}", outputs)


def _plain(value: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": str(value.dtype), "shape": list(value.shape), "values": value.ravel().tolist()}


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise OSError(f"{' '.join(command[:4])} failed: {lines[-1] if lines else done.returncode}")


def verdict(job: Job, outputs: list[dict[str, NDArray[Any]]] | str) -> str:
    """Return what became of a job: `equal` to the bit, `close`, `different`, or `refused`."""
    if isinstance(outputs, str):
        return "refused"
    pairs = [
        (found[name], value)
        for found, wanted in zip(outputs, job.expected, strict=True)
        for name, value in wanted.items()
    ]
    if all(np.array_equal(found, wanted) for found, wanted in pairs):
        return "equal"
    near = all(np.allclose(found, wanted, rtol=CLOSE, atol=CLOSE) for found, wanted in pairs)
    return "close" if near else "different"


def table(asked: list[Job], answers: list[Answers | str]) -> str:
    """Return the table as Markdown: engines and opsets down, files across."""
    heads = [name.removeprefix("model.").removesuffix(".onnx") for name in VARIANTS]
    lines = [f"| engine | opset | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    notes = []
    for found in answers:
        if isinstance(found, str):
            name, _, why = found.partition(": ")
            lines.append(f"| {name} | | {' | '.join('n/a' for _ in heads)} |")
            notes.append(f"{name} was not run: {why}")
            continue
        for opset in OPSETS:
            cells = []
            for variant in VARIANTS.values():
                chosen = [
                    (job, outputs)
                    for job, outputs in zip(asked, found.outputs, strict=True)
                    if job.variant == variant and job.opset == opset
                ]
                counts = Counter(verdict(job, outputs) for job, outputs in chosen)
                cells.append(", ".join(f"{counts[word]} {word}" for word in _WORDS if counts[word]))
                notes += [
                    f"{found.engine}, {job.graph.stem}: {outputs if isinstance(outputs, str) else 'other numbers'}"
                    for job, outputs in chosen
                    if verdict(job, outputs) in {"different", "refused"}
                ]
            lines.append(f"| {found.engine} | {opset} | {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n- {note}" for note in notes)])


_WORDS = ("equal", "close", "different", "refused")


def main() -> int:
    """Run what the command line asks for; return 1 where an engine found other numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ENGINE", help=f"which: {', '.join(ENGINES)}; default all")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ENGINES):
        parser.error(f"no engine is called {', '.join(sorted(unknown))}; there are {', '.join(ENGINES)}")
    answers: list[Answers | str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = jobs(folder)
        print(f"{len(asked)} graphs of {len(CASES)} networks", file=sys.stderr)
        for engine in options.names or ENGINES:
            place = folder / engine.replace(" ", "-")
            place.mkdir()
            try:
                answers.append(ENGINES[engine](place, asked))
            except (OSError, subprocess.SubprocessError) as error:
                answers.append(f"{engine}: {error}")
            print(f"{engine}: done", file=sys.stderr)
        written = table(asked, answers)
        print(written)
        if options.write:
            text = PAGE.read_text(encoding="utf-8")
            before, _, rest = text.partition(BEGIN)
            after = rest.partition(END)[2]
            PAGE.write_text(f"{before}{BEGIN}\n\n{written}\n\n{END}{after}", encoding="utf-8")
        wrong = [
            job
            for found in answers
            if not isinstance(found, str)
            for job, outputs in zip(asked, found.outputs, strict=True)
            if verdict(job, outputs) == "different"
        ]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
