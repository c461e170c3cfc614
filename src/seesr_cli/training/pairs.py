"""Clean and degraded pictures side by side, with everything that is computed from them once."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from .degradation import Degradation, degrade
from .photographs import Photograph, crop, draw, unit
from .restorer import Pair

Degrade = Callable[[Tensor, torch.Generator], Tensor]
"""Makes a degraded [3, h, w] picture of a clean [3, H, W] one, both RGB in [0, 1]; H and W are multiples of h and w."""


def published(degradation: Degradation) -> Degrade:
    """Return the second-order degradation with these numbers."""
    return lambda pixels, generator: degrade(pixels, degradation, generator)


@torch.no_grad()
def make_pair(clean: Tensor, make: Degrade, vae: AutoencoderKL, generator: torch.Generator) -> Pair:
    """Return the pair of a clean [3, H, W] uint8 picture, not read yet: its guidance is empty (see `guide`).

    H and W are multiples of the VAE's factor. The pair is on the CPU, wherever the VAE is.
    """
    degraded = make(unit(clean), generator)
    frame = enlarge(degraded, clean.shape[-1] // degraded.shape[-1])
    pixels = torch.stack([unit(clean), frame]).to(vae.device, vae.dtype)
    posterior = vae.encode(2 * pixels - 1).latent_dist
    goal, start = (posterior.mean * vae.config.scaling_factor).cpu().half()
    deviation = (posterior.std[0] * vae.config.scaling_factor).cpu().half()
    nothing = torch.zeros(0)
    return Pair(clean, whole(degraded), whole(frame), goal, deviation, start, nothing, nothing, nothing)


def guide(pair: Pair, tokens: Tensor, tags: Tensor, untagged: Tensor) -> Pair:
    """Return `pair` with the degraded picture's tokens, and token ids with and without the clean one's tags."""
    return pair._replace(tokens=tokens.half(), tags=tags, untagged=untagged)


def draw_pair(
    photographs: Sequence[Photograph],
    size: int,
    mixture: Sequence[tuple[float, Degradation]],
    vae: AutoencoderKL,
    generator: torch.Generator,
    turned: bool = True,
) -> Pair:
    """Return the pair of a square of `size` from any photograph, degraded by one of `mixture` (weight, degradation).

    A quarter of the squares are taken a third larger, where the photograph has room, and shrunk: sharper pictures.
    turned: as for `crop`.
    """
    weights = torch.tensor([weight for weight, _ in mixture])
    _, degradation = mixture[int(torch.multinomial(weights, 1, generator=generator))]
    larger = size * 4 // 3
    roomy = [photograph for photograph in photographs if min(photograph.pixels.shape[-2:]) >= larger]
    if roomy and draw(0, 4, generator) == 0:
        big = unit(crop(roomy, larger, generator, turned)[1])
        clean = whole(F.interpolate(big[None], (size, size), mode="bicubic", antialias=True)[0])
    else:
        clean = crop(photographs, size, generator, turned)[1]
    return make_pair(clean, published(degradation), vae, generator)


def enlarge(degraded: Tensor, scale: int) -> Tensor:
    """Return the frame of a degraded [3, h, w] picture: bicubic, as Pillow's, in [0, 1]."""
    height, width = (side * scale for side in degraded.shape[-2:])
    # antialias selects Pillow's bicubic (a = -0.5); nothing is filtered when enlarging
    return F.interpolate(degraded[None], (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)


def whole(pixels: Tensor) -> Tensor:
    """Return pixels in [0, 1] as uint8."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
