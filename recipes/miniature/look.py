"""What the miniature's pictures are to look like: squares to learn from, and what is measured of detail.

The target is what Real-ESRGAN x4plus makes of the small picture: one picture for one input, so that the error of
pixels already gives some sharpness; for the rest adversaries join (`judge.py`). How much detail is drawn is said by the
last component of the latent, which prompts have learnt to move (`prompts.py`).

What a small picture does not tell can only be drawn from chance, or the mean of all that it may be is drawn: smooth.
So there are components that keep the sampler's noise, and beside the pixels counts how much of fine detail there is in
each direction and frequency: the decoder makes grain where there is texture, and none where there is none. Of the
energy alone it would make a hatching, and of luma alone coloured dots.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from seesr_cli.restore.colour import wavelet
from seesr_cli.training.objective import Denoiser, Objective, add_noise, clean_latent
from seesr_cli.training.pairs import enlarge, whole
from seesr_cli.training.photographs import unit

SCALE = 4

SHIFT = 0.3
"""What the last component of a scaled latent moves by for the crispest picture, several times its deviation."""

GRAIN = slice(6, 11)
"""Components of the latent whose deviation is below that of the sampler's noise: they keep the noise."""

SOFTEST, CRISPEST = 0.2, 2.0
"""How many times the teacher's detail a picture has at the ends of the scale."""


class Squares(NamedTuple):
    """What the look is learnt from. small: the small picture, float32 [N, 3, h, w] in [0, 1]. frame: the same enlarged,
    float16 [N, 3, H, W]. taught, clean: the teacher's picture and the original in the frame's colours, uint8."""

    small: Tensor
    frame: Tensor
    taught: Tensor
    clean: Tensor


def read_squares(paths: Sequence[Path]) -> Squares:
    """Read what `imitation.py` wrote to `paths`."""
    columns: list[list[Tensor]] = [[], [], [], []]
    for path in paths:
        with np.load(path) as file:
            small, taught, clean = (
                unit(torch.from_numpy(file[name]).permute(0, 3, 1, 2)) for name in ("degraded", "taught", "clean")
            )
        frame = torch.stack([enlarge(each, SCALE) for each in small])
        coloured = (
            whole(torch.cat([wavelet(*pair) for pair in zip(goal[:, None], frame[:, None], strict=True)]))
            for goal in (taught, clean)
        )
        for column, part in zip(columns, (small, frame.half(), *coloured), strict=True):
            column.append(part)
    return Squares(*map(torch.cat, columns))


def turned(picture: Tensor, turns: int) -> Tensor:
    """Return a picture [..., H, W] in one of its eight positions, 0 to 7: quarter turns, mirrored from 4 on."""
    turned = torch.rot90(picture, turns % 4, (-2, -1))
    return turned.flip(-1) if turns > 3 else turned


@torch.no_grad()
def encoded(vae: AutoencoderKL, frames: Tensor) -> Tensor:
    """Return the scaled latents of `frames`, [N, C, h, w]: means of their posteriors."""
    scale = vae.config.scaling_factor
    return torch.cat([vae.encode(2 * frame[None].float() - 1).latent_dist.mean * scale for frame in frames])


@torch.no_grad()
def restored(
    denoiser: Denoiser, starts: Tensor, frames: Tensor, prompt: Tensor, tokens: Tensor, kept: Tensor, seed: int = 0
) -> Tensor:
    """Return what the one step of the networks makes of the scaled latents of `frames`, [N, C, h, w], without the noise
    of the components of `GRAIN`.

    prompt: what the denoiser is told, [1, ...], and tokens, [1, cells, width], whatever the picture. kept: as
    `restorer.Networks.kept`.
    """
    generator = torch.Generator().manual_seed(seed)
    last = kept[-1:]
    step = torch.tensor([len(kept) - 1])
    made = []
    for start, frame in zip(starts[:, None], frames[:, None], strict=True):
        noisy = add_noise(start, torch.randn(start.shape, generator=generator), last)
        result = clean_latent(Objective(), denoiser(noisy, step, prompt, tokens, frame.float()), noisy, last)
        result[:, GRAIN] = start[:, GRAIN]
        made.append(result)
    return torch.cat(made)


def blur(pixels: Tensor, sigma: float = 1.5) -> Tensor:
    """Return [B, 3, H, W] pixels under a Gaussian of `sigma` pixels."""
    reach, channels = int(3 * sigma + 0.5), pixels.shape[1]
    taps = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).repeat(channels, 1)
    padded = F.pad(pixels, (reach,) * 4, mode="reflect")
    across = F.conv2d(padded, taps[:, None, None, :], groups=channels)
    return F.conv2d(across, taps[:, None, :, None], groups=channels)


YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Y, Cb and Cr of red, green and blue (ITU-T T.871)."""

WINDOW = 16
"""Pixels along a window of `spectra`."""


@cache
def _window() -> tuple[Tensor, Tensor, Tensor]:
    """Return the window, [WINDOW, WINDOW], of a mean square of 1; what each frequency counts; and the frequencies.

    Those above an eighth of a cycle a pixel count the root of how often they stand in the whole spectrum.
    """
    line = torch.hann_window(WINDOW)
    window = line[:, None] * line
    down, across = torch.fft.fftfreq(WINDOW)[:, None], torch.fft.rfftfreq(WINDOW)
    frequencies = torch.hypot(down, across)
    twice = torch.where((across == 0) | (across == 0.5), 1.0, 2.0)
    return window / window.square().mean().sqrt(), (frequencies > 0.125) * twice.sqrt(), frequencies


def spectra(pixels: Tensor) -> Tensor:
    """Return the deviation of Y, Cb and Cr of [B, 3, H, W] pixels at each frequency, [B, 3, 16, 9, h, w].

    In windows half of which overlap, in the mean of 3x3 of them: of a surface, not of one leaf. Their squares add up to
    the variance of detail finer than 8 pixels.
    """
    planes = torch.einsum("pc,bchw->bphw", pixels.new_tensor(YCBCR), pixels)
    window, counted, _ = _window()
    windows = planes.unfold(2, WINDOW, WINDOW // 2).unfold(3, WINDOW, WINDOW // 2)
    waves = torch.fft.rfft2(windows * window) * counted / WINDOW**2
    power = (waves.real.square() + waves.imag.square()).movedim((4, 5), (2, 3))
    smooth = F.avg_pool2d(power.flatten(0, 3)[:, None], 3, 1)[:, 0]
    return (smooth.view(*power.shape[:4], *smooth.shape[1:]) + (NOTHING / WINDOW) ** 2).sqrt()


def otherwise(made: Tensor, goal: Tensor) -> Tensor:
    """Return how far the spectra of pictures [B, 3, H, W] are apart, root mean square, in the mean over all places.

    Frequencies count as much more as they are higher: of most photographs each then says as much as the next.
    """
    *_, frequencies = _window()
    off = (spectra(made) - spectra(goal)) * (frequencies / 0.25)[..., None, None]
    return off.square().sum((1, 2, 3)).add(NOTHING**2).sqrt().mean()


def repeating(off: Tensor) -> Tensor:
    """Return what a difference [B, 3, H, W] has at each place within a pixel of the latent, in the mean of 8x8 of them.

    A decoder that owes energy and spends it in the same way at every pixel draws a lattice: this is its amplitude.
    """
    unshuffled = F.pixel_unshuffle(off, SCALE)
    phases = unshuffled.reshape(len(off), off.shape[1], SCALE**2, *unshuffled.shape[-2:])
    return F.avg_pool2d((phases - phases.mean(2, keepdim=True)).flatten(1, 2), 8, 4).abs().mean()


NOTHING = 0.5 / 255
"""A deviation that nobody sees."""


def in_strength(goal: Tensor, strength: Tensor) -> Tensor:
    """Return [B, 3, H, W] goals with the detail of a strength from -1 (softest) to 1 (crispest), [B]."""
    more = torch.where(strength > 0, (CRISPEST - 1) * strength, (1 - SOFTEST) * strength)[:, None, None, None]
    return (goal + more * (goal - blur(goal))).clamp(0, 1)


FILM = 8 / 255
"""Deviation of the grain of a film, which a word asks for."""


def grained(clean: Tensor, taught: Tensor, grain: Tensor, generator: torch.Generator) -> Tensor:
    """Return originals [B, 3, H, W] with grain as it is asked for, [B]: 1 is that of a film, grey, half a pixel wide.

    0 is the originals' own. -1 is what the teacher draws: it paints, and what it paints has none.
    """
    film = blur(torch.randn(clean[:, :1].shape, generator=generator), 0.6)
    film = film * (FILM / film.std())
    share = grain[:, None, None, None]
    return torch.lerp(clean, taught, (-share).clamp_min(0)) + share.clamp_min(0) * film
