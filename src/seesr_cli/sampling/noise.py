"""Chance enters here, and nowhere else."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Noise = Callable[[torch.Size], Tensor]
"""Gives standard normal noise of a shape, float32, on the CPU: the next draw of one picture's sequence.

A picture draws in a fixed order: the posterior's sample, the start, then each step but the last.
"""


def seeded(seed: int) -> Noise:
    """Return the noise of `seed`: the same sequence on every device and in every order of pictures."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def draw(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator)

    return draw


def together(noises: Sequence[Noise]) -> Noise:
    """Return the noise of several pictures, [P, ...], each drawn from the picture's own source."""
    return lambda shape: torch.cat([noise(torch.Size((1, *shape[1:]))) for noise in noises])
