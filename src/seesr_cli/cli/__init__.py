"""The command `seesr`: it turns typed text into calls, and errors into a sentence and an exit code.

Nothing here imports torch, numpy or Pillow before a command runs: `--help` and `--version` answer at once.
"""

import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from .. import __version__
from ..errors import INTERRUPTED, SeesrError
from . import clean, demo, doctor, evaluate, show, tags, train, upscale, weights
from .config import Command, Group, Plain

app = typer.Typer(
    name="seesr",
    cls=Group,
    help="Restore real photographs with SeeSR: read the picture, then redraw it.",
    epilog="Exit codes: 0 all done, 1 some picture failed, 2 wrong usage, 3 weights missing, 4 too little memory or "
    "disk, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"seesr {__version__}")
        raise typer.Exit


@app.callback()
def seesr(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options of `seesr` itself."""


UPSCALE_EXAMPLES = """\
[bold]Examples[/bold]
  seesr upscale photo.jpg --model miniature
  seesr upscale holiday/ -o restored/ --weights ~/seesr-weights
  seesr upscale photo.jpg -o large.jpg -s 2 --model turbo --tags"""
TAGS_EXAMPLES = """\
[bold]Examples[/bold]
  seesr tags photo.jpg --model miniature
  seesr tags holiday/ --json > tags.jsonl"""
app.command(no_args_is_help=True, epilog=UPSCALE_EXAMPLES, cls=Command)(upscale.upscale)
app.command(no_args_is_help=True, epilog=TAGS_EXAMPLES, cls=Command)(tags.tags)
EVALUATE_EXAMPLES = """\
[bold]Examples[/bold]
  seesr evaluate restored/ --input holiday/
  seesr evaluate restored/ --reference originals/ --metrics fast,paper --out measured.json
  seesr evaluate restored/ --reference originals/ --against others/ --csv worst-first.csv"""
app.command(no_args_is_help=True, epilog=EVALUATE_EXAMPLES, cls=Command)(evaluate.evaluate)
DEMO_EXAMPLES = """\
[bold]Examples[/bold]
  seesr demo --open
  seesr demo --model miniature --port 8000"""
app.command(epilog=DEMO_EXAMPLES, cls=Command)(demo.demo)
app.command(no_args_is_help=True, epilog=show.EXAMPLES, cls=Plain)(show.show)
app.command(no_args_is_help=True, epilog=clean.EXAMPLES, cls=Plain)(clean.clean)
app.command(epilog=doctor.EXAMPLES, cls=Plain)(doctor.doctor)
app.add_typer(weights.app)
app.add_typer(train.app)


def main() -> None:
    """Run `seesr` with the arguments it was called with, and exit as the outcome asks.

    An interruption may leave a library as another error, say of an import, and makes a picture fail: it stays one.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        """Stop the run in a way that can still be reported; the next such signal ends the program at once."""
        received.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    _open_missing_streams()
    try:
        _run()
    except BaseException as end:
        done = isinstance(end, SystemExit) and not end.code
        if received and not done:
            sys.exit(INTERRUPTED)
        raise


def _open_missing_streams() -> None:
    """Put the null device in the place of stdin, stdout and stderr where the process was started without them.

    Else the next file that is opened would get their number, and whatever is printed. `sys.stdin` stays None, which
    tells that there is nothing to be read.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _run() -> None:
    try:
        app(prog_name="seesr")
    except SeesrError as error:
        from ..report.screen import complain

        in_full = error.in_full or "--debug" in sys.argv  # the latter where the arguments themselves are wrong
        complain(str(error), error if in_full else None, error.remedies)
        sys.exit(error.exit_code)
