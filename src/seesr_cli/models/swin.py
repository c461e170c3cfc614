"""The Swin transformer (arXiv 2103.14030), as far as the tagger needs it.

Of what is here `transformers` has an equal, which is the tests' second source and whose names these are. Written anew
because importing that one takes several times as long as reading a picture's tags.
"""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

APART = -100.0
"""Added to the attention between pixels that are neighbours only because the picture was rolled, as published."""


class Swin(nn.Module):
    """Turns pictures into a grid of features, row by row.

    side: of the pictures, pixels. After the last stage it must be a multiple of patch·window; every stage but the last
    halves the grid and doubles the width.
    """

    def __init__(
        self,
        side: int,
        patch: int,
        window: int,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.num_features = width * 2 ** (len(depths) - 1)
        self.embeddings = Embeddings(patch, width)
        stages = [
            Stage(
                side // patch // 2**number, window, width * 2**number, depth, count, mlp_ratio, number < len(depths) - 1
            )
            for number, (depth, count) in enumerate(zip(depths, heads, strict=True))
        ]
        self.encoder = nn.ModuleDict({"layers": nn.Sequential(*stages)})
        self.layernorm = nn.LayerNorm(self.num_features)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features [B, cells, width·2^(stages-1)] of pixels [B, 3, side, side]."""
        return self.layernorm(self.encoder["layers"](self.embeddings(pixels)).flatten(1, 2))


class Embeddings(nn.Module):
    """Cuts a picture into patches: [B, 3, side, side] to [B, rows, columns, width]."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, patch, patch)})
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patches' features."""
        return self.norm(self.patch_embeddings["projection"](pixels).permute(0, 2, 3, 1))


class Stage(nn.Module):
    """Blocks on one grid of side × side; every second block shifts its windows by half."""

    def __init__(
        self, side: int, window: int, width: int, depth: int, heads: int, mlp_ratio: float, halves: bool
    ) -> None:
        super().__init__()
        shift = window // 2 if side > window else 0
        self.blocks = nn.ModuleList(
            Block(side, window, shift * (number % 2), width, heads, mlp_ratio) for number in range(depth)
        )
        self.downsample = Merging(width) if halves else None

    def forward(self, grid: Tensor) -> Tensor:
        """Return the grid [B, side, side, width], or half of it and twice as wide."""
        for block in self.blocks:
            grid = block(grid)
        return grid if self.downsample is None else self.downsample(grid)


class Merging(nn.Module):
    """Makes one cell of each two by two."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, grid: Tensor) -> Tensor:
        """Return [B, side/2, side/2, 2·width]."""
        corners = [grid[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Block(nn.Module):
    """Attention within windows, and an MLP; each with a LayerNorm before it and a residual.

    drop_path: share of pictures that go past an update in training, 0 to 1; 0 unless training sets it.
    """

    def __init__(self, side: int, window: int, shift: int, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.attention = WindowAttention(window, width, heads)
        self.layernorm_before = nn.LayerNorm(width)
        self.layernorm_after = nn.LayerNorm(width)
        self.drop_path = 0.0
        wide = int(mlp_ratio * width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, wide), "fc2": nn.Linear(wide, width)})

    def forward(self, grid: Tensor) -> Tensor:
        """Return the grid [B, side, side, width]."""
        rolled = self.layernorm_before(grid).roll((-self.shift, -self.shift), (1, 2))
        apart = _apart(self.side, self.window, self.shift).to(grid) if self.shift else None
        windows = self.attention(_windows(rolled, self.window), apart)
        grid = grid + self._dropped(_grid(windows, self.side, self.window).roll((self.shift, self.shift), (1, 2)))
        return grid + self._dropped(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layernorm_after(grid)))))

    def _dropped(self, update: Tensor) -> Tensor:
        """Return `update`, in training without that of some pictures and the others' so much larger (drop path)."""
        if not self.training or self.drop_path == 0:
            return update
        stays = torch.rand(len(update), 1, 1, 1, device=update.device) >= self.drop_path
        return update * stays / (1 - self.drop_path)


class WindowAttention(nn.Module):
    """Attention among the pixels of a window, with a learnt bias for their relative place."""

    def __init__(self, window: int, width: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.relative_position_bias = nn.ParameterDict({"relative_position_bias_table": table})

    def forward(self, windows: Tensor, apart: Tensor | None) -> Tensor:
        """Return windows [B·count, window², width]. apart: [count, window², window²], added to the attention."""
        query, key, value = (
            layer(windows).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        places = _places(self.window).to(windows.device)
        bias = self.relative_position_bias["relative_position_bias_table"][places].permute(2, 0, 1).unsqueeze(0)
        if apart is not None:
            bias = (bias + apart.unsqueeze(1)).repeat(len(windows) // len(apart), 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.o_proj(attended.transpose(1, 2).flatten(2))


def _windows(grid: Tensor, window: int) -> Tensor:
    """Return a grid [B, side, side, width] as windows [B·count, window², width], row by row."""
    count = grid.shape[1] // window
    return grid.view(-1, count, window, count, window, grid.shape[-1]).transpose(2, 3).flatten(0, 2).flatten(1, 2)


def _grid(windows: Tensor, side: int, window: int) -> Tensor:
    """Return windows as the grid they are of."""
    count = side // window
    return (
        windows.view(-1, count, count, window, window, windows.shape[-1])
        .transpose(2, 3)
        .reshape(-1, side, side, windows.shape[-1])
    )


@cache
@torch.inference_mode(False)  # what is kept serves training too
def _places(window: int) -> Tensor:
    """Return which row of the table of biases each pair of pixels in a window reads, [window², window²]."""
    line = torch.arange(window, device="cpu")  # kept for networks on any device
    down, across = (axis.flatten() for axis in torch.meshgrid(line, line, indexing="ij"))
    rows, columns = (axis[:, None] - axis[None, :] + window - 1 for axis in (down, across))
    return rows * (2 * window - 1) + columns


@cache
@torch.inference_mode(False)  # what is kept serves training too
def _apart(side: int, window: int, shift: int) -> Tensor:
    """Return what keeps pixels apart that were not neighbours before the grid was rolled, [count, window², window²]."""
    line = torch.arange(side, device="cpu")
    regions = (line >= side - window).long() + (line >= side - shift).long()
    names = _windows((3 * regions[:, None] + regions[None, :]).view(1, side, side, 1), window).squeeze(-1)
    return (names[:, None, :] != names[:, :, None]) * APART
