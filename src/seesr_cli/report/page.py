"""Write the page of a run: pictures before and after, in one HTML file that needs no network.

Its looks and its behaviour are in `page.html`; here are the data. Every picture is data that no parser but the
page's own script reads, and the page's policy lets no other script run.
"""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from .. import __version__, image
from ..errors import PictureUnreadable, UsageError
from ..evaluate.consistency import consistency, departure
from ..evaluate.pixels import Pixels, pixels_of
from ..files import replacing
from ..image.shown import as_shown
from ..records import provenance

MOST_PREVIEW_PIXELS = 2400 * 2400
"""Of one preview: results up to this size can be looked at pixel by pixel."""

_LEAST_PREVIEW_PIXELS = 256 * 256

PAGE_PIXELS = 100_000_000
"""Shared by the previews of all results; with the inputs', and as text, this comes to about 50 MB."""

_FEW = 12
"""Up to so many pictures colours keep every pixel of theirs; above, WebP's halved colours take a third of the room."""

HOTTEST = 32
"""Departure of a pixel of the input, in 255ths, from which the heat map is opaque; the same for all pictures."""

_LONGEST_HEAT = 1024
_GENERATOR = b'<meta name="generator" content="seesr">'
_THUMBNAIL = (360, 240)  # (width, height) of a card in the overview, for screens of two dots per pixel


@dataclass(frozen=True)
class PageEntry:
    """One picture of a run, as the page tells of it.

    source, target: the files to make previews from, as they are on disk when the page is written; a target of None,
    or a file that cannot be read by then, is said in the page. message: why it was skipped or failed, a sentence.
    seconds: the time it took. size_in, size_out: (height, width) in pixels. tags: (name, score in [0, 1]). settings:
    what it was made with; what all pictures of a run share is shown once. Of a picture without sizes, sizes, tags,
    prompt and settings are what its files tell.
    """

    source: Path
    target: Path | None
    state: Literal["done", "skipped", "failed"]
    message: str = ""
    seconds: float = 0.0
    size_in: tuple[int, int] | None = None
    size_out: tuple[int, int] | None = None
    tags: tuple[tuple[str, float], ...] = ()
    prompt: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write(
    path: Path,
    entries: Sequence[PageEntry],
    title: str,
    *,
    overwrite: bool = True,
    stepped: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the page of a run to `path`, whole or not at all, one picture at a time.

    Its folder is made if need be: where every picture failed, nothing else has made it.

    stepped: told after each picture how many of how many are in the page. Raises OutputUnwritable.
    """
    head, tail = _page(title)
    shared = _shared([entry.settings for entry in entries if entry.settings])
    with suppress(OSError):  # said by what comes next
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite) as file:
        file.write(head)
        run = {"title": title, "version": __version__, "settings": _in_words(shared)}
        file.write(_data("run", json.dumps(run)))
        for number, entry in enumerate(entries):
            own = {name: value for name, value in entry.settings.items() if name not in shared}
            for line in _told(number, entry, own, path.parent, len(entries)):
                file.write(line)
            stepped(number + 1, len(entries))
        file.write(tail)


def is_ours(path: Path) -> bool:
    """Return whether the file at `path` is such a page, which another run may replace."""
    try:
        with path.open("rb") as file:
            return _GENERATOR in file.read(500)
    except OSError:
        return False


def _page(title: str) -> tuple[bytes, bytes]:
    """Return the page up to its data, and after them; only the script and the style in it will be obeyed."""
    page = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        policy += f"; {tag}-src 'sha256-{digest}'"
    head, tail = page.split("<!-- data -->\n")
    # Character references: names that are no valid text have no bytes in UTF-8.
    escaped = html.escape(title).encode("ascii", "xmlcharrefreplace").decode()
    return head.replace("{policy}", policy).replace("{title}", escaped).encode(), tail.encode()


def _data(name: str, text: str, kind: str = "application/json") -> bytes:
    """Return an element that the page finds by `name`; a "<" in JSON is escaped, so that nothing in it ends it."""
    escaped = text.replace("<", "\\u003c")
    return f'<script type="{kind}" id="{name}">{escaped}</script>\n'.encode("ascii")


def _told(number: int, entry: PageEntry, settings: Mapping[str, object], folder: Path, total: int) -> Iterator[bytes]:
    """Yield the elements of one picture: what is said of it, and its previews as far as there are any."""
    files = {"before": entry.source, "after": entry.target}
    of_files = entry.size_in is None and entry.state != "failed"  # the result of an earlier run
    previews: dict[str, _Preview] = {}
    links = {}
    problems = []
    pixels: dict[str, Pixels] = {}
    for side, path in files.items():
        if path is None:
            continue
        try:
            picture = image.read(path, tolerant=True)
            preview, thumbnail = _previews(picture, total)
        except PictureUnreadable as error:
            problems.append(str(error))
        except MemoryError:
            problems.append(f"{path} needs more memory to be shown than there is: open it by itself.")
        else:
            previews |= {side: preview, "thumbnail": thumbnail}  # the result's, where there is one
            links[side] = _link(path, folder)
            pixels[side] = pixels_of(picture)
            if of_files:
                size = (picture.pixels.shape[-2], picture.pixels.shape[-1])
                entry = replace(entry, size_in=size) if side == "before" else _recorded(entry, size, picture.xmp)
                settings = entry.settings
    departs = None
    if len(pixels) == len(files):
        departs = consistency(pixels["after"], pixels["before"])
        previews["heat"] = _heat(pixels["after"], pixels["before"])
    content = {
        "name": entry.source.name,
        "state": entry.state,
        "message": entry.message,
        "problems": problems,
        "paths": {side: str(path) for side, path in files.items() if path is not None},
        "links": links,
        "previews": {side: {"height": it.height, "width": it.width} for side, it in previews.items()},
        "seconds": round(entry.seconds, 3),
        "sizeIn": entry.size_in,
        "sizeOut": entry.size_out,
        "tags": entry.tags,
        "prompt": entry.prompt,
        "settings": _in_words(settings),
        "notes": entry.notes,
        "consistency": None if departs is None else departs.as_record(),
    }
    yield _data(f"entry-{number}", json.dumps(content))
    for side, preview in previews.items():
        yield _data(f"{side}-{number}", preview.address, "text/plain")


def _recorded(entry: PageEntry, size: tuple[int, int], xmp: bytes | None) -> PageEntry:
    """Return `entry` with what its result, of an earlier run, tells in its packet `xmp` of how it was made."""
    entry = replace(entry, size_out=size)
    record = provenance.extract(xmp) if xmp else None
    if record is None:
        return entry
    try:
        recipe = provenance.settings_of(record, entry.target)
        scores = [min(1.0, max(0.0, float(tag["score"]))) for tag in record["tags"]]
        prompt = str(record["prompt"])
    except (UsageError, LookupError, TypeError, ValueError):  # a later version's, or somebody's own
        return entry
    settings = {"model": recipe.model, **asdict(recipe.settings)}
    return replace(entry, tags=tuple(zip(recipe.tags, scores, strict=True)), prompt=prompt, settings=settings)


def _link(path: Path, folder: Path) -> str:
    """Return the address of `path` as seen from a page in `folder`."""
    try:
        relative = Path(os.path.relpath(path, folder))
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(os.fsencode(relative.as_posix()))


def _shared(several: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the settings that all of `several` have alike."""
    first, *others = several or [{}]
    return {name: value for name, value in first.items() if all(name in it and it[name] == value for it in others)}


def _in_words(settings: Mapping[str, object]) -> dict[str, str]:
    """Return `settings` as they are read; those that are not set are left out."""
    words = {}
    for name, value in settings.items():
        if value is None or value == "" or value == ():
            continue
        if isinstance(value, tuple | list):
            words[name] = ", ".join(map(str, value))
        else:
            words[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return words


class _Preview(NamedTuple):
    """A picture as the page holds it: a `data:` address, and its size in pixels."""

    address: str
    height: int
    width: int


def _heat(result: Pixels, source: Pixels) -> _Preview:
    """Return where the result departs from its input: red, the less transparent the further, over the whole result."""
    difference, _ = departure(result, source)
    far = np.sqrt(np.square(difference).mean(axis=2))
    opacity = np.zeros((*far.shape, 4), np.uint8)
    opacity[:, :, 0] = 255
    opacity[:, :, 3] = np.rint(np.clip(far / HOTTEST, 0, 1) * 255)
    shown = Image.fromarray(opacity)
    shown.thumbnail((_LONGEST_HEAT, _LONGEST_HEAT), Image.Resampling.BOX)
    return _encoded(shown, few=False)


def _previews(picture: image.Picture, total: int) -> tuple[_Preview, _Preview]:
    """Return the preview of `picture`, one of `total`, and its thumbnail."""
    most = max(_LEAST_PREVIEW_PIXELS, min(MOST_PREVIEW_PIXELS, PAGE_PIXELS // total))
    shown = as_shown(picture, most)
    thumbnail = shown.copy()
    thumbnail.thumbnail(_THUMBNAIL)
    return _encoded(shown, few=total <= _FEW), _encoded(thumbnail, few=False)


def _encoded(shown: Image.Image, few: bool) -> _Preview:
    options: dict[str, Any] = {"format": "WEBP", "quality": 92 if few else 78, "method": 3}
    if few and shown.mode == "RGB":
        options = {"format": "JPEG", "quality": 92, "subsampling": 0}
    file = BytesIO()
    shown.save(file, **options)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return _Preview(f"data:image/{options['format'].lower()};base64,{text}", shown.height, shown.width)
