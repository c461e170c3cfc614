"""`seesr train`: the two stages of training, the export of a run, and shards of pictures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import INTERRUPTED, UsageError
from ..machine.imports import uncollected
from .config import Group, Plain

if TYPE_CHECKING:
    from ..training.engine import Run

app = typer.Typer(
    name="train",
    cls=Group,
    help="Train DAPE and SeeSR, as published or from the published weights on pictures of your own.",
    no_args_is_help=True,
)

TOLD_EVERY = 30.0
"""Seconds between progress lines where there is no terminal that they could be rewritten on."""

RecipeName = Annotated[
    str,
    typer.Argument(metavar="[RECIPE]", help="published, published-v1, finetune, or a .toml file.", show_default=False),
]
Data = Annotated[
    list[str],
    typer.Option(
        "--data", metavar="PATH", help="Pictures: a folder, a text file with a name a line, or .tar shards. Repeatable."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run: checkpoints, log and page.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="DIR", help="Folder with the weights that the run begins from.")
]
Devices = Annotated[
    str | None,
    typer.Option("--devices", metavar="0,1", help="GPUs by number, one process each; or cpu. The best one if absent."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in RUN.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe. Repeatable.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what the run will take, memory and hours, and begin nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per event, a line each.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where in the program an error arose.")]


@app.command("seesr", cls=Plain, help="Train ControlNet and UNet to restore.")
@app.command("dape", cls=Plain, help="Train the tagger to read degraded pictures as it reads clean ones.")
def stage(
    context: typer.Context,
    data: Data,
    out: Out,
    recipe: RecipeName = "published",
    weights: Weights = None,
    devices: Devices = None,
    resume: Resume = False,
    sets: Set = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the stage that the command is named after."""
    _train(
        "dape" if context.command.name == "dape" else "seesr",
        recipe,
        data,
        out,
        weights,
        devices,
        resume,
        sets or [],
        dry_run,
        as_json,
        quiet,
    )


@app.command(cls=Plain)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.", exists=True, file_okay=False)],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="New folder, which --weights then takes.")],
    step: Annotated[int | None, typer.Option("--step", help="Which checkpoint; the newest if absent.")] = None,
    averaged: Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")] = False,
    weights: Weights = None,
    debug: Debug = False,
) -> None:
    """Write the weights of a run as a folder that `--weights` takes."""
    _need_extra()
    from ..training import engine

    taken = engine.export(run, to, step, averaged, weights)
    print(f"{to}: step {taken:,} of {run}")


@app.command(cls=Plain)
def shards(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of pictures.", exists=True)],
    to: Annotated[Path, typer.Option("--to", metavar="SHARDS", help="Folder of the shards.")],
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="Most bytes of a shard: 500MB, 1GB.")] = "1GB",
    debug: Debug = False,
) -> None:
    """Pack pictures into tar shards, in webdataset's layout: large disks read them faster than many small files."""
    most = _bytes(size)
    from ..training import sources

    written = sources.write_shards(sources.find([str(folder)]), to, most)
    print(f"{to}: {len(written)} shard{'s' if len(written) != 1 else ''}")


def _bytes(text: str) -> int:
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--size {text}: give a number of bytes, such as 500MB or 1GB.")
    return int(float(found[1]) * units[found[2]])


def _train(
    stage: Literal["dape", "seesr"],
    name: str,
    data: list[str],
    out: Path,
    weights: Path | None,
    devices: str | None,
    resume: bool,
    sets: list[str],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from ..training import recipe as recipes

    recipe = recipes.load(stage, name, sets)
    chosen = (devices or "").split(",") if devices else []
    if len(chosen) > 1 and "RANK" not in os.environ:
        raise typer.Exit(_spread(chosen))
    _need_extra()
    with uncollected():
        from ..catalogue import MODELS
        from ..training import engine, sources
        from ..weights import locate

    if recipe.model not in {str(model) for model in MODELS}:
        raise UsageError(f"model is {recipe.model}: give {', '.join(MODELS)}.")
    model = next(each for each in MODELS.values() if each.name == recipe.model)
    asked = _Stop()
    told = _Told(as_json, quiet)
    if chosen and chosen[0] != "cpu" and "RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen[0]
    run = engine.Run(
        recipe,
        sources.find(data),
        locate(model, weights),
        out,
        resume,
        "cpu" if "cpu" in chosen else "auto",
        told,
        asked.wanted,
    )
    if dry_run:
        _foretell(run, as_json)
        return
    asked.listen()
    try:
        reached = engine.train(run)
    finally:
        told.end()
    if not reached:
        if not quiet and not as_json:
            print(f"Interrupted after a checkpoint. Go on with: --out {out} --resume", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


def _foretell(run: "Run", as_json: bool) -> None:
    from ..training.dry_run import forecast

    told = forecast(run)
    if as_json:
        print(json.dumps({"event": "forecast", **told._asdict()}))
        return
    print(f"learning    {_count(told.learning)} parameters ({_count(told.frozen)} frozen)")
    print(f"memory      {told.memory / 1e9:.1f} GB a device, the features of a step apart; {told.free / 1e9:.1f} free")
    print(f"speed       {told.samples_per_second:.2f} pictures a second")
    print(f"time        {told.hours:,.1f} hours for {run.recipe.steps:,} steps of {run.recipe.batch}")


def _spread(devices: list[str]) -> int:
    """Run this command once for each device, as torchrun does, and return the exit code."""
    on_cpu = set(devices) == {"cpu"}
    if "cpu" in devices and not on_cpu:
        raise UsageError("--devices mixes cpu and GPUs: give one kind.")
    environment = dict(os.environ)
    if not on_cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(devices)}"]
    arguments = list(sys.argv[1:])
    place = arguments.index("--devices") if "--devices" in arguments else None
    if place is not None:
        arguments[place + 1] = "cpu" if on_cpu else "all"
    else:
        arguments = [
            f"--devices={'cpu' if on_cpu else 'all'}" if each.startswith("--devices=") else each for each in arguments
        ]
    process = subprocess.Popen([sys.executable, *launcher, "-m", "seesr_cli", *arguments], env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes get it themselves, and end with a checkpoint
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(signal.SIGINT))
    return process.wait()


def _need_extra() -> None:
    try:
        with uncollected():
            import accelerate  # noqa: F401
    except ImportError:
        raise UsageError("Training needs more libraries: pip install 'seesr-cli[train]'") from None


class _Stop:
    """Whether a person wants the run to end: the first Ctrl-C asks for a checkpoint, the second ends at once."""

    def __init__(self) -> None:
        self._wanted = False

    def wanted(self) -> bool:
        """Return whether to stop."""
        return self._wanted

    def listen(self) -> None:
        """Take Ctrl-C and SIGTERM from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._wanted = True
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)


class _Told:
    """The reports of a run: JSON lines on the standard output, or a line that is rewritten on the terminal."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._as_json, self._quiet = as_json, quiet
        self._open, self._last = False, 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            print(json.dumps(event), flush=True)
            return
        if self._quiet:
            return
        kind = event["event"]
        if kind == "step":
            self._step(event)
            return
        numbers = {key: value for key, value in event.items() if key not in {"event", "step", "text"}}
        match kind:
            case "begun":
                text = (
                    f"{_count(event['parameters'])} parameters learn from {event['pictures']:,} pictures; "
                    f"{event['devices']} device{'s' if event['devices'] > 1 else ''}, {event['micro']} pictures at "
                    f"once, {event['accumulation']} times a step"
                )
            case "saved":
                text = f"saved {event['folder']}"
            case "validated":
                text = f"step {event['step']:,}: " + ", ".join(
                    f"{key.replace('_', ' ')} {value:.4g}" for key, value in numbers.items()
                )
            case "skipped":
                text = f"skipped ({event['count']}): {event['picture']}"
            case "ended":
                skipped = f", {event['skipped']} pictures skipped" if event["skipped"] else ""
                text = f"{'done' if event['reached'] else 'stopped'} at step {event['step']:,}{skipped}"
            case _:
                text = str(event["text"])
        self._line(text)

    def _step(self, event: Mapping[str, Any]) -> None:
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if not terminal and now - self._last < TOLD_EVERY and event["step"] != event["steps"]:
            return
        self._last = now
        text = (
            f"step {event['step']:,}/{event['steps']:,}  {event['samples_per_second']:.2f} pictures/s  "
            f"loss {event['mean_loss']:.4f}  {_duration(event['seconds_left'])} left  "
            f"checkpoint at {event['next_checkpoint']:,}"
        )
        if terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._open = True
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self.end()
        print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """End the line that is being rewritten."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} million" if number >= 1e6 else f"{number:,}"
