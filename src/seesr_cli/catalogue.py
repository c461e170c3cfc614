"""List the models and the presets: where a model's files are, and the settings it was made for. Pure data."""

from dataclasses import dataclass, field, replace
from typing import Any

from .errors import UsageError
from .settings import ModelName, Preset, Settings


@dataclass(frozen=True)
class Model:
    """One model: its name, the places of its files in the weights folder, and the settings it was made for.

    base: holds `text_encoder`, `tokenizer` and `vae`.
    unet: the UNet's folder; image_attention, where given, is the folder whose image attention is put into that UNet.
    tagger: the tagger's files in the order they are merged: one slim file, or RAM's checkpoint and DAPE's LoRA.
    tags, thresholds: the list of labels and the list of their thresholds, a line each.
    tilings: sides of tiles with their overlaps that show no seams, the default first; `--tile auto` chooses among them.
    bundled: the files are in the package, and no folder is asked for.
    """

    name: ModelName
    about: str
    base: str
    unet: str
    controlnet: str
    scheduler: str
    tagger: tuple[str, ...]
    tagger_config: str
    tags: str
    thresholds: str
    tilings: tuple[tuple[int, int], ...]
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
    tilings=((96, 4), (64, 8)),  # the size that it was trained at, with the least overlap that was seen to be enough
)

TURBO = replace(
    SEESR,
    name="turbo",
    about="the published model on sd-turbo's UNet, 2 steps",
    unet="sd-turbo/unet",
    image_attention="seesr/unet",
    scheduler="sd-turbo/scheduler",
    tilings=((96, 32),),
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
    tilings=((160, 16),),
    bundled=True,
    defaults=Settings(steps=1, guidance=1.0, colour="wavelet", tile=160, overlap=16),
)

MODELS: dict[ModelName, Model] = {"seesr": SEESR, "turbo": TURBO, "miniature": MINIATURE}
DEFAULT_MODEL: ModelName = "seesr"

PRESETS: dict[Preset, dict[str, Any]] = {
    "published": {},
    "balanced": {"solver": "dpm++", "steps": 25, "tile": "auto"},
    "fast": {"solver": "dpm++", "steps": 15, "guidance_within": (0.28, 5.42), "tile": "auto"},
}
"""What each preset sets for the published model (docs/decisions/0028); the interval is that of arXiv 2404.07724."""


def preset(name: Preset, model: Model) -> dict[str, Any]:
    """Return the settings that a preset changes for `model`.

    A setting that only other presets change is the model's own.

    Raises UsageError for a model that does with fewer steps than the preset has.
    """
    chosen, own = PRESETS[name], model.defaults
    if chosen.get("steps", own.steps) > own.steps:
        takes = f"{own.steps} step" + ("s" if own.steps > 1 else "")
        raise UsageError(
            f"--preset {name} has {chosen['steps']} steps, and the model {model.name} takes {takes} as it is: leave "
            "--preset out."
        )
    named = {field for settings in PRESETS.values() for field in settings} | {"overlap"}
    return {field: getattr(own, field) for field in named} | chosen
