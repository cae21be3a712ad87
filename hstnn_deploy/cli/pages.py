"""The layout of help: typer's pages, with choices listed in the text, and no type for flags."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from hstnn_deploy.cli import defaults


def _clear(param: Any) -> Any:
    """Keep a parameter's type column short: a list of choices goes into its help, where lines can wrap."""
    if getattr(param, "hstnn_clear", False):
        return param
    param.hstnn_clear = True
    if param.param_type_name == "argument":
        # Its name says enough.
        param.display_type_rich = lambda **_: None
        return param
    choices = _choices(param)
    if getattr(param, "is_flag", False):
        param.metavar = ""
    elif choices and param.metavar is None:
        param.metavar = param.name.rstrip("_").upper().replace("_", "-")
        end = "" if not param.help or param.help.endswith(".") else "."
        listed = (" or " if any("," in each for each in choices) else ", ").join(choices)
        param.help = f"{param.help or ''}{end} One of: {listed}.".strip()
    elif param.metavar is None:
        param.metavar = "PATH" if "path" in _type(param) else "N" if "int" in _type(param) else None
        if param.metavar is None:
            param.metavar = "X" if "float" in _type(param) else param.name.upper()
    return param


def _choices(param: Any) -> list[str]:
    """Return the values of a choice, with either of the click versions that typer uses."""
    for place in ("type_descriptor", "type"):
        if found := getattr(getattr(param, place, None), "choices", None):
            return [str(getattr(each, "value", each)) for each in found]
    return []


def _type(param: Any) -> str:
    described = getattr(param, "type_descriptor", None)
    return str(getattr(described, "annotation", getattr(param, "type", ""))).lower()


class Command(TyperCommand):
    """A command of `hstnn`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, as they are drawn."""
        return [_clear(each) for each in super().get_params(ctx)]

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Begin the command: what the user has said in a file counts where no option does."""
        if not extra.get("resilient_parsing"):
            extra.setdefault("default_map", defaults.of(self.params))
        return super().make_context(info_name, args, parent, **extra)


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, as they are drawn."""
        return [_clear(each) for each in super().get_params(ctx)]
