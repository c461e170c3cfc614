"""Read an XMP packet (ISO 16684-1) as a tree with byte positions, and change parts of its bytes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF, EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
DC, XAP = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/xap/1.0/"
RIGHTS, PHOTOSHOP = "http://ns.adobe.com/xap/1.0/rights/", "http://ns.adobe.com/photoshop/1.0/"
IPTC_CORE, IPTC_EXT = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_MOST_NODES = 200_000
"""Elements of a packet that is looked into; a photograph's has hundreds, with a raw developer's masks thousands."""
_DEEPEST = 500

Name = tuple[str, str]
"""A property: its namespace, and its name in it."""


class _Attribute(NamedTuple):
    name: Name
    value: str
    whole: tuple[int, int]  # with the space before it
    content: tuple[int, int]  # between the quotation marks


@dataclass(slots=True)
class Node:
    """An element, with the byte positions of itself (start, end) and of its content (inner, inner_end)."""

    name: Name
    scope: Mapping[str, str]
    attributes: list[_Attribute]
    start: int
    inner: int
    inner_end: int = 0
    end: int = 0
    children: "list[Node]" = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def is_(self, *name: str) -> bool:
        return self.name == name

    def walk(self) -> "Iterator[Node]":
        """Yield this element and all in it, from outside inwards."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


class Field(NamedTuple):
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
        """Return the packet with the changes made, or as it was given if there are no changes."""
        if not self._edits:
            return self.given
        parts, place = [], 0
        for start, end, content in sorted(self._edits, key=lambda edit: (edit[0], -edit[1])):
            if start >= place:  # what lies in a part that goes, goes with it
                parts += [self._bytes[place:start], content]
                place = end
        return b"".join([*parts, self._bytes[place:]])

    def xml(self, node: Node) -> str:
        """Return an element as it was given."""
        return self._bytes[node.start : node.end].decode()

    def replace(self, span: tuple[int, int], text: str) -> None:
        """Put `text` between two places."""
        content = escape(text, {'"': "&quot;", "'": "&apos;"}).encode()
        if self._bytes[slice(*span)] != content:
            self._edits.append((*span, content))

    def remove(self, span: tuple[int, int]) -> None:
        """Delete the bytes between two positions."""
        self._edits.append((*span, b""))

    def describe(self, inner: str, scope: Mapping[str, str]) -> None:
        """Add properties, as XML, in a description of their own; scope: namespaces by prefix."""
        declared = "".join(f' xmlns:{prefix}="{escape(uri)}"' for prefix, uri in scope.items() if prefix)
        made = f'<rdf:Description xmlns:rdf="{RDF}" rdf:about=""{declared}>{inner}</rdf:Description>\n'
        self._edits.append((self.rdf.inner_end, self.rdf.inner_end, made.encode()))

    def fields(self, node: Node) -> Iterator[Field]:
        """Yield the simple properties of a description or a structure."""
        for attribute in node.attributes:
            yield Field(*attribute)
        for child in node.children:
            if not child.children and child.inner < child.end:  # there is a place for a value
                yield Field(child.name, "".join(child.text), (child.start, child.end), (child.inner, child.inner_end))

    def properties(self) -> Iterator[tuple[Name, tuple[int, int], Node | None]]:
        """Yield every property of the picture: its name, where it stands, and its element if it has one."""
        for top in self.tops:
            for attribute in top.attributes:
                yield attribute.name, attribute.whole, None
            for child in top.children:
                yield child.name, (child.start, child.end), child

    def simple(self) -> dict[Name, Field]:
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


def _parsed(content: bytes) -> Node:
    roots: list[Node] = []
    open_: list[Node] = []
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
        node = Node(resolved(name, scope.get("", "")), scope, found, start, inner)
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
