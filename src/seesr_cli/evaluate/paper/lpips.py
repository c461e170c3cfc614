"""LPIPS (Zhang et al. 2018), version 0.1 on AlexNet: how far two pictures are apart in a network's features."""

from torch import Tensor, nn

WIDTHS = (64, 192, 384, 256, 256)
"""Channels of AlexNet's five convolutions."""

LEAST = 31
"""Pixels a side that AlexNet's two poolings leave anything of."""

# What the published layer subtracts from and divides pixels in [-1, 1] by.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """AlexNet's five convolutions, and a weight for each of their channels."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth, fifth = WIDTHS
        self.features = nn.Sequential(
            nn.Conv2d(3, first, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, fourth, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(fourth, fifth, 3, padding=1),
            nn.ReLU(),
        )
        for number, width in enumerate(WIDTHS):  # as the published file names them, behind a dropout
            convolution = nn.Conv2d(width, 1, 1, bias=False)
            self.add_module(f"lin{number}", nn.ModuleDict({"model": nn.ModuleDict({"1": convolution})}))

    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """Return LPIPS, 0 for equal pictures. Both: [1, 3, H, W], RGB in [0, 1], at least 31 pixels a side."""
        shift, scale = (result.new_tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        first, second = ((2 * pixels - 1 - shift) / scale for pixels in (result, reference))
        distance, number = result.new_zeros(()), 0
        for layer in self.features:
            first, second = layer(first), layer(second)
            if isinstance(layer, nn.ReLU):
                difference = (_unit(first) - _unit(second)).square()
                distance += self.get_submodule(f"lin{number}.model.1")(difference).mean()
                number += 1
        return distance


def _unit(features: Tensor) -> Tensor:
    """Return features of length 1 at each place."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
