"""`hstnn compare`: two groups of runs, profile records or robustness records, and conditions on how they differ."""

from pathlib import Path
from typing import Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import ConditionMet, ReportError


def compare(
    first: Annotated[
        Path,
        typer.Argument(metavar="A", help="A folder of runs, or a folder or file of records."),
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="What to compare it with, of the same sort.")],
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
            help="Exit with 14 on a change like 'accuracy < -0.5' (B - A), 'p99_ms > 1.1x' (B / A), 'epoch > 10%'; "
            "with 13 where it cannot be judged, as with times or memory of one process a side.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two groups: differences with intervals, a significance test, and an exit code for CI.

    Runs are compared by seed where both sides have the same ones (paired t-test), else by Welch's t-test. Records are
    compared by process (Welch's t-test): measure each side several times; one process a side gives no verdict. Of
    robustness records the mean over all levels of each disturbance is compared, by seed.
    """
    from hstnn_deploy.report import comparison, conditions

    wanted = [conditions.parse(text) for text in fail_if or []]
    result = comparison.compare(first, second, metric or [], wanted)
    if as_json:
        console.emit(comparison.plain(result))
    else:
        console.print_sheet(comparison.sheet(result))
        for verdict in result.verdicts:
            said = {True: "fulfilled", False: "not fulfilled", None: "cannot be judged"}[verdict.failed]
            line = f"fail if {verdict.condition.text}: {said} by {verdict.row.name} ({verdict.shown})"
            console.out.print(line, markup=False, soft_wrap=True)
    if result.failures:
        worst = result.failures[0]
        more = f" (and {len(result.failures) - 1} more)" if len(result.failures) > 1 else ""
        raise ConditionMet(
            f"{worst.row.name}: {worst.row.metric} changed by {worst.shown}: {worst.condition.text}{more}",
            "that is what --fail-if was asked to fail on",
        )
    for verdict in result.unjudged[:1]:
        raise ReportError(
            f"--fail-if {verdict.condition.text!r} cannot be judged for {verdict.row.name}: {verdict.row.unjudged}",
            "measure each side several times (hstnn profile --out A/1, --out A/2, …), or train several seeds",
        )
