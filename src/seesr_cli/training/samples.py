"""Make sample n of a stage, as a function of (seed, n), in the loader's workers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..errors import PictureUnreadable, UsageError
from ..restore.tag import IMAGENET_DEVIATION, IMAGENET_MEAN
from .degradation import Degradation, degrade, sharpen
from .objective import Objective, draw_timestep
from .pairs import enlarge
from .photographs import draw, turn, unit
from .sources import Order, Source, chance, read

TRIES = 50
"""Pictures that are tried for one sample before the data counts as unusable."""


class Cut(NamedTuple):
    """How a clean picture becomes a sample.

    size: side of the square, pixels. whole: squeeze the whole picture to it (Lanczos), or cut a square out, mirrored at
    the edges where the picture is short. flip, turns: mirror half of the squares; turn them to any of eight ways. Leave
    both off where labels name a direction. least_side, least_bytes: smaller pictures are skipped.
    """

    size: int = 512
    whole: bool = False
    flip: bool = True
    turns: bool = False
    least_side: int = 384
    least_bytes: int = 100_000


class Draws(NamedTuple):
    """The random numbers of a sample besides its picture: timestep, dropouts, noise and posterior's noise [C, h, w]."""

    timestep: int
    untagged: bool
    untold: bool
    noise: Tensor
    posterior: Tensor


class Sample(NamedTuple):
    """One sample, or a stack of them.

    n: its number. clean, degraded: RGB in [0, 1]; where degrading is the device's, degraded is empty. The rest as
    `Draws`; skipped: names of pictures that could not be used for it.
    """

    n: Tensor
    clean: Tensor
    degraded: Tensor
    timestep: Tensor
    untagged: Tensor
    untold: Tensor
    noise: Tensor
    posterior: Tensor
    skipped: tuple[str, ...] = ()


class Making(NamedTuple):
    """All that a sample follows from, besides the pictures and n.

    latent: (channels, height, width) of the noise. sharpened: the target is the sharpened picture, as published.
    """

    seed: int
    cut: Cut
    degradation: Degradation
    latent: tuple[int, int, int]
    trained: int
    objective: Objective
    tag_dropout: float
    token_dropout: float
    sharpened: bool
    on_device: bool


class Samples(Dataset[Sample]):
    """The samples of a run, by number."""

    def __init__(self, sources: tuple[Source, ...], making: Making) -> None:
        self._sources, self.making = sources, making
        self._order = Order(len(sources), making.seed)

    def __getitem__(self, n: int) -> Sample:
        """Return sample n. Raises UsageError when one picture after the other cannot be used."""
        making = self.making
        skipped: list[str] = []
        for further in range(min(TRIES, len(self._sources))):
            source = self._sources[self._order(n, further)]
            try:
                pixels = read(source, making.cut.least_side, making.cut.least_bytes)
                break
            except PictureUnreadable as problem:
                skipped.append(str(problem))
        else:
            raise UsageError(f"No usable picture after {len(skipped)} tries; the last one: {skipped[-1]}")
        generator = chance(making.seed, n)
        drawn = draw_numbers(making, generator)
        clean = cut(pixels, making.cut, generator)
        if making.sharpened:
            clean = sharpen(clean).clamp(0, 1)
        degraded = torch.empty(0) if making.on_device else spoil(clean, making, n)
        return Sample(
            torch.tensor(n),
            clean,
            degraded,
            torch.tensor(drawn.timestep),
            torch.tensor(drawn.untagged),
            torch.tensor(drawn.untold),
            drawn.noise,
            drawn.posterior,
            tuple(skipped),
        )


def draw_numbers(making: Making, generator: torch.Generator) -> Draws:
    """Return the draws of a sample, in their fixed order."""
    timestep = draw_timestep(making.objective, making.trained, generator)
    untagged, untold = (
        float(torch.rand((), generator=generator)) < share for share in (making.tag_dropout, making.token_dropout)
    )
    noise, posterior = (torch.randn(making.latent, generator=generator) for _ in range(2))
    return Draws(timestep, untagged, untold, noise, posterior)


def spoil(clean: Tensor, making: Making, n: int) -> Tensor:
    """Return the degraded picture of sample n, on the device of `clean`; the draws are the same everywhere.

    Sharpening is not done twice: where the target is sharpened, that one is degraded, as published.
    """
    recipe = replace(making.degradation, sharpen=False) if making.sharpened else making.degradation
    return degrade(clean, recipe, chance(making.seed, n, "degradation"))


def cut(pixels: Tensor, how: Cut, generator: torch.Generator) -> Tensor:
    """Return [3, size, size] in [0, 1] of a [3, H, W] uint8 picture."""
    size = how.size
    if how.whole:
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        squeezed = np.array(picture.resize((size, size), Image.Resampling.LANCZOS))
        square = torch.from_numpy(squeezed).permute(2, 0, 1)
    else:
        short = [max(0, size - side) for side in pixels.shape[-2:]]
        if any(short):
            pixels = _mirrored(pixels, short[0], short[1])
        top, left = (draw(0, side - size + 1, generator) for side in pixels.shape[-2:])
        square = pixels[:, top : top + size, left : left + size]
    if how.turns:
        square = turn(square, draw(0, 8, generator))
    elif how.flip and draw(0, 2, generator):
        square = square.flip(-1)
    return unit(square)


def _mirrored(pixels: Tensor, below: int, right: int) -> Tensor:
    """Return `pixels` with rows and columns mirrored at the lower and right edge, again and again if need be."""
    for dimension, more in ((-2, below), (-1, right)):
        side = pixels.shape[dimension]
        if more and side > 1:
            place = torch.arange(side + more) % (2 * side - 2)
            pixels = pixels.index_select(dimension, torch.where(place < side, place, 2 * side - 2 - place))
        elif more:
            pixels = pixels.repeat_interleave(1 + more, dimension)
    return pixels


def enlarged(degraded: Tensor, scale: int, published: bool) -> Tensor:
    """Return the frame of degraded pictures [B, 3, h, w]: torch's bicubic (a = -0.75), or Pillow's, as inference has.

    published: as the published training; else the frame that `seesr upscale` will make.
    """
    if published:
        return F.interpolate(degraded, scale_factor=scale, mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.stack([enlarge(each, scale) for each in degraded])


def tagger_input(pictures: Tensor, side: int, published: bool) -> Tensor:
    """Return pictures [B, 3, H, W] in [0, 1] as the tagger's input [B, 3, side, side].

    published: shrunk bilinearly without antialias, as in the published training; else as inference does.
    """
    square = F.interpolate(pictures, (side, side), mode="bilinear", align_corners=False, antialias=not published)
    mean, deviation = (square.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (square - mean) / deviation


class _Numbers(Sampler[list[int]]):
    """The endless numbers of the samples of one rank: rank r of w takes r, r + w, r + 2·w …"""

    def __init__(self, first: int, rank: int, world: int, micro: int) -> None:
        self._first, self._rank, self._world, self._micro = first, rank, world, micro

    def __iter__(self) -> Iterator[list[int]]:
        n = self._first + self._rank
        while True:
            yield [n + place * self._world for place in range(self._micro)]
            n += self._micro * self._world


def stack(samples: list[Sample]) -> Sample:
    """Return samples as one."""
    return Sample(
        torch.stack([each.n for each in samples]),
        torch.stack([each.clean for each in samples]),
        torch.stack([each.degraded for each in samples]),
        torch.stack([each.timestep for each in samples]),
        torch.stack([each.untagged for each in samples]),
        torch.stack([each.untold for each in samples]),
        torch.stack([each.noise for each in samples]),
        torch.stack([each.posterior for each in samples]),
        tuple(name for each in samples for name in each.skipped),
    )


def load(samples: Samples, first: int, rank: int, world: int, micro: int, workers: int) -> Iterator[Sample]:
    """Yield this rank's micro-batches from sample `first` on, made ahead by `workers` processes, or here for 0."""
    numbers = _Numbers(first, rank, world, micro)
    loader = DataLoader(
        samples,
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=stack,
        worker_init_fn=_one_thread,
        multiprocessing_context="spawn" if workers else None,
    )
    yield from loader


def _one_thread(worker: int) -> None:
    """Let a worker compute with one thread: there are as many workers as are wanted."""
    if get_worker_info() is not None:
        torch.set_num_threads(1)
