"""The blur kernels of the degradation: gaussians, their generalised and flattened relatives, and the sinc filter.

Formulas: Real-ESRGAN (arXiv 2107.10833), sections 3.1 and 3.3. Every kernel is [size, size], float32, and sums to 1.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Kind = Literal["iso", "aniso", "generalised iso", "generalised aniso", "plateau iso", "plateau aniso"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def gaussian(size: int, sigma: tuple[float, float], angle: float = 0.0) -> Tensor:
    """Return exp(-d/2), d the squared distance in units of `sigma` pixels along and across `angle` (radians)."""
    return _normalised(torch.exp(-0.5 * _distance(size, sigma, angle)))


def generalised(size: int, sigma: tuple[float, float], beta: float, angle: float = 0.0) -> Tensor:
    """Return exp(-d^beta / 2): the gaussian at beta 1, flatter with steeper sides above it."""
    return _normalised(torch.exp(-0.5 * _distance(size, sigma, angle) ** beta))


def plateau(size: int, sigma: tuple[float, float], beta: float, angle: float = 0.0) -> Tensor:
    """Return 1 / (d^beta + 1): flat in the middle, with long tails."""
    return _normalised(1 / (_distance(size, sigma, angle) ** beta + 1))


def sinc(size: int, cutoff: float) -> Tensor:
    """Return the circular low-pass filter of `cutoff` radians per pixel (up to pi): it rings, as sharpening does.

    cutoff * J1(cutoff * r) / (2 * pi * r), whose limit at r = 0 is cutoff^2 / (4 * pi).
    """
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None, :])
    ring = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp(min=1e-9))
    return _normalised(torch.where(radius < 1e-9, cutoff**2 / (4 * math.pi), ring))


def make(kind: Kind, size: int, sigma: tuple[float, float], beta: float = 1.0, angle: float = 0.0) -> Tensor:
    """Return the kernel of a kind; the isotropic ones take the first sigma alone."""
    if kind.endswith("aniso"):
        chosen, turned = sigma, angle
    else:
        chosen, turned = (sigma[0], sigma[0]), 0.0
    if kind.startswith("generalised"):
        return generalised(size, chosen, beta, turned)
    if kind.startswith("plateau"):
        return plateau(size, chosen, beta, turned)
    return gaussian(size, chosen, turned)


def _distance(size: int, sigma: tuple[float, float], angle: float) -> Tensor:
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma[0]
    across = (y * math.cos(angle) - x * math.sin(angle)) / sigma[1]
    return along**2 + across**2


def _normalised(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).to(torch.float32)
