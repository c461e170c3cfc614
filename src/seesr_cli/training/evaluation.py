"""A restorer against enlargement without a network, on photographs degraded by chance that is the same for everyone."""

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..evaluate.consistency import consistency
from ..evaluate.fidelity import psnr, ssim
from ..evaluate.niqe import niqe
from ..evaluate.pixels import Pixels
from .degradation import STRENGTHS, Strength, degrade
from .pairs import enlarge
from .photographs import Photograph, in_8_bits, unit

TRIED = (Strength.MILD, Strength.STRONG)

METHODS = ("bicubic", "Lanczos", "bicubic, sharpened", "restored")

SHARPENING = ImageFilter.UnsharpMask(radius=2, percent=100, threshold=0)
"""What people do without a network: an unsharp mask of 2 pixels and 100 % over the enlarged picture."""


class Trial(NamedTuple):
    """One square of a photograph, degraded: clean [3, S, S] and degraded [3, S/4, S/4], both in [0, 1]."""

    name: str
    strength: Strength
    clean: Tensor
    degraded: Tensor


class Quality(NamedTuple):
    """The metrics of a result: psnr and ssim of Y, niqe, consistency in dB, drift in 255ths.

    niqe is None where the square is too small for it.
    """

    psnr: float
    ssim: float
    niqe: float | None
    consistency: float
    drift: float


class Outcome(NamedTuple):
    """How good each of METHODS is on one square."""

    name: str
    strength: Strength
    methods: dict[str, Quality]

    def gain(self, method: str) -> float:
        """Return the PSNR of `method` minus the PSNR of bicubic enlargement, in dB."""
        return self.methods[method].psnr - self.methods["bicubic"].psnr


class Summary(NamedTuple):
    """Means of one method over the squares of one strength; worst: the smallest gain over bicubic; drift: the largest.

    niqe is None where no square was large enough for it.
    """

    strength: Strength
    method: str
    squares: int
    psnr: float
    gain: float
    worst: float
    ssim: float
    niqe: float | None
    consistency: float
    drift: float


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
    """Return how `restored`, [3, S, S] in [0, 1], compares with enlargement without a network."""
    source, clean = in_8_bits(trial.degraded), in_8_bits(trial.clean)
    frame = in_8_bits(enlarge(trial.degraded, 4))
    size = frame.shape[1], frame.shape[0]
    made = (
        frame,
        np.asarray(Image.fromarray(source).resize(size, Image.Resampling.LANCZOS)),
        np.asarray(Image.fromarray(frame).filter(SHARPENING)),
        in_8_bits(restored),
    )
    methods = {method: _quality(result, clean, source) for method, result in zip(METHODS, made, strict=True)}
    return Outcome(trial.name, trial.strength, methods)


def _quality(result: Pixels, clean: Pixels, source: Pixels) -> Quality:
    departs = consistency(result, source)
    return Quality(psnr(result, clean), ssim(result, clean), niqe(result), departs.psnr, departs.drift)


def summarise(outcomes: Sequence[Outcome]) -> list[Summary]:
    """Return one summary per strength and method."""
    summaries = []
    for strength in TRIED:
        some = [outcome for outcome in outcomes if outcome.strength == strength]
        for method in METHODS:
            values = [outcome.methods[method] for outcome in some]
            natural = [value.niqe for value in values if value.niqe is not None]
            summaries.append(
                Summary(
                    strength=strength,
                    method=method,
                    squares=len(some),
                    psnr=mean(value.psnr for value in values),
                    gain=mean(outcome.gain(method) for outcome in some),
                    worst=min(outcome.gain(method) for outcome in some),
                    ssim=mean(value.ssim for value in values),
                    niqe=mean(natural) if natural else None,
                    consistency=mean(value.consistency for value in values),
                    drift=max(value.drift for value in values),
                )
            )
    return summaries


def table(summaries: Sequence[Summary]) -> str:
    """Return the summaries as a table in Markdown."""
    rows = [
        "| degraded | squares | method | PSNR | gain | worst gain | SSIM | NIQE | consistency | largest drift |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each.strength} | {each.squares} | {each.method} | {each.psnr:.2f} dB | {each.gain:+.2f} dB "
        f"| {each.worst:+.2f} dB | {each.ssim:.4f} | {'-' if each.niqe is None else f'{each.niqe:.2f}'} "
        f"| {each.consistency:.2f} dB | {each.drift:.2f} / 255 |"
        for each in summaries
    ]
    return "\n".join(rows)
