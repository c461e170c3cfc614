"""The arguments and options that more than one command takes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..settings import DEFAULT_MODEL, MODELS, ModelName

Dtype = Literal["auto", "fp32", "fp16", "bf16"]

INPUT, MODEL, REPORT = "Input", "Model", "What is printed"

_MODELS_IN_WORDS = "\n".join(f"[bold]{name}[/bold]: {model.about}." for name, model in MODELS.items())


def default(text: str) -> str:
    """Return how help shows a default: typer's own way puts such words in brackets of brackets."""
    return rf"[dim]\[default: {text}][/dim]"


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Pictures, folders of pictures (and of folders), patterns such as '**/*.tif', or - for stdin.",
        show_default=False,
    ),
]
FromList = Annotated[
    list[str] | None,
    typer.Option(
        "--from-list",
        metavar="FILE",
        help="Take the names of pictures from this file, or - for stdin: one a line, or with a NUL behind each.",
        rich_help_panel=INPUT,
    ),
]
Tolerant = Annotated[
    bool,
    typer.Option("--tolerant", help="Take pictures that are cut short as far as they go.", rich_help_panel=INPUT),
]
Model = Annotated[
    ModelName | None,
    typer.Option(
        "--model", help=f"{_MODELS_IN_WORDS}\n{default(DEFAULT_MODEL)}", rich_help_panel=MODEL, show_default=False
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="DIR",
        help="Folder with the published files, where they were not pulled; the miniature's are in the package. "
        + default("$SEESR_WEIGHTS"),
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Fetch weights that are lacking without asking.", rich_help_panel=MODEL),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help=f"Where to compute: auto (the best there is), cpu, cuda, cuda:0 or mps. {default('auto')}",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[
    Dtype,
    typer.Option(
        "--dtype",
        help="Precision of the networks; auto is fp16 on a GPU, and on a CPU bf16 where it is served, else fp32. "
        + default("auto"),
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per picture, a line each.", rich_help_panel=REPORT)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.", rich_help_panel=REPORT)]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show where in the program an error arose.", rich_help_panel=REPORT)
]
