"""The DAPE stage: a student learns to read a degraded picture as its teacher reads the clean one.

arXiv 2311.16518, section 3.2.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.swin import Block
from ..models.tagger import Tagger
from . import lora
from .optimise import adamw, descend
from .photographs import draw
from .teacher import Example, shown


@dataclass(frozen=True)
class DapeRecipe:
    """How the student is trained; the defaults are the published ones (their number of steps is not published).

    tokens, tags: weights of the two losses. learns: LoRA as published, or all weights, as a short training needs it
    (docs/decisions/0040).
    """

    rank: int = 8
    alpha: float = 1.0
    steps: int = 20_000
    batch: int = 32
    lr: float = 1e-4
    tokens: float = 1.0
    tags: float = 1.0
    learns: Literal["lora", "all"] = "lora"
    seed: int = 0


def make_student(teacher: Tagger, recipe: DapeRecipe) -> tuple[Tagger, list[torch.nn.Parameter]]:
    """Return a copy of `teacher`, with LoRA on it where that is to learn, and the parameters that train."""
    student = copy.deepcopy(teacher)
    if recipe.learns == "all":
        return student, [*student.requires_grad_(True).parameters()]
    return student, lora.put_on(student, recipe.rank, recipe.alpha, recipe.seed)


DROP_PATH, DROPOUT = 0.1, 0.1
"""Of the published student in training: the Swin transformer's largest, at its last block, and the head's."""


def set_dropout(student: Tagger, path: float = DROP_PATH, head: float = DROPOUT) -> None:
    """Let `student` drop in training: paths of the Swin blocks, rising from 0 to `path`, and shares of the head's."""
    blocks = [module for module in student.backbone.modules() if isinstance(module, Block)]
    for place, block in enumerate(blocks):
        block.drop_path = path * place / max(len(blocks) - 1, 1)
    for layer in student.layers.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = head


def loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], recipe: DapeRecipe) -> Tensor:
    """Return MSE of the tokens plus cross-entropy of the labels' probabilities; each side is (logits, tokens)."""
    (logits, tokens), (wanted_logits, wanted_tokens) = ([each.float() for each in read] for read in (student, teacher))
    entropy = F.binary_cross_entropy_with_logits(logits, torch.sigmoid(wanted_logits))
    return recipe.tokens * F.mse_loss(tokens, wanted_tokens) + recipe.tags * entropy


def train(
    teacher: Tagger,
    student: Tagger,
    learning: Sequence[torch.nn.Parameter],
    examples: Sequence[Example],
    recipe: DapeRecipe,
) -> Iterator[tuple[int, float]]:
    """Train `student` in place: clean to the teacher, degraded to it; yields (steps done, loss).

    The teacher reads each example once.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    optimiser = adamw([(learning, recipe.lr)])
    teacher.requires_grad_(False)

    @cache
    def wanted(place: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits, tokens = teacher(shown(teacher, examples[place].clean))
        return logits, tokens

    for step in range(recipe.steps):
        places = [draw(0, len(examples), generator) for _ in range(recipe.batch)]
        degraded = torch.cat([shown(student, examples[place].degraded) for place in places])
        logits, tokens = (torch.cat(column) for column in zip(*map(wanted, places), strict=True))
        distance = loss(student(degraded), (logits, tokens), recipe)
        descend(optimiser, distance)
        yield step + 1, distance.item()
