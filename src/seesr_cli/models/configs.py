"""The published configurations of the networks, and those of the files at hand; read without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..catalogue import Model
from ..errors import WeightsInvalid
from ..weights import locate, places

Config = Mapping[str, Any]

_CHANNELS = [320, 640, 1280, 1280]

PUBLISHED_UNET: Config = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": _CHANNELS,
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "cross_attention_dim": 1024,
    "use_image_cross_attention": True,
}
"""Of the published model, and of turbo, whose UNet is the same with other weights."""

PUBLISHED_CONTROLNET: Config = {
    "in_channels": 4,
    "block_out_channels": _CHANNELS,
    "layers_per_block": 2,
    "down_block_types": PUBLISHED_UNET["down_block_types"],
    "cross_attention_dim": 1024,
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "use_image_cross_attention": True,
}

PUBLISHED_VAE: Config = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
}

PUBLISHED_TEXT: Config = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
}
"""Stable Diffusion 2's text tower."""

PUBLISHED_SCHEDULE: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
"""Stable Diffusion 2's, of the entries that count."""

PUBLISHED_TAGGER: dict[str, Any] = {
    "image_res": 384,
    "patch_size": 4,
    "window_size": 12,
    "embed_dim": 192,
    "depths": [2, 2, 18, 2],
    "num_heads": [6, 12, 24, 48],
    "mlp_ratio": 4,
    "tagging_head": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "encoder_width": 512,
        "layer_norm_eps": 1e-12,
    },
    "lora_rank": 8,
    "lora_alpha": 1,
}
"""The sizes of RAM Swin-L and of DAPE's LoRA; a `tagger_config.json` of the same form gives others."""

TAGGER: Config = {**PUBLISHED_TAGGER, "labels": 4585}


@dataclass(frozen=True, eq=False)
class Networks:
    """The configurations of one model's networks and of its schedule, as their files have them."""

    unet: Config
    controlnet: Config
    vae: Config
    text: Config
    tagger: Config
    schedule: Config

    @property
    def factor(self) -> int:
        """Pixels along a side of one latent pixel."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def multiple(self) -> int:
        """The number by which both sides of a frame can be divided."""
        return self.factor

    @property
    def latent_channels(self) -> int:
        """Numbers in one latent pixel."""
        return self.vae["latent_channels"]


@lru_cache
def networks(model: Model, weights: Path | None = None) -> Networks:
    """Return the configurations of `model`'s networks: of the files in the folder `weights`, the published ones else.

    A file that is not there is the published one's. Raises WeightsInvalid for one that is no JSON object.
    """
    if weights is None and model.bundled:
        weights = locate(model, None)

    def read(name: str, published: Config) -> Config:
        found = [path for path in places(weights, name) if path.is_file()] if weights else []
        return read_json(found[0]) if found else published

    unet = {**read(f"{model.unet}/config.json", PUBLISHED_UNET)}
    if model.image_attention is not None:
        unet["use_image_cross_attention"] = True
    return Networks(
        unet,
        read(f"{model.controlnet}/config.json", PUBLISHED_CONTROLNET),
        read(f"{model.base}/vae/config.json", PUBLISHED_VAE),
        read(f"{model.base}/text_encoder/config.json", PUBLISHED_TEXT),
        {**TAGGER, **read(model.tagger_config, TAGGER)},
        read(f"{model.scheduler}/scheduler_config.json", PUBLISHED_SCHEDULE),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file `path`. Raises WeightsInvalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise WeightsInvalid(f"{path}: not readable as JSON ({problem}); get the file anew.") from problem
    if not isinstance(content, dict):
        raise WeightsInvalid(f"{path}: not a JSON object; get the file anew.")
    return content
