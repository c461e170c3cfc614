"""FID (Heusel et al. 2017): how far the features of two folders' pictures are apart, as two gaussians.

"Clean" as Parmar et al. 2022 reduce pictures, which is what the published protocol calls.
"""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .inception import SIDE

Features = NDArray[np.float32]


def features(network: nn.Module, pixels: Tensor) -> Features:
    """Return the features [2048] that Inception finds in a picture [1, 3, H, W], RGB in [0, 1]."""
    reduced = F.interpolate(pixels * 255, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
    return network((reduced - 128) / 128)[0].float().cpu().numpy()


def distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the Fréchet distance of the gaussians through two sets of features, [n, C] and [m, C].

    The trace of the root of the product of both covariances is the sum of the singular values of one set's deviations
    times the other's: exact also for fewer pictures than features, where the covariances have no full rank.
    """
    sets = [values.astype(np.float64) for values in (first, second)]
    means = [values.mean(axis=0) for values in sets]
    deviations = [(values - mean) / np.sqrt(len(values) - 1) for values, mean in zip(sets, means, strict=True)]
    shared = np.linalg.svd(deviations[0] @ deviations[1].T, compute_uv=False).sum()
    spread = sum(float(np.square(values).sum()) for values in deviations)
    return float(np.square(means[0] - means[1]).sum() + spread - 2 * shared)
