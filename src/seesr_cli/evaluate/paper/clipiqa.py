"""CLIP-IQA (Wang et al. 2023): does CLIP (RN50) find a picture nearer to "Good image" than to "bad image"?

Five pairs of prompts, whose means are taken, and no position embedding, as pyiqa has it: pictures of any size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 31
"""Pixels a side that halving five times leaves anything of."""

BEGIN, END, CONTEXT = 49406, 49407, 77
"""CLIP's tokens around a text, and the tokens of a text with the zeros behind it."""

# "Good image", "bad image", "Sharp image", "blurry image", "sharp edges", "blurry edges", "High resolution image",
# "low resolution image", "Noise-free image", "noisy image": what CLIP's tokenizer makes of them.
PROMPTS = (
    (886, 2867),
    (2103, 2867),
    (8157, 2867),
    (21977, 2867),
    (8157, 20938),
    (21977, 20938),
    (1400, 9977, 2867),
    (1042, 9977, 2867),
    (9307, 268, 1139, 2867),
    (33495, 2867),
)

_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Sizes(NamedTuple):
    """Of the network: those of RN50 unless others are given. blocks: of the four stages of the picture's tower."""

    width: int = 64
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    shared: int = 1024
    text: int = 512
    layers: int = 12
    words: int = 49408

    @property
    def features(self) -> int:
        """Channels of the picture's last stage."""
        return 32 * self.width


class ClipIqa(nn.Module):
    """CLIP's two towers; the text's are read once, for the prompts."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:  # noqa: B008  # a tuple of numbers
        super().__init__()
        self.visual = _Picture(sizes)
        blocks = [_Block(sizes.text) for _ in range(sizes.layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.Sequential(*blocks)})
        self.token_embedding = nn.Embedding(sizes.words, sizes.text)
        self.positional_embedding = nn.Parameter(torch.zeros(CONTEXT, sizes.text))
        self.ln_final = nn.LayerNorm(sizes.text)
        self.text_projection = nn.Parameter(torch.zeros(sizes.text, sizes.shared))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self._prompts: Tensor | None = None

    def forward(self, result: Tensor) -> Tensor:
        """Return how good the picture is, 0 to 1. result: [1, 3, H, W], RGB in [0, 1], at least 31 pixels a side."""
        if self._prompts is None:
            self._prompts = F.normalize(self.texts(_tokens().to(result.device)), dim=-1, eps=0)
        mean, deviation = (result.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
        picture = F.normalize(self.visual((result - mean) / deviation), dim=-1, eps=0)
        likeness = self.logit_scale.exp() * picture @ self._prompts.T
        return likeness.view(-1, 2).softmax(dim=-1)[:, 0].mean()

    def texts(self, tokens: Tensor) -> Tensor:
        """Return the features [n, shared] of texts, [n, 77]: those at the end of each."""
        features = self.token_embedding(tokens) + self.positional_embedding
        features = self.ln_final(self.transformer["resblocks"](features))
        return features[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ self.text_projection


def _tokens() -> Tensor:
    """Return the prompts' tokens, [10, 77]."""
    return torch.tensor([[BEGIN, *words, END, *[0] * (CONTEXT - 2 - len(words))] for words in PROMPTS])


class _Block(nn.Module):
    """Attention to the words before, and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, features: Tensor) -> Tensor:
        """Return the features [n, 77, width] after this block."""
        normal = self.ln_1(features)
        later = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool, device=features.device).triu(1)
        features = features + self.attn(normal, normal, normal, need_weights=False, attn_mask=later)[0]
        wide = self.mlp["c_fc"](self.ln_2(features))
        return features + self.mlp["c_proj"](wide * torch.sigmoid(1.702 * wide))  # OpenAI's own form of GELU


class _Picture(nn.Module):
    """CLIP's ResNet: it begins with three convolutions, reduces by means, and ends with attention."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(width // 2), nn.BatchNorm2d(width // 2), nn.BatchNorm2d(width)
        before = width
        for number, count in enumerate(sizes.blocks):
            wide, blocks = width * 2**number, []
            for block in range(count):
                blocks.append(_Bottleneck(before, wide, 2 if number and not block else 1))
                before = 4 * wide
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.attnpool = _Attention(sizes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features [1, shared] of a picture."""
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            pixels = F.relu(norm(convolution(pixels)))
        pixels = F.avg_pool2d(pixels, 2)
        for number in range(1, 5):
            pixels = self.get_submodule(f"layer{number}")(pixels)
        return self.attnpool(pixels)


class _Bottleneck(nn.Module):
    """Three convolutions and a residual; stride: of a mean behind the second, and before the residual's."""

    def __init__(self, width: int, wide: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(width, wide, 1, bias=False)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(wide, 4 * wide, 1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(wide), nn.BatchNorm2d(wide), nn.BatchNorm2d(4 * wide)
        changes = stride > 1 or width != 4 * wide
        self.downsample = (
            nn.Sequential(nn.Conv2d(width, 4 * wide, 1, bias=False), nn.BatchNorm2d(4 * wide)) if changes else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after this block."""
        found = F.relu(self.bn1(self.conv1(features)))
        found = F.relu(self.bn2(self.conv2(found)))
        found = self.bn3(self.conv3(self._reduced(found)))
        if self.downsample is not None:
            features = self.downsample(self._reduced(features))
        return F.relu(found + features)

    def _reduced(self, features: Tensor) -> Tensor:
        return F.avg_pool2d(features, self.stride) if self.stride > 1 else features


class _Attention(nn.Module):
    """Pools a map into one vector: the attention of the map's mean to itself and the map."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(sizes.features, sizes.features) for _ in range(3))
        self.c_proj = nn.Linear(sizes.features, sizes.shared)

    def forward(self, features: Tensor) -> Tensor:
        """Return [1, shared] of a map [1, C, H, W]."""
        places = features.flatten(2).transpose(1, 2)
        mean = places.mean(dim=1, keepdim=True)
        places = torch.cat([mean, places], dim=1)
        query, key, value = (
            layer(values).unflatten(-1, (-1, 64)).transpose(1, 2)
            for layer, values in ((self.q_proj, mean), (self.k_proj, places), (self.v_proj, places))
        )
        return self.c_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))
