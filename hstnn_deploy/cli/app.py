"""The `hstnn` command: an explicit list of commands, and the one place that turns errors into exit codes."""

import os
import signal
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

import hstnn_deploy
from hstnn_deploy.cli import (
    compare,
    console,
    data,
    demo,
    doctor,
    evaluate,
    export,
    profile,
    recipes,
    report,
    run,
    runs,
    sweep,
    train,
    verify,
)
from hstnn_deploy.errors import HstnnError, OutOfMemoryError

app = typer.Typer(
    name="hstnn",
    help="Train hybrid spatiotemporal neural networks, export them with proof, and say what they cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    train.train,
    evaluate.evaluate,
    export.export,
    verify.verify,
    run.run,
    profile.profile,
    recipes.recipes,
    sweep.sweep,
    report.report,
    compare.compare,
    demo.demo,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(data.app)
app.add_typer(runs.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hstnn-deploy {hstnn_deploy.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    _traceback: Annotated[
        bool, typer.Option("--traceback", help="After an error, show the traceback too. May stand anywhere.")
    ] = False,
) -> None:
    pass


# The class of typer's usage errors, whether typer brings its own copy of click or uses the package.
_TyperUsageError: Any = typer.BadParameter.__base__


def main() -> NoReturn:
    """Run the command line and leave with an exit code: see `hstnn_deploy.errors`."""
    words = sys.argv[1:]
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = app(args=[word for word in words if word != "--traceback"], standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == 130:
            console.error("interrupted")
    except (Exception, KeyboardInterrupt) as error:
        code = _explain(error)
        if "--traceback" in words:
            traceback.print_exception(error)
    if code and "RANK" in os.environ:
        # What exchanges gradients between ranks has threads under way, and would abort as they are torn down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """Recognise Python's, torch's and ONNX Runtime's ways of saying it, without importing any of them."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return OutOfMemoryError(
            f"out of memory: {' '.join(str(error).split())[:200]}",
            "choose a smaller batch (--set batch=…) or fewer units (--set network.units=[…])",
        )
    return None


def _explain(error: BaseException) -> int:
    """Print one line and a hint for an error; return its exit code."""
    if not isinstance(error, HstnnError):
        error = _out_of_memory(error) or error
    match error:
        case HstnnError():
            console.error(error.message, error.hint)
            return error.exit_code
        case KeyboardInterrupt() | typer.Abort():
            console.error("interrupted")
            return 130
        case BrokenPipeError():
            # Whoever read our output has left; say nothing more, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case _TyperUsageError():
            context = getattr(error, "ctx", None)
            if message := error.format_message():  # without one, help was shown instead
                console.error(message, f"see `{context.command_path if context else 'hstnn'} --help`")
            return 2
        case _:
            reason = " ".join(str(error).split())
            console.error(f"unforeseen: {type(error).__name__}: {reason}", "add --traceback to see where")
            return 70


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
