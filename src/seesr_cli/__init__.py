"""Restore real photographs with SeeSR: read the picture, then redraw it.

From Python: `from seesr_cli import Upscaler, open_picture` (docs/python.md). Nothing heavy is imported before a name is
asked for.
"""

TYPE_CHECKING = False  # as type checkers know it; `typing` itself takes longer to import than all that stands here
if TYPE_CHECKING:
    from .door import Result, Settings, Upscaler, open_picture

__version__ = "0.1.0"

__all__ = ["Result", "Settings", "Upscaler", "__version__", "open_picture"]


def __getattr__(name: str) -> object:
    """Return what `door` gives to Python programs; torch is imported then, and not before."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import door

    return getattr(door, name)
