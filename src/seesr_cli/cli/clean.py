"""`seesr clean`: delete what runs left that ended before their time."""

from pathlib import Path
from typing import Annotated

import typer

from ..wording import bytes_in_words, counted
from . import options

EXAMPLES = """\
[bold]Examples[/bold]
  seesr clean restored/ --dry-run
  seesr clean restored/"""

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="A folder of results; folders in it are cleaned, too.",
        exists=True,
        file_okay=False,
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per file, a line each.", rich_help_panel=options.REPORT)
]


def clean(
    folder: Folder,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Delete what runs left that ended before their time: latents, part files and locks of this program.

    Results, tag lists, journals, kept latents, files of others, and what a running process holds, stay.
    """
    from ..records.leftovers import leftovers
    from ..report import inventory

    gone, failed = [], False
    for one in leftovers(folder, delete=not dry_run):
        if one.kept:
            inventory.note(f"{one.path} stays: {one.kept}.")
            failed |= one.failed
        else:
            gone.append(one)
            inventory.result(one.path, as_json, bytes=one.bytes)
    if not quiet:
        done = "would be deleted" if dry_run else "deleted"
        inventory.note(f"{counted(len(gone), 'file')} {done}, {bytes_in_words(sum(one.bytes for one in gone))}.")
    if failed:
        raise typer.Exit(1)
