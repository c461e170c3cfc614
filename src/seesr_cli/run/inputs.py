"""Find the pictures that a person named, by files, folders, patterns and lists.

Nothing here imports torch, so a wrong name is answered at once. Each file costs hardly a question to the disk, so a
hundred thousand pictures are found in seconds.
"""

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .. import image
from ..errors import PictureError, UsageError
from ..files import as_spelled, cause, composed
from .naming import (
    DEFAULT_PATTERN,
    VARIANT_PATTERN,
    is_result,
    preview_name,
    recognising,
    sheet_name,
    split_suffix,
)

STREAM = "-"
"""Means stdin among inputs and lists, and stdout as the output. A file of this name is typed `./-`."""

# Files that operating systems put into folders, apart from names that begin with a dot.
# fmt: off
_OF_THE_SYSTEM = frozenset({
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found",
    "system volume information",
})
# fmt: on
TAG_SUFFIXES = (".json", ".txt")  # of sidecars: beside a picture, with its stem
_OURS = (".html", ".jsonl", ".latent.safetensors")  # other files that a run may leave in a folder

_NAMED = 3  # names in one sentence; the rest is counted


class InputFile(NamedTuple):
    """One picture to work on.

    path: as the person would write it; `-` for stdin.
    relative: path below the folder that was named, and later below the output; never absolute, never upwards. For
        stdin it is `stdin`.
    stdin: whether the picture comes on stdin.
    pipe: whether the picture comes by another pipe, as of `<(command)`.
    content: of a stream that was read already, for another process.
    """

    path: Path
    relative: Path
    stdin: bool = False
    pipe: bool = False
    content: bytes | None = None

    @property
    def stream(self) -> bool:
        """Whether the picture can be read once only, and its path says nothing of it."""
        return self.stdin or self.pipe


class FoundInputs(NamedTuple):
    """The pictures to work on, each once, in the order named.

    notes: a sentence for each thing that was passed over.
    strangers: files in searched folders that are no pictures.
    """

    pictures: tuple[InputFile, ...]
    notes: tuple[str, ...]
    strangers: tuple[Path, ...]


def read_bytes(source: InputFile) -> bytes:
    """Return the content of the input file, from stdin if it comes there. Raises PictureError."""
    if source.content is not None:
        return source.content
    if source.stdin:
        return _stdin().read()
    if source.pipe:
        try:
            return source.path.read_bytes()
        except OSError as error:
            raise PictureError(f"{source.path} cannot be read ({cause(error)}): give a file.") from error
    return image.load(source.path)


def _stdin() -> BinaryIO:
    """Return stdin. Raises UsageError if the process was started without one."""
    if sys.stdin is None:
        raise UsageError("- stands for stdin, and there is none: send it a picture or a list with < or |.")
    return sys.stdin.buffer


def find(
    inputs: Sequence[str],
    lists: Sequence[str] = (),
    *,
    output: str | None = None,
    name: str | None = None,
    stdin: BinaryIO | None = None,
) -> FoundInputs:
    """Return the pictures that `inputs` and then `lists` name, each once, in the order of first mention.

    inputs: files, folders, patterns, or `-` for a picture on stdin. A file counts whatever its name. A folder is
        searched with all folders in it. A pattern holds `*`, `?`, `[...]` or `**`; a file of that very name wins.
    lists: files, or `-` for stdin, that name one picture or folder per line, or end every name with a NUL
        (`find -print0`). Names are taken byte for byte: a list has no patterns and no comments (`#1.jpg` is a name).
        Only empty lines and the CR of a CRLF are dropped.
    output, name: as `outputs.plan_results` will get them.
    stdin: stream to read a list from; default: the process's own stdin.

    In a folder, every file with a known suffix is a picture. The folder's own pictures come before those of its
    subfolders, each in natural order (photo 9 before photo 10). Hidden files and the system's files are ignored. Links
    to folders, unreadable folders, the folder of the results, and earlier results (`photo_x4.png` beside `photo.jpg`)
    with their previews and sheets are passed over with a note. A file that is no picture, and no sidecar of one, is a
    stranger.

    A listed picture that does not exist is returned and fails in its turn, because a list can be an hour old. A
    relative name in a list keeps its folders below the output, because names repeat in long lists.

    Raises UsageError if an input or a list is missing or unreadable, stdin is named twice, or no picture is found.
    """
    if sum(map(_is_stdin, [*inputs, *lists])) > 1:
        raise UsageError("stdin (-) can be used once only: for one picture, or for one list.")
    if not inputs and not lists:
        raise UsageError("There is no input: name pictures or folders, or give a list of them with --from-list.")
    own = _Results(
        output=None if output in (None, "", STREAM) else os.path.realpath(output),
        name=name or DEFAULT_PATTERN,
        alone=len(inputs) == 1 and not lists,
    )
    found = [(one, _pictures_of(one, own)) for one in inputs]
    found += [(one, _pictures_of_listed(one, own)) for names in lists for one in _names_in(names, stdin)]
    sources = [source for _, part in found for source in part.pictures]
    once: dict[str, InputFile] = {}
    for source, place in zip(sources, spelled_once([source.path for source in sources]), strict=True):
        once.setdefault(STREAM if source.stdin else place, source)
    empty = [f"{one} holds no pictures" for one, part in found if not part.pictures and not part.notes]
    notes = list(dict.fromkeys([*empty, *(note for _, part in found for note in part.notes)]))
    strangers = tuple(dict.fromkeys(path for _, part in found for path in part.strangers))
    if not once:
        rest = f"; {left_alone(strangers)}" if strangers else ": name others."
        raise UsageError(f"{in_words(notes, '; ') or f'The list {lists[0]} names nothing'}{rest}")
    return FoundInputs(tuple(once.values()), tuple(notes), strangers)


class _Results(NamedTuple):
    """How a search tells earlier results from inputs.

    output: real path of the output; None: beside the pictures, or stdout.
    name: pattern of the results' names.
    alone: whether one input was named; then the folder of the results may be searched.
    """

    output: str | None
    name: str
    alone: bool


def _pictures_of(one: str, own: _Results) -> FoundInputs:
    """Return the pictures that the argument `one` names. Raises UsageError if it names nothing."""
    path = as_spelled(Path(one))
    if not one:
        raise UsageError("An input is empty: give the name of a picture or a folder.")
    if _is_stdin(one):
        _stdin()
        return FoundInputs((InputFile(path, Path("stdin"), stdin=True),), (), ())
    if _is_pipe(path):
        return FoundInputs((InputFile(path, Path(path.name), pipe=True),), (), ())
    if is_folder(path):
        return _in_folder(path, Path(), own)
    if os.path.lexists(path):
        return FoundInputs((InputFile(path, Path(path.name)),), (), ())
    if glob.has_magic(one):
        return _matched(one, own)
    raise UsageError(f"{one} is not there: check the name.")


def _is_stdin(one: str) -> bool:
    return one in (STREAM, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def _is_pipe(path: Path) -> bool:
    """Return whether `path` is no file but a pipe, or another name of what this process was given open."""
    if path.parent in (Path("/dev/fd"), Path("/proc/self/fd"), Path(f"/proc/{os.getpid()}/fd")):
        return True
    try:
        return path.is_fifo()
    except OSError:
        return False


def _pictures_of_listed(one: str, own: _Results) -> FoundInputs:
    """Return the pictures that the line `one` of a list names; a missing file is returned as it is."""
    path = as_spelled(Path(one))
    inside = not path.anchor and ".." not in path.parts
    if is_folder(path):
        return _in_folder(path, path if inside else Path(), own)
    return FoundInputs((InputFile(path, path if inside else Path(path.name)),), (), ())


def _names_in(file: str, stdin: BinaryIO | None) -> list[str]:
    """Return the names in a list, in order."""
    try:
        content = (stdin or _stdin()).read() if _is_stdin(file) else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"The list {file} cannot be read ({cause(error)}): check the name.") from error
    if content.startswith(b"\xff\xfe") and content[3:4] == b"\0":  # as PowerShell 5 writes it
        raise UsageError(f"The list {file} is UTF-16: save it as UTF-8.")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        names = content.split(b"\0")
    else:
        names = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    return [os.fsdecode(name) for name in names if name]


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder; a name that is too long is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


class _Listing(NamedTuple):
    """Names of the files in `folder`, in natural order; place: that folder's path below the output."""

    folder: Path
    place: Path
    names: list[str]


def _in_folder(folder: Path, place: Path, own: _Results) -> FoundInputs:
    """Return the pictures in `folder` and its subfolders; place: its path below the output."""
    listings, notes = _searched([(folder, place)], own)
    return _sorted_out(listings, notes, _patterns(own, folder))


def _searched(roots: Sequence[tuple[Path, Path]], own: _Results) -> tuple[list[_Listing], list[str]]:
    """Return the files in `roots` and all their subfolders, and a note for each folder passed over.

    roots: folders with their places below the output.
    """
    listings: list[_Listing] = []
    notes: list[str] = []
    once: set[str] = set()  # a junction on Windows is a link that does not say so
    named = set(roots)
    waiting = list(reversed(roots))
    while waiting:
        folder, place = waiting.pop()
        is_root = (folder, place) in named
        real = os.path.realpath(folder)
        if real in once:
            continue
        once.add(real)
        if real == own.output and not (is_root and own.alone):
            notes.append(f"{folder}: not searched, the results go there")
            continue
        try:
            names, folders, links = _entries(folder)
        except OSError as error:
            if is_root:
                reason = f"The folder {folder} cannot be read ({cause(error)})"
                raise UsageError(f"{reason}: check its permissions.") from error
            notes.append(f"{folder}: not searched, it cannot be read ({cause(error)})")
            continue
        names = [name for name in names if own.output != f"{real}{os.sep}{name}"]
        listings.append(_Listing(folder, place, names))
        notes += [f"{folder / name}: a link to a folder, not followed; name it to search it" for name in links]
        waiting += [(folder / name, place / name) for name in reversed(folders)]
    return listings, notes


def _entries(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return names of files, folders, and links to folders, in natural order, without ignored names."""
    files, folders, links = list[str](), list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_ignored(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink() and is_folder(Path(entry.path)):
                links.append(entry.name)
            else:
                files.append(entry.name)
    return sorted(files, key=_natural), sorted(folders, key=_natural), sorted(links, key=_natural)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that compares numbers in names by value."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)], name


def _matched(pattern: str, own: _Results) -> FoundInputs:
    """Return the pictures that `pattern` matches, and those in folders that it matches.

    Places begin where the wildcards begin: `2019/a.jpg` for `photos/*/*.jpg`.
    """
    parts = Path(pattern).parts
    base = Path(*parts[: [glob.has_magic(part) for part in parts].index(True)])
    try:
        found = list(base.glob(str(Path(*parts[len(base.parts) :]))))
    except ValueError:
        raise UsageError(f"{pattern} is no pattern: ** stands for folders, as in photos/**/*.jpg.") from None
    places = [(path, path.relative_to(base)) for path in found]
    places = [(path, place) for path, place in places if not any(map(_is_ignored, place.parts))]
    if not places:
        raise UsageError(f"{pattern} matches nothing: check the pattern.")
    places.sort(key=lambda one: [_natural(part) for part in one[1].parts])
    folders: list[tuple[Path, Path]] = []
    files: dict[tuple[Path, Path], list[str]] = {}
    for path, place in places:
        if is_folder(path):
            folders.append((path, place))
        else:
            files.setdefault((path.parent, place.parent), []).append(path.name)
    listings, notes = _searched(folders, own._replace(alone=False))
    listings = [_Listing(*where, names) for where, names in files.items()] + listings
    return _sorted_out(listings, notes, _patterns(own, base))


def _sorted_out(listings: Sequence[_Listing], notes: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> FoundInputs:
    """Return the listed files as pictures, earlier results (in a note, known by `patterns`) and strangers."""
    pictures: list[InputFile] = []
    results: list[Path] = []
    strangers: list[Path] = []
    for folder, place, names in listings:
        parted = [(name, *split_suffix(name)) for name in names]
        seen = [(name, stem) for name, stem, suffix in parted if suffix.lower() in image.SUFFIXES]
        known = {composed(one) for name_and_stem in seen for one in name_and_stem}
        for name, _ in seen:
            if is_result(name, known, patterns):
                results.append(folder / name)
            else:
                pictures.append(InputFile(folder / name, place / name))
        for name, stem, suffix in parted:
            belongs = name.endswith(_OURS) or (suffix in TAG_SUFFIXES and composed(stem) in known)
            if not belongs and suffix.lower() not in image.SUFFIXES:
                strangers.append(folder / name)
    return FoundInputs(tuple(pictures), (*notes, *_passed_over(results)), tuple(strangers))


def _patterns(own: _Results, folder: Path) -> list[re.Pattern[str]]:
    """Return patterns of earlier results, and of what shows them: the known ones, and `own.name` if it is for here."""
    beside = own.output in (None, os.path.realpath(folder))
    names = [DEFAULT_PATTERN, VARIANT_PATTERN, *([own.name] if beside else [])]
    names += [sheet_name(name) for name in names if "{seed}" in name]
    names += [preview_name(name) for name in names]
    return [recognising(name) for name in dict.fromkeys(names) if "{stem}" in name or "{name}" in name]


def _passed_over(results: Sequence[Path]) -> tuple[str, ...]:
    if not results:
        return ()
    rest = f" and {len(results) - 1} more" if len(results) > 1 else ""
    return (f"{results[0]}{rest}: passed over as earlier results; name them to restore them too",)


def left_alone(strangers: Sequence[Path]) -> str:
    """Return the sentence about the strangers, of which there is at least one."""
    what = "1 file is no picture" if len(strangers) == 1 else f"{len(strangers)} files are no pictures"
    return f"{what}: {in_words([str(path) for path in strangers])}."


def in_words(names: Sequence[str], between: str = ", ") -> str:
    """Return the first three of `names`, and how many more there are."""
    rest = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return between.join([*names[:_NAMED], *rest])


def spelled_once(paths: Iterable[Path]) -> list[str]:
    """Return each path with the links among its folders resolved; a link at its end is kept as it is."""
    folders: dict[str, str] = {}
    places = []
    for path in paths:
        folder, separator, name = str(path).rpartition(os.sep)
        folder += separator
        if folder not in folders:
            folders[folder] = os.path.realpath(folder).rstrip(os.sep) + os.sep
        places.append(folders[folder] + name)
    return places
