"""How good a result is: PSNR and SSIM of pictures, F1 of tags, drift of colour."""

from typing import NamedTuple

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor


class Quality(NamedTuple):
    """psnr (dB) and ssim (gaussian window) on RGB; drift: the largest difference of a colour's mean, in 255ths."""

    psnr: float
    ssim: float
    drift: float


def quality(result: Tensor, clean: Tensor) -> Quality:
    """Return how near `result` is to `clean`, both [3, H, W] in [0, 1]; both are rounded to 8 bits first."""
    first, second = ((picture.clamp(0, 1) * 255).round() for picture in (result, clean))
    drift = (first.mean((1, 2)) - second.mean((1, 2))).abs().max().item()
    arrays = [picture.to(torch.uint8).permute(1, 2, 0).numpy() for picture in (second, first)]
    return Quality(
        psnr=float(peak_signal_noise_ratio(*arrays, data_range=255)),
        ssim=float(
            structural_similarity(
                *arrays, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
        ),
        drift=drift,
    )


def f1(fired: Tensor, truth: Tensor, known: Tensor) -> float:
    """Return F1 over all labels of all pictures together (micro); all three are booleans [pictures, labels]."""
    fired, truth = fired & known, truth & known
    total = (fired.sum() + truth.sum()).item()
    return 2 * (fired & truth).sum().item() / total if total else 0.0
