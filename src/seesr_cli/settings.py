"""Every default, in one place: the settings of a run and the models they belong to.

Pure data, importable in a millisecond. A `Model` is a description: the folders its files are in, under the folder
given as weights, and the settings it was made for.
"""

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Literal, get_args

from .errors import UsageError

Start = Literal["lr", "noise"]
Colour = Literal["adain", "wavelet", "none"]

QUALITY_WORDS = "clean, high-resolution, 8k"
"""Added behind the tags of every picture: the published `added_prompt`."""

NEGATIVE_PROMPT = "dotted, noise, blur, lowres, smooth"


MAX_FRAME_PIXELS = 2**25
"""Of the enlarged picture; above it decoding, which is done in one piece, needs more memory than machines have."""


@dataclass(frozen=True)
class Settings:
    """What decides the result for one picture, besides the weights; the defaults are the published ones.

    scale: output side / input side, 1 to 16.
    steps: denoising steps, 1 to 1000.
    guidance: weight of the text prompt over the negative one; at 1 and below the negative prompt is not used.
    control: factor of the ControlNet's residuals.
    prompt, negative: words added behind the tags; words to move away from.
    start: begin at the noised input ("lr") or at pure noise ("noise").
    colour: how the result takes the colours of the input.
    process_size: inputs whose sides are below `process_size // scale` pixels are enlarged to it first.
    tile, overlap: side of a latent tile and the overlap of neighbours, in latent pixels.
    seed: of everything random, the same for each picture.

    Raises UsageError when a value is out of its range.
    """

    scale: float = 4.0
    steps: int = 50
    guidance: float = 5.5
    control: float = 1.0
    prompt: str = ""
    negative: str = NEGATIVE_PROMPT
    start: Start = "lr"
    colour: Colour = "adain"
    process_size: int = 512
    tile: int = 96
    overlap: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        _check(isfinite(self.scale) and 1 <= self.scale <= 16, f"scale {self.scale:g} is not between 1 and 16")
        _check(1 <= self.steps <= 1000, f"steps {self.steps} is not between 1 and 1000")
        _check(
            isfinite(self.guidance) and 0 <= self.guidance <= 50, f"guidance {self.guidance:g} is not between 0 and 50"
        )
        _check(isfinite(self.control) and 0 <= self.control <= 10, f"control {self.control:g} is not between 0 and 10")
        _check(self.start in get_args(Start), f"start '{self.start}' is not one of {', '.join(get_args(Start))}")
        _check(self.colour in get_args(Colour), f"colour '{self.colour}' is not one of {', '.join(get_args(Colour))}")
        _check(64 <= self.process_size <= 4096, f"process size {self.process_size} is not between 64 and 4096 pixels")
        _check(8 <= self.tile <= 512, f"tile {self.tile} is not between 8 and 512 latent pixels")
        _check(
            0 <= self.overlap < self.tile,
            f"overlap {self.overlap} is not between 0 and the tile ({self.tile}) less one",
        )
        _check(0 <= self.seed < 2**63, f"seed {self.seed} is not between 0 and 2^63 - 1")


def _check(holds: bool, complaint: str) -> None:
    if not holds:
        raise UsageError(f"The {complaint}.")


@dataclass(frozen=True)
class Model:
    """One model: what it is, where its files are under the weights folder, and the settings it was made for.

    base: holds `text_encoder`, `tokenizer` and `vae`.
    unet: the UNet's folder; image_attention, where given, is the folder whose image attention is put into that UNet.
    tagger: the tagger's files in the order they are merged: one slim file, or RAM's checkpoint and DAPE's LoRA.
    tags, thresholds: the list of labels and the list of their thresholds, a line each.
    bundled: the files are in the package, and no folder is asked for.
    """

    name: str
    about: str
    base: str
    unet: str
    controlnet: str
    scheduler: str
    tagger: tuple[str, ...]
    tagger_config: str
    tags: str
    thresholds: str
    image_attention: str | None = None
    bundled: bool = False
    defaults: Settings = field(default_factory=Settings)


SEESR = Model(
    name="seesr",
    about="the published model, 50 steps",
    base="stable-diffusion-2-base",
    unet="seesr/unet",
    controlnet="seesr/controlnet",
    scheduler="stable-diffusion-2-base/scheduler",
    tagger=("ram_swin_large_14m.pth", "DAPE.pth"),
    tagger_config="tagger_config.json",
    tags="ram_tag_list.txt",
    thresholds="ram_tag_list_threshold.txt",
)

TURBO = replace(
    SEESR,
    name="turbo",
    about="the published model on sd-turbo's UNet, 2 steps",
    unet="sd-turbo/unet",
    image_attention="seesr/unet",
    scheduler="sd-turbo/scheduler",
    defaults=Settings(steps=2, guidance=1.0, overlap=32),
)

MINIATURE = Model(
    name="miniature",
    about="a small stand-in for offline use, demonstration and tests; not the published model",
    base=".",
    unet="unet",
    controlnet="controlnet",
    scheduler="scheduler",
    tagger=("tagger/model.safetensors",),
    tagger_config="tagger/config.json",
    tags="tagger/tags.txt",
    thresholds="tagger/thresholds.txt",
    bundled=True,
    defaults=Settings(steps=1, guidance=1.0, colour="wavelet", tile=160, overlap=16),
)

MODELS: dict[str, Model] = {model.name: model for model in (SEESR, TURBO, MINIATURE)}
DEFAULT_MODEL = SEESR.name
