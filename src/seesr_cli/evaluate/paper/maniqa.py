"""MANIQA (Yang et al. 2022), trained on PIPAL: how good a picture is, about 0 to 1, by 20 crops of 224 x 224.

A vision transformer's features go through attention over channels, then over windows; every patch has a score and a
weight. What the published network holds and does not compute with (the transformer's last two blocks and head) is left.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.swin import Block

PATCH = 8
CROPS = 20
"""Of each picture: the first 20 of a grid of 5 x 5, row by row."""

TAPS = (6, 7, 8, 9)
"""The transformer's blocks whose features are taken."""

WINDOW, SCALE = 4, 0.13
"""Side of the windows in patches; share of each window layer in its sum."""


class Sizes(NamedTuple):
    """Of the network, as published. side: of a crop, in pixels. hidden: width of the MLPs of the window layers."""

    side: int = 224
    width: int = 768
    heads: int = 12
    hidden: int = 768

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.side // PATCH


class Maniqa(nn.Module):
    """A vision transformer with two stages of attention behind it."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:  # noqa: B008  # a tuple of numbers
        super().__init__()
        self.side, self.grid = sizes.side, sizes.grid
        narrow = sizes.width // 2
        self.vit = _Transformer(sizes)
        self.tablock1, self.tablock2 = (nn.Sequential(*(_Channels(sizes.grid**2) for _ in range(2))) for _ in range(2))
        self.conv1 = nn.Conv2d(len(TAPS) * sizes.width, sizes.width, 1)
        self.conv2 = nn.Conv2d(sizes.width, narrow, 1)
        self.swintransformer1 = _Windows(sizes.grid, sizes.width, sizes.hidden)
        self.swintransformer2 = _Windows(sizes.grid, narrow, sizes.hidden)
        self.fc_score, self.fc_weight = (
            nn.Sequential(nn.Linear(narrow, narrow), nn.ReLU(), nn.Dropout(), nn.Linear(narrow, 1), last)
            for last in (nn.ReLU(), nn.Sigmoid())
        )

    def forward(self, result: Tensor) -> Tensor:
        """Return the quality of [1, 3, H, W], RGB in [0, 1]: the weighted mean over all crops."""
        scores, weights = [], []
        for crop in _crops(result * 2 - 1, self.side):  # one at a time: 20 would take gigabytes
            features = self._features(crop)
            scores.append(self.fc_score(features).flatten())
            weights.append(self.fc_weight(features).flatten())
        weight = torch.cat(weights)
        return (torch.cat(scores) * weight).sum() / (weight.sum() + 1e-8)

    def _features(self, crop: Tensor) -> Tensor:
        """Return the features [1, patches, width / 2] of a crop."""
        channels = self.tablock1(self.vit(crop).transpose(1, 2))
        channels = self.swintransformer1(self.conv1(self._map(channels))).flatten(2)
        return self.swintransformer2(self.conv2(self._map(self.tablock2(channels)))).flatten(2).transpose(1, 2)

    def _map(self, channels: Tensor) -> Tensor:
        return channels.reshape(1, -1, self.grid, self.grid)


def _crops(pixels: Tensor, side: int) -> list[Tensor]:
    """Return 20 crops of a picture; a small one is enlarged before."""
    least = min(pixels.shape[-2:])
    if least <= side:
        pixels = F.interpolate(pixels, scale_factor=(side + 1) / least, mode="bilinear")
    down, across = ((edge - side) // int(CROPS**0.5) for edge in pixels.shape[-2:])
    count = int(CROPS**0.5) + 1
    places = [(row * down, column * across) for row in range(count) for column in range(count)][:CROPS]
    return [pixels[..., top : top + side, left : left + side] for top, left in places]


class _Transformer(nn.Module):
    """ViT-B/8 up to the last block whose features are taken, with timm's names."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.grid**2 + 1, sizes.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, sizes.width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(_Layer(sizes.width, sizes.heads) for _ in range(max(TAPS) + 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features [1, patches, 4 · width] of a crop."""
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        features = torch.cat([self.cls_token, patches], dim=1) + self.pos_embed
        taken = []
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number in TAPS:
                taken.append(features[:, 1:])
        return torch.cat(taken, dim=2)


class _Layer(nn.Module):
    """Attention of all to all, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after this layer."""
        parts = self.attn["qkv"](self.norm1(features)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        features = features + self.attn["proj"](attended)
        return features + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(features))))


class _Channels(nn.Module):
    """Attention of channels to channels, over their patches; its result is written in the published, turned order."""

    def __init__(self, patches: int) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v = (nn.Linear(patches, patches) for _ in range(3))

    def forward(self, channels: Tensor) -> Tensor:
        """Return [1, C, patches]."""
        attended = F.scaled_dot_product_attention(self.c_q(channels), self.c_k(channels), self.c_v(channels))
        return attended.transpose(1, 2).reshape(channels.shape) + channels


class _Windows(nn.Module):
    """Two layers of attention within windows, of each of which a share is added."""

    def __init__(self, side: int, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_WindowLayer(side, width, hidden) for _ in range(2)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the map [1, width, side, side]."""
        for layer in self.layers:
            features = SCALE * layer(features) + features
        return features


class _WindowLayer(nn.Module):
    """Two blocks, the second with its windows moved by half, and a convolution behind them."""

    def __init__(self, side: int, width: int, hidden: int) -> None:
        super().__init__()
        blocks = [Block(side, WINDOW, shift, width, 4, hidden / width) for shift in (0, WINDOW // 2)]
        self.blocks = nn.Sequential(*blocks)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map [1, width, side, side]."""
        return F.relu(self.conv(self.blocks(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))


def ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under the names of `models.swin`, whose blocks keep query, key and value apart."""
    found = {}
    for name, tensor in state.items():
        if not name.startswith("swintransformer"):
            found[name] = tensor
            continue
        if ".attn.qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = piece
            continue
        for published, own in _NAMES:
            name = name.replace(published, own)
        found[name] = tensor
    return found


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our tensors under the published names."""
    found, parts = {}, dict[str, list[Tensor]]()
    for name, tensor in state.items():
        if not name.startswith("swintransformer"):
            found[name] = tensor
            continue
        for part in "qkv":
            if f".attention.{part}_proj." in name:
                parts.setdefault(name.replace(f".attention.{part}_proj.", ".attn.qkv."), []).append(tensor)
                break
        else:
            for public, own in _NAMES:
                name = name.replace(own, public)
            found[name] = tensor
    return found | {name: torch.cat(pieces) for name, pieces in parts.items()}


_NAMES = (
    (".attn.relative_position_bias_table", ".attention.relative_position_bias.relative_position_bias_table"),
    (".attn.proj.", ".attention.o_proj."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
)
