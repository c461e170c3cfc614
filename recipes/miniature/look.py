"""Learn a look by imitation: the decoder makes of a restored latent what Real-ESRGAN x4plus makes of the picture.

The target is one picture for one input, so that the pixels' L1 already gives some sharpness; for the rest adversaries
(`judge.py`) can join. UNet and ControlNet rest, until all learn (`together.py`); the decoder begins anew as the best
linear one. How much detail it draws is said by the last component of the latent, which prompts have learnt to move
(`prompts.py`).

What a small picture does not tell can only be drawn from chance, or the mean of all that it may be is drawn: smooth.
So the components that carry least of a picture keep the sampler's noise, and beside the pixels counts how much of fine
detail there is in each direction and frequency: the decoder makes grain where there is texture, and none where there is
none. Of the energy alone it would make a hatching.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from judge import Adversary, Connoisseur, Judge, balanced, levels
from torch import Tensor, nn

from seesr_cli.restore.colour import low_frequencies, wavelet
from seesr_cli.training import autoencoder
from seesr_cli.training.objective import Denoiser, Objective, add_noise, clean_latent
from seesr_cli.training.optimise import QUICK_BETAS, Average, adamw, descend, rate, set_rate
from seesr_cli.training.pairs import enlarge, whole
from seesr_cli.training.photographs import draw, unit

SCALE = 4

SHIFT = 0.3
"""What the last component of a scaled latent moves by for the crispest picture, several times its deviation."""

GRAIN = slice(6, 11)
"""Components of the latent whose deviation is below that of the sampler's noise: they keep the noise."""

SOFTEST, CRISPEST = 0.2, 2.0
"""How many times the teacher's detail a picture has at the ends of the scale."""


@dataclass(frozen=True)
class LookRecipe:
    """How the decoder learns.

    squares: how many there are. blocks, channels: `layers_per_block` of the VAE whose decoder draws, and its channels
    at the picture's size. side: of a crop, pixels of the small picture. edge: pixels along the crop's border that do
    not count, for the teacher saw beyond it. gradient: weight of the error of differences between neighbours, beside a
    pixel L1 of 1; mean: of the low frequencies, which colour alignment takes away; spectrum: of the local spectrum of
    fine detail; lattice: of what repeats with the latent's pixels. true: weight of the original in the place of the
    teacher's picture, for pixels; all else is the teacher's. plain: share of crops with just that detail; of the others
    one half is soft. fitted: squares of the linear start. judged: slope of what the adversary says, as a share of that
    of all the rest, to which it rises over `RISING` steps; 0: there is none. match: weight of the adversary's features
    beside its marks. judge_lr: its rate. until: where it ends, before its rate has fallen as far as over all `steps`.
    """

    squares: int = 384
    blocks: int = 3
    channels: int = 16
    steps: int = 6800
    batch: int = 4
    side: int = 32
    edge: int = 4
    lr: float = 6e-4
    gradient: float = 1.0
    mean: float = 0.1
    spectrum: float = 3.0
    lattice: float = 8.0
    true: float = 0.6
    plain: float = 0.3
    average: float = 0.998
    fitted: int = 32
    judged: float = 0.0
    match: float = 1.0
    judge_lr: float = 4e-4
    until: int | None = None
    seed: int = 0


class Squares(NamedTuple):
    """What the decoder learns from. frame: the small picture enlarged, float16 [N, 3, H, W] in [0, 1]. taught, clean:
    the teacher's picture and the original in the frame's colours, uint8, of the same shape."""

    frame: Tensor
    taught: Tensor
    clean: Tensor


def read_squares(paths: Sequence[Path]) -> Squares:
    """Read what `imitation.py` wrote to `paths`."""
    columns: list[list[Tensor]] = [[], [], []]
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
        for column, part in zip(columns, (frame.half(), *coloured), strict=True):
            column.append(part)
    return Squares(*map(torch.cat, columns))


class Batch(NamedTuple):
    """Crops of squares, stacked, float32. latent: scaled, [B, C, h, w]. strength: how crisp each is to be, [B] from -1
    to 1. places: the squares' among all. ids: token ids of their prompts, [B, 77], where words are told."""

    frame: Tensor
    taught: Tensor
    clean: Tensor
    latent: Tensor
    strength: Tensor
    places: list[int]
    ids: Tensor | None = None


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


@torch.no_grad()
def grown(vae: AutoencoderKL, config: dict[str, Any]) -> AutoencoderKL:
    """Return a VAE of `config`, with more blocks a level or a multiple of channels, that computes what `vae` does.

    Further blocks are the identity. Further channels are copies (arXiv 1511.05641); what reads a channel and its copies
    reads different shares of them, so that they do not learn the same. Needs norms of one group.
    """
    large = autoencoder.build(config)
    for block in large.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
    known = vae.state_dict()
    for name, tensor in large.state_dict().items():
        if name not in known:
            continue
        small = known[name]
        times = [size // least for size, least in zip(tensor.shape, small.shape, strict=True)]
        copied = small.repeat(*times)
        if small.ndim > 1 and times[1] > 1:
            shares = 1 + SHARES * torch.randn(len(tensor), times[1], small.shape[1])
            shares = shares / shares.sum(1, keepdim=True)
            copied = copied * shares.flatten(1)[..., None, None]
        tensor.copy_(copied)
    return large


SHARES = 0.2
"""Deviation of the shares in which a channel and its copies are read."""


def blur(pixels: Tensor, sigma: float = 1.5) -> Tensor:
    """Return [B, 3, H, W] pixels under a Gaussian of `sigma` pixels."""
    reach, channels = int(3 * sigma + 0.5), pixels.shape[1]
    taps = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).repeat(channels, 1)
    padded = F.pad(pixels, (reach,) * 4, mode="reflect")
    across = F.conv2d(padded, taps[:, None, None, :], groups=channels)
    return F.conv2d(across, taps[:, None, :, None], groups=channels)


WINDOW = 16
"""Pixels along a window of `spectra`."""


@cache
def _window() -> tuple[Tensor, Tensor]:
    """Return the window, [WINDOW, WINDOW], of a mean square of 1, and what each frequency counts.

    Those above an eighth of a cycle a pixel count the root of how often they stand in the whole spectrum.
    """
    line = torch.hann_window(WINDOW)
    window = line[:, None] * line
    down, across = torch.fft.fftfreq(WINDOW)[:, None], torch.fft.rfftfreq(WINDOW)
    twice = torch.where((across == 0) | (across == 0.5), 1.0, 2.0)
    counted = (torch.hypot(down, across) > 0.125) * twice.sqrt()
    return window / window.square().mean().sqrt(), counted


def spectra(pixels: Tensor) -> Tensor:
    """Return the deviation of the luma of [B, 3, H, W] pixels at each frequency, [B, frequencies, h, w].

    In windows half of which overlap, in the mean of 3x3 of them: of a surface, not of one leaf. Their squares add up to
    the variance of detail finer than 8 pixels.
    """
    luma = (pixels * pixels.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    window, counted = _window()
    windows = luma.unfold(1, WINDOW, WINDOW // 2).unfold(2, WINDOW, WINDOW // 2)
    waves = torch.fft.rfft2(windows * window) * counted / WINDOW**2
    power = (waves.real.square() + waves.imag.square()).flatten(3).movedim(3, 1)
    return (F.avg_pool2d(power, 3, 1) + (NOTHING / WINDOW) ** 2).sqrt()


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


RISING = 200
"""Steps in which the adversary, which begins untrained, comes to count."""

SLOWEST = 0.3
"""The adversary's rate falls no further than to this share: it must keep up with the decoder to the end."""


class Training:
    """The training of one decoder: network, optimiser and average, which can be kept and taken up again."""

    def __init__(
        self,
        vae: AutoencoderKL,
        kept: Tensor,
        recipe: LookRecipe,
        others: Sequence[tuple[Sequence[nn.Parameter], float]] = (),
    ) -> None:
        """kept: as `restorer.Networks.kept`. others: what learns with the decoder, and its rates."""
        self.vae, self.recipe, self.step = vae, recipe, 0
        self.noise = ((1 - kept[-1]) / kept[-1]).sqrt()
        self.generator = torch.Generator().manual_seed(recipe.seed)
        vae.requires_grad_(False)
        decoder = nn.ModuleDict({"decoder": vae.decoder, "quant": vae.post_quant_conv}).requires_grad_(True)
        self.learning = [*decoder.parameters(), *(each for parameters, _ in others for each in parameters)]
        last = [*vae.decoder.conv_norm_out.parameters(), *vae.decoder.conv_out.parameters()]
        inner = [each for each in decoder.parameters() if all(each is not other for other in last)]
        # what the last convolution reads starts lifted: a step there moves the whole picture
        self.optimiser = adamw([(inner, recipe.lr), (last, recipe.lr * autoencoder.LIFTED), *others], betas=QUICK_BETAS)
        self.average = Average(self.weights(), recipe.average)
        torch.manual_seed(recipe.seed)
        self.adversary = Adversary([Judge(), Connoisseur(levels())], recipe.judge_lr) if recipe.judged else None

    def run(self, squares: Squares, latents: Tensor) -> Iterator[tuple[int, float]]:
        """Train to the end of the recipe, in place; yields steps done, and the error as a share of enlargement's."""
        while self.step < (self.recipe.until or self.recipe.steps):
            yield self.learn(self.draw(squares, latents))

    def weights(self) -> dict[str, Tensor]:
        """Return what is kept and averaged, by part and name: live tensors."""
        return by_name({"vae": self.vae})

    def told(self, batch: Batch) -> Tensor:
        """Return the scaled latents that the decoder is to make pictures of."""
        told = batch.latent.clone()
        told[:, GRAIN] += self.noise * torch.randn(told[:, GRAIN].shape, generator=self.generator)
        told[:, -1] += SHIFT * batch.strength[:, None, None]
        return told

    def learn(self, batch: Batch) -> tuple[int, float]:
        """Take one step; returns steps done, and the error as a share of enlargement's."""
        recipe, vae, frame, strength = self.recipe, self.vae, batch.frame, batch.strength
        factor = rate(self.step / recipe.steps)
        set_rate(self.optimiser, factor)
        made = vae.decode(self.told(batch) / vae.config.scaling_factor).sample / 2 + 0.5
        drift = F.l1_loss(low_frequencies(made), low_frequencies(frame))
        aligned = wavelet(made, frame)
        taught, clean = (in_strength(each, strength) for each in (batch.taught, batch.clean))
        off = self._error(aligned, taught)
        waves = (spectra(aligned) - spectra(taught)).square().sum(1).add(NOTHING**2).sqrt().mean()
        loss = (
            torch.lerp(off, self._error(aligned, clean), recipe.true)
            + recipe.spectrum * waves
            + recipe.lattice * repeating(aligned - taught)
        )
        if self.adversary is not None:
            # from another place of the lattice each time: what is said of a picture cannot follow it
            top, left = (draw(0, SCALE, self.generator) for _ in range(2))
            seen = slice(top, top - SCALE or None), slice(left, left - SCALE or None)
            made, true = aligned[..., *seen], taught[..., *seen]
            self.adversary.learn(made, true, strength, max(factor, SLOWEST))
            marks = self.adversary.loss(made, true, strength, recipe.match)
            slope = balanced(loss, marks, aligned, recipe.judged * min(1.0, self.step / RISING))
            loss = (slope * aligned).sum()  # has this slope
        loss = loss + recipe.mean * drift
        descend(self.optimiser, loss, self.learning, 1.0)
        self.average.update(self.weights())
        self.step += 1
        return self.step, off.item() / self._error(frame, taught).item()

    def _error(self, made: Tensor, goal: Tensor) -> Tensor:
        inside = slice(self.recipe.edge, -self.recipe.edge)
        off = (made - goal)[..., inside, inside]
        slopes = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
        return off.abs().mean() + self.recipe.gradient * slopes / 2

    def draw(self, squares: Squares, latents: Tensor) -> Batch:
        """Return some crops. latents: scaled, [N, C, h, w], as many as squares."""
        recipe, side, generator = self.recipe, self.recipe.side, self.generator
        columns: list[list[Tensor]] = [[], [], [], []]
        places = [draw(0, len(latents), generator) for _ in range(recipe.batch)]
        for index in places:
            top, left = (draw(0, size - side + 1, generator) for size in latents.shape[-2:])
            large = (slice(None), slice(top * SCALE, (top + side) * SCALE), slice(left * SCALE, (left + side) * SCALE))
            small = (slice(None), slice(top, top + side), slice(left, left + side))
            frame, taught, clean = (each[index][large] for each in squares)
            parts = frame.float(), unit(taught), unit(clean), latents[index][small]
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
        share = (1 - recipe.plain) / 2
        strength = torch.multinomial(
            torch.tensor([share, recipe.plain, share]), recipe.batch, True, generator=generator
        )
        frame, taught, clean, latent = map(torch.stack, columns)
        return Batch(frame, taught, clean, latent, strength - 1.0, places)

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on from here."""
        return {
            "step": self.step,
            "generator": self.generator.get_state(),
            "optimiser": self.optimiser.state_dict(),
            "weights": self.weights(),
            "average": self.average.weights,
            "adversary": None if self.adversary is None else self.adversary.state(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.step = self.average.steps = state["step"]
        self.generator.set_state(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, tensor in self.weights().items():
            tensor.copy_(state["weights"][name])
        self.average.weights = state["average"]
        if self.adversary is not None:
            self.adversary.restore(state["adversary"])


def by_name(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the live tensors of networks, with the names of their parts before their own."""
    return {f"{part}.{name}": each for part, network in parts.items() for name, each in network.state_dict().items()}


def by_part(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return each part's tensors by their own names: what `by_name` joined."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        part, _, own = name.partition(".")
        parts.setdefault(part, {})[own] = tensor
    return parts
