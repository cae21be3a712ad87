"""Every table of every command at 60, 80, 100 and 140 columns: no number and no word of a header is split or cut."""

import ast
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.table import Table as Bare
from rich.text import Text

import hstnn_deploy
from hstnn_deploy.cli import board, console, data_bench, data_check, evaluate, export, pick, predictions
from hstnn_deploy.cli import robustness as disturbing
from hstnn_deploy.cli import train as training_command
from hstnn_deploy.data.checking.checked import Checked
from hstnn_deploy.export.bundle.quantise import Reduction
from hstnn_deploy.export.proof.comparisons import Check, sheet_of
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.show import report
from hstnn_deploy.profile.values import Measured as Figure
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.report import variation
from hstnn_deploy.report.tradeoff import Candidate
from hstnn_deploy.robustness.record import Curve, Measured, Robustness
from hstnn_deploy.screen import Table, Words
from hstnn_deploy.shown import Sheet, Shown
from hstnn_deploy.train.variation import Measurement
from tests.conftest import TINY, Hstnn, settings
from tests.profile.conftest import configured, measured
from tests.report.conftest import inference, records_of, training, varied, write_sweep

WIDTHS = (60, 80, 100, 140)
GONE = "Not shown at this width:"
LONG = 20
"""Letters of a word, such as a path, that may break inside."""
_LINES = re.compile(r"[━─│┃┏┓┗┛┡┩╇┳┻┴└┘╷╵]+")
_WITH_UNIT = re.compile(r"(?<![\w.])(\d[\d.,]*) (%|ms|s|µs|kB|MB|GB|J|min|thr\.)(?![\w/])")


def drawn(what: RenderableType, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    screen.print(what, crop=False)
    assert isinstance(screen.file, io.StringIO)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


def faults(what: RenderableType, width: int) -> list[str]:
    """Return what is wrong with a table at a width, against the same table on a screen as wide as it likes."""
    whole, lines = _LINES.sub("  ", "\n".join(drawn(what, 2000))), drawn(what, width)
    found = [f"longer than {width}: {line}" for line in lines if Text(line).cell_len > width]
    text = _LINES.sub("  ", "\n".join(lines))
    text, gone, left_out = text.partition(GONE)
    there = whole.split()
    long = [word for word in there if len(word) > LONG]
    for word in text.split():
        piece = any(word in each for each in long)
        if word not in there and not piece and word.removesuffix(":") not in there:
            found.append(f"a piece: {word!r}")
    broken = Counter(_WITH_UNIT.findall(whole)) - Counter(_WITH_UNIT.findall(text))
    if not gone:
        found += [f"lost: {word!r}" for word in set(there) - set(text.split()) if len(word) <= LONG
                  and word.strip("█") and f"{word}:" not in text]  # fmt: skip
        found += [f"parted from its unit: {' '.join(each)}" for each in broken]
    elif isinstance(what, Table):
        named = " ".join(left_out.split())
        shown = {word.strip(":") for word in text.split()}
        for name in what.names:
            words = set(name.split())
            if not words <= shown and " ".join(name.split()) not in named:
                found.append(f"left out without a word: {name!r}")
    return found


def test_what_folds_a_number_or_a_header_is_found() -> None:
    folding = Bare("network", "undominated", "time")
    for _ in range(4):
        folding.add_row("hybrid of a name that is long", "12345.67890 %", "12.5 ms and 13.5 ms")
    assert any("a piece" in each for each in faults(folding, 30))
    parting = Bare("a", "time")
    parting.add_row("a", "12.5 ms and 13.5 ms")
    assert any("parted" in each for each in faults(parting, 17))
    cutting = Bare("network")
    cutting.add_column("undominated", no_wrap=True, overflow="ellipsis")
    cutting.add_row("hybrid", "yes")
    assert faults(cutting, 16)

    class Long:
        def __rich_console__(self, *_: Any) -> Any:
            yield Segment("a line of some words")

    assert any("longer" in each for each in faults(Long(), 12))

    class Silent(Table):
        def __rich_console__(self, *_: Any) -> Any:
            yield Text(f"a\n1\n{GONE} nothing.") if _[1].max_width < 99 else Text("a b\n1 2")

    assert faults(Silent(["a", "b"]), 60) == ["left out without a word: 'b'"]


def test_nothing_else_draws_a_table() -> None:
    package = Path(hstnn_deploy.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.table":
                assert path == package / "screen.py"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("33.1 s to 47.0 s [1]", 12, ["33.1 s to", "47.0 s [1]"]),
        ("mean 12.5 ± 0.25 of it", 12, ["mean", "12.5 ± 0.25", "of it"]),
        ("  part of it", 9, ["  part of", "  it"]),
        ("/a/long/path/of/a/file.json", 12, ["/a/long/", "path/of/a/", "file.json"]),
        ("< 0.001", 4, ["< 0.001"]),
        ("65 536 of 1 234 567", 10, ["65 536 of", "1 234 567"]),
        ("5.0 to 30.0 of B - A", 12, ["5.0 to 30.0", "of B - A"]),
    ],
)
def test_text_wraps_at_spaces_and_a_number_keeps_what_belongs_to_it(text: str, width: int, lines: list[str]) -> None:
    assert Words(text).lines(width) == lines


def test_of_many_rows_the_named_columns_go_first_and_a_line_says_so() -> None:
    table = Table(["network", ">accuracy", ">robustness", ">energy"], drop=["robustness"])
    for _ in range(5):
        table.add_row("hybrid 0.5", "98.25 %", "71.00 %", "1.25 µJ")
    text = "\n".join(drawn(table, 34))
    assert "robustness" not in text.partition(GONE)[0]
    assert "energy" in text.partition(GONE)[0]
    assert " ".join(text.partition(GONE)[2].split()) == "robustness. A wider terminal or --json shows them."
    assert GONE not in "\n".join(drawn(table, 60))


def test_a_column_of_bars_that_is_left_out_is_not_listed() -> None:
    table = Table(["class", ""], drop=[""])
    for _ in range(5):
        table.add_row("three", "█" * 18)
    text = "\n".join(drawn(table, 20))
    assert "█" not in text
    assert GONE not in text


def test_a_table_of_few_rows_stands_on_its_side() -> None:
    table = Table(["network", *(f">figure{number}" for number in range(9))])
    table.add_row("hybrid", *(f"{number}.5 ms" for number in range(9)))
    lines = drawn(table, 40)
    assert lines[0].split() == ["network", "hybrid"]
    assert lines[9].split() == ["figure8", "8.5", "ms"]


def _network(seed: int, levels: int = 9) -> Measured:
    curves = [
        Curve(name=name, unit="of the range", where="values", levels=[0.05 * (each + 1) for each in range(levels)],
              axis=[0.05 * (each + 1) for each in range(levels)], values=[[98.5 - each] for each in range(levels)])
        for name in ("gaussian", "salt_and_pepper")
    ]  # fmt: skip
    return Measured(
        source="best.pt", recipe="digits", data="digits", kind="hybrid", ratio=0.5, stage="restore", seed=seed,
        metric="accuracy", unit=" %", higher_is_better=True, split="test", batch=10, clean=98.61,
        curves=curves,
    )  # fmt: skip


def _candidates() -> list[Candidate]:
    return [
        Candidate("digits, network.units [200, 200]", f"hybrid 0.{number}", "hybrid", "accuracy", True,
                  {1: 98.25, 2: 97.5}, Path("best.pt"), 71.25, {"energy": 0.012345 * (number + 1)})
        for number in range(5)
    ]  # fmt: skip


def _picked(_hstnn: Hstnn, _folder: Path) -> None:
    found = _candidates()
    why = {each.name: "energy above --max-energy 0.01 µJ" for each in found}
    pick._print(found, "energy", {found[0].name}, why, found[0])


def _profiled(_hstnn: Hstnn, _folder: Path) -> None:
    digits = load_recipe("digits", settings({**TINY, "batch": 100}))
    paper = load_recipe("smnist", settings(TINY))
    trained = measured(configured(paper, "train"))
    ways = [
        replace(trained, configuration=replace(trained.configuration, device=f"cuda:{n}", threads=n)) for n in range(5)
    ]
    asked = configured(digits, "infer")
    turns = [measured(replace(asked, repeat=number), latency_p50=0.01 * number) for number in range(1, 6)]
    engines = [measured(configured(digits, "infer", engines=[engine], batches=[batch]))
               for engine in ("eager", "fused", "onnxruntime") for batch in (1, 100)]  # fmt: skip
    failed = Record(configured(digits, "restore"), "failed", reason="the process was killed by SIGKILL")
    work = replace(
        measured(configured(digits, "work")),
        values=[Figure(name, 1234567.0, unit, "counted") for name, unit in
                (("parameters", ""), ("macs_dense", ""), ("macs", ""), ("acs", ""), ("energy", "J"),
                 ("rram_bits", "bit"), ("macs_dense.layer1.conv", ""))],
    )  # fmt: skip
    for records in ([*ways, failed], [*turns, *engines], [work]):
        for part in report.tables(records):
            console.out.print(part)


def _reported(hstnn: Hstnn, folder: Path) -> None:
    runs = write_sweep(folder / "runs", seeds=[1111, 2222, 3333])
    records = records_of(folder / "records.jsonl", [inference(0.25), inference(0.5), training()])
    assert hstnn("report", runs, records).code == 0
    assert hstnn("runs", "list", runs).code == 0
    run = next(runs.rglob("status.json")).parent
    here = {"device": "cpu", "threads": 1, "cpu": "a processor", "versions": {"torch": "2.13.0"}}
    (run / "environment.json").write_text(json.dumps(here))
    assert hstnn("runs", "show", run).code == 0


def _compared(hstnn: Hstnn, folder: Path) -> None:
    one, other = write_sweep(folder / "a", seeds=[1, 2, 3]), write_sweep(folder / "b", seeds=[1, 2, 3])
    assert hstnn("compare", one, other, "--metric", "accuracy").code == 0
    records = [records_of(folder / f"{name}.jsonl", [inference(0.5), training()]) for name in "ab"]
    assert hstnn("compare", *records).code == 0


class _Result(Shown):
    def __init__(self, checks: list[Check]) -> None:
        self._checks = checks

    def sheet(self) -> Sheet:
        return sheet_of("Bundle", self._checks * 4)


def _exported(_hstnn: Hstnn, _folder: Path) -> None:
    figure = "65 536 of 65 536 spikes identical; recurrent values within the rounding bound (27.5 % of it), 12.5 ms"
    checks = [
        Check("model.onnx", "step by step", "passed", figure),
        Check("model.onnx", "whole sequences of every length", "failed", figure),
    ]
    export.print_checks(checks, console.out)
    console.out.print(_Result(checks))
    smaller = Reduction(
        "model.int8.onnx", "int8-dynamic", 12345, 45678, 1.25, 2.5, 12, 65536, "accuracy", 98.0, 98.5, 0.5,
        ", 100 of its samples", 1.0, "",
    )  # fmt: skip
    bundle: Any = SimpleNamespace(reductions=[smaller] * 5)
    console.out.print(export._smaller_table(bundle))


def _streamed(_hstnn: Hstnn, _folder: Path) -> None:
    best = [[3, 0.5], [7, 0.25], [1, 0.125]]
    answers = [{"class": 3, "name": "three", "probability": 0.75, "best": best}] * 5
    live = predictions.LiveTable(Console(file=io.StringIO()), 0, "recording.bin")
    live._history = [[str(each % 10) for each in range(60)] for _ in answers]
    console.out.print(live._table(60, 100, answers))
    values = [{"values": [12.3456, 0.001234] * 4, "names": [f"velocity{each}" for each in range(8)]}] * 5
    console.out.print(predictions._of_values("recording.bin: step 3", values))
    live.close()


def _benched(_hstnn: Hstnn, _folder: Path) -> None:
    held = {"bytes": 123456789}
    strategies = [
        {"name": name, "batches_per_second": 1234.5, "over_naive": 12.25, "ready_seconds": 1.5,
         "bytes": dict.fromkeys(("host", "device", "disk"), held), "train_seconds": [1.25], "train_loss": 2.3}
        for name in ("naive", "memory, prefetched", "on the device", "events, packed")
    ]  # fmt: skip
    digits = SimpleNamespace(name="digits")
    asked: Any = SimpleNamespace(training=digits, device=SimpleNamespace(type="cpu"),
                                 samples=256, config=SimpleNamespace(steps=8), data_set=digits)  # fmt: skip
    bench: Any = SimpleNamespace(count=256, whole=1000, batches=4, batch=64)
    facts = {"strategies": strategies, "origin": "", "rounds": 3, "method": "", "load_average": [0.0, 0.0],
             "environment": {"cpu": "a CPU", "cores": 2, "threads": 1}, "recordings": None, "advice": ""}  # fmt: skip
    data_bench._print(asked, bench, facts)


def _checked(_hstnn: Hstnn, _folder: Path) -> None:
    config: Any = None
    counts = {"train": [123456, 234567], "valid": [1234, 2345], "test": [1234, 2345]}
    classes = ("a class of a rather long name in several words", "walking")
    data_check._print_counts(Checked("a", "images", "", config, classes=classes, counts=counts, how="folders"))


def _exits(_hstnn: Hstnn, _folder: Path) -> None:
    rows = [SimpleNamespace(rule=rule, threshold=t, mean_steps=3.25, accuracy=97.5)
            for rule in ("steps", "probability", "margin") for t in (2, 4)]  # fmt: skip
    title, columns = "Early exit, of 8 steps", ["rule", ">threshold", ">mean steps", ">accuracy %", ">difference"]
    source = Path(evaluate.__file__).read_text(encoding="utf-8")
    assert all(f'"{column}"' in source for column in columns)
    cells = [(r.rule, f"{r.threshold:g}", f"{r.mean_steps:.2f}", f"{r.accuracy:.2f}", "+0.50") for r in rows]
    console.out.print(console.table(title, columns, cells))


def _trained(_hstnn: Hstnn, folder: Path) -> None:
    from hstnn_deploy.runs import RunFolder

    runs = [RunFolder(path.parent) for path in sorted(write_sweep(folder / "runs", seeds=[1]).rglob("status.json"))]
    training_command._print(runs, load_recipe("digits"), False)
    entries: Any = [
        SimpleNamespace(job=SimpleNamespace(name=f"digits/hybrid/seed{n}/ratio-0.5/restore"), state="failed",
                        attempts=3, reason="the process was killed by SIGKILL (out of memory) after 12.5 s")
        for n in range(5)
    ]  # fmt: skip
    console.out.print(board.failures(entries))


def _varied(_hstnn: Hstnn, _folder: Path) -> None:
    curves = [varied(step, seed=seed) for step in ("baseline", "vat", "recover", "prune") for seed in (1111, 2222)]
    for sheet in variation.sheets(Measurement("test", 2, 0, curves)):
        console.print_sheet(sheet)


def _disturbed(_hstnn: Hstnn, _folder: Path) -> None:
    disturbing._print(Robustness(networks=[_network(1), _network(2)]), 3)


def _asked(*words: str) -> Callable[[Hstnn, Path], None]:
    def ask(hstnn: Hstnn, _folder: Path) -> None:
        result = hstnn(*words)
        assert result.code == 0, result.err

    return ask


SOURCES: dict[str, Callable[[Hstnn, Path], None]] = {
    "pick": _picked,
    "profile": _profiled,
    "report, runs": _reported,
    "compare": _compared,
    "export, verify": _exported,
    "run": _streamed,
    "data bench": _benched,
    "data check": _checked,
    "evaluate": _exits,
    "evaluate --variation": _varied,
    "robustness": _disturbed,
    "train, sweep": _trained,
    "recipes": _asked("recipes"),
    "recipes --shapes": _asked("recipes", "digits", "--shapes"),
    "robustness --list": _asked("robustness", "--list"),
    "show": _asked("show", "digits"),
    "sweep --dry-run": _asked("sweep", "digits", "--kinds", "snn,rnn,hybrid", "--seeds", "1111,2222", "--dry-run"),
    "doctor": _asked("doctor"),
    "data verify": _asked("data", "verify", "digits"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_table_fits_every_width(
    source: str, hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, Table] = {}
    draw = Table.__rich_console__

    def noted(self: Table, *given: Any) -> Any:
        seen[id(self)] = self
        return draw(self, *given)

    monkeypatch.setattr(Table, "__rich_console__", noted)
    SOURCES[source](hstnn, tmp_path)
    monkeypatch.undo()
    assert seen
    found = [f"{width} columns, {' | '.join(table.names)}: {fault}"
             for table in seen.values() for width in WIDTHS for fault in faults(table, width)]  # fmt: skip
    assert not found, "\n".join(found)
