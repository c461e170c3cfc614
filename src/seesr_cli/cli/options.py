"""Declare the arguments and options of the commands `upscale` and `tags`.

The module is long because it is one list: help, `seesr.toml` and the environment show every option in it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..catalogue import DEFAULT_MODEL, MODELS, PRESETS
from ..settings import MAX_PIXELS, Colour, Format, Metadata, ModelName, Preset, Sidecar, Solver, Start

Dtype = Literal["auto", "fp32", "fp16", "bf16"]

INPUT, MODEL, REPORT = "Input", "Model", "What is printed"
OUTPUT, TAGS, SAMPLING, TILING, PREVIEW = "Result", "Tags", "Sampling", "Sizes", "Preview"

_MODELS_IN_WORDS = "\n".join(f"[bold]{name}[/bold]: {model.about}." for name, model in MODELS.items())


def default(text: str) -> str:
    """Return the markup of a default in help, because typer itself would print doubled brackets."""
    return rf"[dim]\[default: {text}][/dim]"


def _setting(field: str, *names: str, help: str, panel: str, metavar: str | None = None) -> Any:
    """Return the option of a setting, with its default in the help, and the defaults of models that differ."""
    published = getattr(MODELS[DEFAULT_MODEL].defaults, field)
    others = [
        f"{name} {_plain(value)}"
        for name, model in MODELS.items()
        if (value := getattr(model.defaults, field)) != published
    ]
    about = f"{help} {default('; '.join([_plain(published), *others]))}"
    return typer.Option(*names, help=about, rich_help_panel=panel, metavar=metavar, show_default=False)


def _size(name: str, help: str) -> Any:
    """Return the option of an exact size of the result."""
    return typer.Option(name, help=help, rich_help_panel=OUTPUT)


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _presets() -> str:
    """Return the settings of every preset, in words."""
    words = []
    for name, preset in PRESETS.items():
        parts = (
            [preset["solver"], f"{preset['steps']} steps", f"--tile {preset['tile']}"] if preset else ["the defaults"]
        )
        if within := preset.get("guidance_within"):
            parts.append(f"--guidance-within {within[0]:g},{within[1]:g}")
        words.append(f"{name} ({', '.join(parts)})")
    return "; ".join(words)


# Of both commands.

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
        help="Precision of the networks; auto is fp16 on a GPU and fp32 on a CPU. On a CPU with instructions for it "
        "bf16 is faster, and the picture differs a little. " + default("auto"),
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

# Of `seesr upscale` alone.

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A file for one picture (its suffix is the format), a folder, made if need be, or - for stdout. "
        + default("photo_x4.png beside photo.jpg"),
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Scale = Annotated[
    float | None, _setting("scale", "--scale", "-s", help="How many times as large, 1 to 16.", panel=OUTPUT)
]
Width = Annotated[int | None, _size("--width", "Width of the result in pixels, in the place of a scale.")]
Height = Annotated[int | None, _size("--height", "Height of the result; with --width, what is over is cut off.")]
LongEdge = Annotated[int | None, _size("--long-edge", "Longer side of the result.")]
Megapixels = Annotated[float | None, _size("--megapixels", "Pixels of the result, in millions.")]
OutputFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help=f"Of the results' files. {default('that of the suffix, or png')}",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
KeepMetadata = Annotated[
    Metadata | None,
    typer.Option(
        "--metadata",
        help="What results keep of their picture's metadata: all (keep), all but where it was taken (no-location), or "
        f"nothing but the colour profile (none), without how they were made either. {default('keep')}",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
KeepTime = Annotated[
    bool,
    typer.Option("--keep-time", help="Give results the time of change of their picture.", rich_help_panel=OUTPUT),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        min=1,
        max=100,
        help=f"Of JPEG, WebP and AVIF, 1 to 100. {default('95; avif 85')}",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
NamePattern = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="PATTERN",
        help="Names of the results, with {stem}, {name}, {scale}, {seed} and {suffix}. "
        + default("{stem}_x{scale}{suffix}"),
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Make results again that are already there. Inputs are never overwritten.",
        rich_help_panel=OUTPUT,
    ),
]
Tags = Annotated[
    Sidecar,
    typer.Option(
        "--tags",
        help="Write photo_x4.txt, for people to edit, or photo_x4.json, with all that is known, beside each "
        f"result; json where nothing is said. {default('none')}",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="PAGE",
        help="Write a page (.html) that shows every picture before and after.",
        rich_help_panel=OUTPUT,
    ),
]
Check = Annotated[
    float | None,
    typer.Option(
        "--check",
        metavar="DB",
        help="Name the results whose consistency with their inputs is below this, in dB, and end with 1.",
        rich_help_panel=OUTPUT,
    ),
]
KeepLatents = Annotated[
    bool,
    typer.Option(
        "--keep-latents",
        help="Leave each result's latent beside it: another --colour or --format costs no sampling then.",
        rich_help_panel=OUTPUT,
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        min=1,
        help=f"A result with more pixels than this is refused. {default(f'{MAX_PIXELS:,}')}",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Preview = Annotated[
    bool,
    typer.Option(
        "--preview",
        help="Make a window of the result only, as the whole run would, in about a tile's time, and write it beside "
        "the same window enlarged: photo_x4_preview.png. One picture.",
        rich_help_panel=PREVIEW,
    ),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="X,Y",
        help="Middle of the preview's window, in pixels of the picture from its left and top. Several make a sheet. "
        + default("the middle of the result"),
        show_default=False,
        rich_help_panel=PREVIEW,
    ),
]
Side = Annotated[
    int | None,
    typer.Option(
        "--side",
        help=f"Side of the preview's window, in pixels of the result. {default('512')}",
        show_default=False,
        rich_help_panel=PREVIEW,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what every picture will become, and what it will take, and end there.",
        rich_help_panel=REPORT,
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="RESULT",
        help="Take model, settings, tags and seed from the metadata of an earlier result; options win over them.",
        rich_help_panel=SAMPLING,
    ),
]
TagsFrom = Annotated[
    Path | None,
    typer.Option(
        "--tags-from",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Take the tags from the sidecars in this folder, as you edited them.",
        rich_help_panel=TAGS,
    ),
]
AddTag = Annotated[
    list[str] | None,
    typer.Option("--add-tag", metavar="WORDS", help="Add a tag to every picture's.", rich_help_panel=TAGS),
]
DropTag = Annotated[
    list[str] | None,
    typer.Option("--drop-tag", metavar="WORDS", help="Leave a tag out of every picture's.", rich_help_panel=TAGS),
]
TagThreshold = Annotated[
    float | None,
    typer.Option(
        "--tag-threshold",
        help=f"Score above which a tag counts, 0 to 1. {default('each tag has its own')}",
        show_default=False,
        rich_help_panel=TAGS,
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="Several devices, each at work on pictures of its own: 0,1 are the first two GPUs.",
        rich_help_panel=MODEL,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        min=1,
        help="Pictures at a time on each device; on a CPU they divide its cores. Each needs its own memory.",
        rich_help_panel=MODEL,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="auto|HOST:PORT|local:N",
        help="Work on all nodes of a Ray cluster (auto: the one that this machine is a node of), or with N pictures at "
        "a time on one that is started here for this run. Needs the extra cluster. See docs/cluster.md.",
        rich_help_panel=MODEL,
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        "--retries",
        min=0,
        help="With --cluster: how often a picture is given out again after a node was lost that had it.",
        rich_help_panel=MODEL,
    ),
]
Alone = Annotated[
    bool,
    typer.Option(
        "--alone",
        help="No other run writes into the folder of the results. Needed where the folder has no locks and another "
        "run left signs of work.",
        rich_help_panel=OUTPUT,
    ),
]
PresetName = Annotated[
    Preset | None,
    typer.Option(
        "--preset",
        help=f"Settings that go together: {_presets()}. Options win over it, and it over --like. For the model "
        f"seesr; published for all. {default('published')}",
        show_default=False,
        rich_help_panel=SAMPLING,
    ),
]
Steps = Annotated[int | None, _setting("steps", "--steps", help="Denoising steps.", panel=SAMPLING)]
SolverName = Annotated[
    Solver | None,
    _setting("solver", "--solver", help="How steps are made: as published, or without noise between.", panel=SAMPLING),
]
Guidance = Annotated[
    float | None,
    _setting(
        "guidance",
        "--guidance",
        help="Weight of the prompt over the negative one; 1 and below leave that one out.",
        panel=SAMPLING,
    ),
]
GuidanceWithin = Annotated[
    str | None,
    typer.Option(
        "--guidance-within",
        metavar="LEAST,MOST",
        help="Guide only where noise/signal is between these, as 0.28,5.42; elsewhere a step is half the work. "
        + default("everywhere"),
        show_default=False,
        rich_help_panel=SAMPLING,
    ),
]
Control = Annotated[
    float | None,
    _setting("control", "--control", help="How closely the result is held to the input.", panel=SAMPLING),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", metavar="TEXT", help="Words to add behind the tags.", rich_help_panel=SAMPLING),
]
Negative = Annotated[
    str | None,
    _setting("negative", "--negative", help="Words to move away from.", panel=SAMPLING, metavar="TEXT"),
]
StartAt = Annotated[
    Start | None,
    _setting("start", "--start", help="Begin at the noised input (lr) or at pure noise.", panel=SAMPLING),
]
ColourMethod = Annotated[
    Colour | None,
    _setting("colour", "--colour", help="How the result takes the colours of the input.", panel=SAMPLING),
]
ColourStrength = Annotated[
    float | None,
    _setting(
        "colour_strength",
        "--colour-strength",
        help="How far it takes them: 0 leaves the model's colours, 1 takes the input's.",
        panel=SAMPLING,
    ),
]
Seed = Annotated[
    list[int] | None,
    _setting(
        "seed", "--seed", help="The same seed gives the same picture. Several make a variant each.", panel=SAMPLING
    ),
]
Variants = Annotated[
    int | None,
    typer.Option(
        "--variants",
        metavar="N",
        help="Make so many variants of each picture, photo_x4_seed0.png and so on, with the seed and those after it, "
        f"and a sheet of them. {default('1')}",
        show_default=False,
        rich_help_panel=SAMPLING,
    ),
]
ProcessSize = Annotated[
    int | None,
    _setting(
        "process_size",
        "--process-size",
        help="Results with a side below this are made larger and reduced at the end, in pixels.",
        panel=TILING,
    ),
]
Tile = Annotated[
    str | None,
    _setting(
        "tile",
        "--tile",
        help="Side of a tile, in latent pixels; less needs less memory. auto: of the model's own side and overlap, "
        "others that showed no seams with it and, up to 1024 x 1024 pixels, one tile for all, the least work.",
        panel=TILING,
        metavar="SIDE|auto",
    ),
]
Overlap = Annotated[
    int | None, _setting("overlap", "--overlap", help="Overlap of tiles, in latent pixels.", panel=TILING)
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        help="Most tiles, of one picture or of several with frames of one size, that the networks compute at once. "
        "auto: on CUDA what memory holds, up to 8, elsewhere 1; for --like as many as there were. " + default("auto"),
        show_default=False,
        rich_help_panel=TILING,
    ),
]
UseGraphs = Annotated[
    bool,
    typer.Option(
        "--graphs",
        help="Record the networks' work as CUDA graphs and replay it, on NVIDIA GPUs: fewer launches a step. Each "
        "recording is compared with the usual way before it is used. Off by default: no GPU has run it yet.",
        rich_help_panel=MODEL,
    ),
]
AsJsonEvents = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object per event, a line each.", rich_help_panel=REPORT),
]
