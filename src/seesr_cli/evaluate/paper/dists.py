"""DISTS (Ding et al. 2020): structure and texture of two pictures, compared in VGG16's features.

Whole pictures are compared, as the published protocol does; the authors' own script reduces them to 256 pixels first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of VGG16's five stages."""

_CONVOLUTIONS = (2, 2, 3, 3, 3)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEAST_SQUARE = 1e-6
"""Keeps both ratios finite where there is neither brightness nor texture."""


class Dists(nn.Module):
    """VGG16's convolutions, and two weights for each channel: of its mean, and of its texture."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for stage, (wide, count) in enumerate(zip(WIDTHS, _CONVOLUTIONS, strict=True)):
            if stage:
                layers.append(_Pool())
            for _ in range(count):
                layers += [nn.Conv2d(width, wide, 3, padding=1), nn.ReLU()]
                width = wide
        self.features = nn.Sequential(*layers)
        self.alpha, self.beta = (nn.Parameter(torch.zeros(1, 3 + sum(WIDTHS), 1, 1)) for _ in range(2))

    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """Return DISTS, 0 for equal pictures. Both: [1, 3, H, W], RGB in [0, 1]."""
        whole = self.alpha.sum() + self.beta.sum()
        parts = [3, *WIDTHS]
        alphas, betas = (torch.split((each / whole).flatten(), parts) for each in (self.alpha, self.beta))
        mean, deviation = (result.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
        similarity = _similarity(result, reference, alphas[0], betas[0])
        first, second = ((pixels - mean) / deviation for pixels in (result, reference))
        stage = 1
        for number, layer in enumerate(self.features):
            first, second = layer(first), layer(second)
            if number + 1 == len(self.features) or isinstance(self.features[number + 1], _Pool):
                similarity = similarity + _similarity(first, second, alphas[stage], betas[stage])
                stage += 1
        return 1 - similarity


class _Pool(nn.Module):
    """Halves a map: the root of the mean square under a window of 3 x 3."""

    def forward(self, features: Tensor) -> Tensor:
        """Return [1, C, H/2, W/2], rounded up."""
        line = features.new_tensor([0.25, 0.5, 0.25])
        window = torch.outer(line, line).expand(features.shape[1], 1, 3, 3)
        squares = F.conv2d(features.square(), window, stride=2, padding=1, groups=features.shape[1])
        return (squares + 1e-12).sqrt()


def _similarity(first: Tensor, second: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Return how alike the channels' means (weights alpha) and textures (weights beta) are."""
    first, second = first[0].flatten(1), second[0].flatten(1)
    mean1, mean2 = first.mean(1), second.mean(1)
    variance1, variance2 = ((map_ - mean[:, None]).square().mean(1) for map_, mean in ((first, mean1), (second, mean2)))
    covariance = (first * second).mean(1) - mean1 * mean2
    means = (2 * mean1 * mean2 + _LEAST_SQUARE) / (mean1.square() + mean2.square() + _LEAST_SQUARE)
    textures = (2 * covariance + _LEAST_SQUARE) / (variance1 + variance2 + _LEAST_SQUARE)
    return (alpha * means).sum() + (beta * textures).sum()
