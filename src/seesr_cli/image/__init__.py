"""Pictures on disk: read into tensors with everything that belongs to them, and written from them.

Light to import: Pillow and numpy only, so that names and places can be checked before torch is loaded.
"""

from .formats import SUFFIXES
from .metadata import limited
from .opened import MOST_PIXELS
from .picture import Header, Picture
from .reader import MOST_BYTES, TAKEN_SO_FAR, decode, load, packet, probe, read
from .writer import FORMATS, WRITTEN_SUFFIXES, Kind, check_target, encode, kind_of, samples, write

__all__ = [
    "FORMATS",
    "MOST_BYTES",
    "MOST_PIXELS",
    "SUFFIXES",
    "TAKEN_SO_FAR",
    "WRITTEN_SUFFIXES",
    "Header",
    "Kind",
    "Picture",
    "check_target",
    "decode",
    "encode",
    "kind_of",
    "limited",
    "load",
    "packet",
    "probe",
    "read",
    "samples",
    "write",
]
