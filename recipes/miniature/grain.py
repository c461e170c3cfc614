"""A source of grain: components of the latent that hold the sampler's noise alone, and one by which words ask for it.

What a small picture does not tell can only be drawn from chance, or the mean of all that it may be is drawn: smooth.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

NOTHING = -30.0
"""Logarithm of the variance of what has none."""

DECODER = "vae.decoder.conv_in", "vae.decoder.straight"
"""What of a decoder reads the latent."""

LOUD = 5.0
"""What the decoder takes the component of `asked` times, so that it counts as what the picture shows does."""


def widened(weights: Mapping[str, Tensor], count: int, noise: float) -> dict[str, Tensor]:
    """Return the weights of VAE, UNet and ControlNet for `count` more components of the latent that keep its noise.

    weights: by part and name. What they compute stays the same. The new components stand before the last. noise: its
    deviation beside a latent without its scale. As many new channels of the compact decoder hold it at a deviation of
    1, unchanged from the first layer to the last.
    """
    made, new = _with_components(weights, count)
    made["vae.post_quant_conv.weight"][new, new, 0, 0] = torch.eye(count) / noise
    width = len(made["vae.decoder.conv_in.bias"])
    convs = [name.removesuffix(".bias") for name in made if name.startswith("vae.decoder.convs.") and "bias" in name]
    for layer in ("vae.decoder.conv_in", *convs):
        _widen(made, layer, 0, count, width)
    for layer in (*convs, "vae.decoder.conv_out"):
        _widen(made, layer, 1, count, width)
    made["vae.decoder.conv_in.weight"][width:, new, 1, 1] = torch.eye(count)
    for layer in convs:
        made[f"{layer}.weight"][width:, width:, 1, 1] = torch.eye(count)
    for name in made:
        if name.startswith("vae.decoder.slopes."):
            made[name] = torch.cat([made[name], torch.ones(count)])
    return made


def asked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights for one component more, before the last, by which words are to ask for grain.

    What else they compute stays the same: the decoder is given it, and does not read it yet. The UNet moves it by
    chance: where it does not, the words find no way to it.
    """
    made, new = _with_components(weights, 1)
    last = made["unet.conv_out.weight"][-1]
    chance = torch.randn(last.shape, generator=torch.Generator().manual_seed(0))
    made["unet.conv_out.weight"][new] = last.std() * chance
    made["vae.post_quant_conv.weight"][new, new] = LOUD
    return made


def _with_components(weights: Mapping[str, Tensor], count: int) -> tuple[dict[str, Tensor], slice]:
    """Return the weights for `count` more components of the latent, and where these are: before the last.

    The encoder says 0 of them, UNet and ControlNet neither read nor move them, the decoder does not read them.
    """
    made = {name: tensor.clone() for name, tensor in weights.items()}
    channels = made["unet.conv_in.weight"].shape[1]
    last = channels - 1
    moments = channels + last, last  # of the logarithms of variances, and of the means
    for layer in ("unet.conv_in", "controlnet.conv_in", "vae.post_quant_conv", *DECODER):
        _widen(made, layer, 1, count, last)
    for layer in ("unet.conv_out", "vae.post_quant_conv"):
        _widen(made, layer, 0, count, last)
    for layer in ("vae.encoder.conv_out", "vae.quant_conv"):
        _widen(made, layer, 0, count, *moments)
    _widen(made, "vae.quant_conv", 1, count, *moments)
    made["vae.quant_conv.bias"][channels + count + last :][:count] = NOTHING
    return made, slice(last, last + count)


def _widen(weights: dict[str, Tensor], layer: str, axis: int, count: int, *places: int) -> None:
    for name in (f"{layer}.weight", f"{layer}.bias")[: 2 - axis]:
        for place in places:
            weights[name] = _with_zeros(weights[name], axis, place, count)


def _with_zeros(tensor: Tensor, axis: int, place: int, count: int) -> Tensor:
    shape = [*tensor.shape]
    shape[axis] = count
    before, after = tensor.tensor_split((place,), axis)
    return torch.cat([before, tensor.new_zeros(shape), after], axis)
