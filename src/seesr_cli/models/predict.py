"""Run the grafted networks once, with the keys, values and features that are the same at every step.

The stock `forward` methods compute everything anew: the features of the control picture, keys and values of what is
read, the time for every row, and both guidance halves from their first layer on, though they are equal until the text
is read. These two functions call the same stock blocks in the same order and are given the constants. They know
networks of Stable Diffusion's form: a time embedding, and no embedding of classes or sizes.
"""

from typing import NamedTuple

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .graft import KVCache, spread


class Residuals(NamedTuple):
    """The ControlNet's additions to the UNet: one for each skip, in order, and one for the middle."""

    skips: tuple[Tensor, ...]
    middle: Tensor


def residuals(
    controlnet: ControlNetModel, latent: Tensor, time: Tensor, known: KVCache, seen: Tensor, factor: float
) -> Residuals:
    """Return `factor` times the residuals for `latent` [b, C, h, w], with b rows before the first cross-attention.

    time: the timestep, [1], of any type. known: of this network. seen: the features of the control picture, of
    `controlnet.controlnet_cond_embedding`, [b, C', h, w].
    """
    skips, middle = _encode(controlnet, controlnet.conv_in(latent) + seen, _embed(controlnet, time, latent), known)
    behind = [zero(skip) for zero, skip in zip(controlnet.controlnet_down_blocks, skips, strict=True)]
    behind.append(controlnet.controlnet_mid_block(middle))
    if factor != 1:
        behind = [factor * residual for residual in behind]
    return Residuals(tuple(behind[:-1]), behind[-1])


def noise(unet: UNet2DConditionModel, latent: Tensor, time: Tensor, known: KVCache, control: Residuals) -> Tensor:
    """Return the predicted noise [B, C, h, w] of `latent` [b, C, h, w], one row for each prompt.

    B is a multiple of b, and the rows of the first latent come first. time, known: as for `residuals`.
    """
    embedded = _embed(unet, time, latent)
    skips, features = _encode(unet, unet.conv_in(latent), embedded, known)
    features = features + control.middle
    rows = len(features)
    skips = [spread(skip + residual, rows) for skip, residual in zip(skips, control.skips, strict=True)]
    for block in unet.up_blocks:
        taken = [skips.pop() for _ in block.resnets]
        features = block(
            features,
            tuple(reversed(taken)),
            embedded,
            encoder_hidden_states=known,
            upsample_size=skips[-1].shape[-2:] if skips else None,
        )
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(features)))


def _embed(network: UNet2DConditionModel | ControlNetModel, time: Tensor, latent: Tensor) -> Tensor:
    """Return the embedding of the time, [1, width]: one row, which every other adds as its own."""
    return network.time_embedding(network.time_proj(time).to(latent.dtype))


def _encode(
    network: UNet2DConditionModel | ControlNetModel, features: Tensor, embedded: Tensor, known: KVCache
) -> tuple[list[Tensor], Tensor]:
    """Return the skips of the half that both networks have, and what comes out of its middle."""
    skips = [features]
    for block in network.down_blocks:
        features, more = block(features, embedded, encoder_hidden_states=known)
        skips += more
    return skips, network.mid_block(features, embedded, encoder_hidden_states=known)
