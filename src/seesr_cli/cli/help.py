"""Print help: everyday options first, all of them on request, in a page that fits a narrow terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

ALL = "--help-all"
"""The option that shows every option of a command."""

_NAMES = 30
"""Columns that the names of options have at most, where the terminal is 80 or wider."""


EVERYDAY = {
    "upscale": (
        "--output",
        "--scale",
        "--long-edge",
        "--model",
        "--tags",
        "--compare",
        "--preview",
        "--dry-run",
        "--overwrite",
        "--format",
        "--preset",
        "--seed",
        "--weights",
        "--device",
        "--quiet",
        "--help",
    )
}
"""For a command with many options, those that its help shows first, in that order."""


def names(option: Any) -> str:
    """Return the names of an option, with a word for its value."""
    spelled = sorted([*option.opts, *option.secondary_opts], key=len)
    return ", ".join(spelled) + (f" {value}" if (value := _value(option)) else "")


def _value(option: Any) -> str:
    """Return the word for an option's value in help; none where it is a switch."""
    if option.is_flag:
        return ""
    if option.metavar:
        return str(option.metavar)
    described = option.type_descriptor
    if described.choices:
        return "|".join(str(choice) for choice in described.choices)
    return "PATH" if described.is_path else "N" if described.annotation in (int, float) else "TEXT"


def everyday(command: Any, context: Any) -> None:
    """Print the help of a command: its purpose, its everyday options, and a hint where the others are."""
    options = {max(option.opts, key=len): option for option in _options(command, context)}
    first = EVERYDAY.get(command.name, tuple(options))
    console = _head(command, context)
    _print(console, "Options", [options[name] for name in first])
    if len(first) < len(options):
        console.print(f"\nAll {len(options)} options: [bold]{context.command_path} {ALL}[/bold]")
    _print_end(console, command)


def whole(command: Any, context: Any) -> None:
    """Print the help of a command with all its options, in groups."""
    console = _head(command, context)
    panels: dict[str, list[Any]] = {}
    for option in _options(command, context):
        panels.setdefault(option.rich_help_panel or "Other options", []).append(option)
    for title, options in panels.items():
        _print(console, title, options)
    _print_end(console, command)


def group(command: Any, context: Any) -> None:
    """Print the help of a group of commands: a line for each command and option."""
    console = _head(command, context)
    rows = [(name, _first(child.help or "")) for name, child in command.commands.items() if not child.hidden]
    console.print("\n[bold]Commands[/bold]")
    console.print(_rows(rows, console))
    _print(console, "Options", _options(command, context))
    _print_end(console, command)


def missing(command: Any, context: Any) -> None:
    """Say on stderr which arguments a command lacks, with examples."""
    wanted = next(parameter for parameter in command.params if parameter.param_type_name == "argument")
    console = Console(stderr=True, highlight=False)
    about = f"{wanted.help[:1].lower()}{wanted.help[1:]}"
    console.print(Text(f"{context.command_path} needs {wanted.metavar}: {about}"))
    _print_end(console, command)
    console.print(f"\nMore: [bold]{context.command_path} --help[/bold]")


def _head(command: Any, context: Any) -> Console:
    console = Console(highlight=False)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    console.print(Text.assemble(("Usage: ", "bold"), usage))
    if command.help:
        paragraphs = [" ".join(part.split()) for part in command.help.partition("\f")[0].strip().split("\n\n")]
        console.print("", escape("\n\n".join(paragraphs)), sep="\n")
    return console


def _options(command: Any, context: Any) -> list[Any]:
    return [
        parameter
        for parameter in command.get_params(context)
        if parameter.param_type_name == "option" and not parameter.hidden
    ]


def _print(console: Console, title: str, options: Iterable[Any]) -> None:
    rows = [(names(option), option.help or "") for option in options]
    if rows:
        console.print(f"\n[bold]{title}[/bold]")
        console.print(_rows(rows, console))


def _rows(rows: Sequence[tuple[str, str]], console: Console) -> Table:
    """Return a table of names and what they mean; the second column begins at one place in all tables of a page."""
    width = _NAMES if console.width >= 80 else max(console.width * 2 // 5, 18)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width + 2, overflow="fold")
    table.add_column(ratio=1)
    for name, meaning in rows:
        spelled, _, value = name.rpartition(" ")
        fits = len(name) <= width or not spelled
        table.add_row(Text(f"  {name}" if fits else f"  {spelled}\n    {value}", "cyan"), Text.from_markup(meaning))
    return table


def _print_end(console: Console, command: Any) -> None:
    """Print what stands below the options: examples of a command, exit codes of the program."""
    if command.epilog:
        console.print("", command.epilog, sep="\n", soft_wrap="Examples" in command.epilog)


def _first(text: str) -> str:
    """Return the first sentence of a docstring, as one line."""
    return escape(" ".join(text.strip().split("\n\n")[0].split()))
