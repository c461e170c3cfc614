"""Write docs/options.md from the command line itself: python tests/options.py."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from seesr_cli.cli import app, help

PAGE = Path(__file__).parent.parent / "docs" / "options.md"

HEAD = """# Options

Made from the command line by `python tests/options.py`; `seesr COMMAND --help-all` shows the same.

Every option of `upscale`, `tags` and `evaluate` can also stand in the environment (`--long-edge` is `SEESR_LONG_EDGE`),
or in `seesr.toml` in the current folder or in your own configuration folder (`~/.config/seesr/` on Linux). Flags win
over the environment, and the environment wins over the file. `~` is your home folder everywhere:

    model = "miniature"          # for every command that has the option

    [upscale]
    format = "tiff"
    add-tag = ["portrait", "1920s"]
"""


def page() -> str:
    """Return the page as it must be."""
    group = typer.main.get_command(app)
    return "\n".join([HEAD, *_sections(group, "seesr")]).rstrip() + "\n"


def _sections(group: Any, path: str) -> Iterator[str]:
    """Yield the lines of all commands of a group, and of the groups in it."""
    for name, command in group.commands.items():
        whole = f"{path} {name}"
        if "commands" in vars(command):
            yield from _sections(command, whole)
            continue
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        typed = " ".join([whole, *(f"{each.metavar}" for each in arguments), "[options]"])
        yield f"## {whole}\n\n    {typed}\n"
        yield _plain(command.help.partition("\n\n")[0]) + "\n"
        yield "| option | what it does |\n|---|---|"
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help":
                yield f"| `{help.names(option).replace('|', chr(92) + '|')}` | {_plain(option.help)} |"
        yield ""


def _plain(text: str) -> str:
    """Return the help's words without its markup, on one line, fit for a table."""
    words = " ".join(Text.from_markup(text).plain.split())
    return re.sub(r"([|*<>])", r"\\\1", words)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
