"""Clean picture to degraded picture: the second-order recipe of Real-ESRGAN that SeeSR was trained with.

    sharpen ─▶ blur ─▶ resize ─▶ noise ─▶ JPEG
                 └▶ blur ─▶ resize ─▶ noise ─▶ { JPEG, resize to 1/scale and sinc }, in either order

Every draw comes from one generator on the CPU: the same seed gives the same picture on every device. Numbers: arXiv
2107.10833, SeeSR's release.

    python -m seesr_cli.training.degradation IN OUT --strength mild --seed 0
"""

import io
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor

from . import kernels

Range = tuple[float, float]


@dataclass(frozen=True)
class Blur:
    """A draw of blur kernels.

    size: side of the largest, odd. probability: that there is a blur at all; sinc: that it is a sinc filter, and else
    that of each of `kernels.KINDS`. sigma in pixels; betas of the generalised and of the plateau kinds. fixed: side and
    sigma, in pixels, of the one gaussian that is taken in the place of all draws.
    """

    size: int = 21
    probability: float = 1.0
    sinc: float = 0.1
    kinds: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sigma: Range = (0.2, 3.0)
    generalised_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    fixed: tuple[int, float] | None = None


@dataclass(frozen=True)
class Resize:
    """Probabilities of enlarging and of shrinking (else the size stays), and how far.

    factor is relative to the clean picture in the earlier rounds, and to the final size in the last one.
    """

    enlarge: float = 0.2
    shrink: float = 0.7
    factor: Range = (0.15, 1.5)


@dataclass(frozen=True)
class Noise:
    """gaussian: probability of gaussian noise of `sigma` 255ths, else it is Poisson noise, `poisson` times as strong.

    grey: probability that the noise is the same in all colours.
    """

    gaussian: float = 0.5
    sigma: Range = (1.0, 30.0)
    poisson: Range = (0.05, 3.0)
    grey: float = 0.4


@dataclass(frozen=True)
class Round:
    """One pass of blur, resize, noise and JPEG (quality drawn from `jpeg`)."""

    blur: Blur = Blur()
    resize: Resize = Resize()
    noise: Noise = Noise()
    jpeg: Range = (30.0, 95.0)


@dataclass(frozen=True)
class Ringing:
    """The sinc filter at the end: how often, its smallest and largest side (odd), its cut-off in radians a pixel."""

    probability: float = 0.8
    sizes: tuple[int, int] = (7, 21)
    cutoff: Range = (math.pi / 3, math.pi)


@dataclass(frozen=True)
class Degradation:
    """A whole degradation; the defaults are the published ones.

    scale: clean side / degraded side. sharpen: degrade the sharpened picture (the published target is sharpened too).
    rounds: one or more, the last one ends in the final size. ringing: the sinc filter at the end.
    antialias: shrink with a filter as wide as the step (the published code does not, for bilinear and bicubic).
    """

    scale: int = 4
    sharpen: bool = True
    rounds: tuple[Round, ...] = (
        Round(),
        Round(
            Blur(probability=0.8, sigma=(0.2, 1.5)),
            Resize(enlarge=0.3, shrink=0.4, factor=(0.3, 1.2)),
            Noise(sigma=(1.0, 25.0), poisson=(0.05, 2.5)),
        ),
    )
    ringing: Ringing = Ringing()
    antialias: bool = False


class Strength(StrEnum):
    MILD = "mild"
    STRONG = "strong"
    PUBLISHED = "published"


_TO_FINAL_SIZE = Resize(enlarge=0.0, shrink=0.0)

MILD = Degradation(
    sharpen=False,
    rounds=(
        Round(
            Blur(size=13, sinc=0.0, kinds=(0.7, 0.3, 0.0, 0.0, 0.0, 0.0), sigma=(0.4, 2.0)),
            _TO_FINAL_SIZE,
            Noise(gaussian=1.0, sigma=(0.5, 4.0), grey=0.4),
            jpeg=(83.0, 88.0),
        ),
    ),
    ringing=Ringing(probability=0.0),
    antialias=True,
)
"""One blur, slight noise, JPEG of about 85: a good photograph made small."""

STRONG = Degradation(
    sharpen=False,
    rounds=(
        Round(
            Blur(sigma=(0.2, 2.5)),
            Resize(factor=(0.3, 1.2)),
            Noise(sigma=(1.0, 12.0), poisson=(0.05, 1.0)),
            jpeg=(60.0, 95.0),
        ),
        Round(
            Blur(size=11, probability=0.8, sigma=(0.2, 1.2)),
            Resize(enlarge=0.3, shrink=0.4, factor=(0.5, 1.2)),
            Noise(sigma=(1.0, 8.0), poisson=(0.05, 0.8)),
            jpeg=(40.0, 60.0),
        ),
    ),
    ringing=Ringing(0.5, (21, 21), (math.pi / 5, math.pi)),
)
"""The second order, JPEG of 40 to 60: a photograph that has been through several hands."""

STRENGTHS: dict[Strength, Degradation] = {
    Strength.MILD: MILD,
    Strength.STRONG: STRONG,
    Strength.PUBLISHED: Degradation(),
}


def degrade(pixels: Tensor, degradation: Degradation, generator: torch.Generator) -> Tensor:
    """Return a degraded [3, H/scale, W/scale] picture, in whole 255ths, of a clean [3, H, W] one, both in [0, 1].

    H and W must be multiples of the scale (ValueError otherwise).
    """
    height, width = pixels.shape[-2:]
    scale = degradation.scale
    if height % scale or width % scale:
        raise ValueError(f"A picture of {width}x{height} cannot be degraded to exactly 1/{scale}: crop it first.")
    picture = sharpen(pixels) if degradation.sharpen else pixels
    small = (height // scale, width // scale)
    *earlier, last = degradation.rounds
    for each in earlier:
        picture = blur(picture, draw_kernel(each.blur, generator))
        picture = resize(picture, _draw_size((height, width), each.resize, generator), degradation.antialias, generator)
        picture = jpeg(add_noise(picture, each.noise, generator), round(_between(each.jpeg, generator)))
    picture = blur(picture, draw_kernel(last.blur, generator))
    picture = resize(picture, _draw_size(small, last.resize, generator), degradation.antialias, generator)
    picture = add_noise(picture, last.noise, generator)
    quality = round(_between(last.jpeg, generator))
    ringing = draw_ringing(degradation.ringing, generator)
    if _happens(0.5, generator):
        return jpeg(_finish(picture, small, ringing, degradation.antialias, generator), quality)
    return _rounded(_finish(jpeg(picture, quality), small, ringing, degradation.antialias, generator))


def sharpen(pixels: Tensor, weight: float = 0.5, size: int = 51, threshold: float = 10.0) -> Tensor:
    """Return the unsharp-masked picture: moved away from its blur where it differs by over `threshold` 255ths."""
    deviation = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # of a gaussian that is named by its size alone
    axis = kernels.gaussian(size, (deviation, deviation)).sum(0).to(pixels)

    def soften(picture: Tensor) -> Tensor:
        margin = size // 2
        padded = F.pad(picture[:, None], (margin, margin, margin, margin), mode="reflect")
        return F.conv2d(F.conv2d(padded, axis[None, None, None]), axis[None, None, :, None])[:, 0]

    residual = pixels - soften(pixels)
    share = soften((residual.abs() * 255 > threshold).to(pixels.dtype))
    return share * (pixels + weight * residual).clamp(0, 1) + (1 - share) * pixels


def draw_kernel(recipe: Blur, generator: torch.Generator) -> Tensor | None:
    """Return a kernel, or None where the draw is no blur. Its side is odd, from 7 to `recipe.size`."""
    if not _happens(recipe.probability, generator):
        return None
    if recipe.fixed is not None:
        size, deviation = recipe.fixed
        return kernels.gaussian(size, (deviation, deviation))
    size = 7 + 2 * int(torch.randint(0, (recipe.size - 7) // 2 + 1, (), generator=generator))
    if _happens(recipe.sinc, generator):
        return draw_sinc(size, generator)
    kind = kernels.KINDS[int(torch.multinomial(torch.tensor(recipe.kinds), 1, generator=generator))]
    sigma = (_between(recipe.sigma, generator), _between(recipe.sigma, generator))
    betas = recipe.plateau_beta if kind.startswith("plateau") else recipe.generalised_beta
    # half of the draws below 1 and half above, so that blunt and pointed kernels are equally frequent
    side = (betas[0], 1.0) if betas[0] < 1 and _happens(0.5, generator) else (max(betas[0], 1.0), betas[1])
    return kernels.make(kind, size, sigma, _between(side, generator), _between((-math.pi, math.pi), generator))


def draw_ringing(recipe: Ringing, generator: torch.Generator) -> Tensor | None:
    """Return the sinc filter at the end, or None where the draw is no filter."""
    if not _happens(recipe.probability, generator):
        return None
    least, most = recipe.sizes
    more = 0 if least == most else int(torch.randint(0, (most - least) // 2 + 1, (), generator=generator))
    return kernels.sinc(least + 2 * more, _between(recipe.cutoff, generator))


def draw_sinc(size: int, generator: torch.Generator) -> Tensor:
    """Return a sinc filter; small ones cut off higher, since they cannot hold a long ring."""
    return kernels.sinc(size, _between((math.pi / 3 if size < 13 else math.pi / 5, math.pi), generator))


def blur(pixels: Tensor, kernel: Tensor | None) -> Tensor:
    """Return `pixels` [3, H, W] filtered, with mirrored borders; unchanged without a kernel."""
    if kernel is None:
        return pixels
    margin = len(kernel) // 2
    padded = F.pad(pixels[:, None], (margin, margin, margin, margin), mode="reflect")
    return F.conv2d(padded, kernel[None, None].to(padded))[:, 0]


def resize(pixels: Tensor, size: tuple[int, int], antialias: bool, generator: torch.Generator) -> Tensor:
    """Return `pixels` at `size`, by area, bilinear or bicubic, evenly drawn."""
    mode = ("area", "bilinear", "bicubic")[int(torch.randint(0, 3, (), generator=generator))]
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    if mode == "area":
        return F.interpolate(pixels[None], size, mode="area")[0]
    return F.interpolate(pixels[None], size, mode=mode, align_corners=False, antialias=antialias)[0]


def add_noise(pixels: Tensor, recipe: Noise, generator: torch.Generator) -> Tensor:
    """Return `pixels` in [0, 1] with gaussian or Poisson noise, the same in all colours or not."""
    gaussian, grey = _happens(recipe.gaussian, generator), _happens(recipe.grey, generator)
    pixels = pixels.clamp(0, 1)
    if gaussian:
        sigma = _between(recipe.sigma, generator) / 255
        shape = pixels[:1].shape if grey else pixels.shape
        return (pixels + sigma * torch.randn(shape, generator=generator).to(pixels)).clamp(0, 1)
    strength = _between(recipe.poisson, generator)
    light = _luma(pixels) if grey else pixels
    levels = 2.0 ** math.ceil(math.log2(max(len(torch.unique((light * 255).round())), 2)))
    counts = torch.poisson((light * levels).cpu(), generator=generator).to(light) / levels
    return (pixels + strength * (counts - light)).clamp(0, 1)


def jpeg(pixels: Tensor, quality: int) -> Tensor:
    """Return `pixels` [3, H, W] in [0, 1] after a JPEG file of `quality`, in whole 255ths."""
    array = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(pixels) / 255


def _finish(
    picture: Tensor, size: tuple[int, int], ringing: Tensor | None, antialias: bool, generator: torch.Generator
) -> Tensor:
    return blur(resize(picture, size, antialias, generator), ringing).clamp(0, 1)


def _draw_size(base: tuple[int, int], recipe: Resize, generator: torch.Generator) -> tuple[int, int]:
    draw = float(torch.rand((), generator=generator))
    if draw < recipe.enlarge:
        factor = _between((1.0, recipe.factor[1]), generator)
    elif draw < recipe.enlarge + recipe.shrink:
        factor = _between((recipe.factor[0], 1.0), generator)
    else:
        factor = 1.0
    return max(round(base[0] * factor), 12), max(round(base[1] * factor), 12)  # the largest kernel's margin is 10


def _between(bounds: Range, generator: torch.Generator) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(torch.rand((), generator=generator))


def _happens(probability: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability


def _luma(pixels: Tensor) -> Tensor:
    return (pixels * torch.tensor([0.299, 0.587, 0.114]).to(pixels)[:, None, None]).sum(0, keepdim=True)


def _rounded(pixels: Tensor) -> Tensor:
    return (pixels.clamp(0, 1) * 255).round() / 255


def main(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The clean picture.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where the degraded one is written (PNG).")],
    strength: Annotated[Strength, typer.Option(help="Which degradation.")] = Strength.MILD,
    scale: Annotated[int, typer.Option(min=1, max=16, help="Clean side / degraded side.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same picture.")] = 0,
) -> None:
    """Degrade a picture as the training does: blurred, shrunk, noisy, compressed."""
    with Image.open(source) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).to(torch.float32) / 255
    height, width = (side // scale * scale for side in pixels.shape[-2:])
    chosen = replace(STRENGTHS[strength], scale=scale)
    degraded = degrade(pixels[:, :height, :width], chosen, torch.Generator().manual_seed(seed))
    Image.fromarray((degraded * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(target)
    typer.echo(target)


if __name__ == "__main__":
    typer.run(main)
