"""XMP packets, changed in their place: what they state of orientation and size is made true, other bytes stay."""

import re

# A property is an attribute or an element (ISO 16684-1, 7.4 and 7.9.2.2); the prefixes are the ones the standard gives.
_PROPERTY = rb"(\b%s(?:\s*=\s*[\"']|>\s*))(\d+)(?=\s*[\"'<])"
_ORIENTATION = re.compile(_PROPERTY % b"tiff:Orientation")
_WIDTH = re.compile(_PROPERTY % b"(?:tiff:ImageWidth|exif:PixelXDimension)")
_HEIGHT = re.compile(_PROPERTY % b"(?:tiff:ImageLength|exif:PixelYDimension)")


def tidy(packet: bytes) -> tuple[bytes, int]:
    """Return the packet with orientation 1, and the orientation it stated, 1 to 8."""
    found = _ORIENTATION.search(packet)
    orientation = int(found[2][:4]) if found else 1
    return _ORIENTATION.sub(rb"\g<1>1", packet), orientation if 1 <= orientation <= 8 else 1


def sized(packet: bytes, height: int, width: int) -> bytes:
    """Return the packet with the sizes that it states set to these."""
    return _HEIGHT.sub(rb"\g<1>%d" % height, _WIDTH.sub(rb"\g<1>%d" % width, packet))
