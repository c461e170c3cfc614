"""The VAE of a model trained from nothing: pictures to latents and back.

The start matters more than the rate here. Identity blocks and convolutions fitted by least squares make the untrained
network the best linear code it can express (principal components of 4x4 patches); training then only has to improve it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from .optimise import QUICK_BETAS, Average, adamw, descend, rate, set_rate
from .photographs import Photograph, crop, unit


def small_config() -> dict[str, Any]:
    """Return the configuration of the miniature's VAE: f = 4, 12 latent channels, few channels at full resolution."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 12,
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [8, 32, 64],
        "layers_per_block": 1,
        "norm_num_groups": 1,
        "mid_block_add_attention": False,
        "sample_size": 512,
        "scaling_factor": 1.0,
        "padding_mode": "reflect",
    }


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How the VAE is trained.

    crop: side of the training squares in pixels. kl: weight of the mean KL divergence, beside a pixel L1 of weight 1.
    fit_crops: squares the linear start is fitted to. average: decay of the averaged weights that are kept.
    """

    config: dict[str, Any] = field(default_factory=small_config)
    steps: int = 1200
    batch: int = 4
    crop: int = 128
    lr: float = 6e-3
    kl: float = 1e-5
    fit_crops: int = 24
    average: float = 0.995
    seed: int = 0


class Progress(NamedTuple):
    """After a step: steps done, the mean pixel L1 in [0, 1], and the networks with averaged weights on request."""

    step: int
    loss: float
    average: Average


def train(vae: AutoencoderKL, photographs: tuple[Photograph, ...], recipe: AutoencoderRecipe) -> Iterator[Progress]:
    """Train `vae` in place on pixel L1 and a little KL; yields after each step."""
    generator = torch.Generator().manual_seed(recipe.seed)
    optimiser = adamw(gentle(vae, recipe.lr), betas=QUICK_BETAS)
    average = Average(vae.state_dict(), recipe.average)
    for step in range(recipe.steps):
        set_rate(optimiser, rate(step / recipe.steps))
        drawn = torch.stack([crop(photographs, recipe.crop, generator)[1] for _ in range(recipe.batch)])
        pixels = (2 * unit(drawn) - 1).to(vae.device, vae.dtype)
        posterior = vae.encode(pixels).latent_dist
        restored = vae.decode(posterior.sample(generator)).sample
        distance = (restored - pixels).abs().mean()
        loss = distance + recipe.kl * posterior.kl().mean() / posterior.mean[0].numel()
        descend(optimiser, loss, vae.parameters(), 1.0)
        average.update(vae.state_dict())
        yield Progress(step + 1, distance.item() / 2, average)


LIFTED = 0.1
"""Share of the rate for the last norm and convolution, whose inputs start lifted (see `_steady`)."""


def gentle(module: nn.Module, lr: float) -> Iterator[tuple[list[nn.Parameter], float]]:
    """Yield (parameters, learning rate) groups in which a step moves every layer's result about equally.

    A weight's rate is `lr` over its inputs (Adam moves all of a layer's weights together, and what it reads is mostly
    positive): a network that starts near its goal is not shaken off it by the first steps.
    """
    rates: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 8
        lifted = "conv_norm_out" in name or "conv_out" in name
        rates.setdefault(lr / inputs * (LIFTED if lifted else 1.0), []).append(parameter)
    for each, parameters in rates.items():
        yield parameters, each


@torch.no_grad()
def scale(vae: AutoencoderKL, photographs: tuple[Photograph, ...], size: int = 256) -> float:
    """Return the factor that gives the latents of `photographs` a standard deviation of 1."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.stack([crop(photographs, size, generator)[1] for _ in range(32)])
    return 1.0 / vae.encode((2 * unit(pixels) - 1).to(vae.device, vae.dtype)).latent_dist.mean.std().item()


# The linear start -----------------------------------------------------------------------------------------------------

STEADY = 2.0
"""Value of one constant channel before the encoder's last norm: it outweighs the picture in the variance, so that a
GroupNorm of one group is nearly a constant scale, whatever the crop."""

STEADY_DECODER = 6.0
"""The same for the decoder, where one channel is constant from its first convolution to its last norm."""


@torch.no_grad()
def start_linear(vae: AutoencoderKL, photographs: tuple[Photograph, ...], recipe: AutoencoderRecipe) -> None:
    """Set the weights of `vae` so that it is nearly linear: patch components in, least squares out.

    Needs two downsamplings, norms of one group, 8 channels or more, and a latent no wider than half the last block.
    """
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    pixels = 2 * unit(torch.stack([crop(photographs, recipe.crop, generator)[1] for _ in range(recipe.fit_crops)])) - 1
    encoder, latents = vae.encoder, vae.config.latent_channels
    _start_blocks(encoder)

    # RGB, then the components of 2x2 squares, twice
    _place(encoder.conv_in, torch.eye(3)[:, :, None, None])
    halves = _components(F.pixel_unshuffle(pixels, 2), min(vae.config.block_out_channels[0], 8))
    _place(encoder.down_blocks[0].downsamplers[0].conv, _taps(halves, 3), at=(0, 0))
    half = torch.einsum("kc,bchw->bkhw", halves, F.pixel_unshuffle(pixels, 2))
    quarters = _components(F.pixel_unshuffle(half, 2), latents)
    _place(encoder.down_blocks[1].downsamplers[0].conv, _taps(quarters, half.shape[1]), at=(0, 0))
    _steady(encoder.mid_block.resnets[-1], encoder.conv_norm_out, latents)
    deep = encoder.mid_block(
        encoder.down_blocks[2](encoder.down_blocks[1](encoder.down_blocks[0](encoder.conv_in(pixels))))
    )
    _fit(encoder.conv_out, F.silu(encoder.conv_norm_out(deep)), deep[:, :latents])
    posterior = vae.quant_conv
    posterior.weight.zero_()
    posterior.weight[: 2 * latents, : 2 * latents, 0, 0] = torch.eye(2 * latents)
    posterior.bias.zero_()
    posterior.bias[latents:] = -8.0
    start_decoder(vae, pixels)


@torch.no_grad()
def start_decoder(vae: AutoencoderKL, pixels: Tensor) -> None:
    """Make the decoder of `vae` the best linear one for what its encoder says of `pixels`, [B, 3, H, W] in [-1, 1].

    Blocks begin as the identity, on channels most of which wait with random weights. One channel is constant all the
    way: a norm that a picture hardly moves lets a flat crop and a busy one be drawn alike.
    """
    decoder, latents = vae.decoder, vae.config.latent_channels
    _start_blocks(decoder)
    for block in decoder.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.kaiming_normal_(block.conv1.weight)
            nn.init.zeros_(_bias(block.conv1))
            block.conv1.weight[:, -1] = 0
            if block.conv_shortcut is not None:
                _keep_steady(block.conv_shortcut)
    vae.post_quant_conv.weight.copy_(torch.eye(latents)[:, :, None, None])
    vae.post_quant_conv.bias.zero_()
    z = vae.encode(pixels).latent_dist.mean
    _place(decoder.conv_in, torch.eye(latents)[:, :, None, None], waiting=1.0)
    decoder.conv_in.weight[-1] = 0
    _bias(decoder.conv_in)[-1] = STEADY_DECODER

    # least squares at each doubling
    directions = _components(F.pixel_unshuffle(pixels, 2), 12)
    half = torch.einsum("kc,bchw->bkhw", directions, F.pixel_unshuffle(pixels, 2))
    wide = z
    for block, goal in zip(decoder.up_blocks[:-1], (half, pixels), strict=True):
        doubled = F.interpolate(wide, scale_factor=2.0, mode="nearest")
        wide = _fit(block.upsamplers[0].conv, doubled, goal, waiting=0.5)
        _keep_steady(block.upsamplers[0].conv)
    decoder.conv_norm_out.weight.fill_(1.0)
    decoder.conv_norm_out.bias.zero_()
    decoder.conv_norm_out.bias[:3] = 3.0  # to where SiLU is straight
    wide = decoder.conv_in(vae.post_quant_conv(z))
    for part in (decoder.mid_block, *decoder.up_blocks):
        wide = part(wide)
    _fit(decoder.conv_out, F.silu(decoder.conv_norm_out(wide)), pixels)


def _keep_steady(conv: nn.Conv2d) -> None:
    """Let the last channel pass `conv` as it is, and no other channel see it."""
    middle = conv.kernel_size[0] // 2
    conv.weight[:, -1] = 0
    conv.weight[-1] = 0
    conv.weight[-1, -1, middle, middle] = 1
    _bias(conv)[-1] = 0


def _start_blocks(part: nn.Module) -> None:
    """Make every resnet block of `part` the identity on the channels it keeps."""
    for block in part.modules():
        if isinstance(block, ResnetBlock2D):
            block.conv2.weight.zero_()
            block.conv2.bias.zero_()
            if block.conv_shortcut is not None:
                block.conv_shortcut.weight.mul_(0.1)
                kept = min(block.in_channels, block.out_channels)
                block.conv_shortcut.weight[:kept] = 0
                block.conv_shortcut.weight[:kept, :kept, 0, 0] = torch.eye(kept)
                block.conv_shortcut.bias.zero_()


def _place(conv: nn.Conv2d, weight: Tensor, at: tuple[int, int] | None = None, waiting: float = 0.1) -> None:
    """Put [out, in, kh, kw] `weight` into the first channels of `conv`, mid-kernel or `at` (top, left).

    The other outputs keep `waiting` of their random weights, so that training can use them.
    """
    outputs, inputs, height, width = weight.shape
    top, left = at if at is not None else ((conv.kernel_size[0] - height) // 2, (conv.kernel_size[1] - width) // 2)
    conv.weight.mul_(waiting)
    conv.weight[:outputs] = 0
    nn.init.zeros_(_bias(conv))
    conv.weight[:outputs, :inputs, top : top + height, left : left + width] = weight


def _components(features: Tensor, count: int) -> Tensor:
    """Return the `count` leading principal directions, [count, C], of [B, C, H, W] features, about zero."""
    flat = features.permute(1, 0, 2, 3).flatten(1)
    directions = torch.linalg.eigh(flat @ flat.T / flat.shape[1]).eigenvectors
    return directions.flip(1).T[:count].contiguous()


def _taps(directions: Tensor, channels: int) -> Tensor:
    """Return directions of `pixel_unshuffle` features, [K, 4C], as a 2x2 kernel, [K, C, 2, 2]."""
    return directions.reshape(len(directions), channels, 2, 2)


def _fit(conv: nn.Conv2d, features: Tensor, target: Tensor, waiting: float = 0.1) -> Tensor:
    """Fit the first channels of a 3x3 `conv` by least squares from `features` to `target`; returns what they give."""
    kernel, bias = least_squares(features, target, 3)
    _place(conv, kernel, waiting=waiting)
    _bias(conv)[: len(bias)] = bias
    return F.conv2d(F.pad(features, (1, 1, 1, 1), mode="reflect"), kernel, bias)


@torch.no_grad()
def least_squares(features: Tensor, target: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution of `side` that makes most nearly `target` of `features`.

    Both are [B, channels, H, W] of one size.
    """
    channels, outputs = features.shape[1], target.shape[1]
    padded = F.pad(features, (side // 2,) * 4, mode="reflect")
    columns = F.unfold(padded, side).transpose(1, 2).reshape(-1, channels * side**2)
    wanted = target.permute(0, 2, 3, 1).reshape(-1, outputs)
    middle, goal = columns.mean(0), wanted.mean(0)
    columns, wanted = columns - middle, wanted - goal
    gram = columns.T @ columns
    gram += 1e-5 * gram.diagonal().mean() * torch.eye(len(gram))
    weight = torch.linalg.solve(gram, columns.T @ wanted).T
    return weight.reshape(outputs, channels, side, side), goal - weight @ middle


def _bias(conv: nn.Conv2d) -> Tensor:
    """Return the bias of a convolution that has one."""
    if conv.bias is None:
        raise ValueError("The linear start needs convolutions with a bias.")
    return conv.bias


def _steady(block: ResnetBlock2D, norm: nn.GroupNorm, count: int) -> None:
    """Make `norm` behind `block` nearly constant in scale, `count` channels lifted to where SiLU is straight."""
    channels = norm.num_channels
    _bias(block.conv2)[channels - 1] = STEADY * channels**0.5
    norm.weight.fill_(1.0)
    norm.bias.zero_()
    norm.bias[:count] = 3.0
