"""A source of grain: components of the latent that hold the sampler's noise alone, and a way for it to every layer.

What a small picture does not tell can only be drawn from chance, or the mean of all that it may be is drawn: smooth.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

NOTHING = -30.0
"""Logarithm of the variance of what has none."""


def widened(weights: Mapping[str, Tensor], count: int, noise: float) -> dict[str, Tensor]:
    """Return the weights of VAE, UNet and ControlNet for `count` more components of the latent.

    weights: by part and name. What they compute stays the same. The new components stand before the last: the encoder
    says 0 of them, UNet and ControlNet neither read nor move them, so that they keep the sampler's noise. noise: its
    deviation beside a latent without its scale. As many new channels of the compact decoder hold it at a deviation of
    1, unchanged from the first layer to the last.
    """
    made = {name: tensor.clone() for name, tensor in weights.items()}
    channels, width = made["unet.conv_in.weight"].shape[1], len(made["vae.decoder.conv_in.bias"])

    def more(layer: str, axis: int, *places: int) -> None:
        for name in (f"{layer}.weight", f"{layer}.bias")[: 2 - axis]:
            for place in places:
                made[name] = _with_zeros(made[name], axis, place, count)

    last = channels - 1
    moments = channels + last, last  # of the logarithms of variances, and of the means
    for layer in ("unet.conv_in", "controlnet.conv_in", "vae.post_quant_conv"):
        more(layer, 1, last)
    for layer in ("unet.conv_out", "vae.post_quant_conv"):
        more(layer, 0, last)
    for layer in ("vae.encoder.conv_out", "vae.quant_conv"):
        more(layer, 0, *moments)
    more("vae.quant_conv", 1, *moments)
    made["vae.quant_conv.bias"][channels + count + last :][:count] = NOTHING

    new, one = slice(last, last + count), torch.eye(count)
    made["vae.post_quant_conv.weight"][new, new, 0, 0] = one / noise
    convs = [name.removesuffix(".bias") for name in made if name.startswith("vae.decoder.convs.") and "bias" in name]
    for layer in ("vae.decoder.conv_in", "vae.decoder.straight"):
        more(layer, 1, last)
    for layer in ("vae.decoder.conv_in", *convs):
        more(layer, 0, width)
    for layer in (*convs, "vae.decoder.conv_out"):
        more(layer, 1, width)
    made["vae.decoder.conv_in.weight"][width:, new, 1, 1] = one
    for layer in convs:
        made[f"{layer}.weight"][width:, width:, 1, 1] = one
    for name in made:
        if name.startswith("vae.decoder.slopes."):
            made[name] = torch.cat([made[name], torch.ones(count)])
    return made


def _with_zeros(tensor: Tensor, axis: int, place: int, count: int) -> Tensor:
    shape = [*tensor.shape]
    shape[axis] = count
    before, after = tensor.tensor_split((place,), axis)
    return torch.cat([before, tensor.new_zeros(shape), after], axis)
