"""Turn typed text into values, and refuse options that contradict each other. Every function may raise UsageError."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..catalogue import Model, preset
from ..errors import UsageError
from ..settings import EXACT_SIZES, LEAST_TILE, MOST_BATCH, MOST_TILE, Preset, Settings, check_batch_size

if TYPE_CHECKING:
    from ..run.cluster import Asked
    from ..run.outputs import Job

MOST_VARIANTS = 99
"""A sheet of more could not be looked at."""

LOSSLESS = ("png", "tiff")


def check_streams(output: str | None, as_json: bool, dry_run: bool) -> None:
    """Refuse a result on stdout if events go there too, or if stdout is a terminal."""
    if as_json and output == "-":
        raise UsageError("--json and -o - both want stdout: write the picture to a file.")
    if output == "-" and not dry_run and sys.stdout.isatty():
        raise UsageError("-o - would write the picture on the terminal: send it on with | or >, or name a file.")


def check_quality(quality: int | None, jobs: "Sequence[Job]") -> None:
    """Refuse a quality for results in a lossless format."""
    if quality is not None and (lossless := next((job for job in jobs if job.kind in LOSSLESS), None)):
        raise UsageError(
            f"--quality has no meaning for {lossless.kind}, which loses nothing: leave it out, or use --format."
        )


def device_names(device: str, devices: str | None) -> list[str]:
    """Return the devices of --device or --devices; a number alone is a CUDA device."""
    if devices is None:
        return [device]
    if device != "auto":
        raise UsageError("--device and --devices both say where to compute: give one of them.")
    names = [name.strip() for name in devices.split(",")]
    if not all(names):
        raise UsageError(f"--devices {devices} is no list: give devices with commas between, as 0,1.")
    return [f"cuda:{name}" if name.isdecimal() else name for name in names]


def cluster(text: str, retries: int, at_once: int, device: str, devices: str | None, output: str | None) -> "Asked":
    """Return what --cluster asks for. Raises UsageError, also if Ray is not installed."""
    from ..run.cluster import Asked, check_installed

    check_installed()
    if devices is not None or device not in ("auto", "cpu"):
        raise UsageError("--cluster takes every GPU there is: leave out --devices, and --device unless it is cpu.")
    if output is None or output == "-":
        raise UsageError("--cluster needs a folder for the results that every node sees: name it with -o.")
    kind, _, count = text.partition(":")
    if kind == "local":
        if not count.isdecimal() or int(count) < 1 or at_once != 1:
            raise UsageError(f"--cluster {text} is not known: give local:2 for two pictures at a time, without --jobs.")
        return Asked("", int(count), device, retries)
    if text != "auto" and (not kind or not count.isdecimal()):
        raise UsageError(f"--cluster {text} is not known: give auto, HOST:PORT as 10.0.0.1:6379, or local:2.")
    return Asked(text, at_once, device, retries)


def sizes_passed_over(context: typer.Context) -> set[str]:
    """Return the size options that do not count, because a place with precedence gives another one.

    Flags win over the environment, and the environment wins over seesr.toml. In one place, --scale and an exact size
    contradict each other: UsageError.
    """
    places: dict[str, list[str]] = {}
    for name in ("scale", *EXACT_SIZES):
        source = context.get_parameter_source(name)
        if context.params[name] is not None and source is not None:
            places.setdefault(source.name, []).append(name)
    found = [places[place] for place in ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP") if place in places]
    if not found:
        return set()
    winners, *losers = found
    if "scale" in winners and len(winners) > 1:
        exact = winners[1].replace("_", "-")
        raise UsageError(f"--scale and --{exact} both say how large the result is: give one of them.")
    return {name for names in losers for name in names}


def settings_given(context: typer.Context) -> dict[str, Any]:
    """Return the typed settings by their names in Settings; None: not typed, or passed over."""
    typed = context.params
    given = {field.name: typed[field.name] for field in fields(Settings) if field.name in typed}
    return (
        given
        | {
            "guidance_within": interval(typed["guidance_within"]),
            "tile": tile_side(typed["tile"]),
            "add_tags": tuple(typed["add_tag"] or ()) or None,
            "drop_tags": tuple(typed["drop_tag"] or ()) or None,
            "seed": typed["seed"][0] if typed["seed"] else None,
        }
        | dict.fromkeys(sizes_passed_over(context))
    )


def merged_settings(model: Model, base: Settings, preset_name: Preset | None, typed: Mapping[str, Any]) -> Settings:
    """Return `base` with the preset's settings over it, and the typed ones over both.

    base: the settings of --like, or the model's defaults.
    typed: by name of the setting; None: not typed. A typed size replaces any other kind of size.
    """
    chosen = preset(preset_name, model) if preset_name else {}
    given = {name: value for name, value in typed.items() if value is not None}
    if any(name in given for name in ("scale", *EXACT_SIZES)):
        base = replace(base, width=None, height=None, long_edge=None, megapixels=None)
    if (chosen | given).get("tile", base.tile) == "auto":
        if "overlap" in given:
            raise UsageError(
                "--overlap has no meaning with --tile auto, which chooses it too: give a number to --tile."
            )
        chosen = chosen | {"overlap": model.defaults.overlap}  # unused, but part of the digest in the journal
    merged = replace(base, **(chosen | given))
    if merged.colour == "none" and "colour_strength" in given:
        raise UsageError("--colour-strength has no meaning with --colour none: leave one of them out.")
    if "guidance_within" in given and merged.guidance <= 1:
        raise UsageError(
            f"--guidance-within has no meaning at --guidance {merged.guidance:g}, which is none: leave it out, or give "
            "more than 1."
        )
    return merged


def seeds(typed: Sequence[int] | None, variants: int | None, base: int) -> tuple[int, ...]:
    """Return the seeds of --seed and --variants, one for each variant of a picture. base: without --seed."""
    if variants is not None and not 1 <= variants <= MOST_VARIANTS:
        raise UsageError(f"--variants {variants} is out of range: give 1 to {MOST_VARIANTS}.")
    if typed is not None and len(typed) > 1:
        if variants is not None:
            raise UsageError("--variants and several --seed both say which variants to make: give one of them.")
        if len(set(typed)) < len(typed):
            raise UsageError("--seed gives the same seed twice, which makes the same picture: give each once.")
        return tuple(typed)
    return tuple(range(base, base + (variants or 1)))


def tile_side(text: str | None) -> int | Literal["auto"] | None:
    """Return the value of --tile: side in latent pixels, "auto", or None if it was not typed."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--tile {text} is not known: give auto, or {LEAST_TILE} to {MOST_TILE}.") from None


def batch_size(text: str | None) -> int | None:
    """Return the value of --batch-size: tiles in one call; None for "auto", and if it was not typed."""
    if text is None or text == "auto":
        return None
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"--batch-size {text} is not known: give auto, or 1 to {MOST_BATCH}.") from None
    check_batch_size(number)
    return number


def interval(text: str | None) -> tuple[float, float] | None:
    """Return the value of --guidance-within: least and most noise/signal; None if it was not typed."""
    if text is None:
        return None
    try:
        least, most = map(float, text.split(","))
    except ValueError:
        raise UsageError(
            f"--guidance-within {text} is no interval: give two numbers with a comma between, as 0.28,5.42."
        ) from None
    return least, most


def size_label(settings: Settings) -> str:
    """Return the size as it stands in the names of results: 4, 2.5, w3000, w3000h2000, l4096, m12.5."""
    marks = {"width": "w", "height": "h", "long_edge": "l", "megapixels": "m"}
    exact = [
        f"{mark}{getattr(settings, name):g}" for name, mark in marks.items() if getattr(settings, name) is not None
    ]
    return "".join(exact) or f"{settings.scale:g}"
