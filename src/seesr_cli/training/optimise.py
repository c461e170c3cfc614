"""What every stage of training shares: a learning rate that rises and falls, and weights averaged over steps."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def rate(progress: float, warm: float = 0.03, floor: float = 0.02) -> float:
    """Return the factor of the learning rate at `progress` in [0, 1]: a linear rise over `warm`, then half a cosine
    to `floor`."""
    if progress < warm:
        return max(progress / warm, 0.01)
    along = min((progress - warm) / (1 - warm), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its `base_lr`."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor


def stepped(step: int, warm: int = 50, halvings: Sequence[int] = (20_000, 30_000)) -> float:
    """Return the factor of the learning rate at `step`: a linear rise, then one half less at each of `halvings`.

    step: of the optimiser, from 0. warm: steps of the rise. The defaults are those of the published DAPE.
    """
    return min(1.0, (step + 1) / max(warm, 1)) * 0.5 ** sum(step >= each for each in halvings)


def adamw(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]],
    decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """Return AdamW over (parameters, learning rate) groups, ready for `set_rate`; the betas are the published ones."""
    return torch.optim.AdamW(
        [{"params": list(parameters), "lr": lr, "base_lr": lr} for parameters, lr in groups],
        betas=betas,
        weight_decay=decay,
    )


QUICK_BETAS = (0.9, 0.99)
"""Of the miniature: its few thousand steps are too short for the published second moment to forget its start."""


class Average:
    """Exponentially averaged weights of a network; the decay grows from 0 so that the start is soon forgotten."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)
