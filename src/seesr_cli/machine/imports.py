"""Imports that take seconds, and how they take less."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Suspend garbage collection while modules are imported inside, and exempt their objects from it later.

    What an import makes stays for good, nearly all of it, and Python would look through it again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
