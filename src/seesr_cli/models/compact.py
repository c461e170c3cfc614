"""A decoder for small models: convolutions at the latent's own size, and one shuffle of channels into pixels."""

import torch.nn.functional as F
from torch import Tensor, nn


class CompactDecoder(nn.Module):
    """Computes every layer at the latent's size, as SRVGGNetCompact does (Real-ESRGAN, arXiv 2107.10833).

    What it draws is added to a straight way from the latent, which a deep one need not carry. Decision 56 tells what
    this saves.
    """

    def __init__(self, latent_channels: int, width: int, layers: int, factor: int, out_channels: int = 3) -> None:
        """layers: between the first and the last. factor: pixels along one of the latent's."""
        super().__init__()
        self.factor = factor
        self.conv_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.slopes = nn.ModuleList(nn.PReLU(width) for _ in range(layers + 1))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.conv_out = nn.Conv2d(width, out_channels * factor**2, 3, padding=1)
        self.straight = nn.Conv2d(latent_channels, out_channels * factor**2, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the pixels, [B, out_channels, factor·h, factor·w] about -1 to 1, of unscaled latents [B, C, h, w]."""
        features = self.conv_in(latent)
        for slope, conv in zip(self.slopes, (*self.convs, self.conv_out), strict=True):
            features = conv(slope(features))
        return F.pixel_shuffle(features + self.straight(latent), self.factor)
