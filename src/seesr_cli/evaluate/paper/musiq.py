"""MUSIQ (Ke et al. 2021), trained on KonIQ: how good a picture is, 0 to 100, seen at three sizes by a transformer.

Patches that only fill up a sequence are left out: the published attention gives them a weight of e^-1000, which is 0.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 32
LONGER_SIDES = (224, 384)
"""Pixels of the longer side of the two reduced pictures; the third is the picture itself."""

GRID = 10
"""Places a side that a picture's patches are told apart by."""


class Sizes(NamedTuple):
    """Of the network, as published."""

    stem: int = 64
    width: int = 384
    wide: int = 1152
    layers: int = 14
    heads: int = 6


class Musiq(nn.Module):
    """A convolutional stem on patches, and a transformer over those of all sizes."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:  # noqa: B008  # a tuple of numbers
        super().__init__()
        self.conv_root = _Standardised(3, sizes.stem, 7, 2)
        self.gn_root = nn.GroupNorm(32, sizes.stem, eps=1e-6)
        self.block1 = _Bottleneck(sizes.stem)
        self.embedding = nn.Linear(4 * sizes.stem * (PATCH // 4) ** 2, sizes.width)
        self.transformer_encoder = _Encoder(sizes)
        self.head = nn.Linear(sizes.width, 1)

    def forward(self, result: Tensor) -> Tensor:
        """Return the quality of [1, 3, H, W], RGB in [0, 1]."""
        pixels = result * 2 - 1
        longer = max(pixels.shape[-2:])
        tokens = []
        for scale, side in enumerate((*LONGER_SIDES, longer)):
            size = [max(1, round(edge * (side / longer))) for edge in pixels.shape[-2:]]
            reduced = scale < len(LONGER_SIDES)
            seen = F.interpolate(pixels, size, mode="bicubic", align_corners=False) if reduced else pixels
            tokens.append(self._tokens(seen, scale))
        return self.head(self.transformer_encoder(torch.cat(tokens))).squeeze()

    def _tokens(self, pixels: Tensor, scale: int) -> Tensor:
        """Return the patches of a picture, [n, width], with their place and scale."""
        rows, columns = (math.ceil(side / PATCH) for side in pixels.shape[-2:])
        patches = F.unfold(_padded(pixels, PATCH, PATCH), PATCH, stride=PATCH)[0].T.reshape(-1, 3, PATCH, PATCH)
        features = F.relu(self.gn_root(self.conv_root(patches)))
        features = self.block1(F.max_pool2d(_padded(features, 3, 2), 3, 2))
        features = self.embedding(features.permute(0, 2, 3, 1).flatten(1))  # channels last, as TensorFlow has them
        return self.transformer_encoder.placed(features, rows, columns, scale)


class _Encoder(nn.Module):
    """A transformer over all patches, and one token more, whose features are the picture's."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.posembed_input = nn.ParameterDict({"position_emb": nn.Parameter(torch.zeros(1, GRID**2, sizes.width))})
        self.scaleembed_input = nn.ParameterDict(
            {"scale_emb": nn.Parameter(torch.zeros(len(LONGER_SIDES) + 1, sizes.width))}
        )
        self.cls = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.encoder_norm = nn.LayerNorm(sizes.width, eps=1e-6)
        self.transformer = nn.ModuleDict({f"encoderblock_{number}": _Block(sizes) for number in range(sizes.layers)})

    def placed(self, features: Tensor, rows: int, columns: int, scale: int) -> Tensor:
        """Return the features of rows x columns patches with embeddings of place and scale."""
        down, across = (_hashed(count, features.device) for count in (rows, columns))
        places = (down[:, None] * GRID + across).flatten()
        return features + self.posembed_input["position_emb"][0, places] + self.scaleembed_input["scale_emb"][scale]

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the features [1, width] of the whole of tokens [n, width]."""
        features = torch.cat([self.cls, tokens.unsqueeze(0)], dim=1)
        for block in self.transformer.values():
            features = block(features)
        return self.encoder_norm(features)[:, 0]


class _Block(nn.Module):
    """Attention of all to all, and an MLP."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.norm1, self.norm2 = (nn.LayerNorm(sizes.width, eps=1e-6) for _ in range(2))
        self.attention = nn.ModuleDict(
            {name: nn.Linear(sizes.width, sizes.width) for name in ("query", "key", "value", "out")}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(sizes.width, sizes.wide), "fc2": nn.Linear(sizes.wide, sizes.width)})

    def forward(self, features: Tensor) -> Tensor:
        """Return the features [1, n, width] after this block."""
        normal = self.norm1(features)
        query, key, value = (
            self.attention[name](normal).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        features = features + self.attention["out"](attended)
        return features + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(features))))


class _Bottleneck(nn.Module):
    """Three standardised convolutions and a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _Standardised(width, width, 1)
        self.conv2 = _Standardised(width, width, 3)
        self.conv3, self.conv_proj = _Standardised(width, 4 * width, 1), _Standardised(width, 4 * width, 1)
        self.gn1, self.gn2 = (nn.GroupNorm(32, width, eps=1e-4) for _ in range(2))
        self.gn3, self.gn_proj = (nn.GroupNorm(32, 4 * width, eps=1e-4) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """Return four times as many channels."""
        found = F.relu(self.gn1(self.conv1(features)))
        found = F.relu(self.gn2(self.conv2(found)))
        return F.relu(self.gn3(self.conv3(found)) + self.gn_proj(self.conv_proj(features)))


class _Standardised(nn.Conv2d):
    """A convolution whose filters are brought to mean 0 and deviation 1, with TensorFlow's padding."""

    def __init__(self, width: int, wide: int, side: int, step: int = 1) -> None:
        super().__init__(width, wide, side, step, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the filtered features."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(_padded(features, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


def _padded(features: Tensor, side: int, step: int) -> Tensor:
    """Return the map with zeros around it, so that a filter finds ceil(size / step) places; the odd one last."""
    pads: list[int] = []
    for size in reversed(features.shape[-2:]):
        whole = max((math.ceil(size / step) - 1) * step + side - size, 0)
        pads += [whole // 2, whole - whole // 2]
    return F.pad(features, pads)


def _hashed(count: int, device: torch.device) -> Tensor:
    """Return which of the grid's places each of `count` patches in a line has."""
    line = torch.arange(GRID, dtype=torch.float32, device=device)
    return F.interpolate(line.view(1, 1, GRID), count, mode="nearest").flatten().long()
