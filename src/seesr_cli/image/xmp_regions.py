"""Make places in a picture true that an XMP packet tells of: faces, people, boundaries, after the picture moved."""

import re
from collections.abc import Callable, Iterator, Mapping

from .geometry import Move, alike
from .xmp_packet import IPTC_EXT, RDF, Field, Name, Node, Packet

_REGIONS, _AREA = "http://www.metadataworkinggroup.com/schemas/regions/", "http://ns.adobe.com/xmp/sType/Area#"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_ACDSEE, _ACDSEE_AREA = "http://ns.acdsee.com/regions/", "http://ns.acdsee.com/sType/Area#"
_ACDSEE_DIMENSIONS = "http://ns.acdsee.com/sType/Dimensions#"
_PEOPLE, _PERSON = "http://ns.microsoft.com/photo/1.2/t/RegionInfo#", "http://ns.microsoft.com/photo/1.2/t/Region#"
_APPLE_FACES = "http://ns.apple.com/faceinfo/1.0/"


def as_number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?\s*", text) else None


def _shown(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


class _Values(dict[str, Field]):
    """The fields of one structure by name, of some namespaces."""

    def numbers(self, *names: str) -> list[float] | None:
        """Return the numbers of these names; None if one is missing or no number."""
        found = [as_number(self[name].value) if name in self else None for name in names]
        return [number for number in found if number is not None] if None not in found else None


def _values(packet: Packet, node: Node, *uris: str) -> _Values:
    """Return the simple fields of the structure that a property's element holds, in whichever way RDF allows."""
    nodes = [node, *(child for child in node.children if child.is_(RDF, "Description"))]
    return _Values((found.name[1], found) for one in nodes for found in packet.fields(one) if found.name[0] in uris)


def _items(node: Node) -> Iterator[Node]:
    """Yield the items of the array that a property's element holds."""
    for array in node.children:
        if array.name in ((RDF, "Bag"), (RDF, "Seq"), (RDF, "Alt")):
            yield from (item for item in array.children if item.is_(RDF, "li"))


def _inside(node: Node, *name: str) -> Node | None:
    """Return the element of a field of the structure that `node` holds."""
    holders = [node, *(child for child in node.children if child.is_(RDF, "Description"))]
    return next((child for holder in holders for child in holder.children if child.name == name), None)


def _regions(packet: Packet, node: Node, move: Move) -> bool:
    """Make the regions of the Metadata Working Group (guidelines 2.0, 5.9) true, and ACDSee's, which are like them."""
    mwg = node.name[0] == _REGIONS
    uri = _REGIONS if mwg else _ACDSEE
    frame = _inside(node, uri, "AppliedToDimensions")
    if frame is not None:
        values = _values(packet, frame, _DIMENSIONS, _ACDSEE_DIMENSIONS)
        if (size := values.numbers("h", "w")) is None:
            return False
        stated = (round(size[0]), round(size[1]))
        if not alike(stated, move.before):
            # Some programs look at the picture as it is shown.
            if not (move.orientation > 4 and alike(stated, move.turned)):
                return False
            move = move._replace(before=move.turned, orientation=1)
        in_pixels = (max(size[0], 1), max(size[1], 1))
        packet.replace(values["h"].content, str(move.after[0]))
        packet.replace(values["w"].content, str(move.after[1]))
    else:
        in_pixels = move.before
    regions = _inside(node, uri, "RegionList")
    for item in _items(regions) if regions is not None else ():
        areas = [child for child in item.walk() if child.name in _AREAS]
        for area in areas:
            if not _area(packet, _values(packet, area, _AREA, _ACDSEE_AREA), move, in_pixels):
                packet.remove((item.start, item.end))
        if move.orientation != 1:
            for one in item.walk():  # how a head is turned in the picture as it was stored
                for found in packet.fields(one):
                    if found.name == (_APPLE_FACES, "AngleInfoRoll"):
                        packet.remove(found.whole)
    return True


_AREAS = ((_REGIONS, "Area"), (_ACDSEE, "DLYArea"), (_ACDSEE, "ALGArea"))


def _area(packet: Packet, values: _Values, move: Move, in_pixels: tuple[float, float]) -> bool:
    """Make one area true: its middle, and its sides, its diameter or nothing more; False where it is not seen."""
    if (middle := values.numbers("x", "y")) is None:
        return False
    x, y = middle
    pixels = "unit" in values and values["unit"].value.strip() == "pixel"
    per_x, per_y = (in_pixels[1], in_pixels[0]) if pixels else (1.0, 1.0)
    out_x, out_y = (move.after[1], move.after[0]) if pixels else (1.0, 1.0)
    true = {}
    if sides := values.numbers("w", "h"):
        w, h = sides[0] / per_x, sides[1] / per_y
        box = move.box((y / per_y - h / 2, x / per_x - w / 2, y / per_y + h / 2, x / per_x + w / 2))
        if box is None:
            return False
        top, left, bottom, right = box
        true = {"x": (left + right) / 2 * out_x, "y": (top + bottom) / 2 * out_y}
        true |= {"w": (right - left) * out_x, "h": (bottom - top) * out_y}
    else:
        x, y = move.point(x / per_x, y / per_y)
        if not (0 <= x <= 1 and 0 <= y <= 1):
            return False
        true = {"x": x * out_x, "y": y * out_y}
        if diameter := values.numbers("d"):  # of the shorter side
            seen = (move.part[2] - move.part[0], move.part[3] - move.part[1])
            share = 1.0 if pixels else min(move.before) / min(seen)
            true["d"] = diameter[0] * share * (sum(move.scale) / 2 if pixels else 1.0)
    if pixels or not move.plain:
        for name, value in true.items():
            packet.replace(values[name].content, _shown(value))
    return True


def _people(packet: Packet, node: Node, move: Move) -> bool:
    """Make Microsoft's rectangles of people true: left, top, width and height, as fractions."""
    for one in node.walk():
        for found in packet.fields(one):
            if found.name != (_PERSON, "Rectangle") or move.plain:
                continue
            numbers = [as_number(part) for part in found.value.split(",")]
            sides = [number for number in numbers if number is not None]
            box = None
            if len(numbers) == len(sides) == 4:
                left, top, width, height = sides
                box = move.box((top, left, top + height, left + width))
            if box is None:
                packet.remove(found.whole)
            else:
                top, left, bottom, right = box
                packet.replace(found.content, ", ".join(map(_shown, (left, top, right - left, bottom - top))))
    return True


def _boundaries(packet: Packet, node: Node, move: Move) -> bool:
    """Make IPTC's image regions (Photo Metadata 2019.1) true: rectangles, circles and polygons."""
    for item in _items(node):
        boundary = _inside(item, IPTC_EXT, "RegionBoundary")
        if boundary is not None and not _boundary(packet, boundary, move):
            packet.remove((item.start, item.end))
    return True


def _boundary(packet: Packet, node: Node, move: Move) -> bool:
    values = _values(packet, node, IPTC_EXT)
    pixels = "rbUnit" in values and values["rbUnit"].value.strip() == "pixel"
    per_y, per_x = move.before if pixels else (1, 1)
    out_y, out_x = move.after if pixels else (1, 1)
    if not pixels and move.plain:
        return True

    def put(found: _Values, true: Mapping[str, float]) -> None:
        for name, value in true.items():
            packet.replace(found[name].content, str(round(value)) if pixels else _shown(value))

    if sides := values.numbers("rbX", "rbY", "rbW", "rbH"):
        x, y, w, h = sides
        box = move.box((y / per_y, x / per_x, (y + h) / per_y, (x + w) / per_x))
        if box is None:
            return False
        top, left, bottom, right = box
        put(values, {"rbX": left * out_x, "rbY": top * out_y})
        put(values, {"rbW": (right - left) * out_x, "rbH": (bottom - top) * out_y})
        return True
    if circle := values.numbers("rbX", "rbY", "rbRx"):
        x, y = move.point(circle[0] / per_x, circle[1] / per_y)
        across = circle[2] * (1 if pixels else move.before[1]) * sum(move.scale) / 2
        put(values, {"rbX": x * out_x, "rbY": y * out_y, "rbRx": across if pixels else across / move.after[1]})
        return 0 <= x <= 1 and 0 <= y <= 1
    vertices = _inside(node, IPTC_EXT, "rbVertices")
    for vertex in _items(vertices) if vertices is not None else ():
        found = _values(packet, vertex, IPTC_EXT)
        place = found.numbers("rbX", "rbY")
        if place is None:
            return False
        x, y = move.point(place[0] / per_x, place[1] / per_y)
        put(found, {"rbX": min(max(x, 0), 1) * out_x, "rbY": min(max(y, 0), 1) * out_y})
    return vertices is not None


READERS: dict[Name, Callable[[Packet, Node, Move], bool]] = {
    (_REGIONS, "Regions"): _regions,
    (_ACDSEE, "Regions"): _regions,
    ("http://ns.microsoft.com/photo/1.2/", "RegionInfo"): _people,
    (IPTC_EXT, "ImageRegion"): _boundaries,
}
