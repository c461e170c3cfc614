"""The networks' repeated blocks, compiled: what stands between their products becomes a few kernels."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..errors import UsageError
from ..machine.out_of_memory import ran_out
from .graft import TwoReadings, run_block

Call = Callable[..., Any]

SHAPES = 256
"""Of one block's code that are compiled before others are run as they are; torch's 8 are fewer than a network has."""


def compile_blocks(
    networks: tuple[nn.Module, ...], notes: list[str], compiler: Callable[[Call], Call] = torch.compile
) -> None:
    """Let all transformer blocks and resnets of `networks` be compiled, each shape when it is first met.

    Blocks alone, not networks: equal ones share what was compiled. What cannot be compiled is run as it is from then
    on, which goes to `notes`.

    Raises UsageError where nothing can be compiled, as without a C++ compiler.
    """
    _try(compiler, next(networks[0].parameters()).device)
    torch._dynamo.config.recompile_limit = SHAPES
    block = _guarded(run_block, compiler(run_block), notes)
    for network in networks:
        for module in network.modules():
            if isinstance(module, TwoReadings):
                module.block = block
            elif isinstance(module, ResnetBlock2D):
                module.forward = _guarded(module.forward, compiler(module.forward), notes)


def _guarded(plain: Call, compiled: Call, notes: list[str]) -> Call:
    """Return `compiled`, which is `plain` from the first time on that it fails for other reasons than memory."""
    chosen = compiled

    def call(*given: Any) -> Any:
        nonlocal chosen
        try:
            return chosen(*given)
        except Exception as error:  # torch has no common class for what compilers raise
            if ran_out(error) or chosen is plain:
                raise
            chosen = plain
            note = f"Some blocks are run uncompiled: {_reason(error)}. If that stays, empty the cache of --compile."
            if note not in notes:
                notes.append(note)
        return plain(*given)

    return call


def _try(compiler: Callable[[Call], Call], device: torch.device) -> None:
    """Raise UsageError unless something small can be compiled for `device`."""

    def double(given: Tensor) -> Tensor:
        return 2 * given

    try:
        compiler(double)(torch.ones(8, device=device))
    except Exception as error:
        needed = "Triton" if device.type == "cuda" else "a C++ compiler and Python's headers"
        raise UsageError(
            f"--compile needs {needed}, and compiling failed here ({_reason(error)}): install that, or leave it out."
        ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
