"""Print names and what they are in two columns: folded on a terminal, a line each in a pipe."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..wording import printable


def show(title: str, rows: Iterable[tuple[str, str]], width: int) -> None:
    """Print the rows below their title on stdout. width: of the column of names, in characters."""
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        lines = [printable(title), *(f"  {printable(name):<{width}}  {printable(value)}" for name, value in rows)]
        console.file.write("\n".join(lines) + "\n")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width + 2, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    for name, value in rows:
        table.add_row(Text(f"  {printable(name)}", "cyan"), Text(printable(value)))
    console.print(Text(printable(title), "bold"), table, sep="\n")
