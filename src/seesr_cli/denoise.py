"""Noise becomes a latent: predictors that compose, and the loop over them."""

from collections.abc import Callable, Iterator

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .models.graft import Guide
from .noise import Noise
from .schedule import Schedule
from .tiles import Tile

RowPredictor = Callable[[Tensor, int, Tile], Tensor]
"""Gives the noise in a tile of the latent at a timestep, once for every row of the guide: [rows, C, h, w]."""

TilePredictor = Callable[[Tensor, int, Tile], Tensor]
"""Gives the noise in a tile of the latent at a timestep: [1, C, h, w]."""

Predictor = Callable[[Tensor, int], Tensor]
"""Gives the noise in a latent [1, C, H, W] at a timestep, of the same shape."""


def controlled(
    unet: UNet2DConditionModel, controlnet: ControlNetModel, guide: Guide, picture: Tensor, control: float
) -> RowPredictor:
    """Return the prediction of the UNet under its three controls: text, tokens and picture.

    guide: one row per prompt. picture: the frame's pixels [1, 3, H·f, W·f], RGB in [0, 1]. control: the factor of the
    ControlNet's residuals. Networks and guide are of one device and precision; latents go in and noise comes out in
    float32.
    """
    picture = picture.to(unet.device, unet.dtype)
    rows = len(guide.text)

    def predict(latent: Tensor, timestep: int, tile: Tile) -> Tensor:
        factor = picture.shape[-1] // latent.shape[-1]
        crop = tile.crop(latent).to(unet.dtype).expand(rows, -1, -1, -1)
        time = torch.tensor(timestep, device=unet.device)
        down, mid = controlnet(
            crop,
            time,
            encoder_hidden_states=guide,
            controlnet_cond=tile.crop(picture, factor).expand(rows, -1, -1, -1),
            conditioning_scale=control,
            return_dict=False,
        )
        return unet(
            crop,
            time,
            encoder_hidden_states=guide,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0].float()

    return predict


def guided(predict: RowPredictor, guidance: float) -> TilePredictor:
    """Return `predict` moved from its first row (the negative prompt) to its second and beyond, by `guidance`.

    Classifier-free guidance, arXiv 2207.12598, as negative + guidance·(positive - negative).
    """

    def move(latent: Tensor, timestep: int, tile: Tile) -> Tensor:
        negative, positive = predict(latent, timestep, tile).chunk(2)
        return negative + guidance * (positive - negative)

    return move


def tiled(predict: TilePredictor, tiles: tuple[Tile, ...]) -> Predictor:
    """Return the prediction for the whole latent: every tile's, weighed by its share."""

    def blend(latent: Tensor, timestep: int) -> Tensor:
        noise = torch.zeros_like(latent)
        for tile in tiles:
            tile.crop(noise).add_(predict(latent, timestep, tile) * tile.share)
        return noise

    return blend


def begin(latent: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
    """Return the picture's latent [1, C, H, W] under the noise of the last training timestep (the paper's LRE)."""
    return schedule.start_signal * latent + schedule.start_noise * noise(latent.shape).to(latent.device)


@torch.inference_mode()
def denoise(latent: Tensor, predict: Predictor, schedule: Schedule, noise: Noise) -> Iterator[Tensor]:
    """Yield the latent [1, C, H, W], float32, after each step of the schedule; the last one is free of noise."""
    for step in schedule.steps:
        clean = step.clean(latent, predict(latent, step.timestep))
        latent = step.to_clean * clean + step.to_latent * latent
        if step.spread > 0:
            latent = latent + step.spread * noise(latent.shape).to(latent.device)
        yield latent
