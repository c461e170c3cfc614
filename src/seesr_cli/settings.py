"""Declare the settings of a run: names, defaults and ranges. Pure data, importable in a millisecond."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from .errors import UsageError

Start = Literal["lr", "noise"]
Colour = Literal["adain", "wavelet", "none"]
Format = Literal["png", "jpeg", "webp", "tiff", "avif"]
Metadata = Literal["keep", "no-location", "none"]
Solver = Literal["ddpm", "dpm++"]
"""How steps are made: ancestral sampling, the published one (DDPM, arXiv 2006.11239), or DPM-Solver++(2M), arXiv
2211.01095, which is of second order and draws no noise."""

Preset = Literal["published", "balanced", "fast"]
Sidecar = Literal["none", "txt", "json"]
ModelName = Literal["seesr", "turbo", "miniature"]
TestSetName = Literal["realsr", "drealsr", "div2k"]

QUALITY_WORDS = "clean, high-resolution, 8k"
"""Added behind the tags of every picture: the published `added_prompt`."""

NEGATIVE_PROMPT = "dotted, noise, blur, lowres, smooth"


MAX_PIXELS = 100_000_000
"""Of a result, unless the person allows more: work grows with the pixels, and a slip of the scale costs a night."""

MAX_SCALE = 16
LEAST_TILE, MOST_TILE = 8, 512
MOST_BATCH = 64

EXACT_SIZES = ("width", "height", "long_edge", "megapixels")
"""The settings that ask for a size in the place of a scale."""


@dataclass(frozen=True)
class Settings:
    """The settings that decide the result of one picture, besides the weights; defaults are the published ones.

    scale: output side / input side, 1 to 16.
    width, height, long_edge, megapixels: the size of the result in the place of the scale. Width and height together
    are met both, and what is over is cut off evenly on two sides.
    steps: denoising steps, 1 to 1000. solver: how they are made.
    guidance: weight of the text prompt over the negative one; at 1 and below the negative prompt is not used.
    guidance_within: noise over signal, least and most, between which there is guidance; beyond them the prompt alone is
    followed, in half the work (arXiv 2404.07724). None: everywhere.
    control: factor of the ControlNet's residuals.
    prompt, negative: words added behind the tags; words to move away from.
    add_tags, drop_tags: added to what the tagger sees, and left out of it.
    tag_threshold: of every tag, 0 to 1, in the place of each one's own.
    start: begin at the noised input ("lr") or at pure noise ("noise").
    colour: how the result takes the colours of the input. colour_strength: how far, 0 (not at all) to 1.
    process_size: inputs whose sides are below `process_size // scale` pixels are enlarged to it first.
    tile, overlap: side of a latent tile and the overlap of neighbours, in latent pixels. With "auto" both follow from
    the picture's size (`tiles.tilings`), and `overlap` is not used.
    seed: of everything random, the same for each picture.

    Raises UsageError when a value is out of its range.
    """

    scale: float = 4.0
    width: int | None = None
    height: int | None = None
    long_edge: int | None = None
    megapixels: float | None = None
    steps: int = 50
    solver: Solver = "ddpm"
    guidance: float = 5.5
    guidance_within: tuple[float, float] | None = None
    control: float = 1.0
    prompt: str = ""
    negative: str = NEGATIVE_PROMPT
    add_tags: tuple[str, ...] = ()
    drop_tags: tuple[str, ...] = ()
    tag_threshold: float | None = None
    start: Start = "lr"
    colour: Colour = "adain"
    colour_strength: float = 1.0
    process_size: int = 512
    tile: int | Literal["auto"] = 96
    overlap: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        _between("scale", self.scale, 1, MAX_SCALE)
        for name in EXACT_SIZES:
            if (value := getattr(self, name)) is not None:
                _between(name.replace("_", "-"), value, *((1e-6, 1e4) if name == "megapixels" else (1, 1e6)))
        asked = [name for name in EXACT_SIZES if getattr(self, name) is not None]
        if len(asked) > 1 and asked != ["width", "height"]:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in asked)
            raise UsageError(f"{options} ask for two different sizes: give one, or --width and --height together.")
        for words in (self.prompt, self.negative, *self.add_tags, *self.drop_tags):
            if any("\ud800" <= character <= "\udfff" for character in words):
                shown = words.encode("ascii", "backslashreplace").decode()
                raise UsageError(f"{shown} is not text: write it in UTF-8.")
        if self.tag_threshold is not None:
            _between("tag-threshold", self.tag_threshold, 0, 1)
        _between("steps", self.steps, 1, 1000)
        _between("guidance", self.guidance, 0, 50)
        _between("control", self.control, 0, 10)
        _between("colour-strength", self.colour_strength, 0, 1)
        _between("process-size", self.process_size, 64, 4096)
        if self.guidance_within is not None:
            _check_interval(*self.guidance_within)
        if not isinstance(self.tile, str):
            _between("tile", self.tile, LEAST_TILE, MOST_TILE)
        elif self.tile != "auto":
            raise UsageError(f"--tile {self.tile} is not known: give auto, or {LEAST_TILE} to {MOST_TILE}.")
        _between("overlap", self.overlap, 0, (MOST_TILE if self.tile == "auto" else self.tile) - 1)
        _between("seed", self.seed, 0, 2**63 - 1)
        _one_of("solver", self.solver, get_args(Solver))
        _one_of("start", self.start, get_args(Start))
        _one_of("colour", self.colour, get_args(Colour))


def check_batch_size(value: int) -> None:
    """Raise UsageError for a number of tiles in one call of the networks that is out of its range."""
    _between("batch-size", value, 1, MOST_BATCH)


def _between(name: str, value: float, least: int, most: int) -> None:
    if not least <= value <= most:  # false for what is not a number, too
        raise UsageError(f"--{name} {value} is out of range: give {least} to {most}.")


def _check_interval(least: float, most: float) -> None:
    if not (0 <= least < most and isfinite(most)):
        raise UsageError(
            f"--guidance-within {least:g},{most:g} is no interval: give two numbers from 0 on, the smaller one first."
        )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"--{name} {value} is not known: give {' or '.join(known)}.")
