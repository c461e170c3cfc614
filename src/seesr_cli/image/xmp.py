"""XMP packets: correct or drop the properties that are no longer true; keep every other byte."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from xml.sax.saxutils import escape

from .geometry import Move, Size, frame_of, subject
from .xmp_packet import DC, EXIF, IPTC_CORE, PHOTOSHOP, RDF, RIGHTS, TIFF, XAP, Damaged, Field, Name, Node, Packet
from .xmp_regions import READERS, as_number

_NOTE = "http://ns.adobe.com/xmp/note/"
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_PREFIXES = {
    DC: "dc",
    XAP: "xmp",
    RIGHTS: "xmpRights",
    PHOTOSHOP: "photoshop",
    IPTC_CORE: "Iptc4xmpCore",
    EXIF: "exif",
}


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
    """Return the packet without descriptions of data that are dropped, and the names of those data. Raises Damaged."""
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
    """Return the packet corrected for the move, with a sentence for each part that had to be left out. Raises Damaged.

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
        elif node is not None and name in READERS and not READERS[name](packet, node, move):
            packet.remove(span)
            notes["The regions (faces) that it names do not fit the picture: they were left out."] = None
        elif name[0] == _PANORAMA and not _panorama(packet, simple.get(name), move):
            packet.remove(span)
            notes["What it says of a panorama does not fit the picture: it was left out."] = None
    return packet.changed(), tuple(notes)


def _stated(simple: dict[Name, Field], before: Size) -> Size | None:
    """Return the size that places in pixels refer to; None where that is another picture's."""
    height, width = (simple.get((EXIF, name)) for name in ("PixelYDimension", "PixelXDimension"))
    return frame_of(before, _whole(height.value) if height else None, _whole(width.value) if width else None)


def _resolutions(packet: Packet, simple: dict[Name, Field], move: Move) -> None:
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


def _subject(packet: Packet, node: Node, move: Move, stated: Size | None) -> bool:
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


def _panorama(packet: Packet, found: Field | None, move: Move) -> bool:
    """Make a number of a panorama's true; False where the picture was turned or cut."""
    if not move.plain:
        return False
    for pattern, scale in ((_PANORAMA_ACROSS, move.scale[1]), (_PANORAMA_DOWN, move.scale[0])):
        if found and pattern.match(found.name[1]) and (number := as_number(found.value)) is not None:
            packet.replace(found.content, str(round(number * scale)))
    return True


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
    """Return the packet with missing properties added, and the properties that it has with other values.

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
    """Return the packet without the places of the camera and of the subject. Raises Damaged."""
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
