"""A restorer against bicubic enlargement, on photographs degraded by chance that is the same for everyone."""

from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor

from .degradation import STRENGTHS, Strength, degrade
from .measures import Quality, quality
from .pairs import enlarge
from .photographs import Photograph, unit

Restore = Callable[[Tensor], Tensor]
"""Restores a degraded [3, h, w] picture in [0, 1] to [3, 4h, 4w]."""

TRIED = (Strength.MILD, Strength.STRONG)


class Trial(NamedTuple):
    """One square of a photograph, degraded: clean [3, S, S] and degraded [3, S/4, S/4], both in [0, 1]."""

    name: str
    strength: Strength
    clean: Tensor
    degraded: Tensor


class Outcome(NamedTuple):
    """How near the enlarged and the restored picture are to the clean one.

    shift: the largest difference of a colour's mean between restored and enlarged, in 255ths.
    """

    name: str
    strength: Strength
    bicubic: Quality
    restored: Quality
    shift: float

    @property
    def gain(self) -> float:
        """Restored over bicubic, in dB."""
        return self.restored.psnr - self.bicubic.psnr


class Summary(NamedTuple):
    """Means over the squares of one strength; worst is the smallest gain, shift the largest shift of colour."""

    strength: Strength
    squares: int
    bicubic_psnr: float
    restored_psnr: float
    gain: float
    worst: float
    bicubic_ssim: float
    restored_ssim: float
    shift: float


def trials(photographs: Sequence[Photograph], size: int = 512, seed: int = 0) -> Iterator[Trial]:
    """Yield the middle square of each photograph (of `size`, or as large as there is), mildly and strongly degraded."""
    for index, photograph in enumerate(photographs):
        height, width = photograph.pixels.shape[-2:]
        side = min(size, height // 4 * 4, width // 4 * 4)
        top, left = (height - side) // 2, (width - side) // 2
        clean = unit(photograph.pixels[:, top : top + side, left : left + side])
        for strength in TRIED:
            generator = torch.Generator().manual_seed(1000 * seed + index)
            yield Trial(photograph.name, strength, clean, degrade(clean, STRENGTHS[strength], generator))


def judge(trial: Trial, restored: Tensor) -> Outcome:
    """Return how `restored`, [3, S, S] in [0, 1], compares with bicubic enlargement."""
    frame = enlarge(trial.degraded, 4)
    shift = 255 * (restored.mean((1, 2)) - frame.mean((1, 2))).abs().max().item()
    return Outcome(trial.name, trial.strength, quality(frame, trial.clean), quality(restored, trial.clean), shift)


def compare(photographs: Sequence[Photograph], restore: Restore, size: int = 512, seed: int = 0) -> Iterator[Outcome]:
    """Yield an outcome for each square and strength."""
    for trial in trials(photographs, size, seed):
        yield judge(trial, restore(trial.degraded))


def summarise(outcomes: Sequence[Outcome]) -> list[Summary]:
    """Return one summary per strength."""
    summaries = []
    for strength in TRIED:
        some = [outcome for outcome in outcomes if outcome.strength == strength]
        summaries.append(
            Summary(
                strength=strength,
                squares=len(some),
                bicubic_psnr=mean(outcome.bicubic.psnr for outcome in some),
                restored_psnr=mean(outcome.restored.psnr for outcome in some),
                gain=mean(outcome.gain for outcome in some),
                worst=min(outcome.gain for outcome in some),
                bicubic_ssim=mean(outcome.bicubic.ssim for outcome in some),
                restored_ssim=mean(outcome.restored.ssim for outcome in some),
                shift=max(outcome.shift for outcome in some),
            )
        )
    return summaries


def table(summaries: Sequence[Summary]) -> str:
    """Return the summaries as a table in Markdown."""
    rows = [
        "| degraded | squares | bicubic | restored | gain | worst gain | SSIM bicubic | SSIM restored | colour shift |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each.strength} | {each.squares} | {each.bicubic_psnr:.2f} dB | {each.restored_psnr:.2f} dB "
        f"| {each.gain:+.2f} dB | {each.worst:+.2f} dB | {each.bicubic_ssim:.4f} | {each.restored_ssim:.4f} "
        f"| {each.shift:.2f} / 255 |"
        for each in summaries
    ]
    return "\n".join(rows)
