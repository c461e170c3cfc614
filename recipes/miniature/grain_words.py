"""Teach two words what they are worth: `grain` and `clean` move the component of the latent that asks for grain.

The text tower and the networks know all other words already; of these and of the picture everything is to stay.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from look import SCALE
from prompts import Guide, of_words, prompt, token_ids
from torch import Tensor

from seesr_cli.training.objective import Denoiser, Objective, add_noise, clean_latent
from seesr_cli.training.optimise import QUICK_BETAS, Average, adamw, descend, rate, set_rate
from seesr_cli.training.photographs import draw

WORTH = 0.6
"""What the component, of a scaled latent, is for a word that wants as much grain as there can be."""

ASKED = -2
"""Which component it is."""


@dataclass(frozen=True)
class GrainWordsRecipe:
    """How they are learnt. side: of a crop, pixels of the latent. lr, rest, plain: as `prompts.PromptRecipe` has them.
    grainy: share of prompts with such a word."""

    steps: int = 1250
    batch: int = 16
    side: int = 8
    lr: float = 1e-3
    rest: float = 2e-4
    plain: float = 0.6
    grainy: float = 0.75
    average: float = 0.99
    seed: int = 7


class GrainWords:
    """The training of text tower, UNet and ControlNet on what the two words are worth."""

    def __init__(self, denoiser: Denoiser, kept: Tensor, recipe: GrainWordsRecipe, guide: Guide) -> None:
        """denoiser: with its text tower, and with the component. kept: as `restorer.Networks.kept`."""
        if denoiser.text is None:
            raise ValueError("Words need a denoiser with a text tower.")
        self.denoiser, self.kept, self.recipe, self.guide = denoiser, kept, recipe, guide
        self.before = copy.deepcopy(denoiser).requires_grad_(False)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        denoiser.requires_grad_(True)
        quick, slow = of_words(denoiser)
        self.learning = [*quick, *slow]
        self.optimiser = adamw([(quick, recipe.lr), (slow, recipe.rest)], betas=QUICK_BETAS)
        self.average = Average(denoiser.state_dict(), recipe.average)

    def run(self, starts: Tensor, frames: Tensor) -> Iterator[tuple[int, float]]:
        """Train to the end of the recipe, in place; yields steps done, and how far the words are off, of 0 to 1.

        starts: scaled latents of the `frames` of squares, [N, C, h, w].
        """
        recipe = self.recipe
        for step in range(recipe.steps):
            set_rate(self.optimiser, rate(step / recipe.steps))
            words, others = self.off(starts, frames)
            descend(self.optimiser, words + others, self.learning, 1.0)
            self.average.update(self.denoiser.state_dict())
            yield step + 1, words.item()

    def off(self, starts: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for some crops and prompts, how far from their worth words are, and all else from how it was."""
        recipe, side, generator = self.recipe, self.recipe.side, self.generator
        places = [draw(0, len(starts), generator) for _ in range(recipe.batch)]
        latents, parts = [], []
        for index in places:
            top, left = (draw(0, size - side + 1, generator) for size in starts.shape[-2:])
            latents.append(starts[index, :, top : top + side, left : left + side])
            rows, columns = (slice(SCALE * first, SCALE * (first + side)) for first in (top, left))
            parts.append(frames[index, :, rows, columns].float())
        start, frame, tokens = torch.stack(latents), torch.stack(parts), self.guide.tokens[places]
        told = [prompt(self.guide.names, recipe.plain, generator, recipe.grainy) for _ in places]
        ids, without = (
            token_ids(texts, self.guide.tokenizer)
            for texts in ([each.prompt for each in told], [each.without for each in told])
        )
        last = self.kept[-1:].expand(len(start))
        noisy = add_noise(start, torch.randn(start.shape, generator=generator), last)
        step = torch.full((len(start),), len(self.kept) - 1)
        made = clean_latent(Objective(), self.denoiser(noisy, step, ids, tokens, frame), noisy, last)
        with torch.no_grad():
            goal = clean_latent(Objective(), self.before(noisy, step, without, tokens, frame), noisy, last)
        # squared: the absolute difference taught nothing, for 0 is the median while a word is not understood
        wanted = torch.tensor([each.grain for each in told])[:, None, None]
        words = (made[:, ASKED] / WORTH - wanted).square().mean()
        others = torch.tensor([each for each in range(goal.shape[1]) if each != goal.shape[1] + ASKED])
        return words, ((made - goal)[:, others] / goal.std((0, 2, 3))[others, None, None]).abs().mean()
