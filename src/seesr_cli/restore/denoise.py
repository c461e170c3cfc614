"""Denoise a latent: predictors that are built from each other, and the loop over the timesteps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import NamedTuple

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ..machine.device import Place, attention, layout, memory_kept, place_of
from ..machine.graphs import Run, straight
from ..models.graft import Conditioning, KeyValue, KVCache, kv_cache, repeated, spread
from ..models.predict import noise as noise_in
from ..models.predict import residuals
from ..models.products import precision
from ..sampling.noise import Noise
from ..sampling.schedule import Schedule
from ..sampling.tiles import Grid, Tile, Tiling, portions
from .switches import ALL, Switches

SEEN_BYTES = 2**30
"""Most bytes of the control picture's features kept between steps; 4096 × 4096 pixels in fp32 take half of it."""

Tiles = tuple[Tile, ...]

RowPredictor = Callable[[Tensor, int, Tiles], Tensor]
"""Predicts the noise in tiles of equal size at a timestep, for every row of the conditioning: [tiles·rows, C, h, w]."""

TilePredictor = Callable[[Tensor, int, Tiles], Tensor]
"""Predicts the noise in tiles of equal size of a latent [P, C, H, W] at a timestep: [tiles·P, C, h, w]."""

Predictor = Callable[[Tensor, int], Tensor]
"""Predicts the noise in a latent [P, C, H, W] at a timestep: the same shape."""

View = Callable[[Tiles], Tensor]
"""Returns the features of the control pictures in tiles of equal size: [tiles·P, C', h, w]."""


OnTiles = Callable[[int], None]
"""Told how many tiles a call of the networks has predicted, of all pictures, after each call."""


class Call(NamedTuple):
    """The place of one picture in the calls of the networks, on which rounding depends.

    tiles: in one call, of all pictures that are in it. place: of this picture among them, from 0 on.
    """

    tiles: int
    place: int


class Prediction(NamedTuple):
    """A predictor for several pictures, and how it divides them. laid: their tiles. calls: one for each picture."""

    predict: Predictor
    tiling: Tiling
    laid: Grid
    calls: tuple[Call, ...]


def watched(
    controlnet: ControlNetModel, pictures: Tensor, factor: int, switches: Switches = ALL, budget: int = SEEN_BYTES
) -> View:
    """Return the ControlNet's view of `pictures`, [P, 3, H·factor, W·factor], RGB in [0, 1].

    Each tile sees its own crop, as published. The features of the first tiles are kept between steps; those of the
    others are computed again in every step.

    budget: bytes of features kept, on the device of the networks.
    """
    pictures = pictures.to(*place_of(controlnet), memory_format=_layout(controlnet, switches))
    kept: dict[tuple[int, ...], Tensor] = {}

    def see(tile: Tile) -> Tensor:
        place = tile[:4]
        if place in kept:
            return kept[place]
        seen = controlnet.controlnet_cond_embedding(tile.crop(pictures, factor))
        if switches.constants and (len(kept) + 1) * seen.nbytes <= budget:
            kept[place] = seen
        return seen

    return lambda tiles: torch.cat([see(tile) for tile in tiles])


def controlled(
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    conditioning: Conditioning,
    view: View,
    control: float,
    switches: Switches = ALL,
    run: Run = straight,
) -> RowPredictor:
    """Return the predictor of the UNet under its three conditions: prompt, tokens of the tagger, and picture.

    Networks, conditioning and view have one device and one precision of features. Latents and noise are float32. Values
    that are equal in all steps are computed once.

    conditioning: one row per prompt, picture by picture.
    view: of the frames.
    control: factor of the ControlNet's residuals.
    run: runs the networks, from tensors alone, so that a CUDA graph can record them.
    """

    def known(times: int) -> tuple[KVCache, KVCache]:
        more = repeated(conditioning, times)
        return kv_cache(controlnet, more), kv_cache(unet, more)

    if switches.constants:
        known = cache(torch.inference_mode()(known))
    place, lie = place_of(unet), _layout(unet, switches)

    def predict(latent: Tensor, timestep: int, tiles: Tiles) -> Tensor:
        crops = torch.cat([tile.crop(latent) for tile in tiles])
        crops = crops.to(place.dtype, memory_format=lie)
        seen = view(tiles)
        if not switches.prefix:
            rows = len(conditioning.text) // len(latent) * len(crops)
            crops, seen = spread(crops, rows), spread(seen, rows)
        time = torch.full((1,), timestep, device=place.device)
        by_controlnet, by_unet = known(len(tiles))
        places = [*by_controlnet, *by_unet]

        def networks(crops: Tensor, time: Tensor, seen: Tensor, *flat: Tensor) -> Tensor:
            read = dict(zip(places, map(KeyValue, flat[0::2], flat[1::2]), strict=True))
            added = residuals(controlnet, crops, time, read, seen, control)
            return noise_in(unet, crops, time, read, added)

        flat = tuple(tensor for digested in (by_controlnet, by_unet) for it in digested.values() for tensor in it)
        with attention(place.device) if switches.attention else nullcontext():
            return run(control, networks, (crops, time, seen, *flat)).float()

    return predict


def _layout(network: UNet2DConditionModel | ControlNetModel, switches: Switches) -> torch.memory_format:
    place = Place(place_of(network).device, precision(network))
    return layout(place) if switches.channels_last else torch.contiguous_format


def guided(predict: RowPredictor, guidance: float) -> TilePredictor:
    """Return `predict` under classifier-free guidance (arXiv 2207.12598).

    The noise is negative + guidance·(positive - negative). The conditioning has two rows for each picture: negative,
    positive.
    """

    def move(latent: Tensor, timestep: int, tiles: Tiles) -> Tensor:
        noise = predict(latent, timestep, tiles)
        negative, positive = noise[0::2], noise[1::2]
        return negative + guidance * (positive - negative)

    return move


def within(timesteps: frozenset[int], inside: TilePredictor, outside: TilePredictor) -> TilePredictor:
    """Return `inside` at `timesteps` and `outside` at others: guidance on an interval (arXiv 2404.07724)."""
    return lambda latent, timestep, tiles: (inside if timestep in timesteps else outside)(latent, timestep, tiles)


def tiled(predict: TilePredictor, tiles: Tiles, batch: int = 1, on_tiles: OnTiles = lambda count: None) -> Predictor:
    """Return the predictor of the whole latent, which sums the tiles weighted by their shares.

    batch: most tiles in one call; calls are nearly equal in size.
    """
    groups = [tiles[portion] for portion in portions(len(tiles), batch)]

    def blend(latent: Tensor, timestep: int) -> Tensor:
        noise = torch.zeros_like(latent)
        for group in groups:
            for tile, part in zip(group, predict(latent, timestep, group).chunk(len(group)), strict=True):
                tile.crop(noise).add_(part * tile.share)
            on_tiles(len(group) * len(latent))
        return noise

    return blend


def apart(each: Sequence[Predictor], shares: Sequence[slice]) -> Predictor:
    """Return the predictor of several pictures that calls one predictor for each share of them."""

    def join(latent: Tensor, timestep: int) -> Tensor:
        return torch.cat([predict(latent[share], timestep) for predict, share in zip(each, shares, strict=True)])

    return join


def begin(latent: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
    """Return the encoded picture [1, C, H, W] with the noise of the last training timestep (LRE in the paper)."""
    return schedule.start_signal * latent + schedule.start_noise * noise(latent.shape).to(latent.device)


@torch.inference_mode()
def denoise(
    latent: Tensor, predict: Predictor, schedule: Schedule, noise: Noise, switches: Switches = ALL
) -> Iterator[Tensor]:
    """Yield the latent [P, C, H, W], float32, after each step of the schedule; the last one has no noise."""
    previous = latent  # clean latent of the step before; the first step's factor is 0
    with memory_kept(latent.device) if switches.memory else nullcontext():
        for step in schedule.steps:
            clean = step.clean(latent, predict(latent, step.timestep))
            latent = step.to_clean * clean + step.to_latent * latent
            if step.to_previous != 0:
                latent = latent + step.to_previous * previous
            if step.spread > 0:
                latent = latent + step.spread * noise(latent.shape).to(latent.device)
            previous = clean
            yield latent
