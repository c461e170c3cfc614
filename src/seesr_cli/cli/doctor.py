"""`seesr doctor`: describe this installation and machine, and try whether they work."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .config import Command, from_file, options_of

if TYPE_CHECKING:
    from ..report.diagnosis import InForce

EXAMPLES = """\
[bold]Examples[/bold]
  seesr doctor
  seesr doctor --json > report.json"""

AsJson = Annotated[
    bool, typer.Option("--json", help="Print everything as one JSON object.", rich_help_panel=options.REPORT)
]


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Say what a report of trouble needs: versions, machine, weights, what is set, and whether a small picture works.

    No network is asked. The home folder is shown as ~; names of users and passwords are not shown. Ends with 1 if
    something does not work.
    """
    from ..machine.imports import uncollected
    from ..report import diagnosis

    assert context.parent is not None
    commands: Mapping[str, Any] = vars(context.parent.command)["commands"]
    with uncollected():
        found = diagnosis.diagnose(lambda: _in_force(commands))
    if as_json:
        print(json.dumps({"sound": found.sound, **found.sections}, indent=1))
    else:
        diagnosis.show(found)
    if not found.sound:
        raise typer.Exit(1)


def _in_force(commands: Mapping[str, Any]) -> "list[InForce]":
    """Return the options that the environment or seesr.toml sets, for any command. Raises UsageError as `from_file`."""
    from ..report.diagnosis import InForce

    path, values = from_file(commands)
    found = {}
    for name, command in commands.items():
        if not isinstance(command, Command):
            continue
        for key, option in options_of(command).items():
            typed, variable = f"{name} {option.opts[0]}", f"SEESR_{key.upper()}"
            if value := os.environ.get(variable):
                found[typed] = InForce(typed, value, variable)
            elif option.name in values[name]:
                found[typed] = InForce(typed, str(values[name][option.name]), str(path))
    return list(found.values())
