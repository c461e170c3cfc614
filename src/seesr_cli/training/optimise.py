"""Learning rates that rise and fall, and weights averaged over steps, for every stage of training."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError


def rate(progress: float, warm: float = 0.03, floor: float = 0.02) -> float:
    """Return the factor of the learning rate: a linear rise over `warm`, then half a cosine to `floor`.

    progress: in [0, 1].
    """
    if progress < warm:
        return max(progress / warm, 0.01)
    along = min((progress - warm) / (1 - warm), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its `base_lr`."""
    for group in optimiser.param_groups:
        lr = group["base_lr"] * factor
        if isinstance(group["lr"], Tensor):  # of the 8-bit optimiser, which is compiled for one tensor
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def stepped(step: int, warm: int = 50, halvings: Sequence[int] = (20_000, 30_000)) -> float:
    """Return the factor of the learning rate at `step`: a linear rise, then one half less at each of `halvings`.

    step: of the optimiser, from 0. warm: steps of the rise. The defaults are those of the published DAPE.
    """
    return min(1.0, (step + 1) / max(warm, 1)) * 0.5 ** sum(step >= each for each in halvings)


def adamw(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]],
    decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    kind: type[torch.optim.Optimizer] | None = None,
) -> torch.optim.Optimizer:
    """Return AdamW over (parameters, learning rate) groups, ready for `set_rate`; the betas are the published ones.

    kind: another class with AdamW's arguments. torch's own is fused: all parameters in one pass, which for many small
    ones takes a third of the time.
    """
    make: Any = partial(torch.optim.AdamW, fused=True) if kind is None else kind
    chosen = [{"params": list(parameters), "lr": lr, "base_lr": lr} for parameters, lr in groups]
    return make(chosen, betas=betas, weight_decay=decay)


def adamw8bit() -> type[torch.optim.Optimizer]:
    """Return torchao's AdamW, whose moments have 8 bits in blocks of 256 (arXiv 2110.02861).

    It is compiled at its first step, on a CPU by a C++ compiler. Raises UsageError where torchao lacks.
    """
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise UsageError(
            "optimiser is adamw8bit, and torchao, which has it, is not installed: pip install 'seesr-cli[8bit]'"
        ) from None
    return AdamW8bit


def descend(
    optimiser: torch.optim.Optimizer, loss: Tensor, learning: Iterable[nn.Parameter] = (), clip: float = 0.0
) -> None:
    """Take one step of the optimiser down `loss`. clip: the largest norm of the gradient of `learning`; 0: any."""
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if clip:
        nn.utils.clip_grad_norm_(learning, clip)
    optimiser.step()


QUICK_BETAS = (0.9, 0.99)
"""Of the miniature: its few thousand steps are too short for the published second moment to forget its start."""


class Average:
    """Exponentially averaged tensors, on the CPU; the decay grows from 0 so that the start is soon forgotten.

    values: by name, of a whole network or of what learns in it. decay: of the last steps, 0 to 1.
    """

    def __init__(self, values: Mapping[str, Tensor], decay: float = 0.999) -> None:
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {name: value.detach().cpu().clone() for name, value in values.items()}

    @torch.no_grad()
    def update(self, values: Mapping[str, Tensor]) -> None:
        """Take in the values after one more step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in values.items():
            if value.is_floating_point():
                self.weights[name].lerp_(value.detach().cpu(), 1 - decay)
            else:
                self.weights[name].copy_(value)

    @contextmanager
    def instead(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Put the averages in the place of the live values while the block runs."""
        live = {name: value.detach().clone() for name, value in values.items()}
        _set(values, self.weights)
        try:
            yield
        finally:
            _set(values, live)


@torch.no_grad()
def _set(values: Mapping[str, Tensor], to: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        value.copy_(to[name])
