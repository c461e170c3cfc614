"""Record how a result was made in its metadata: as JSON in the picture's XMP packet.

The record holds neither time nor folder, so a result that is made again is the same file.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints
from xml.parsers import expat

from .. import __version__
from ..catalogue import MODELS
from ..errors import UsageError
from ..settings import Format, Metadata, ModelName, Settings, check_batch_size

if TYPE_CHECKING:
    from ..restore.prompt import Prompt
    from ..restore.sampled import Sampled
    from ..restore.tag import Tag
    from ..restore.upscaler import Upscaler

FORMAT = 1
"""Of the record; a version of ours that reads format N reads all before it."""

NAMESPACE = "urn:seesr:1"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

MOST_JPEG_XMP = 65_502
"""Bytes of XMP that one segment of a JPEG holds."""

LARGEST = 2**24
"""Bytes of a packet that is looked into; those of photographs have some thousands."""


class Recipe(NamedTuple):
    """All that is needed to make a result again.

    settings: with the tiling that was used.
    tags: names, as they were used, in their order.
    input_name, input_sha256: of the input file, without its folder.
    weights: fingerprint of the model's files; None: unknown.
    device, dtype: type of the device, and precision of the networks.
    threads: that computed; None if the device was no CPU.
    batch_size: tiles in one call of the networks, of this picture and of those sampled with it.
    batch_place: of this picture among the pictures of its call, from 0 on.
    kind, quality, bits: of the result's file.
    metadata: what of the input's the file has.
    """

    model: ModelName
    settings: Settings
    tags: tuple[str, ...]
    input_name: str
    input_sha256: str
    weights: str | None
    device: str
    dtype: str
    threads: int | None
    batch_size: int
    batch_place: int
    kind: Format
    quality: int | None
    bits: int
    metadata: Metadata


def recipe_of(
    upscaler: "Upscaler",
    sampled: "Sampled",
    settings: Settings,
    model: ModelName,
    weights: str | None,
    input_name: str,
    input_sha256: str,
    kind: Format = "png",
    quality: int | None = None,
    bits: int = 8,
    metadata: Metadata = "keep",
) -> Recipe:
    """Return how to make the result of `sampled` again; the other parameters are as in Recipe."""
    device, dtype = upscaler.place
    return Recipe(
        model=model,
        settings=replace(settings, tile=sampled.tiling.side, overlap=sampled.tiling.overlap),
        tags=tuple(tag.name for tag in sampled.reading.tags),
        input_name=input_name,
        input_sha256=input_sha256,
        weights=weights,
        device=device,
        dtype=dtype,
        threads=upscaler.threads,
        batch_size=sampled.call.tiles,
        batch_place=sampled.call.place,
        kind=kind,
        quality=quality,
        bits=bits,
        metadata=metadata,
    )


def record(recipe: Recipe, tags: "Sequence[Tag]", prompt: "Prompt") -> dict[str, Any]:
    """Return the record of one result, ready for JSON.

    tags, prompt: as the networks read them; names of tags alone are in the recipe.
    """
    return {
        "seesr": __version__,
        "format": FORMAT,
        "model": {"name": recipe.model, "weights": recipe.weights},
        "input": {"name": recipe.input_name, "sha256": recipe.input_sha256},
        "output": {"kind": recipe.kind, "quality": recipe.quality, "bits": recipe.bits, "metadata": recipe.metadata},
        "settings": asdict(recipe.settings),
        "tags": [tag._asdict() for tag in tags],
        "prompt": prompt.positive,
        "negative_prompt": prompt.negative,
        "device": recipe.device,
        "dtype": recipe.dtype,
        "threads": recipe.threads,
        "batch_size": recipe.batch_size,
        "batch_place": recipe.batch_place,
    }


def packet(xmp: bytes | None, record: Mapping[str, Any], kind: Format) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the packet `xmp` with `record` in it, and a note if a JPEG has no room for it."""
    whole = embed(xmp, record)
    if kind == "jpeg" and len(whole) > MOST_JPEG_XMP:
        return xmp, ("A JPEG has no room beside the picture's XMP for how it was made: --like cannot repeat it.",)
    return whole, ()


# --- in a packet -------------------------------------------------------------------------------------------------

# Ours as it was written, as tools write it anew, and as they shorten it to an attribute. No part can match what another
# part could, so that a hostile packet is searched in one go.
_QUOTED = r"""(?:"[^"<]*"|'[^'<]*')"""
_ATTRIBUTES = rf"(?:\s+[\w.:-]+\s*=\s*{_QUOTED})*"
_ELEMENT = r"<seesr:record>[^<]*</seesr:record>"
_ALONE = re.compile(
    rf"""<rdf:Description(?:\s+(?:rdf:about|xmlns:\w+)\s*=\s*{_QUOTED})*\s*>\s*{_ELEMENT}\s*</rdf:Description>\n?"""
)
_AMONG_OTHERS = re.compile(_ELEMENT)
_SHORTENED = re.compile(rf"(<rdf:Description{_ATTRIBUTES}?)\s+seesr:record\s*=\s*{_QUOTED}")
_END = re.compile(r"</[A-Za-z_][\w.-]*:RDF\s*>")

_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">\n'
    "</rdf:RDF></x:xmpmeta>\n"
    '<?xpacket end="w"?>'
)


def embed(xmp: bytes | None, record: Mapping[str, Any]) -> bytes:
    """Return the packet `xmp` with `record` in it, in the place of an earlier one; every other byte stays.

    Without a packet a minimal one is made. A packet that is too damaged to hold a record is returned as it is: what a
    person put there is worth more. The same input gives the same bytes.
    """
    content = json.dumps(record, allow_nan=False)
    for character in "<>&":  # so that the text is the same to XML and to JSON
        content = content.replace(character, f"\\u{ord(character):04x}")
    if xmp is None or not xmp.strip(b"\0 \t\r\n"):
        return _put(_PACKET, content).encode()
    encoding = _encoding(xmp)
    try:
        made = _put(_without_record(xmp.decode(encoding, _LENIENT[encoding])), content)
        whole = made.encode(encoding, _LENIENT[encoding])
    except UnicodeError:
        return xmp
    return whole if extract(whole) == json.loads(content) else xmp


def extract(xmp: bytes) -> dict[str, Any] | None:
    """Return the last readable record in the packet `xmp`; None if there is no such record.

    Whatever the bytes: no error, no entities, no more memory than a few times theirs.
    """
    encoding = _encoding(xmp)
    if len(xmp) > LARGEST:
        return None
    found: list[str] = []
    open_: list[str] | None = None

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal open_
        if name == _NAME:
            open_ = []
        elif _NAME in attributes:
            found.append(attributes[_NAME])

    def text(data: str) -> None:
        if open_ is not None:
            open_.append(data)

    def end(name: str) -> None:
        nonlocal open_
        if name == _NAME and open_ is not None:
            found.append("".join(open_))
            open_ = None

    def refuse(*_: object) -> None:
        raise ValueError("XMP has no document type; only with one could there be entities.")

    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text
    parser.StartDoctypeDeclHandler = refuse
    try:
        packet = xmp.decode(encoding, _LENIENT[encoding]).lstrip("\ufeff").encode("utf-8", "surrogateescape")
        parser.Parse(packet.strip(b"\0 \t\r\n"), True)
        content = json.loads(found[-1], parse_constant=refuse) if found else None
    except (expat.ExpatError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


_NAME = f"{NAMESPACE} record"

# UTF-8 that is broken goes through unchanged; UTF-16 that is broken does not.
_LENIENT = {"utf-8": "surrogateescape", "utf-16-le": "strict", "utf-16-be": "strict"}


def _encoding(xmp: bytes) -> str:
    """Return how the packet is written: UTF-16 shows in its mark, or in the zero byte beside the first `<`."""
    if xmp.startswith((b"\xff\xfe", b"<\0")):
        return "utf-16-le"
    return "utf-16-be" if xmp.startswith((b"\xfe\xff", b"\0<")) else "utf-8"


def _without_record(text: str) -> str:
    return _SHORTENED.sub(r"\1", _AMONG_OTHERS.sub("", _ALONE.sub("", text)))


def _put(text: str, content: str) -> str:
    """Return the packet with a description of its own for `content`, behind all others, if there is a place for it."""
    ends = list(_END.finditer(text))
    if not ends:
        return text
    place = ends[-1].start()
    described = (
        f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about="" xmlns:seesr="{NAMESPACE}">'
        f"<seesr:record>{content}</seesr:record></rdf:Description>\n"
    )
    return text[:place] + described + text[place:]


# --- read back ---------------------------------------------------------------------------------------------------


def settings_of(record: Mapping[str, Any], place: object) -> Recipe:
    """Return how the result at `place` was made, from its record.

    Settings that the record does not know have their defaults. Raises UsageError where the record is of a later
    version, or damaged, or asks for what cannot be.
    """
    newer = f"{place} was made by seesr {_shown(record.get('seesr'))}, this is {__version__}"
    if _entry(record, "format", int, place) > FORMAT:
        raise UsageError(f"{newer}, which does not understand its record: update seesr to repeat it.")
    values = _entry(record, "settings", dict, place)
    kinds = get_type_hints(Settings)
    if unknown := [name for name in values if name not in kinds]:
        raise UsageError(f"{newer}, which has no setting {_shown(unknown[0])}: update seesr to repeat it.")
    given = {
        field.name: _typed(values, field.name, kinds[field.name], place)
        for field in fields(Settings)
        if field.name in values
    }
    record = {"threads": None, "batch_size": 1, "batch_place": 0} | dict(record)  # what earlier versions did not tell
    batch_size, batch_place = (_entry(record, name, int, place) for name in ("batch_size", "batch_place"))
    threads = _entry(record, "threads", int | None, place)
    try:
        settings = Settings(**given)
        check_batch_size(batch_size)
    except UsageError as error:
        raise UsageError(f"The record in {place} cannot be repeated: {error}") from error
    model, source, output = (_entry(record, name, dict, place) for name in ("model", "input", "output"))
    name = _entry(model, "name", str, place)
    if name not in MODELS:
        raise UsageError(f"{newer}, which has no model {_shown(name)}: update seesr to repeat it.")
    tags = tuple(_entry(tag, "name", str, place) for tag in _entry(record, "tags", list, place))
    if any(
        "\ud800" <= character <= "\udfff" for text in (*tags, settings.prompt, settings.negative) for character in text
    ):
        raise UsageError(
            f"The record in {place} is damaged (its words are no text): give the settings as options instead."
        )
    return Recipe(
        model=next(known for known in MODELS if known == name),
        settings=settings,
        tags=tags,
        input_name=_entry(source, "name", str, place),
        input_sha256=_entry(source, "sha256", str, place),
        weights=_entry(model, "weights", str | None, place),
        device=_entry(record, "device", str, place),
        dtype=_entry(record, "dtype", str, place),
        threads=None if threads is None else max(1, threads),
        batch_size=batch_size,
        batch_place=max(0, batch_place),
        kind=_entry(output, "kind", Format, place),
        quality=_entry(output, "quality", int | None, place),
        bits=_entry(output, "bits", int, place),
        metadata=_entry({"metadata": "keep", **output}, "metadata", Metadata, place),
    )


def _entry(values: Any, name: str, kind: Any, place: object) -> Any:
    """Return the entry `name`, of the type `kind`, of what ought to be a mapping."""
    if not isinstance(values, Mapping) or name not in values:
        raise UsageError(f"The record in {place} is damaged, it has no {name}: give the settings as options instead.")
    return _typed(values, name, kind, place)


def _typed(values: Mapping[str, Any], name: str, kind: Any, place: object) -> Any:
    listed = any(get_origin(choice) is tuple for choice in (kind, *get_args(kind)))  # JSON has lists only
    value = tuple(values[name]) if listed and type(values[name]) is list else values[name]
    if not _is_a(value, kind):
        reason = f"The record in {place} is damaged ({name} is {_shown(value)})"
        raise UsageError(f"{reason}: give the settings as options instead.")
    return value


def _shown(value: Any) -> str:
    """Return the beginning of what a stranger may have written, fit for a terminal."""
    return json.dumps(value)[:40]


def _is_a(value: Any, kind: Any) -> bool:
    """Return whether `value`, from JSON, is one of the type `kind`; a whole number is a float, and true no number."""
    choices = get_args(kind)
    match get_origin(kind):
        case origin if origin is Literal:
            return any(type(value) is type(choice) and value == choice for choice in choices)
        case origin if origin in (Union, UnionType):
            return any(_is_a(value, choice) for choice in choices)
        case origin if origin is tuple:
            wanted = len(value) * choices[:1] if type(value) is tuple and choices[-1] is ... else choices
            return type(value) is tuple and len(value) == len(wanted) and all(map(_is_a, value, wanted))
    return type(value) in ((int, float) if kind is float else (kind,))
