"""The teacher: a tagger trained from nothing, for models that have no RAM to start from."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.tagger import Tagger
from ..restore.tag import normalise
from .optimise import QUICK_BETAS, adamw, descend, rate, set_rate
from .photographs import draw, unit

FREQUENT = 8.0
"""Weight of a label that is there, beside one that is not, at most: labels are rare."""


class Example(NamedTuple):
    """A labelled picture and its degraded self.

    clean, degraded: [3, H, W] uint8, of any size. labels, known: [labels], 0 or 1; a label that is not known teaches
    nothing and counts nowhere.
    """

    clean: Tensor
    degraded: Tensor
    labels: Tensor
    known: Tensor


class Examples(NamedTuple):
    """The clean pictures of examples, stacked and normalised as the tagger wants them, and their labels."""

    clean: Tensor
    labels: Tensor
    known: Tensor

    def beside(self, tagger: Tagger) -> "Examples":
        """Return these examples on the device of `tagger`, the pixels in its precision."""
        weight = tagger.to_tokens.weight
        clean = self.clean.to(weight.device, weight.dtype)
        return Examples(clean, self.labels.to(weight.device), self.known.to(weight.device))


def start_from_nothing(tagger: Tagger, seed: int) -> None:
    """Give the label vectors, which a built tagger has as zeros, directions of their own."""
    with torch.no_grad():
        tagger.label_vectors.normal_(generator=torch.Generator().manual_seed(seed))


def stack(examples: Sequence[Example], side: int) -> Examples:
    """Return a batch."""
    return Examples(
        torch.cat([normalise(unit(example.clean), side) for example in examples]),
        torch.stack([example.labels for example in examples]),
        torch.stack([example.known for example in examples]),
    )


def draw_batch(
    examples: Sequence[Example], size: int, side: int, generator: torch.Generator, mirror: bool = True
) -> Examples:
    """Return a batch of `size` examples; mirror: half of the batches, which labels that name a direction forbid."""
    batch = stack([examples[draw(0, len(examples), generator)] for _ in range(size)], side)
    if mirror and draw(0, 2, generator):
        batch = batch._replace(clean=batch.clean.flip(-1))
    return batch


def train(
    tagger: Tagger, examples: Sequence[Example], steps: int, batch: int, lr: float, seed: int, mirror: bool = True
) -> Iterator[tuple[int, float]]:
    """Train `tagger` in place on clean pictures: cross-entropy of the known labels; yields (steps done, loss).

    mirror: as for `draw_batch`.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = adamw([(tagger.parameters(), lr)], 0.01, QUICK_BETAS)
    present = torch.stack([example.labels * example.known for example in examples]).sum(0)
    absent = torch.stack([(1 - example.labels) * example.known for example in examples]).sum(0)
    weight = ((absent / present.clamp(min=1)).clamp(1, FREQUENT) ** 0.5).to(tagger.to_tokens.weight.device)
    for step in range(steps):
        set_rate(optimiser, rate(step / steps))
        drawn = draw_batch(examples, batch, tagger.side, generator, mirror).beside(tagger)
        logits, _ = tagger(drawn.clean)
        entropy = F.binary_cross_entropy_with_logits(logits.float(), drawn.labels, reduction="none", pos_weight=weight)
        loss = (entropy * drawn.known).sum() / drawn.known.sum().clamp(min=1)
        descend(optimiser, loss, tagger.parameters(), 1.0)
        yield step + 1, loss.item()


@torch.no_grad()
def scores(tagger: Tagger, pictures: Sequence[Tensor]) -> Tensor:
    """Return the probability of each label, [pictures, labels], of [3, H, W] uint8 pictures."""
    return torch.cat([torch.sigmoid(tagger(shown(tagger, picture))[0].float()) for picture in pictures]).cpu()


def shown(tagger: Tagger, picture: Tensor) -> Tensor:
    """Return a [3, H, W] uint8 picture as `tagger` wants it: [1, 3, side, side], on its device, in its precision."""
    weight = tagger.to_tokens.weight
    return normalise(unit(picture), tagger.side).to(weight.device, weight.dtype)


def best_thresholds(
    probabilities: Tensor, labels: Tensor, known: Tensor, least: float = 0.3, most: float = 0.9
) -> Tensor:
    """Return each label's threshold with the best F1 on these pictures, [labels]; 0.5 for labels never seen."""
    candidates = torch.linspace(least, most, 25)
    fired = probabilities[None] > candidates[:, None, None]
    truth = (labels * known).bool()
    hits = (fired & truth).sum(1)
    score = 2 * hits / ((fired & known.bool()).sum(1) + truth.sum(0)).clamp(min=1)
    # the middle of the best stretch: its ends depend on single pictures
    best = (score >= score.amax(0) - 1e-6).to(torch.float32)
    middle = (best * candidates[:, None]).sum(0) / best.sum(0)
    return torch.where(truth.any(0), middle, torch.tensor(0.5))


def f1(fired: Tensor, truth: Tensor, known: Tensor) -> float:
    """Return F1 over all labels of all pictures together (micro); all three are booleans [pictures, labels]."""
    fired, truth = fired & known, truth & known
    total = (fired.sum() + truth.sum()).item()
    return 2 * (fired & truth).sum().item() / total if total else 0.0
