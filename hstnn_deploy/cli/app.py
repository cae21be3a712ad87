"""The `hstnn` command: an explicit list of commands, and the one place that turns errors into exit codes."""

import errno
import inspect
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

import hstnn_deploy
from hstnn_deploy.cli import console, defaults, streams
from hstnn_deploy.cli.examples import epilog
from hstnn_deploy.cli.pages import Command, Group
from hstnn_deploy.errors import HstnnError, UsageError, out_of_memory
from hstnn_deploy.factories import looks_like_module
from hstnn_deploy.files import cannot_use
from hstnn_deploy.foreign import brief, one_line, rule_broken
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
    """Return the command line with only these commands, without importing the modules of the others."""
    made = typer.Typer(
        name="hstnn",
        help="Train hybrid spatiotemporal neural networks, export them with proof, and measure what they cost.",
        no_args_is_help=True,
        cls=Group,
        epilog=epilog(""),
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
    _dress(made)
    return made


def app(args: list[str], **options: Any) -> Any:
    """Run a command line. If its first word names a command, only that command's module is imported.

    `help COMMAND` means `COMMAND --help`.
    """
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    first = _completed() or args[:1]
    return commands(*(first if first and first[0] in COMMANDS else COMMANDS))(args=args, prog_name="hstnn", **options)


def _completed() -> list[str]:
    """Return the command whose arguments a shell completes; [] if it completes the command's name, or nothing."""
    if _COMPLETION not in os.environ:
        return []
    # The shell would read a wrapped line as two suggestions.
    os.environ["COLUMNS"] = "10000"
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").replace("\n", " ")
    parts = words.split()
    return parts[1:2] if len(parts) > 2 or words.endswith(" ") else []


_COMPLETION = "_HSTNN_COMPLETE"
"""Set by a shell that asks for completions."""


def _dress(group: typer.Typer, path: str = "") -> None:
    """Make `--help` wrap lines at the terminal's width, not at the docstring's, and end with examples."""
    for each in group.registered_commands:
        paragraphs = inspect.cleandoc(each.help or (each.callback and each.callback.__doc__) or "").split("\n\n")
        each.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        each.cls, each.epilog = Command, epilog(f"{path}{each.name}")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            about = inner.typer_instance.info
            name = f"{path}{about.name}"
            about.cls, about.epilog = Group, epilog(name)
            _dress(inner.typer_instance, f"{name} ")


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
        typer.Option("--traceback", help="Show the traceback of an error. Works anywhere on the command line."),
    ] = False,
    _quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print only results and errors: no progress, notes or next steps. Works anywhere."
        ),
    ] = False,
    _verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Also print where defaults come from, how long the command took, and tracebacks. Works anywhere.",
        ),
    ] = False,
    _plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="MODULE",
            help="Import a Python module that registers your own neurons, layers, losses, data sets or metrics. "
            "This runs its code. Works anywhere on the command line. HSTNN_PLUGINS names modules for every call.",
        ),
    ] = None,
) -> None:
    pass


# The class of typer's usage errors, whether typer brings its own copy of click or uses the package.
_TyperUsageError: Any = typer.BadParameter.__base__


def main() -> NoReturn:
    """Run the command line and exit with a code of `hstnn_deploy.errors`."""
    begun = time.perf_counter()
    _asked_to_end.clear()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, _interrupt)
    streams.prepare()
    try:
        console.speak(quiet=False, verbose=False)
        words, named = _plugins(_spoken(sys.argv[1:]))
        console.use_plugins(named)
        if _COMPLETION not in os.environ and not {"-h", "--help", "--version"} & {*words} and words[:1] != ["help"]:
            defaults.begin()
            for row in defaults.survey() if console.verbose() else ():
                console.told_more(f"{row['what']}: {row['value']} ({row['from']})")
        if named:
            # Child processes read it there.
            os.environ[VARIABLE] = ",".join([*filter(None, [os.environ.get(VARIABLE)]), *named])
        result = app(args=words, standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == 130:
            console.error("interrupted")
        # Without this, a full disk would raise only while Python shuts down, without a clear message.
        sys.stdout.flush()
    except SystemExit as left:
        # click exits by itself, with another code, when the reader of our output has gone.
        if not isinstance(left.__context__, BrokenPipeError):
            raise
        code = _explain(left.__context__)
    except BaseException as error:  # a panic of an extension is no Exception
        code = _explain(error)
        # A word of the command line that is wrong is a mistake of the user's alone, and help is no mistake.
        if "--traceback" in sys.argv[1:] or (console.verbose() and not isinstance(error, _TyperUsageError)):
            with suppress(OSError):
                traceback.print_exception(error)
    _wait_no_more()
    with suppress(OSError):
        console.told_more(f"took {time.perf_counter() - begun:.1f} s")
    streams.close()
    if code and "RANK" in os.environ:
        # The threads that exchange gradients between ranks would abort during a normal shutdown.
        os._exit(code)
    sys.exit(code)


def _spoken(words: list[str]) -> list[str]:
    """Apply --quiet, --verbose and --traceback, and return the other arguments."""
    end = words.index("--") if "--" in words else len(words)
    before, after = words[:end], words[end:]
    quiet, verbose = {"-q", "--quiet"} & {*before}, {"-v", "--verbose"} & {*before}
    if quiet and verbose:
        raise UsageError("--quiet and --verbose are mutually exclusive", "give one of them, or neither")
    console.speak(quiet=bool(quiet), verbose=bool(verbose))
    return [*(word for word in before if word not in _SAID), *after]


_SAID = {"--traceback", "-q", "--quiet", "-v", "--verbose"}
"""Options that work anywhere on the command line."""


def _plugins(words: list[str]) -> tuple[list[str], list[str]]:
    """Split off `--plugin MODULE`; return the other arguments and the modules."""
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
        raise UsageError(f"--plugin {brief(wrong[0])} is not a module name", hint)
    # Doctor reports it for each module itself.
    if words[:1] != ["doctor"] and (lost := [each for each in named if not _is_there(each)]):
        hint = "install it, or start hstnn in the folder with its file"
        raise UsageError(f"--plugin {brief(lost[0])}: no module of this name is installed or in {Path.cwd()}", hint)
    return left, named


def _is_there(module: str) -> bool:
    """Whether a module's file, or its package, is found; nothing of it runs."""
    first = module.partition(".")[0]
    return find_spec(first) is not None or PathFinder.find_spec(first, [str(Path.cwd())]) is not None


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
            # The reader of our output has gone and would not see a message.
            return 141, "", ""
        case _TyperUsageError():
            context = getattr(error, "ctx", None)
            hint = f"see `{context.command_path if context else 'hstnn'} --help`"
            if isinstance(error, typer.BadParameter):
                error.message = rule_broken(error.message)
            return 2, error.format_message().removesuffix("."), hint
        case OSError() if error.errno == errno.ENAMETOOLONG:
            name = brief(str(error.filename or "it"))
            return UsageError.exit_code, f"the file name is too long: {name}", "choose a shorter name"
        case OSError() if error.errno and error.strerror:
            refused = cannot_use(error)
            return refused.exit_code, refused.message, refused.hint
        case _:
            return (
                70,
                f"unexpected error: {type(error).__name__}: {one_line(str(error))}",
                "add --traceback to see where",
            )


_asked_to_end: list[int] = []
"""The signals received. A library that is interrupted during its import may raise any exception."""


_PATIENCE = 3.0
"""Seconds that an interrupt waits for an import to end."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; where a module is just being imported, after that, as some libraries swallow it."""
    _asked_to_end.append(number)
    if len(_asked_to_end) > 1 or not _importing(frame) or not hasattr(signal, "setitimer"):
        _wait_no_more()
        raise KeyboardInterrupt
    latest = time.monotonic() + _PATIENCE

    def again(_number: int, frame: FrameType | None) -> None:
        if not _importing(frame) or time.monotonic() > latest:
            _wait_no_more()
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)


def _wait_no_more() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _importing(frame: FrameType | None) -> bool:
    """Whether a frame belongs to the import of a module."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
