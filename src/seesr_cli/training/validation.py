"""The live weights looked at: pictures that were kept aside, restored by the program's own pipeline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import PictureUnreadable
from ..evaluate.fidelity import psnr, ssim
from .degradation import degrade
from .photographs import in_8_bits, unit
from .samples import Sample, cut, draw_numbers, spoil, stack
from .sources import Source, chance, read
from .stages import DapeStage, SeesrStage, Stage

GAP = 4
LEAST = 64
"""Side of a picture that is looked at, pixels, at least."""


def look(stage: Stage, pictures: Sequence[Source], folder: Path, step: int) -> dict[str, float]:
    """Return how good the live weights are on `pictures`; a restoring stage leaves a strip of them in `folder`.

    Degradation and noise are the same at every step, so that strips and numbers can be compared.
    """
    learns = stage.module.training
    stage.module.eval()
    try:
        whole = [pixels for pixels in map(_read_whole, pictures) if pixels is not None]
        if not whole:
            return {}
        return _restored(stage, whole, folder, step) if isinstance(stage, SeesrStage) else _agreement(stage, whole)
    finally:
        stage.module.train(learns)


def _read_whole(source: Source) -> Tensor | None:
    """Return a picture, or None for one that is damaged or too small to look at."""
    try:
        return read(source, LEAST)
    except PictureUnreadable:
        return None


def _restored(stage: SeesrStage, pictures: Sequence[Tensor], folder: Path, step: int) -> dict[str, float]:
    upscaler, making = stage.upscaler(), stage.making
    # a small crop is looked at as it was learnt: not enlarged first
    least = max(LEAST, min(stage.model.defaults.process_size, making.cut.size))
    settings = replace(stage.model.defaults, process_size=least)
    rows, values = [], []
    for number, pixels in enumerate(pictures):
        clean = _middle(unit(pixels), making.cut.size)
        degraded = degrade(clean, making.degradation, chance(making.seed, "validation", number))
        restored = upscaler.upscale(degraded, settings).pixels
        frame = F.interpolate(degraded[None], clean.shape[-2:], mode="bicubic").clamp(0, 1)[0]
        values.append(
            [function(in_8_bits(each), in_8_bits(clean)) for each in (restored, frame) for function in (psnr, ssim)]
        )
        rows.append(torch.cat([F.pad(each, (0, GAP), value=1.0) for each in (frame, restored, clean)], dim=2))
    folder.mkdir(parents=True, exist_ok=True)
    width = max(row.shape[2] for row in rows)
    strip = torch.cat([F.pad(row, (0, width - row.shape[2], 0, GAP), value=1.0) for row in rows], dim=1)
    Image.fromarray(in_8_bits(strip)).save(folder / f"step-{step:08d}.png")
    names = ("psnr_y", "ssim_y", "psnr_y_bicubic", "ssim_y_bicubic")
    return {name: sum(each) / len(values) for name, each in zip(names, zip(*values, strict=True), strict=True)}


@torch.no_grad()
def _agreement(stage: DapeStage, pictures: Sequence[Tensor]) -> dict[str, float]:
    """Return loss and agreement of teacher and student, the F1 of their tags, over the pictures."""
    seen: list[tuple[float, float]] = []
    for number, pixels in enumerate(pictures):
        loss = stage.loss(stage.module, stack([_sample(stage, pixels, number)]))
        seen.append((loss.total.item(), loss.parts["agreement"]))
    return {
        "validation_loss": sum(loss for loss, _ in seen) / len(seen),
        "agreement_of_tags": sum(agreement for _, agreement in seen) / len(seen),
    }


def _sample(stage: DapeStage, pixels: Tensor, number: int) -> Sample:
    making = stage.making
    generator = chance(making.seed, "validation", number)
    drawn = draw_numbers(making, generator)
    clean = cut(pixels, making.cut._replace(flip=False, turns=False), generator)
    degraded = torch.empty(0) if making.on_device else spoil(clean, making, -1 - number)
    flags = (torch.tensor(drawn.untagged), torch.tensor(drawn.untold))
    return Sample(
        torch.tensor(-1 - number), clean, degraded, torch.tensor(drawn.timestep), *flags, drawn.noise, drawn.posterior
    )


def _middle(pixels: Tensor, most: int) -> Tensor:
    """Return the middle of a picture, at most `most` pixels a side, its sides multiples of 32."""
    height, width = (min(side, most) // 32 * 32 for side in pixels.shape[-2:])
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[:, top : top + height, left : left + width]
