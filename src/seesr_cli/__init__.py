"""Restore real photographs with SeeSR: read the picture, then redraw it."""

from importlib.metadata import version

__version__ = version("seesr-cli")
