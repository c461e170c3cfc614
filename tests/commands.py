"""What a command typed in a test comes to."""

from collections.abc import Callable
from typing import NamedTuple


class Ran(NamedTuple):
    """Exit code, and what was written to stdout and stderr."""

    code: int
    out: str
    err: str


Seesr = Callable[..., Ran]
"""Takes arguments of `seesr upscale`."""
