"""`hstnn compare`: two groups of runs, profile records or robustness records, and conditions on how they differ."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import DataDir, Json
from hstnn_deploy.errors import ConditionMet, ReportError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.report.comparing.comparison import Comparison


def compare(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="A folder of runs, a run's best.pt, or a folder or file of records. With --run: a checkpoint.",
        ),
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="What to compare A with; the same kind of thing as A.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What to compare, such as accuracy, loss, p99_ms or gaussian; repeatable.",
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 14 on a change like 'accuracy < -0.5' or 'p99 > 10ms' (B - A), 'p99 > 1.1x' (B / A), "
            "'epoch > 10%'; exit with 13 if a condition cannot be evaluated. Repeatable.",
        ),
    ] = None,
    despite: Annotated[
        bool,
        typer.Option("--despite", help="Apply --fail-if to doubtful times too, such as those from a busy machine."),
    ] = False,
    redundant: Annotated[
        bool, typer.Option("--redundant", help="Compare hybrids as they are before selection (stage adapt).")
    ] = False,
    run: Annotated[
        bool,
        typer.Option("--run", help="Measure the checkpoints A and B alternately (A B A B), and compare the results."),
    ] = False,
    repeats: Annotated[
        int | None,
        typer.Option(help="With --run, processes per checkpoint (default: 5, the fewest that allow a test)."),
    ] = None,
    phases: Annotated[
        str | None, typer.Option(metavar="LIST", help="With --run, as in hstnn profile (default: infer).")
    ] = None,
    engines: Annotated[
        str | None, typer.Option(metavar="LIST", help="With --run, as in hstnn profile (default: onnxruntime).")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="LIST", help="With --run, batch sizes of inference (default: 1).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="With --run, CPU threads (default: the engine's own choice).")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="LIST", help="With --run, as in hstnn profile (default: GPU 0 if any).")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="With --run, measure each process for about this many seconds (default: 5).")
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --run, keep the records in DIR/A and DIR/B.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two groups of runs or records: differences with intervals, a significance test, and an exit code for CI.

    Runs are paired by seed if both sides have the same seeds (paired t-test); otherwise Welch's t-test is used. If only
    one side is a hybrid, its restored network is compared. Times and memory are compared by process (exact permutation
    test; many processes: Welch's t-test), so measure several processes per side, ideally with --run. For robustness
    records, the mean over all levels of each disturbance is compared, by seed.
    """
    from hstnn_deploy.cli import in_turns
    from hstnn_deploy.report.comparing import comparison, conditions

    wanted = [conditions.parse(text) for text in fail_if or []]
    given = {
        "--repeats": repeats, "--phases": phases, "--engines": engines, "--batch": batch, "--threads": threads,
        "--gpus": gpus, "--seconds": seconds, "--data-dir": data_dir, "--out": out,
    }  # fmt: skip
    if run:
        if redundant:
            raise UsageError("--redundant chooses among runs, and --run measures the two checkpoints", "leave it out")
        asked = in_turns.Asked(repeats, phases, engines, batch, threads, gpus, seconds, data_dir)
        result = in_turns.measured(first, second, asked, out, metric or [], wanted, despite)
    else:
        if idle := [name for name, value in given.items() if value is not None]:
            raise UsageError(
                f"{idle[0]} has no effect without --run, which measures", f"add --run, or leave {idle[0]} out"
            )
        result = comparison.compare(first, second, metric or [], wanted, despite, redundant)
    _show(result, as_json)
    _judge(result)


def _show(result: "Comparison", as_json: bool) -> None:
    from hstnn_deploy.report.comparing import shown

    if as_json:
        console.emit(shown.plain(result))
        return
    console.print_sheet(shown.sheet(result))
    for verdict in result.verdicts:
        console.out.print(f"fail if {verdict.condition.text}: {verdict.said}", markup=False, soft_wrap=True)


def _judge(result: "Comparison") -> None:
    if result.failures:
        worst = result.failures[0]
        more = f" (and {len(result.failures) - 1} more)" if len(result.failures) > 1 else ""
        raise ConditionMet(
            f"{worst.row.name}: {worst.row.metric} changed by {worst.shown}: {worst.condition.text}{more}",
            "--fail-if makes this change an error",
        )
    for verdict in result.unjudged[:1]:
        raise ReportError(
            f"--fail-if {verdict.condition.text!r} cannot be evaluated for {verdict.row.name}: {verdict.why}",
            verdict.hint,
        )
