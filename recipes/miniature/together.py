"""UNet, ControlNet and decoder learn the look together, from the error of the picture.

A decoder alone sees little around a pixel: it cannot know whether a soft edge is the lens's, on purpose, or came after.
The UNet sees farther, and what it takes away as noise no decoder can bring back: a latent that is right in the mean has
lost the hair of a fur that the small picture still shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import look
import torch
from diffusers import AutoencoderKL
from look import LookRecipe
from prompts import LOUDEST, prompt, token_ids
from torch import Tensor
from transformers import CLIPTokenizer

from seesr_cli.training.objective import Denoiser, Objective, add_noise, clean_latent
from seesr_cli.training.photographs import draw


@dataclass(frozen=True)
class TogetherRecipe:
    """How all learn.

    look: the decoder's part. lr: of UNet and ControlNet. plain: share of prompts without a word that counts. untold:
    share of pictures without their embedding.
    """

    look: LookRecipe = field(default_factory=LookRecipe)
    lr: float = 3e-4
    plain: float = 0.6
    untold: float = 0.25


class Guide(NamedTuple):
    """What the networks are told. tokens: embedding of each square, [N, cells, width]. names: the tagger's labels."""

    tokens: Tensor
    names: Sequence[str]
    tokenizer: CLIPTokenizer


class Together(look.Training):
    """The training of UNet, ControlNet and decoder; the text tower rests."""

    def __init__(
        self, vae: AutoencoderKL, denoiser: Denoiser, kept: Tensor, recipe: TogetherRecipe, guide: Guide
    ) -> None:
        """denoiser: with its text tower. kept: as `restorer.Networks.kept`."""
        self.denoiser, self.kept, self.guide, self.words = denoiser, kept, guide, recipe
        parts = [*denoiser.unet.parameters(), *denoiser.controlnet.parameters()]
        denoiser.requires_grad_(False)
        for each in parts:
            each.requires_grad_(True)
        super().__init__(vae, kept, recipe.look, [(parts, recipe.lr)])

    def weights(self) -> dict[str, Tensor]:
        """Return what is kept and averaged, by part and name: live tensors."""
        return look.by_name({"vae": self.vae, "unet": self.denoiser.unet, "controlnet": self.denoiser.controlnet})

    def draw(self, squares: look.Squares, latents: Tensor) -> look.Batch:
        """Return some crops, each as crisp as its prompt wants it."""
        batch = super().draw(squares, latents)
        told = [prompt(self.guide.names, self.words.plain, self.generator) for _ in batch.places]
        ids = token_ids([each.prompt for each in told], self.guide.tokenizer)
        strength = torch.tensor([each.strength / LOUDEST for each in told])
        return batch._replace(strength=strength, ids=ids)

    def told(self, batch: look.Batch) -> Tensor:
        """Return what the networks make of the latents in one step."""
        known = torch.tensor([float(draw(0, 100, self.generator) >= 100 * self.words.untold) for _ in batch.places])
        tokens = self.guide.tokens[batch.places] * known[:, None, None]
        last = self.kept[-1:].expand(len(known))
        noisy = add_noise(batch.latent, torch.randn(batch.latent.shape, generator=self.generator), last)
        step = torch.full((len(known),), len(self.kept) - 1)
        return clean_latent(Objective(), self.denoiser(noisy, step, batch.ids, tokens, batch.frame), noisy, last)
