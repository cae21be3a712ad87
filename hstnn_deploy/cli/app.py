"""The `hstnn` command: an explicit list of commands, and the one place that turns errors into exit codes."""

import errno
import inspect
import os
import signal
import sys
import traceback
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

import hstnn_deploy
from hstnn_deploy.cli import console, streams
from hstnn_deploy.errors import HstnnError, UsageError, out_of_memory
from hstnn_deploy.factories import looks_like_module
from hstnn_deploy.files import cannot_use
from hstnn_deploy.foreign import brief, one_line
from hstnn_deploy.plugins.registry import VARIABLE

COMMANDS = {
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "export": "export:export",
    "verify": "verify:verify",
    "run": "run:run",
    "profile": "profile:profile",
    "recipes": "recipes:recipes",
    "show": "show:show",
    "sweep": "sweep:sweep",
    "robustness": "robustness:robustness",
    "pick": "pick:pick",
    "report": "report:report",
    "compare": "compare:compare",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "import": "import_:import_network",
    "data": "data:app",
    "runs": "runs:app",
}
"""Every command, in the order in which help lists them: its module in this folder, and its function or its group."""


@cache
def commands(*names: str) -> typer.Typer:
    """Return the command line with these commands alone, none of the others' modules being imported."""
    made = typer.Typer(
        name="hstnn",
        help="Train hybrid spatiotemporal neural networks, export them with proof, and measure what they cost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_options)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"hstnn_deploy.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            made.add_typer(command)
        else:
            made.command(name)(command)
    _flow(made)
    return made


def app(args: list[str], **options: Any) -> Any:
    """Run words of a command line; where the first names a command, no other command's module is imported.

    `help COMMAND` is `COMMAND --help`.
    """
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    return commands(*(args[:1] if args and args[0] in COMMANDS else COMMANDS))(args=args, **options)


def _flow(group: typer.Typer) -> None:
    """Let `--help` break lines where the terminal ends, not where a docstring does."""
    for each in group.registered_commands:
        paragraphs = inspect.cleandoc(each.help or (each.callback and each.callback.__doc__) or "").split("\n\n")
        each.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _flow(inner.typer_instance)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hstnn-deploy {hstnn_deploy.__version__}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    _traceback: Annotated[
        bool,
        typer.Option("--traceback", help="After an error, show the traceback too. Works anywhere on the command line."),
    ] = False,
    _plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="MODULE",
            help="Import a Python module that registers neurons, layers, losses, data sets or metrics of your own. "
            "Its code runs. Works anywhere on the command line. HSTNN_PLUGINS names modules for every call.",
        ),
    ] = None,
) -> None:
    pass


# The class of typer's usage errors, whether typer brings its own copy of click or uses the package.
_TyperUsageError: Any = typer.BadParameter.__base__


def main() -> NoReturn:
    """Run the command line and leave with an exit code: see `hstnn_deploy.errors`."""
    _asked_to_end.clear()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, _interrupt)
    streams.prepare()
    try:
        # Processes that this one starts read it there.
        words, named = _plugins([word for word in sys.argv[1:] if word != "--traceback"])
        console.use_plugins(named)
        if named:
            os.environ[VARIABLE] = ",".join([*filter(None, [os.environ.get(VARIABLE)]), *named])
        result = app(args=words, standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == 130:
            console.error("interrupted")
        # Else a full disk would show only while Python ends, as an exception that nobody explains.
        sys.stdout.flush()
    except SystemExit as left:
        # click leaves by itself, with another code, where whoever read our output has left.
        if not isinstance(left.__context__, BrokenPipeError):
            raise
        code = _explain(left.__context__)
    except BaseException as error:  # a panic of an extension is no Exception
        code = _explain(error)
        if "--traceback" in sys.argv[1:]:
            with suppress(OSError):
                traceback.print_exception(error)
    streams.close()
    if code and "RANK" in os.environ:
        # What exchanges gradients between ranks has threads under way, and would abort as they are torn down.
        os._exit(code)
    sys.exit(code)


def _plugins(words: list[str]) -> tuple[list[str], list[str]]:
    """Take `--plugin MODULE` out of the words of the command line; return what is left, and the modules."""
    left, named = list[str](), list[str]()
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            return [*left, word, *waiting], named
        if word.startswith("--plugin="):
            named.append(word.partition("=")[2])
        elif word == "--plugin":
            named.append(next(waiting, ""))
        else:
            left.append(word)
    if wrong := [each for each in named if each.endswith(".py") or not looks_like_module(each)]:
        hint = "for example --plugin my_neurons, where my_neurons.py is in the current folder or installed"
        raise UsageError(f"--plugin {brief(wrong[0])} is no module", hint)
    return left, named


def _explain(error: BaseException) -> int:
    """Print one line and a hint for an error; return its exit code."""
    code, message, hint = _explanation(error)
    with suppress(OSError):  # standard error may be full as well
        if message:
            console.error(message, hint)
        for other in error.others if isinstance(error, HstnnError) else ():
            console.error(other.message, other.hint)
    return code


def _explanation(error: BaseException) -> tuple[int, str, str]:
    """Return the exit code of an error, what to say, and a hint."""
    if not isinstance(error, HstnnError):
        error = out_of_memory(error) or error
    match error:
        case HstnnError():
            return error.exit_code, error.message, error.hint
        case _ if _asked_to_end or isinstance(error, KeyboardInterrupt | typer.Abort):
            return 130, "interrupted", ""
        case BrokenPipeError():
            # Whoever read our output has left; there is nothing more to say.
            return 141, "", ""
        case _TyperUsageError():
            context = getattr(error, "ctx", None)
            # Without a message, help was shown instead.
            hint = f"see `{context.command_path if context else 'hstnn'} --help`"
            return 2, error.format_message(), hint
        case OSError() if error.errno == errno.ENAMETOOLONG:
            name = brief(str(error.filename or "it"))
            return UsageError.exit_code, f"the name is too long for a file: {name}", "choose a shorter one"
        case OSError() if error.errno and error.strerror:
            refused = cannot_use(error)
            return refused.exit_code, refused.message, refused.hint
        case _:
            return 70, f"unforeseen: {type(error).__name__}: {one_line(str(error))}", "add --traceback to see where"


_asked_to_end: list[int] = []
"""The signals that asked for it. A library that is interrupted while it is imported may raise anything."""


def _interrupt(number: int, _frame: Any) -> None:
    _asked_to_end.append(number)
    raise KeyboardInterrupt
