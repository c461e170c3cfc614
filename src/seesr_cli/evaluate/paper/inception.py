"""Inception v3 with the weights and the poolings of the first FID, as pytorch-fid has them.

Its average pooling leaves out what lies beyond the edge; the last block takes the largest in the place of the mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kernel = tuple[int, int]

FEATURES = 2048
SIDE = 299


class _Layer(NamedTuple):
    """A convolution: the end of its name, channels, kernel, stride. A layer of stride 2 has no padding."""

    name: str
    width: int
    kernel: Kernel = (1, 1)
    stride: int = 1


_ACROSS, _DOWN = (1, 7), (7, 1)

Chain = Sequence[_Layer | list[_Layer]]
"""Layers, each after the one before; those in a list see the same, and their channels stand side by side."""


def _first(pool: int) -> list[Chain]:
    return [
        [_Layer("1x1", 64)],
        [_Layer("5x5_1", 48), _Layer("5x5_2", 64, (5, 5))],
        [_Layer("3x3dbl_1", 64), _Layer("3x3dbl_2", 96, (3, 3)), _Layer("3x3dbl_3", 96, (3, 3))],
        [_Layer("_pool", pool)],
    ]


_HALVING_FIRST: list[Chain] = [
    [_Layer("3x3", 384, (3, 3), 2)],
    [_Layer("3x3dbl_1", 64), _Layer("3x3dbl_2", 96, (3, 3)), _Layer("3x3dbl_3", 96, (3, 3), 2)],
]


def _second(width: int) -> list[Chain]:
    twice = [_Layer(f"7x7dbl_{number}", width, _ACROSS if number % 2 else _DOWN) for number in range(2, 5)]
    return [
        [_Layer("1x1", 192)],
        [_Layer("7x7_1", width), _Layer("7x7_2", width, _ACROSS), _Layer("7x7_3", 192, _DOWN)],
        [_Layer("7x7dbl_1", width), *twice, _Layer("7x7dbl_5", 192, _ACROSS)],
        [_Layer("_pool", 192)],
    ]


_HALVING_SECOND: list[Chain] = [
    [_Layer("3x3_1", 192), _Layer("3x3_2", 320, (3, 3), 2)],
    [
        _Layer("7x7x3_1", 192),
        _Layer("7x7x3_2", 192, _ACROSS),
        _Layer("7x7x3_3", 192, _DOWN),
        _Layer("7x7x3_4", 192, (3, 3), 2),
    ],
]

_THIRD: list[Chain] = [
    [_Layer("1x1", 320)],
    [_Layer("3x3_1", 384), [_Layer("3x3_2a", 384, (1, 3)), _Layer("3x3_2b", 384, (3, 1))]],
    [
        _Layer("3x3dbl_1", 448),
        _Layer("3x3dbl_2", 384, (3, 3)),
        [_Layer("3x3dbl_3a", 384, (1, 3)), _Layer("3x3dbl_3b", 384, (3, 1))],
    ],
    [_Layer("_pool", 192)],
]


class Inception(nn.Module):
    """Turns a picture of 299 x 299 into 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, (3, 3), 2, (0, 0))
        self.Conv2d_2a_3x3 = _Convolution(32, 32, (3, 3), 1, (0, 0))
        self.Conv2d_2b_3x3 = _Convolution(32, 64, (3, 3), 1, (1, 1))
        self.Conv2d_3b_1x1 = _Convolution(64, 80, (1, 1), 1, (0, 0))
        self.Conv2d_4a_3x3 = _Convolution(80, 192, (3, 3), 1, (0, 0))
        self.Mixed_5b = _Mixed(192, _first(32), "mean")
        self.Mixed_5c = _Mixed(256, _first(64), "mean")
        self.Mixed_5d = _Mixed(288, _first(64), "mean")
        self.Mixed_6a = _Mixed(288, _HALVING_FIRST, "halve")
        self.Mixed_6b = _Mixed(768, _second(128), "mean")
        self.Mixed_6c = _Mixed(768, _second(160), "mean")
        self.Mixed_6d = _Mixed(768, _second(160), "mean")
        self.Mixed_6e = _Mixed(768, _second(192), "mean")
        self.Mixed_7a = _Mixed(768, _HALVING_SECOND, "halve")
        self.Mixed_7b = _Mixed(1280, _THIRD, "mean")
        self.Mixed_7c = _Mixed(FEATURES, _THIRD, "largest")

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features [B, 2048] of pixels [B, 3, 299, 299] in [-1, 1]."""
        for layer in self.children():
            if layer in (self.Conv2d_3b_1x1, self.Mixed_5b):
                pixels = F.max_pool2d(pixels, 3, 2)
            pixels = layer(pixels)
        return pixels.mean((2, 3))


class _Mixed(nn.Module):
    """Several chains of convolutions side by side, and a pooling: "mean", "largest", or "halve" without a layer."""

    def __init__(self, width: int, chains: Sequence[Chain], pooling: str) -> None:
        super().__init__()
        self._chains = [[layers if isinstance(layers, list) else [layers] for layers in chain] for chain in chains]
        self._pooling = pooling
        for chain in self._chains:
            before = width
            for layers in chain:
                for layer in layers:
                    padding = (layer.kernel[0] // 2, layer.kernel[1] // 2) if layer.stride == 1 else (0, 0)
                    convolution = _Convolution(before, layer.width, layer.kernel, layer.stride, padding)
                    self.add_module(_name(layer), convolution)
                before = sum(layer.width for layer in layers)

    def forward(self, features: Tensor) -> Tensor:
        """Return the channels of every chain, in order."""
        found = []
        for chain in self._chains:
            out = self._pooled(features) if chain[0][0].name == "_pool" else features
            for layers in chain:
                out = torch.cat([self.get_submodule(_name(layer))(out) for layer in layers], dim=1)
            found.append(out)
        if self._pooling == "halve":
            found.append(F.max_pool2d(features, 3, 2))
        return torch.cat(found, dim=1)

    def _pooled(self, features: Tensor) -> Tensor:
        if self._pooling == "largest":
            return F.max_pool2d(features, 3, 1, 1)
        return F.avg_pool2d(features, 3, 1, 1, count_include_pad=False)


def _name(layer: _Layer) -> str:
    return f"branch{layer.name}"


class _Convolution(nn.Module):
    """A convolution without bias, normalised, its negative values cut off."""

    def __init__(self, width: int, wide: int, kernel: Kernel, stride: int, padding: Kernel) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, wide, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(wide, eps=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after this layer."""
        return F.relu(self.bn(self.conv(features)))
