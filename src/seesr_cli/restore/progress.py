"""The listeners that are told how far the work on a picture has come."""

from collections.abc import Callable
from typing import Literal

Phase = Literal["read", "encode", "denoise", "decode", "write"]
"""What is done with a picture, in this order; the last one is for those who write it."""

OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all), before the first step and after each."""

OnParts = Callable[[int, int], None]
"""Told how many parts of a phase, of how many, are done: tiles over all steps, or pieces."""

OnProgress = Callable[[Phase, int, int], None]
"""Told the phase of a picture, and how many of its parts of how many are done: tiles over all steps, or pieces."""


def silent(phase: Phase, done: int, total: int) -> None:
    """Tell nobody of the progress."""
