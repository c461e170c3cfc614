"""Give something up when memory runs out, one thing at a time, for all pictures that follow."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from ..errors import PictureError

Result = TypeVar("Result")

TILE_SIDES = (64, 48, 32, 24, 16)
"""Of a tile, in latent pixels: what is tried, one after the other, when the asked one needs too much memory."""

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")
"""In what PyTorch's allocators raise: only CUDA's has a class of its own."""


def ran_out(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def enduring(work: Callable[[], Result], step_down: Callable[[], str | None], notes: list[str]) -> Result:
    """Return the result of `work`, tried again after each thing that is given up for it.

    Whenever memory runs out, `step_down` gives up one thing more and says so, which goes to `notes`; None says that
    nothing is left to give up, and PictureError is raised.
    """
    while True:
        try:
            return work()
        except Exception as error:
            if not ran_out(error):
                raise
        # Out of the handler: what the failed attempt held is only now free.
        release()
        given_up = step_down()
        if given_up is None:
            raise PictureError(
                "There is not enough memory for this picture, even after everything that could be given up was: "
                "use a smaller --scale, or cut it into parts."
            )
        notes.append(given_up)


def release() -> None:
    """Hand the memory that nothing uses any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def smaller_tile(side: int) -> int | None:
    """Return the next smaller side of a tile; None if there is no smaller one."""
    return next((smaller for smaller in TILE_SIDES if smaller < side), None)
