"""`seesr show`: how results were made."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import PictureError, UsageError
from . import options

EXAMPLES = """\
[bold]Examples[/bold]
  seesr show photo_x4.png
  seesr show restored/*.png --json > made.jsonl"""

Results = Annotated[
    list[Path],
    typer.Argument(metavar="RESULT", help="Results of seesr, PNG or any other kind.", show_default=False),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per result, a line each.", rich_help_panel=options.REPORT)
]


def show(results: Results, as_json: AsJson = False, debug: options.Debug = False) -> None:
    """Tell how results were made: model, settings, tags with scores, seed, and the picture they are of.

    It stands in their metadata; nothing but the file is needed, neither weights nor the picture.
    """
    from ..report import made
    from ..report.screen import complain

    failed = False
    for number, path in enumerate(results):
        try:
            record = _record(path)
            if as_json:
                made.as_json(path, record)
            else:
                made.as_text(path, record, number > 0)
        except (PictureError, UsageError) as error:
            complain(str(error), error if debug else None)
            failed = True
    if failed:
        raise typer.Exit(1)


def _record(path: Path) -> dict[str, Any]:
    """Return the record in the metadata of the picture at `path`.

    Raises PictureError for what is no picture, or tells nothing; UsageError for a record that is damaged.
    """
    from .. import image
    from ..records import provenance

    packet = image.packet(path)
    record = provenance.extract(packet) if packet else None
    if record is None:
        raise PictureError(
            f"{path} does not say how it was made: it is no result of seesr, was made with --metadata none, or has "
            "lost its metadata since."
        )
    provenance.settings_of(record, path)  # so that what is told of it can be told
    return record
