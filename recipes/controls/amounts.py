"""Sizes and amounts of the controls' model: everything that `controls.py` does is decided here."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "miniature"))  # its sizes, tokenizer and words of progress

from recipe import CONTROLNET, TAGGER, TEXT, UNET

from seesr_cli.catalogue import MINIATURE
from seesr_cli.models.configs import PUBLISHED_SCHEDULE
from seesr_cli.settings import Settings
from seesr_cli.training.dape import DapeRecipe
from seesr_cli.training.objective import Objective
from seesr_cli.training.optimise import QUICK_BETAS
from seesr_cli.training.restorer import Denoising

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    **PUBLISHED_SCHEDULE,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "clip_sample": False,
}
"""Stable Diffusion's."""

READER: dict[str, Any] = TAGGER | {"image_res": 128, "window_size": 4}
"""The miniature's tagger at a third of the side: 16 cells."""

SURE = 0.95
"""Threshold of every tag: one that the tagger guesses competes with the one that a person adds."""

SETTINGS = Settings(steps=20, guidance=1.0, colour="none", process_size=64, tile=160, overlap=16)
"""Of all measuring: colours are the networks' own."""

# Padding by reflection, as the miniature has it, shows a convolution at a border the other diagonal. With it a model of
# 800 steps drew rows, columns, dots and checker as told, and the diagonals in patches, whatever the tag (decision 53).
PADDING = {"padding_mode": "zeros"}
NETWORKS = {"unet": UNET | PADDING, "controlnet": CONTROLNET | PADDING, "text": TEXT}
MODEL = MINIATURE
"""The layout of the folder."""
AUTOENCODER = Path(__file__).parent
"""Holds `vae/`: the miniature's first VAE, which gives back what it is given. The present one draws."""


@dataclass(frozen=True)
class Amounts:
    """The whole recipe.

    pictures: to learn from. teacher_steps, teacher_batch, teacher_lr: of the tagger on clean pictures. student: of the
    tagger on small pictures; all of its weights learn. restorer: of text tower, ControlNet and UNet.
    unseen: pictures to measure on, each with all six tags. shown: pictures of the sheet.
    """

    pictures: int = 640
    teacher_steps: int = 400
    teacher_batch: int = 8
    teacher_lr: float = 1e-3
    student: DapeRecipe = field(default_factory=lambda: DapeRecipe(steps=2000, batch=8, lr=5e-4, learns="all"))
    restorer: Denoising = field(
        default_factory=lambda: Denoising(
            steps=3000,
            batch=24,
            crop=48,
            lr=1.5e-3,
            betas=QUICK_BETAS,
            decay=1e-4,
            warm=0.03,
            floor=0.02,
            # the clean latent's error, alike at all timesteps with more noise than a twentieth: what a texture is, is
            # decided where the noise is almost all
            objective=Objective(weighting="min-snr", gamma=0.05),
            learns="all",
            tag_dropout=0.5,
            token_dropout=1 / 3,
            average=0.995,
        )
    )
    unseen: int = 24
    shown: int = 4

    def seeded(self, seed: int) -> "Amounts":
        """Return these amounts with the seeds of all stages replaced."""
        return replace(self, student=replace(self.student, seed=seed), restorer=replace(self.restorer, seed=seed))


FULL = Amounts()
SMOKE = Amounts(
    pictures=16,
    teacher_steps=2,
    teacher_batch=2,
    student=DapeRecipe(steps=2, batch=2, learns="all"),
    restorer=Denoising(steps=3, batch=2, crop=32, warm=0.03, learns="all", token_dropout=1 / 3),
    unseen=2,
    shown=1,
)
"""Every stage once, in seconds: nothing that it makes is of use."""
