"""Sizes and amounts of the miniature: everything `train.py` does is decided here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grain_words import GrainWordsRecipe
from prompts import PromptRecipe
from together import TogetherRecipe

from seesr_cli.training import photographs
from seesr_cli.training.autoencoder import AutoencoderRecipe
from seesr_cli.training.degradation import MILD, STRONG, Blur, Degradation, Noise, Resize, Ringing, Round
from seesr_cli.training.restorer import OneStep

TEXT_WIDTH = 64
TOKEN_WIDTH = 64

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 1e-6,
    "beta_end": 4e-6,
    "beta_schedule": "linear",
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "clip_sample": False,
}
"""A short schedule: its noisiest step has noise of 0.05 beside a latent of deviation 1, so that the input shows."""

UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 128,
    "in_channels": 12,
    "out_channels": 12,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "block_out_channels": [48, 64, 96],
    "layers_per_block": 1,
    "norm_num_groups": 1,
    "norm_eps": 0.01,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "use_linear_projection": True,
    "use_image_cross_attention": True,
    "image_cross_attention_dim": TOKEN_WIDTH,
    "padding_mode": "reflect",
}
"""norm_eps is large so that the norms follow the statistics of a crop less, and tiles of any size agree better."""

CONTROLNET: dict[str, Any] = {
    **{
        name: value
        for name, value in UNET.items()
        if name not in {"_class_name", "sample_size", "out_channels", "up_block_types"}
    },
    "_class_name": "ControlNetModel",
    "conditioning_embedding_out_channels": [8, 16, 48],
    "controlnet_conditioning_channel_order": "rgb",
}


def with_channels(config: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the UNet's or the ControlNet's configuration for latents of `count` channels."""
    ends = [name for name in ("in_channels", "out_channels") if name in config]
    return config | dict.fromkeys(ends, count)


TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "projection_dim": TEXT_WIDTH,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
"""The vocabulary's size and the numbers of the special tokens are filled in from the tokenizer."""

TAGGER: dict[str, Any] = {
    "image_res": 384,
    "window_size": 12,
    "embed_dim": 20,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 4, 8],
    "patch_size": 4,
    "mlp_ratio": 3,
    "tagging_head": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "encoder_width": TOKEN_WIDTH,
        "layer_norm_eps": 1e-12,
    },
    "lora_rank": 8,
    "lora_alpha": 1,
}

WIDER_MILD = replace(
    MILD,
    rounds=(
        Round(
            Blur(size=17, probability=0.95, sinc=0.05, kinds=(0.7, 0.3, 0.0, 0.0, 0.0, 0.0), sigma=(0.3, 2.4)),
            Resize(enlarge=0.0, shrink=0.0),
            Noise(gaussian=0.9, sigma=(0.0, 8.0), poisson=(0.05, 0.3)),
            jpeg=(72.0, 95.0),
        ),
    ),
    ringing=Ringing(0.05, (21, 21), (math.pi / 5, math.pi)),
)
UNFILTERED_MILD = replace(WIDER_MILD, antialias=False)
WIDER_STRONG = replace(
    STRONG,
    rounds=(
        replace(
            STRONG.rounds[0],
            blur=Blur(),
            resize=Resize(factor=(0.2, 1.4)),
            noise=Noise(sigma=(1.0, 20.0), poisson=(0.05, 2.0)),
        ),
        replace(STRONG.rounds[1], noise=Noise(sigma=(1.0, 12.0), poisson=(0.05, 1.0)), jpeg=(35.0, 70.0)),
    ),
)
MIXTURE: tuple[tuple[float, Degradation], ...] = (
    (0.15, MILD),
    (0.25, WIDER_MILD),
    (0.1, UNFILTERED_MILD),
    (0.3, STRONG),
    (0.2, WIDER_STRONG),
)
"""What tagger and restorer learn from: around the two kinds they are tried on, and wider."""

PHONE = Degradation(
    sharpen=True,
    rounds=(
        Round(
            Blur(size=13, probability=0.7, sinc=0.3, sigma=(0.2, 1.5)),
            Resize(enlarge=0.0, shrink=0.0),
            Noise(gaussian=0.7, sigma=(0.0, 10.0), poisson=(0.05, 0.6), grey=0.2),
            jpeg=(75.0, 96.0),
        ),
    ),
    ringing=Ringing(0.2, (7, 21), (math.pi / 3, math.pi)),
    antialias=True,
)
"""A camera's: sharpened, denoised or not, a good JPEG."""
SCAN = replace(
    PHONE,
    sharpen=False,
    rounds=(
        Round(
            Blur(size=21, sinc=0.0, sigma=(2.0, 6.0)),
            Resize(enlarge=0.0, shrink=0.0),
            Noise(gaussian=0.8, sigma=(1.0, 12.0), poisson=(0.05, 0.6), grey=0.6),
            jpeg=(85.0, 97.0),
        ),
    ),
)
"""Soft, grainy, hardly compressed."""
WEB = replace(
    PHONE,
    rounds=(
        Round(Blur(size=13, sigma=(0.2, 1.8)), Resize(factor=(0.4, 1.2)), Noise(sigma=(0.0, 6.0)), jpeg=(60.0, 95.0)),
        Round(
            Blur(size=7, probability=0.3, sigma=(0.2, 0.8)),
            Resize(enlarge=0.0, shrink=0.0),
            Noise(gaussian=1.0, sigma=(0.0, 2.0)),
            jpeg=(25.0, 80.0),
        ),
    ),
)
"""Made smaller and compressed, twice."""
SEEN: tuple[tuple[float, Degradation], ...] = (
    (0.17, MILD),
    (0.15, WIDER_MILD),
    (0.08, UNFILTERED_MILD),
    (0.22, STRONG),
    (0.1, WIDER_STRONG),
    (0.1, PHONE),
    (0.05, SCAN),
    (0.08, WEB),
    (0.05, Degradation()),
)
"""For the imitation: the two kinds that a miniature is tried on, what people have, and the published one."""


@dataclass(frozen=True)
class TaggerRecipe:
    """pictures: size of each pool. steps of the teacher, and of the student and the control after it."""

    config: dict[str, Any] = field(default_factory=lambda: TAGGER)
    pictures: int = 480
    teacher_steps: int = 320
    student_steps: int = 160
    batch: int = 8
    lr: float = 1e-3
    student_lr: float = 3e-3
    seed: int = 0


TOGETHER = {
    "look": TogetherRecipe(),
    "words": TogetherRecipe(
        steps=300,
        lr=2e-4,
        rest=1e-4,
        spectrum=3.0,
        true=0.1,
        judged=1.0,
        rising=1,
        plain=0.2,
        heard=0.3,
        average=0.98,
        seed=5,
    ),
    "grain": TogetherRecipe(
        steps=1500,
        rest=1.5e-4,
        spectrum=3.0,
        true=0.3,
        natural=True,
        judged=1.5,
        rising=50,
        plain=0.3,
        grain=8,
        average=0.99,
        before=0.3,
        seed=6,
    ),
    "grain-words": TogetherRecipe(
        steps=500,
        rest=1.5e-4,
        spectrum=3.0,
        true=0.3,
        natural=True,
        judged=1.0,
        rising=100,
        plain=0.5,
        heard=0.3,
        grain=8,
        asked=True,
        grainy=0.4,
        average=0.98,
        before=0.12,
        seed=8,
    ),
}
"""First the teacher's picture is learnt, then words are heard, then grain is drawn: as the originals have it, and then
as words ask for it."""


@dataclass(frozen=True)
class Recipe:
    """The whole miniature.

    squares: how many the look is learnt from; fitted: of these, those that the decoder's start is fitted to. region:
    side of the clean squares that are read, degraded and cut up. pairs: how many there are.
    """

    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    tagger: TaggerRecipe = TaggerRecipe()
    restorer: OneStep = field(default_factory=lambda: OneStep(steps=1520, alone=0.45))
    squares: int = 512
    fitted: int = 96
    together: Mapping[str, TogetherRecipe] = field(default_factory=lambda: TOGETHER)
    prompts: PromptRecipe = field(default_factory=PromptRecipe)
    grain_words: GrainWordsRecipe = field(default_factory=GrainWordsRecipe)
    region: int = 432
    pairs: int = 700


def read_split(folders: Sequence[Path]) -> photographs.Split:
    """Return the photographs of `folders`, parted as `photographs.split` parts each folder."""
    parts = [photographs.split(photographs.read(folder)) for folder in folders]
    return photographs.Split(
        tuple(each for part in parts for each in part.training), tuple(each for part in parts for each in part.held_out)
    )


FULL = Recipe()
SMOKE = Recipe(
    autoencoder=AutoencoderRecipe(steps=2, batch=1, fit_crops=4, crop=64),
    tagger=TaggerRecipe(pictures=6, teacher_steps=2, student_steps=1, batch=2),
    restorer=OneStep(steps=3, batch=1, crop=64),
    squares=32,
    fitted=4,
    together={name: replace(each, steps=2, batch=1, side=16) for name, each in TOGETHER.items()},
    prompts=PromptRecipe(steps=2, batch=1, side=8),
    grain_words=GrainWordsRecipe(steps=2, batch=1, side=8),
    region=128,
    pairs=3,
)
"""Every stage once, in under a minute: nothing it makes is of use."""
