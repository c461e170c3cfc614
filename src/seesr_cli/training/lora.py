"""Low-rank updates of linear layers (arXiv 2106.09685): put on, train alone, fold in."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..models.tagger import Tagger


class LowRank(nn.Module):
    """A weight plus B·A · alpha / rank; B starts at zero, so that nothing changes at first."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        bound = inputs**-0.5
        self.a = nn.Parameter((2 * torch.rand((rank, inputs), generator=generator) - 1) * bound)
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        self.factor = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.factor * (self.b @ self.a)


def layers(tagger: Tagger) -> Iterator[nn.Linear]:
    """Yield the layers DAPE updates: query and value of each Swin attention, query and key of the head's."""
    for name, module in tagger.backbone.named_modules():
        if isinstance(module, nn.Linear) and name.endswith((".q_proj", ".v_proj")):
            yield module
    for name, module in tagger.layers.named_modules():
        if isinstance(module, nn.Linear) and name.endswith((".query", ".key")):
            yield module


def put_on(tagger: Tagger, rank: int, alpha: float, seed: int) -> list[nn.Parameter]:
    """Freeze `tagger`, add LoRA to DAPE's layers, and return the parameters that train."""
    generator = torch.Generator().manual_seed(seed)
    tagger.requires_grad_(False)
    learning: list[nn.Parameter] = []
    for layer in layers(tagger):
        update = LowRank(layer.weight, rank, alpha, generator)
        parametrize.register_parametrization(layer, "weight", update)
        learning += [update.a, update.b]
    return learning


def fold(tagger: Tagger) -> None:
    """Make the updates part of the weights; the tagger then has its plain names again and computes the same."""
    for layer in layers(tagger):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
