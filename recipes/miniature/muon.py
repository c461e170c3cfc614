"""Muon: what a weight matrix moves by is made orthogonal, so that no direction of it is learnt far more slowly.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the size of a step as in arXiv 2502.16982. torch's own
takes no convolutions, and computes in bf16, which many processors only imitate.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

LEAST = 12
"""Shorter side of the smallest matrix that counts as one: what is smaller, and every vector, learns as by Adam."""

MOMENTUM = 0.9

LIKE_ADAM = 0.2
"""Root mean square of a step beside the learning rate: about what Adam's have, so that its rates fit."""

QUINTIC = (3.4445, -4.775, 2.0315)
"""Coefficients of the published iteration: they send singular values from 0.01 to 1 near 1 in five rounds."""


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolutions of groups that are `orthogonal`, Adam for the rest."""

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float]) -> None:
        """groups: params, base_lr (`optimise.set_rate` sets the rate by it) and orthogonal. betas: Adam's."""
        super().__init__(groups, {"lr": 0.0, "betas": betas, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nothing here needs a closure
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state |= {"step": 0, "mean": torch.zeros_like(weight)}
                state["step"] += 1
                if group["orthogonal"] and weight.ndim > 1 and min(weight.flatten(1).shape) >= LEAST:
                    weight.sub_(_orthogonal_step(weight.grad, state["mean"]), alpha=group["lr"])
                else:
                    weight.sub_(_adam_step(weight.grad, state, *group["betas"]), alpha=group["lr"])


def _orthogonal_step(slope: Tensor, mean: Tensor) -> Tensor:
    """Return a step of a matrix or convolution for a learning rate of 1; updates the running mean (Nesterov's)."""
    mean.lerp_(slope, 1 - MOMENTUM)
    ahead = torch.lerp(slope, mean, MOMENTUM).flatten(1)
    return (orthogonal(ahead) * (LIKE_ADAM * max(ahead.shape) ** 0.5)).view_as(slope)


def _adam_step(slope: Tensor, state: dict[str, Any], first: float, second: float) -> Tensor:
    """Return Adam's step for a learning rate of 1; updates the moments."""
    if "square" not in state:
        state["square"] = torch.zeros_like(slope)
    mean, square, steps = state["mean"], state["square"], state["step"]
    mean.lerp_(slope, 1 - first)
    square.lerp_(slope.square(), 1 - second)
    return mean / (1 - first**steps) / ((square / (1 - second**steps)).sqrt() + 1e-8)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return a matrix of the singular vectors of `matrix`, [m, n], whose singular values are near 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    made = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    once, thrice, five = QUINTIC
    for _ in range(rounds):
        square = made @ made.T
        made = once * made + (thrice * square + five * square @ square) @ made
    return made.T if tall else made
