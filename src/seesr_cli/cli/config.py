"""Options that need not be typed: flags win over the environment, and that over `seesr.toml`."""

import os
import sys
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import SeesrError, UsageError
from ..files import from_home
from ..settings import Sidecar
from ..weights import FOLDER_VARIABLE
from . import help, wrong

FILE = "seesr.toml"

PATHS = ("INPUT", "OUT", "FILE", "PATH", "RESULT", "[RECIPE]")
"""What stands in help for words that name files, where an option takes text, as `-` has a meaning there, or several."""


class Group(TyperGroup):
    """A group of commands with our own help, and a sentence for a picture in the place of a command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of the group."""
        help.group(self, ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command. Raises UsageError for an option that the group does not have."""
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as problem:
            if "option_name" not in vars(problem):
                raise
            raise UsageError(wrong.sentence(problem, self, ctx, args)) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that `args` begin with. Raises UsageError where there is none."""
        if args[0] not in self.commands:
            raise UsageError(wrong.command(ctx.command_path, args[0], list(self.commands)))
        return super().resolve_command(ctx, args)


class Plain(TyperCommand):
    """A command with our own help and our own sentences for usage errors."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of the command: its everyday options, or all where it has few."""
        help.everyday(self, ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An expected error learns whether its traceback is wanted, wherever that was said."""
        try:
            return super().invoke(ctx)
        except SeesrError as error:
            error.in_full = bool(ctx.params.get("debug"))
            raise

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args`, or print help if they ask for it.

        Raises UsageError for what cannot be one of the command's arguments and options.
        """
        parameters: list[Any] = list(self.params)
        for parameter in parameters:
            if parameter.type_descriptor.is_path or parameter.metavar in PATHS:
                parameter.consume_value = partial(_value_from_home, parameter)
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if help.ALL in args:
            help.whole(self, ctx)
            raise typer.Exit
        if not args and self.no_args_is_help:
            help.missing(self, ctx)
            raise typer.Exit(UsageError.exit_code)
        try:
            return super().parse_args(ctx, list(args))
        except typer.TyperException as problem:
            raise UsageError(wrong.sentence(problem, self, ctx, args)) from None


def _value_from_home(parameter: Any, ctx: Any, typed: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the value of an option or argument that names files, and where it is from, with `~` as a shell reads it.

    Shells leave `~` alone in `--output=~/x`, in quotes, in variables and in files. An argument that is a file's very
    name is left as it is. Raises UsageError where there is no home.
    """
    value, source = type(parameter).consume_value(parameter, ctx, typed)
    exact = parameter.param_type_name == "argument"
    if isinstance(value, str):
        return from_home(value, exact), source
    if isinstance(value, (list, tuple)):
        return [from_home(each, exact) if isinstance(each, str) else each for each in value], source
    return value, source


class Command(Plain):
    """A command whose options are also read from SEESR_… variables and from `seesr.toml`.

    `--long-edge` is SEESR_LONG_EDGE there, and `long-edge` or `long_edge` here. `--tags` may stand without its value.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command; say first which options a file in the current folder sets: it may be anybody's."""
        if ctx.obj.path == Path(FILE) and not ctx.params.get("quiet"):
            obeyed = [name for name in ctx.obj.values if _from_file(ctx, name)]
            if obeyed:
                names = {option.name: key.replace("_", "-") for key, option in options_of(self).items()}
                told = ", ".join(names[name] for name in obeyed)
                print(f"{FILE} in this folder sets {told}.", file=sys.stderr)
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args`; the environment and `seesr.toml` fill in the options that `args` leave out."""
        if not ctx.resilient_parsing:
            for name, parameter in options_of(self).items():
                # `--weights` is not read here: its variable is, where the weights are looked for.
                parameter.envvar = f"SEESR_{name.upper()}" if name != "weights" else None
                parameter.show_envvar = False
            path, values = from_file(ctx.parent.command.commands)
            ctx.obj = FromFile(path, values[self.name or ""])
            if (folder := ctx.obj.values.get("weights")) is not None:
                os.environ.setdefault(FOLDER_VARIABLE, folder)
            ctx.default_map = {name: value for name, value in ctx.obj.values.items() if name != "weights"}
        return super().parse_args(ctx, _with_values(args))


class FromFile(NamedTuple):
    """What `seesr.toml` says for a command.

    path: of the file, if there is one.
    values: by the name of the parameter.
    """

    path: Path | None
    values: dict[str, Any]


def _from_file(ctx: Any, name: str) -> bool:
    """Return whether the option of that name has the value that the file gives it."""
    if name == "weights":
        return ctx.params[name] is None and os.environ.get(FOLDER_VARIABLE) == ctx.obj.values[name]
    return bool(ctx.get_parameter_source(name).name == "DEFAULT_MAP")


def _with_values(args: list[str]) -> list[str]:
    """Return `args` with "json" behind each `--tags` that has no kind of file behind it."""
    kinds = get_args(Sidecar)
    filled = []
    for place, argument in enumerate(args):
        filled.append(argument)
        if argument == "--":
            return [*filled, *args[place + 1 :]]
        if argument == "--tags" and (place + 1 == len(args) or args[place + 1] not in kinds):
            filled.append("json")
    return filled


def from_file(commands: Mapping[str, Any]) -> tuple[Path | None, dict[str, dict[str, Any]]]:
    """Return which `seesr.toml` counts, and what it says for each command that reads it.

    The current folder's file counts, else the person's own. What stands at its top is for every command that has such
    an option, a table named as a command for that one. Raises UsageError where it is no TOML, or asks for an option
    that there is not.
    """
    options = {name: options_of(command) for name, command in commands.items() if isinstance(command, Command)}
    found: dict[str, dict[str, Any]] = {name: {} for name in options}
    path = next((place for place in (Path(FILE), Path(typer.get_app_dir("seesr")) / FILE) if place.is_file()), None)
    if path is None:
        return None, found
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path} cannot be read ({problem}): correct it, or move it away.") from None
    for key, value in content.items():
        if key in options and isinstance(value, dict):
            continue
        takers = [name for name in options if _named(key) in options[name]]
        if not takers:
            raise UsageError(f"{path}: '{key}' is no option of {' or '.join(f'seesr {name}' for name in options)}.")
        for name in takers:
            _put(found[name], options[name][_named(key)], _plain(path, key, value))
    for name in options:
        for key, value in content.get(name, {}).items():
            if _named(key) not in options[name]:
                raise UsageError(f"{path}: '{key}' under [{name}] is no option of seesr {name}.")
            _put(found[name], options[name][_named(key)], _plain(path, key, value))
    return path, found


def options_of(command: TyperCommand) -> dict[str, Any]:
    """Return the options of a command by their long names, as they are written in TOML with low lines."""
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {_named(option.opts[0].removeprefix("--")): option for option in options if option.name != "help"}


def _put(found: dict[str, Any], option: Any, value: object) -> None:
    """Put what the file says of an option where the command looks for it; one value may stand for a list of one."""
    found[option.name] = [value] if option.multiple and not isinstance(value, list) else value


def _named(key: str) -> str:
    return key.replace("-", "_")


def _plain(path: Path, key: str, value: object) -> object:
    """Return a value as the command line would give it. Raises UsageError for what it could not."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    if not isinstance(value, (str, int, float)):
        raise UsageError(f"{path}: '{key}' is neither a word, a number, true or false, nor a list of words.")
    return str(value)
