"""Products in 16 bits, and all else in fp32: how a network on a CPU is computed in bf16.

Rounding in the products of a layer is lost in what they are added to; rounding of the sum itself adds up from layer to
layer. So norms, attention, residual stream, and the first and the last convolution stay in fp32 (docs/decisions/0018).
"""

import torch
from torch import Tensor, nn

ENDS = ("conv_in", "conv_out")
"""Names of the first and the last convolution of a network."""


def lower(network: nn.Module, dtype: torch.dtype) -> None:
    """Make linear layers and convolutions of `network` multiply in `dtype`, with fp32 inputs and outputs."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and name.rpartition(".")[2] not in ENDS:
            layer.to(dtype)
            layer.register_forward_pre_hook(_cast)
            layer.register_forward_hook(_back)


def precision(network: nn.Module) -> torch.dtype:
    """Return the precision of the products of `network`, which has linear layers."""
    return next(layer.weight.dtype for layer in network.modules() if isinstance(layer, nn.Linear))


def _cast(layer: nn.Linear | nn.Conv2d, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(features.to(layer.weight.dtype) for features in given)


def _back(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
    return made.float()
