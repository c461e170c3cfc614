"""XMP packets (ISO 16684-1): read as XML, and changed where they say what is no longer so; other bytes stay."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape

from .geometry import Move, Size, alike, frame_of, subject

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF, EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
DC, XAP = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/xap/1.0/"
RIGHTS, PHOTOSHOP = "http://ns.adobe.com/xap/1.0/rights/", "http://ns.adobe.com/photoshop/1.0/"
IPTC_CORE, IPTC_EXT = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_REGIONS, _AREA = "http://www.metadataworkinggroup.com/schemas/regions/", "http://ns.adobe.com/xmp/sType/Area#"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_ACDSEE, _ACDSEE_AREA = "http://ns.acdsee.com/regions/", "http://ns.acdsee.com/sType/Area#"
_ACDSEE_DIMENSIONS = "http://ns.acdsee.com/sType/Dimensions#"
_PEOPLE, _PERSON = "http://ns.microsoft.com/photo/1.2/t/RegionInfo#", "http://ns.microsoft.com/photo/1.2/t/Region#"
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_CAMERA, _APPLE_FACES = "http://ns.google.com/photos/1.0/camera/", "http://ns.apple.com/faceinfo/1.0/"
_PREFIXES = {
    DC: "dc",
    XAP: "xmp",
    RIGHTS: "xmpRights",
    PHOTOSHOP: "photoshop",
    IPTC_CORE: "Iptc4xmpCore",
    EXIF: "exif",
}

_MOST_NODES = 200_000
"""Elements of a packet that is looked into; a photograph's has hundreds, with a raw developer's masks thousands."""
_DEEPEST = 500

Name = tuple[str, str]
"""A property: its namespace, and its name in it."""


# --- the packet as a tree that knows where its bytes are ----------------------------------------------------------


class _Attribute(NamedTuple):
    name: Name
    value: str
    whole: tuple[int, int]  # with the space before it
    content: tuple[int, int]  # between the quotation marks


@dataclass(slots=True)
class _Node:
    """An element; start, inner, inner_end, end: where it, and what is in it, starts and ends in the packet."""

    name: Name
    scope: Mapping[str, str]
    attributes: list[_Attribute]
    start: int
    inner: int
    inner_end: int = 0
    end: int = 0
    children: "list[_Node]" = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def is_(self, *name: str) -> bool:
        return self.name == name

    def walk(self) -> "Iterator[_Node]":
        """Yield this element and all in it, from outside inwards."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


class _Field(NamedTuple):
    """A property's simple value, whether it stands in an attribute or in an element."""

    name: Name
    value: str
    whole: tuple[int, int]
    content: tuple[int, int]


class Damaged(ValueError):
    """The packet is no XML, or too much of it."""


class Packet:
    """A packet and the changes to it, which `changed` makes at once."""

    def __init__(self, content: bytes) -> None:
        """Read the packet. Raises Damaged."""
        self.given = content
        self._bytes = _in_utf8(content)
        self._edits: list[tuple[int, int, bytes]] = []
        self.root = _parsed(self._bytes)
        node = next((node for node in self.root.walk() if node.is_(RDF, "RDF")), None)
        if node is None or node.inner_end <= node.inner:
            raise Damaged("it has no place for properties")
        self.rdf = node
        self.tops = [node for node in self.rdf.children if node.is_(RDF, "Description")]

    def changed(self) -> bytes:
        """Return the packet with the changes made; as it was given where there are none."""
        if not self._edits:
            return self.given
        parts, place = [], 0
        for start, end, content in sorted(self._edits, key=lambda edit: (edit[0], -edit[1])):
            if start >= place:  # what lies in a part that goes, goes with it
                parts += [self._bytes[place:start], content]
                place = end
        return b"".join([*parts, self._bytes[place:]])

    def xml(self, node: _Node) -> str:
        """Return an element as it was given."""
        return self._bytes[node.start : node.end].decode()

    def replace(self, span: tuple[int, int], text: str) -> None:
        """Put `text` between two places."""
        content = escape(text, {'"': "&quot;", "'": "&apos;"}).encode()
        if self._bytes[slice(*span)] != content:
            self._edits.append((*span, content))

    def remove(self, span: tuple[int, int]) -> None:
        """Take away what is between two places."""
        self._edits.append((*span, b""))

    def describe(self, inner: str, scope: Mapping[str, str]) -> None:
        """Add properties, as XML, in a description of their own; scope: namespaces by prefix."""
        declared = "".join(f' xmlns:{prefix}="{escape(uri)}"' for prefix, uri in scope.items() if prefix)
        made = f'<rdf:Description xmlns:rdf="{RDF}" rdf:about=""{declared}>{inner}</rdf:Description>\n'
        self._edits.append((self.rdf.inner_end, self.rdf.inner_end, made.encode()))

    def fields(self, node: _Node) -> Iterator[_Field]:
        """Yield the simple properties of a description or a structure."""
        for attribute in node.attributes:
            yield _Field(*attribute)
        for child in node.children:
            if not child.children and child.inner < child.end:  # there is a place for a value
                yield _Field(child.name, "".join(child.text), (child.start, child.end), (child.inner, child.inner_end))

    def properties(self) -> Iterator[tuple[Name, tuple[int, int], _Node | None]]:
        """Yield every property of the picture: its name, where it stands, and its element if it has one."""
        for top in self.tops:
            for attribute in top.attributes:
                yield attribute.name, attribute.whole, None
            for child in top.children:
                yield child.name, (child.start, child.end), child

    def simple(self) -> dict[Name, _Field]:
        """Return the picture's properties that are one value."""
        return {found.name: found for top in self.tops for found in self.fields(top)}


def _in_utf8(content: bytes) -> bytes:
    if content.startswith((b"\xff\xfe", b"<\0")):
        encoding = "utf-16-le"
    else:
        encoding = "utf-16-be" if content.startswith((b"\xfe\xff", b"\0<")) else "utf-8"
    try:
        return content.decode(encoding).lstrip("\ufeff").strip("\0 \t\r\n").encode()
    except UnicodeError as error:
        raise Damaged(str(error)) from error


_ATTRIBUTE = re.compile(rb"""\s+([^\s=>/]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_XML = "http://www.w3.org/XML/1998/namespace"


def _parsed(content: bytes) -> _Node:
    roots: list[_Node] = []
    open_: list[_Node] = []
    count = 0

    def begin(name: str, attributes: list[str]) -> None:
        nonlocal count
        count += 1
        if count > _MOST_NODES or len(open_) > _DEEPEST:
            raise Damaged("it has too many elements, or too many in each other")
        start = parser.CurrentByteIndex
        scope = open_[-1].scope if open_ else {"xml": _XML, "": ""}
        pairs = dict(zip(attributes[::2], attributes[1::2], strict=True))
        declared = {
            key.partition(":")[2]: uri for key, uri in pairs.items() if key == "xmlns" or key.startswith("xmlns:")
        }
        if declared:
            scope = {**scope, **declared}

        def resolved(key: str, default: str) -> Name:
            prefix, colon, local = key.rpartition(":")
            return (scope.get(prefix, ""), local) if colon else (default, local)

        place = start + 1 + len(name.encode())
        found = []
        while match := _ATTRIBUTE.match(content, place):
            key = match[1].decode()
            place = match.end()
            if not key.startswith("xmlns"):
                group = 2 if match[2] is not None else 3
                found.append(_Attribute(resolved(key, ""), pairs.get(key, ""), match.span(), match.span(group)))
        inner = content.index(b">", place) + 1
        node = _Node(resolved(name, scope.get("", "")), scope, found, start, inner)
        (open_[-1].children if open_ else roots).append(node)
        open_.append(node)

    def text(data: str) -> None:
        if open_:
            open_[-1].text.append(data)

    def end(_: str) -> None:
        node, place = open_.pop(), parser.CurrentByteIndex
        if content[node.inner - 2 : node.inner] == b"/>":
            node.inner_end = node.end = node.inner
        else:
            node.inner_end, node.end = place, content.index(b">", place) + 1

    def refuse(*_: object) -> None:
        raise Damaged("XMP has no document type; only with one could there be entities")

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.ordered_attributes = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, UnicodeError, ValueError) as error:
        raise Damaged(str(error)) from error
    return roots[0]


# --- what is read ------------------------------------------------------------------------------------------------


def orientation(content: bytes) -> int:
    """Return the orientation that the packet states, 1 to 8; 1 where it is damaged."""
    try:
        found = Packet(content).simple().get((TIFF, "Orientation"))
    except Damaged:
        return 1
    stated = _whole(found.value) if found else None
    return stated if stated and stated <= 8 else 1


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else None


# What tells of data that stood in the file beside the picture, by namespace: they do not fit the result, or are not in
# it. And how a program that develops pictures is to develop this one: it has been, and enlarging is no part of that.
GAIN_MAP = "a gain map for bright screens"
DEPTH = "a depth map"
VIDEO = "a video"
_GONE = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    "http://ns.apple.com/pixeldatainfo/1.0/": "",
    "http://ns.google.com/photos/1.0/container/": "",
    "http://ns.google.com/photos/1.0/depthmap/": DEPTH,
    "http://ns.google.com/photos/1.0/image/": "the picture before it was edited",
    "http://ns.google.com/photos/1.0/audio/": "a sound",
    "http://ns.apple.com/depthData/1.0/": DEPTH,
    "http://ns.apple.com/portraitEffectsMatte/1.0/": "a mask",
    "http://ns.apple.com/semanticSegmentationMatte/1.0/": "a mask",
    "http://ns.adobe.com/camera-raw-settings/1.0/": "settings of a raw developer",
    "http://ns.adobe.com/camera-raw-saved-settings/1.0/": "settings of a raw developer",
    "http://darktable.sf.net/": "settings of a raw developer",
}
_GONE_BELOW = {"http://ns.google.com/photos/dd/1.0/": DEPTH}
_GONE_NAMES = {
    (XAP, "Thumbnails"): "",
    (XAP, "PageInfo"): "",
    (_NOTE, "HasExtendedXMP"): "",
    ("http://purl.org/dc/terms/", "provenance"): "",  # the place of content credentials in the file
}
# The layout of the file that was read: what is written says its own.
_GONE_LAYOUT = {
    (TIFF, name)
    for name in (
        "BitsPerSample",
        "Compression",
        "PhotometricInterpretation",
        "SamplesPerPixel",
        "PlanarConfiguration",
        "YCbCrSubSampling",
        "YCbCrPositioning",
        "YCbCrCoefficients",
        "ReferenceBlackWhite",
        "TransferFunction",
        "WhitePoint",
        "PrimaryChromaticities",
    )
} | {(EXIF, "CompressedBitsPerPixel"), (EXIF, "ComponentsConfiguration")}
_MOVIE = re.compile(r"MotionPhoto|MicroVideo")


def without_what_is_gone(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the packet without what told of data beside the picture, and of what, in words. Raises Damaged."""
    packet = Packet(content)
    found: dict[str, None] = {}
    for name, span, node in packet.properties():
        uri, local = name
        words = _GONE.get(uri, _GONE_NAMES.get(name))
        if words is None:
            words = next((words for start, words in _GONE_BELOW.items() if uri.startswith(start)), None)
        if words is None and uri == _CAMERA and _MOVIE.match(local):
            words = VIDEO
        if words is None and name in _GONE_LAYOUT:
            words = ""
        if words is None:
            continue
        packet.remove(span)
        if words:
            found[words] = None
        inside = {} if node is None else {field.value for one in node.walk() for field in packet.fields(one)}
        for semantic, said in (("GainMap", GAIN_MAP), ("Depth", DEPTH), ("MotionPhoto", VIDEO)):
            if semantic in inside:
                found[said] = None
    return packet.changed(), tuple(found)


def merged(content: bytes, extension: bytes) -> bytes:
    """Return the packet with the properties of its extension (XMP, part 3, 1.1.3.1) in it. Raises Damaged."""
    packet, more = Packet(content), Packet(extension)
    known = {name for name, _, _ in packet.properties()}
    for top in more.tops:
        for node in top.children:
            if node.name not in known:
                packet.describe(more.xml(node), _declared(node.scope))
        for attribute in top.attributes:
            prefix = next((prefix for prefix, uri in _declared(top.scope).items() if uri == attribute.name[0]), None)
            if prefix and attribute.name not in known:
                name = f"{prefix}:{attribute.name[1]}"
                packet.describe(f"<{name}>{escape(attribute.value)}</{name}>", _declared(top.scope))
    for found, span, _ in packet.properties():
        if found == (_NOTE, "HasExtendedXMP"):
            packet.remove(span)
    return packet.changed()


def _declared(scope: Mapping[str, str]) -> dict[str, str]:
    return {prefix: uri for prefix, uri in scope.items() if prefix not in ("", "xml", "rdf")}


# --- what is made true -------------------------------------------------------------------------------------------


def recoloured(content: bytes, profile: str) -> bytes:
    """Return the packet for pixels that were converted to sRGB, whose profile is called so. Raises Damaged."""
    packet = Packet(content)
    simple = packet.simple()
    truths = {(EXIF, "ColorSpace"): "1", (PHOTOSHOP, "ICCProfile"): profile}
    for name, true in truths.items():
        if name in simple:
            packet.replace(simple[name].content, true)
    if gamma := simple.get((EXIF, "Gamma")):
        packet.remove(gamma.whole)
    return packet.changed()


def moved(content: bytes, move: Move, grey: bool | None = None) -> tuple[bytes, tuple[str, ...]]:
    """Return the packet as it is true after the move, and what had to be left out, a sentence each. Raises Damaged.

    grey: whether the picture is written without colours, where that is known.
    """
    packet, notes = Packet(content), dict[str, None]()
    simple = packet.simple()
    stated = _stated(simple, move.before)
    height, width = move.after
    truths = {
        (TIFF, "Orientation"): "1",
        (TIFF, "ImageWidth"): str(width),
        (TIFF, "ImageLength"): str(height),
        (EXIF, "PixelXDimension"): str(width),
        (EXIF, "PixelYDimension"): str(height),
    }
    if grey is not None:
        truths[PHOTOSHOP, "ColorMode"] = "1" if grey else "3"
    for name, true in truths.items():
        if name in simple:
            packet.replace(simple[name].content, true)
    _resolutions(packet, simple, move)
    for name, span, node in packet.properties():
        if name in ((EXIF, "SubjectArea"), (EXIF, "SubjectLocation")) and node is not None:
            if not _subject(packet, node, move, stated):
                packet.remove(span)
                notes["What it says of the subject's place does not fit the picture: it was left out."] = None
        elif node is not None and name in _REGION_READERS and not _REGION_READERS[name](packet, node, move):
            packet.remove(span)
            notes["The regions (faces) that it names do not fit the picture: they were left out."] = None
        elif name[0] == _PANORAMA and not _panorama(packet, simple.get(name), move):
            packet.remove(span)
            notes["What it says of a panorama does not fit the picture: it was left out."] = None
    return packet.changed(), tuple(notes)


def _stated(simple: dict[Name, _Field], before: Size) -> Size | None:
    """Return the size that places in pixels refer to; None where that is another picture's."""
    height, width = (simple.get((EXIF, name)) for name in ("PixelYDimension", "PixelXDimension"))
    return frame_of(before, _whole(height.value) if height else None, _whole(width.value) if width else None)


def _resolutions(packet: Packet, simple: dict[Name, _Field], move: Move) -> None:
    """Turn the pairs that belong to the sides; pixels on the sensor's plane grow with the picture."""
    down, across = move.scale
    for uri, first, second, grows in (
        (TIFF, "XResolution", "YResolution", False),
        (EXIF, "FocalPlaneXResolution", "FocalPlaneYResolution", True),
    ):
        pair = [simple.get((uri, first)), simple.get((uri, second))]
        values = [found.value if found else "" for found in pair]
        if move.orientation > 4:
            values.reverse()
        for found, value, scale in zip(pair, values, (across, down), strict=True):
            if found and (ratio := re.fullmatch(r"\s*(\d{1,10})/(\d{1,10})\s*", value)) and int(ratio[2]):
                whole = int(ratio[1]) / int(ratio[2])
                packet.replace(found.content, f"{round(whole * scale * 1000)}/1000" if grows and scale != 1 else value)


def _subject(packet: Packet, node: _Node, move: Move, stated: Size | None) -> bool:
    """Make a point, circle or box of the main subject true (Exif 2.32, 4.6.5); False where it cannot be."""
    items = [item for item in node.walk() if item.is_(RDF, "li")]
    numbers = [_whole("".join(item.text)) for item in items]
    if stated is None or None in numbers:
        return False
    true = subject([number for number in numbers if number is not None], move, stated)
    if true is None:
        return False
    for item, number in zip(items, true, strict=True):
        packet.replace((item.inner, item.inner_end), str(number))
    return True


_PANORAMA_ACROSS = re.compile(r"(FullPano|CroppedAreaImage)Width|(CroppedArea|LargestValidInteriorRect)(Left|Width)")
_PANORAMA_DOWN = re.compile(r"(FullPano|CroppedAreaImage)Height|(CroppedArea|LargestValidInteriorRect)(Top|Height)")


def _panorama(packet: Packet, found: _Field | None, move: Move) -> bool:
    """Make a number of a panorama's true; False where the picture was turned or cut."""
    if not move.plain:
        return False
    for pattern, scale in ((_PANORAMA_ACROSS, move.scale[1]), (_PANORAMA_DOWN, move.scale[0])):
        if found and pattern.match(found.name[1]) and (number := _number(found.value)) is not None:
            packet.replace(found.content, str(round(number * scale)))
    return True


# --- regions -----------------------------------------------------------------------------------------------------


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?\s*", text) else None


def _shown(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


class _Values(dict[str, _Field]):
    """The fields of one structure by name, of some namespaces."""

    def numbers(self, *names: str) -> list[float] | None:
        """Return the numbers of these names; None where one is missing or is none."""
        found = [_number(self[name].value) if name in self else None for name in names]
        return [number for number in found if number is not None] if None not in found else None


def _values(packet: Packet, node: _Node, *uris: str) -> _Values:
    """Return the simple fields of the structure that a property's element holds, in whichever way RDF allows."""
    nodes = [node, *(child for child in node.children if child.is_(RDF, "Description"))]
    return _Values((found.name[1], found) for one in nodes for found in packet.fields(one) if found.name[0] in uris)


def _items(node: _Node) -> Iterator[_Node]:
    """Yield the items of the array that a property's element holds."""
    for array in node.children:
        if array.name in ((RDF, "Bag"), (RDF, "Seq"), (RDF, "Alt")):
            yield from (item for item in array.children if item.is_(RDF, "li"))


def _inside(node: _Node, *name: str) -> _Node | None:
    """Return the element of a field of the structure that `node` holds."""
    holders = [node, *(child for child in node.children if child.is_(RDF, "Description"))]
    return next((child for holder in holders for child in holder.children if child.name == name), None)


def _regions(packet: Packet, node: _Node, move: Move) -> bool:
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


def _people(packet: Packet, node: _Node, move: Move) -> bool:
    """Make Microsoft's rectangles of people true: left, top, width and height, as fractions."""
    for one in node.walk():
        for found in packet.fields(one):
            if found.name != (_PERSON, "Rectangle") or move.plain:
                continue
            numbers = [_number(part) for part in found.value.split(",")]
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


def _boundaries(packet: Packet, node: _Node, move: Move) -> bool:
    """Make IPTC's image regions (Photo Metadata 2019.1) true: rectangles, circles and polygons."""
    for item in _items(node):
        boundary = _inside(item, IPTC_EXT, "RegionBoundary")
        if boundary is not None and not _boundary(packet, boundary, move):
            packet.remove((item.start, item.end))
    return True


def _boundary(packet: Packet, node: _Node, move: Move) -> bool:
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


_REGION_READERS: dict[Name, Callable[[Packet, _Node, Move], bool]] = {
    (_REGIONS, "Regions"): _regions,
    (_ACDSEE, "Regions"): _regions,
    ("http://ns.microsoft.com/photo/1.2/", "RegionInfo"): _people,
    (IPTC_EXT, "ImageRegion"): _boundaries,
}


# --- what is added, and what is not to be told -------------------------------------------------------------------


class Property(NamedTuple):
    """A property to add. kind: "" one value; "Bag" and "Seq" an array; "Alt" a text in the default language."""

    name: Name
    kind: str
    values: tuple[str, ...]


_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">\n'
    "</rdf:RDF></x:xmpmeta>\n"
    '<?xpacket end="w"?>'
).encode()


def with_properties(content: bytes | None, added: Iterable[Property]) -> tuple[bytes | None, list[Property]]:
    """Return the packet with the properties that it has not, and those that it has with another value.

    Raises Damaged.
    """
    wanted = list(added)
    if not wanted:
        return content, []
    packet = Packet(content if content and content.strip(b"\0 \t\r\n") else _EMPTY)
    known = {name: node for name, _, node in packet.properties()}
    attributes = packet.simple()
    new = [one for one in wanted if one.name not in known]
    others = []
    for one in wanted:
        if one.name in known:
            node = known[one.name]
            texts = {"".join(part.text).strip() for part in node.walk()} if node else {attributes[one.name].value}
            # IPTC-IIM cuts what is long, and XMP what is not known of a time.
            if not all(any(text.startswith(value.strip()) for text in texts) for value in one.values):
                others.append(one)
    if new:
        packet.describe("".join(map(_element, new)), {_PREFIXES[one.name[0]]: one.name[0] for one in new})
    return packet.changed(), others


def _element(one: Property) -> str:
    name = f"{_PREFIXES[one.name[0]]}:{one.name[1]}"
    texts = [escape(_printable(value)) for value in one.values]
    if not one.kind:
        return f"<{name}>{texts[0]}</{name}>"
    language = ' xml:lang="x-default"' if one.kind == "Alt" else ""
    items = "".join(f"<rdf:li{language}>{text}</rdf:li>" for text in texts)
    return f"<{name}><rdf:{one.kind}>{items}</rdf:{one.kind}></{name}>"


def _printable(text: str) -> str:
    """Return the text without what XML cannot hold (XML 1.0, 2.2)."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


LOCATION = re.compile(
    r"gps|latitude|long(?:t)?itude|altitude|geotag|geolocation|location|sublocation"
    r"|^(?:city|state|country|countrycode|countryname|provincestate|province|worldregion|coverage)$",
    re.IGNORECASE,
)
_NO_LOCATION = {"SubjectLocation"}  # where in the picture its subject is
_GEO = "http://www.w3.org/2003/01/geo/wgs84_pos#"


def without_location(content: bytes) -> bytes:
    """Return the packet without what says where on earth the picture was taken, or what it shows is. Raises Damaged."""
    packet = Packet(content)
    for node in packet.root.walk():
        for attribute in node.attributes:
            if attribute.name[0] != RDF and _is_location(attribute.name):
                packet.remove(attribute.whole)
        if node.name[0] != RDF and _is_location(node.name):
            packet.remove((node.start, node.end))
    return packet.changed()


def _is_location(name: Name) -> bool:
    return name[0] == _GEO or (name[1] not in _NO_LOCATION and LOCATION.search(name[1]) is not None)
