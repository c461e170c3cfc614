"""Restore real photographs with SeeSR: read the picture, then redraw it."""

__version__ = "0.1.0"
