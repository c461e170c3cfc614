"""Take a VAE's encoder and decoder apart into flat lists of steps with known receptive fields."""

from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ..models.compact import CompactDecoder
from ..sizes import Size


class Box(NamedTuple):
    """A part of a map: rows from top to bottom, columns from left to right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def times(self, factor: int) -> "Box":
        """Return the same part of a map that is `factor` times as large."""
        return Box(*(factor * edge for edge in self))

    def cut(self, features: Tensor, origin: Size = (0, 0)) -> Tensor:
        """Return a view of this part of features [..., H, W], the first of which stands at `origin`."""
        top, left = origin
        return features[..., self.top - top : self.bottom - top, self.left - left : self.right - left]

    def put(self, features: Tensor, part: Tensor) -> None:
        """Let this part of features [..., H, W] be `part`."""
        self.cut(features).copy_(part)


def grid(size: Size, piece: Size) -> list[Box]:
    """Return the boxes of up to `piece` that cover `size`, row by row."""
    return [
        Box(top, left, min(top + piece[0], size[0]), min(left + piece[1], size[1]))
        for top, left in product(range(0, size[0], piece[0]), range(0, size[1], piece[1]))
    ]


class Layer(NamedTuple):
    """A convolution of silu(norm(x)) or slope(x), in which x is doubled in both directions first where it `doubles`.

    keeps: what it is given is kept, and added to what the next layer that `adds` gives, through its `shortcut` if any.
    """

    conv: nn.Conv2d
    norm: nn.GroupNorm | None = None
    slope: nn.Module | None = None
    doubles: bool = False
    keeps: bool = False
    adds: bool = False
    shortcut: nn.Conv2d | None = None

    @property
    def width(self) -> int:
        """The number of output channels."""
        return self.conv.out_channels

    def size(self, given: Size) -> Size:
        """Return the size of the output for an input map of size `given`."""
        stride = self.conv.stride[0]
        return (given[0] * 2, given[1] * 2) if self.doubles else (given[0] // stride, given[1] // stride)

    def reads(self, box: Box, given: Size) -> Box:
        """Return the part of its input, of size `given`, that `box` of its output is computed from."""
        (top, bottom), (left, right) = self._spans(box, given)[0]
        factor = 2 if self.doubles else 1
        return Box(top // factor, left // factor, -(-bottom // factor), -(-right // factor))

    def convolve(self, part: Tensor, box: Box, given: Size) -> Tensor:
        """Return `box` of the output for the activated `part` that `reads` names, without the input kept aside."""
        (rows, columns), ((above, below), (before, after)) = self._spans(box, given)
        if self.doubles:
            origin = self.reads(box, given)
            part = F.interpolate(part, scale_factor=2.0, mode="nearest")
            part = Box(rows[0], columns[0], rows[1], columns[1]).cut(part, (2 * origin.top, 2 * origin.left))
            part = part.contiguous(memory_format=torch.channels_last)
        padding = (0, 0)
        if self.conv.padding_mode == "zeros" and above == below and before == after:
            padding = (above, before)
        elif above or below or before or after:
            mode = "constant" if self.conv.padding_mode == "zeros" else self.conv.padding_mode
            part = F.pad(part, (before, after, above, below), mode=mode)
        return F.conv2d(part, self.conv.weight, self.conv.bias, self.conv.stride, padding)

    def operations(self) -> int:
        """Return multiplications per number of positions of its output."""
        shortcut = 0 if self.shortcut is None else self.shortcut.weight.numel()
        return self.conv.weight.numel() + shortcut

    def _spans(self, box: Box, given: Size) -> tuple[tuple[Size, Size], tuple[Size, Size]]:
        """Return which rows and columns of its (doubled) input are read, and how many are missing around them."""
        side, stride = self.conv.kernel_size[0], self.conv.stride[0]
        # As in diffusers: the convolution that halves is padded behind only.
        before = (side - 1) // 2 if stride == 1 else 0
        read, missing = [], []
        for start, stop, length in ((box.top, box.bottom, given[0]), (box.left, box.right, given[1])):
            whole = length * (2 if self.doubles else 1)
            first, last = start * stride - before, (stop - 1) * stride - before + side
            read.append((max(first, 0), min(last, whole)))
            missing.append((max(-first, 0), max(last - whole, 0)))
        return (read[0], read[1]), (missing[0], missing[1])


class Attention(NamedTuple):
    """diffusers' attention with its residual, all positions to all."""

    module: Any

    @property
    def width(self) -> int:
        """The number of output channels."""
        return int(self.module.to_q.in_features)

    def heads(self, positions: Tensor) -> Tensor:
        """Return [1, heads, N, C/heads] of [1, N, C]."""
        return positions.view(1, positions.shape[1], self.module.heads, -1).transpose(1, 2)


VAEStep = Layer | Attention


def encoding(vae: AutoencoderKL) -> tuple[VAEStep, ...]:
    """Return the steps from pixels in [-1, 1] to the parameters of the posterior, [1, 2·channels, H/f, W/f]."""
    encoder, steps = vae.encoder, list[VAEStep]()
    steps.append(Layer(encoder.conv_in))
    for block in encoder.down_blocks:
        steps += [step for resnet in block.resnets for step in _residual(resnet)]
        steps += [Layer(down.conv) for down in block.downsamplers or ()]
    steps += _middle(encoder.mid_block)
    steps.append(Layer(encoder.conv_out, encoder.conv_norm_out))
    return (*steps, *([] if vae.quant_conv is None else [Layer(vae.quant_conv)]))


def decoding(vae: AutoencoderKL) -> tuple[VAEStep, ...]:
    """Return the steps from an unscaled latent to pixels in [-1, 1], which may still be `spread` over channels."""
    decoder, steps = vae.decoder, list[VAEStep]()
    steps += [] if vae.post_quant_conv is None else [Layer(vae.post_quant_conv)]
    if isinstance(decoder, CompactDecoder):
        *inner, last = zip(decoder.slopes, (*decoder.convs, decoder.conv_out), strict=True)
        steps += [Layer(decoder.conv_in, keeps=True), *(Layer(conv, slope=slope) for slope, conv in inner)]
        return (*steps, Layer(last[1], slope=last[0], adds=True, shortcut=decoder.straight))
    steps += [Layer(decoder.conv_in), *_middle(decoder.mid_block)]
    for block in decoder.up_blocks:
        steps += [step for resnet in block.resnets for step in _residual(resnet)]
        steps += [Layer(up.conv, doubles=True) for up in block.upsamplers or ()]
    return (*steps, Layer(decoder.conv_out, decoder.conv_norm_out))


def spread(vae: AutoencoderKL) -> int:
    """Return how many pixels along a side the channels of one position hold, which `decoding` ends with."""
    return vae.decoder.factor if isinstance(vae.decoder, CompactDecoder) else 1


def _middle(block: Any) -> list[VAEStep]:
    steps: list[VAEStep] = list(_residual(block.resnets[0]))
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        steps += [*([] if attention is None else [Attention(attention)]), *_residual(resnet)]
    return steps


def _residual(block: Any) -> tuple[Layer, Layer]:
    return (
        Layer(block.conv1, block.norm1, keeps=True),
        Layer(block.conv2, block.norm2, adds=True, shortcut=block.conv_shortcut),
    )
