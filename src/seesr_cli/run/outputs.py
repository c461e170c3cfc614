"""What the person named becomes jobs: pictures, and where their results go.

No torch, so that a wrong name is answered at once; and hardly a question to the disk per file, so that a hundred
thousand pictures are planned in seconds.
"""

import errno
import glob
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .. import image
from ..errors import OutputUnwritable, UsageError
from ..files import cause
from ..settings import Format

STREAM = "-"
"""What stands for stdin among inputs and lists, and for stdout as the output; a file of that name is `./-`."""

NAME = "{stem}_x{scale}{suffix}"
"""The names of results, unless another pattern is given."""

_FIELDS = ("{stem}", "{name}", "{scale}", "{suffix}")
_DISTINCT_NAME = "{name}_x{scale}{suffix}"  # keeps a.jpg and a.png apart

# What a scale looks like in a result's name: 4, 2.5, or a size asked for: w3000, h2000, w3000h2000, l4096, m12.5.
_SCALE = r"[whlm]?\d+(?:\.\d+)?(?:h\d+)?"

# What systems put into folders, beside what begins with a dot.
# fmt: off
_OF_THE_SYSTEM = frozenset({
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found",
    "system volume information",
})
# fmt: on
_TAGS = (".json", ".txt")  # beside a picture, and with its stem
_OURS = (".html", ".jsonl", ".latent.safetensors")  # what else a run may leave

_TOLD = 3  # of many names


class Source(NamedTuple):
    """One picture to work on.

    path: as the person would write it. relative: its place below the folder that was named, and then below the output;
    never absolute, never upwards. stdin: the picture comes on stdin; path is then `-`, and relative `stdin`.
    """

    path: Path
    relative: Path
    stdin: bool = False


class Sources(NamedTuple):
    """The pictures to work on, each once, in the order named.

    notes: what was passed over, a sentence each. strangers: the files met in folders that are no pictures.
    """

    pictures: tuple[Source, ...]
    notes: tuple[str, ...]
    strangers: tuple[Path, ...]


@dataclass(frozen=True)
class Job:
    """One picture to restore, where the result goes (None: to stdout), and its format."""

    source: Source
    target: Path | None
    kind: Format

    @property
    def sidecar(self) -> Path | None:
        """Where the description of the result goes, if one is asked for; None where the result goes to stdout."""
        return None if self.target is None else self.target.with_suffix(".json")


# --- what is an input --------------------------------------------------------------------------------------------


def find(
    inputs: Sequence[str],
    lists: Sequence[str] = (),
    *,
    output: str | None = None,
    name: str | None = None,
    stdin: BinaryIO | None = None,
) -> Sources:
    """Return the pictures that `inputs` and then `lists` name; one that is named twice is there once, as first named.

    inputs: files, whatever their names; folders, and all folders in them; `-`, the picture on stdin; and patterns with
    `*`, `?`, `[...]` or `**`, unless a file has that very name, whose matches are taken like what is in a folder.
    In a folder a picture is what has a known suffix. Its own pictures come before those of folders in it, each in
    natural order (photo 9 before photo 10). Hidden files and the system's are ignored; links to folders, folders that
    cannot be read, the folder of the results, and earlier results (`photo_x4.png` beside `photo.jpg`) are passed over
    with a note; files that are no pictures, and do not belong to one as its tags do, are strangers.

    lists: files, or `-` for stdin (`stdin`, the process's own by default), which name a picture or a folder per line,
    or end every name with a NUL (`find -print0`). Names are the bytes they are: no patterns, and no comments, for
    `#1.jpg` is a name; only the CR of a CRLF and empty lines are dropped. A listed picture that is not there is
    returned like the others and fails in its turn: a list that is an hour old is no reason to do nothing tonight.
    Names in a list that are relative keep their folders below the output: in a list of thousands many are the same.

    output, name: as `plan` will be given them. Raises UsageError where an input or a list is not there or cannot be
    read, stdin is named twice, or there is no picture at all.
    """
    if [*inputs, *lists].count(STREAM) > 1:
        raise UsageError("stdin (-) can be used once only: for one picture, or for one list.")
    if not inputs and not lists:
        raise UsageError("There is no input: name pictures or folders, or give a list of them with --from-list.")
    own = _Own(
        output=None if output in (None, "", STREAM) else os.path.realpath(output),
        name=name or NAME,
        alone=len(inputs) == 1 and not lists,
    )
    found = [(one, _taken(one, own)) for one in inputs]
    found += [(one, _listed(one, own)) for names in lists for one in _names_in(names, stdin)]
    sources = [source for _, part in found for source in part.pictures]
    once: dict[str, Source] = {}
    for source, place in zip(sources, _places([source.path for source in sources]), strict=True):
        once.setdefault(STREAM if source.stdin else place, source)
    empty = [f"{one} holds no pictures" for one, part in found if not part.pictures and not part.notes]
    notes = list(dict.fromkeys([*empty, *(note for _, part in found for note in part.notes)]))
    strangers = tuple(dict.fromkeys(path for _, part in found for path in part.strangers))
    if not once:
        rest = f"; {left_alone(strangers)}" if strangers else ": name others."
        raise UsageError(f"{_several(notes, '; ') or f'The list {lists[0]} names nothing'}{rest}")
    return Sources(tuple(once.values()), tuple(notes), strangers)


class _Own(NamedTuple):
    """What a search must know of the results: their real place and their pattern; and whether it has one input only."""

    output: str | None
    name: str
    alone: bool


def _taken(one: str, own: _Own) -> Sources:
    """Return what the argument `one` stands for."""
    path = Path(one)
    if not one:
        raise UsageError("An input is empty: give the name of a picture or a folder.")
    if one == STREAM:
        return Sources((Source(path, Path("stdin"), stdin=True),), (), ())
    if _is_folder(path):
        return _in_folder(path, Path(), own)
    if os.path.lexists(path):
        return Sources((Source(path, Path(path.name)),), (), ())
    if glob.has_magic(one):
        return _matched(one, own)
    raise UsageError(f"{one} is not there: check the name.")


def _listed(one: str, own: _Own) -> Sources:
    """Return what `one`, in a list, stands for."""
    path = Path(one)
    inside = not path.anchor and ".." not in path.parts
    if _is_folder(path):
        return _in_folder(path, path if inside else Path(), own)
    return Sources((Source(path, path if inside else Path(path.name)),), (), ())


def _names_in(file: str, stdin: BinaryIO | None) -> list[str]:
    """Return the names in a list, in order."""
    try:
        content = (stdin or sys.stdin.buffer).read() if file == STREAM else Path(file).read_bytes()
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


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long to be one
        return False


class _Listing(NamedTuple):
    """Names of files in one folder, in natural order; and the place of that folder."""

    folder: Path
    place: Path
    names: list[str]


def _in_folder(folder: Path, place: Path, own: _Own) -> Sources:
    """Return the pictures in `folder`, whose own place is `place`, and in all folders in it."""
    listings, notes = _searched([(folder, place)], own)
    return _sorted_out(listings, notes, _patterns(own, folder))


def _searched(roots: Sequence[tuple[Path, Path]], own: _Own) -> tuple[list[_Listing], list[str]]:
    """Return what is in `roots` (folders with their places) and in all folders in them, and what was passed over."""
    listings: list[_Listing] = []
    notes: list[str] = []
    once: set[str] = set()  # Windows has folders that are links and do not say so
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
    """Return the names of files, of folders, and of links to folders, in natural order and without what is ignored."""
    files, folders, links = list[str](), list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_ignored(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink() and _is_folder(Path(entry.path)):
                links.append(entry.name)
            else:
                files.append(entry.name)
    return sorted(files, key=_natural), sorted(folders, key=_natural), sorted(links, key=_natural)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts numbers in names by their value."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)], name


def _matched(pattern: str, own: _Own) -> Sources:
    """Return the pictures that `pattern` matches, and those in folders that it matches.

    Their places are below the part of the pattern that is no pattern: `2019/a.jpg` for `photos/*/*.jpg`.
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
        if _is_folder(path):
            folders.append((path, place))
        else:
            files.setdefault((path.parent, place.parent), []).append(path.name)
    listings, notes = _searched(folders, own._replace(alone=False))
    listings = [_Listing(*where, names) for where, names in files.items()] + listings
    return _sorted_out(listings, notes, _patterns(own, base))


def _sorted_out(listings: Sequence[_Listing], notes: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> Sources:
    """Return the pictures, the `notes` and one about earlier results, known by `patterns`, and the strangers."""
    pictures: list[Source] = []
    results: list[Path] = []
    strangers: list[Path] = []
    for folder, place, names in listings:
        parted = [(name, *_parted(name)) for name in names]
        seen = [(name, stem) for name, stem, suffix in parted if suffix.lower() in image.SUFFIXES]
        known = {one for name_and_stem in seen for one in name_and_stem}
        for name, _ in seen:
            if _is_result(name, known, patterns):
                results.append(folder / name)
            else:
                pictures.append(Source(folder / name, place / name))
        for name, stem, suffix in parted:
            belongs = name.endswith(_OURS) or (suffix in _TAGS and stem in known)
            if not belongs and suffix.lower() not in image.SUFFIXES:
                strangers.append(folder / name)
    return Sources(tuple(pictures), (*notes, *_passed_over(results)), tuple(strangers))


def _parted(name: str) -> tuple[str, str]:
    """Return the stem and the suffix of a file's name."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def _is_result(name: str, known: set[str], patterns: Sequence[re.Pattern[str]]) -> bool:
    """Return whether `name` is that of a result of another picture in `known` (names, and their stems)."""
    for pattern in patterns:
        if found := pattern.fullmatch(name):
            origin = found["origin"]
            if origin in known and origin not in (name, _parted(name)[0]):
                return True
    return False


def _patterns(own: _Own, folder: Path) -> list[re.Pattern[str]]:
    """Return what earlier results are known by: the usual names, and `own` where results go beside pictures."""
    beside = own.output in (None, os.path.realpath(folder))
    names = [NAME, own.name] if beside else [NAME]
    return [_recognising(name) for name in dict.fromkeys(names) if "{stem}" in name or "{name}" in name]


def _recognising(name: str) -> re.Pattern[str]:
    """Return what matches the names that the pattern `name` makes; its group `origin` is a picture's stem or name."""
    suffixes = "|".join(map(re.escape, image.WRITTEN_SUFFIXES))
    fields = {r"\{scale\}": _SCALE, r"\{suffix\}": f"(?:{suffixes})"}
    pattern = re.escape(name)
    for field, meaning in fields.items():
        pattern = pattern.replace(field, meaning)
    first = r"\{name\}" if "{name}" in name else r"\{stem\}"
    pattern = pattern.replace(first, "(?P<origin>.+)", 1).replace(first, "(?P=origin)")
    return re.compile(pattern.replace(r"\{stem\}", ".+"), re.DOTALL)


def _passed_over(results: Sequence[Path]) -> tuple[str, ...]:
    if not results:
        return ()
    rest = f" and {len(results) - 1} more" if len(results) > 1 else ""
    return (f"{results[0]}{rest}: passed over as earlier results; name them to restore them too",)


def left_alone(strangers: Sequence[Path]) -> str:
    """Return the sentence about the files met that are no pictures; there is at least one."""
    what = "1 file is no picture" if len(strangers) == 1 else f"{len(strangers)} files are no pictures"
    return f"{what}: {_several([str(path) for path in strangers])}."


def _several(names: Sequence[str], between: str = ", ") -> str:
    """Return the first few of `names`, and how many more there are."""
    rest = [f"and {len(names) - _TOLD} more"] if len(names) > _TOLD else []
    return between.join([*names[:_TOLD], *rest])


# --- where results go --------------------------------------------------------------------------------------------


def plan(
    pictures: Sequence[Source],
    output: str | None,
    name: str | None = None,
    scale_label: str = "4",
    kind: Format | None = None,
) -> tuple[Job, ...]:
    """Return a job per picture. Without `output` the result is `photo_x4.png` beside `photo.jpg`.

    output: a folder (made when the first result is written) if it is one, ends in a separator, has no suffix, or
    several pictures go there: a result has the place below it that its picture has below the folder named. Otherwise it
    is the one result's own name; or `-`, stdout, for one picture.
    name: the pattern of results' names, by default `{stem}_x{scale}{suffix}`; not used where `output` is a name. Its
    fields: {stem} and {name}, the picture's name without and with its suffix; {scale}, which is `scale_label`;
    {suffix}, the result's, which stands at the end, unless the pattern ends in a suffix itself.
    kind: the format; where it is None, that of the output's or the pattern's suffix, or PNG.

    Raises UsageError where the pattern cannot be filled in, a suffix contradicts `kind`, a result would replace an
    input (also through a link), or two results would be one file, be it that only the file system takes them for one,
    by capitals or by how accents are written. All of these are told together, before anything is made.
    """
    if output == STREAM:
        if len(pictures) > 1:
            raise UsageError(f"stdout (-) takes one picture, but there are {len(pictures)}: name a folder with -o.")
        return (Job(pictures[0], None, kind or "png"),)
    if output is not None and not _names_folder(output, several=len(pictures) > 1):
        jobs = [Job(pictures[0], *_checked_file(Path(output), kind))]
    else:
        name = NAME if name is None else name
        kind = _checked_name(name, kind)
        suffix = image.FORMATS[kind].suffixes[0]
        jobs = []
        for source in pictures:
            if output is None and source.stdin:
                raise UsageError(
                    "The picture on stdin has no folder for its result: name a file with -o, or - for stdout."
                )
            folder = source.path.parent if output is None else Path(output, source.relative.parent)
            jobs.append(Job(source, folder / _filled(name, source.relative.name, scale_label, suffix), kind))
    _check_apart(jobs)
    return tuple(jobs)


def _names_folder(output: str, several: bool) -> bool:
    path = Path(output)
    if not output:
        raise UsageError("--output is empty: name a file or a folder.")
    if _is_folder(path):
        return True
    if os.path.lexists(path) and (several or output.endswith(("/", os.sep))):
        raise UsageError(f"{output} is a file: name a folder with -o for several pictures.")
    if output.endswith(("/", os.sep)) or not path.suffix:
        return True
    if several and path.suffix.lower() in image.WRITTEN_SUFFIXES:
        raise UsageError(f"{output} names one file, but there are several pictures: name a folder, as {path.stem}/.")
    return several


def _checked_file(path: Path, kind: Format | None) -> tuple[Path, Format]:
    own = image.kind_of(path)
    if own is None:
        known = " ".join(image.WRITTEN_SUFFIXES)
        raise UsageError(f"{path} has no suffix that is written: end it with one of {known}, or with / for a folder.")
    if kind not in (None, own):
        raise UsageError(f"{path} does not go with --format {kind}: change its suffix, or leave out --format.")
    if not _is_folder(path.parent):
        raise UsageError(f"{path} cannot be written, there is no folder {path.parent}: make it first.")
    return path, own


def _checked_name(name: str, kind: Format | None) -> Format:
    """Return the format of results named by the pattern `name`, if it is one."""
    unknown = [field for field in re.findall(r"\{[^{}]*\}?|\}", name) if field not in _FIELDS]
    if unknown:
        raise UsageError(f"--name {name} has a field {unknown[0]}: there are {' '.join(_FIELDS)}.")
    if any(separator in name for separator in ("/", os.sep, os.altsep, "\0") if separator):
        raise UsageError(f"--name {name} holds more than a file's name: choose the folder with -o.")
    if not name or name.startswith((".", "{suffix}")):
        raise UsageError(f"--name {name} makes names that are empty or hidden: begin it with {{stem}}.")
    if name.endswith("{suffix}"):
        return kind or "png"
    own = image.kind_of(Path(name))
    if own is None:
        raise UsageError(f"--name {name} has no suffix: end it with {{suffix}}, as {name}{{suffix}}.")
    if kind not in (None, own):
        raise UsageError(f"--name {name} does not go with --format {kind}: end it with {{suffix}}.")
    return own


def _filled(name: str, picture: str, scale: str, suffix: str) -> str:
    fields = {"{stem}": _parted(picture)[0], "{name}": picture, "{scale}": scale, "{suffix}": suffix}
    return re.sub(r"\{\w+\}", lambda field: fields[field[0]], name)


def _check_apart(jobs: Sequence[Job]) -> None:
    """Return if no result takes the place of an input or of another result, else raise UsageError naming them."""
    targets = [job.target for job in jobs if job.target is not None]
    results = [
        _Result(job.source.path, target, place)
        for job, target, place in zip(jobs, targets, _places(targets), strict=True)
    ]
    troubles = [_replaced(results, [job.source.path for job in jobs if not job.source.stdin]), _doubled(results)]
    if any(troubles):
        raise UsageError(" ".join(filter(None, troubles)))


class _Result(NamedTuple):
    """A picture, the name of its result, and the one spelling of that name."""

    source: Path
    target: Path
    place: str


def _replaced(results: Sequence[_Result], inputs: Sequence[Path]) -> str:
    """Return the sentence about results that would take the place of inputs; empty if there is none."""
    by_place = dict(zip(_places(inputs), inputs, strict=True))
    tags = [place for place in by_place if place.endswith(_TAGS)]  # inputs where a result's tags might go
    identities = [_identity(result.target) for result in results]
    by_identity = {_identity(path): path for path in inputs} if any(identities) else {}
    told = []
    for result, identity in zip(results, identities, strict=True):
        taken = by_place.get(result.place) or (by_identity.get(identity) if identity else None)
        if tags and not taken:
            stem = result.place.removesuffix(result.target.suffix)
            taken = next((by_place[place] for place in tags if place in (stem + suffix for suffix in _TAGS)), None)
        if taken:
            told.append(f"{result.target} is to be the result of {result.source}, but {taken} is an input")
    if not told:
        return ""
    leave = "leave it out" if len(told) == 1 else "leave those out"
    return f"{_several(told, '; ')}, and inputs are never overwritten: {leave}, or choose another place with -o."


def _doubled(results: Sequence[_Result]) -> str:
    """Return the sentence about results that would be one file; empty if there is none."""
    made: dict[str, list[_Result]] = {}
    told = []
    alike = False
    for result in results:
        others = made.setdefault(unicodedata.normalize("NFC", result.place).casefold(), [])
        for other in others:
            if other.place == result.place or _is_one_file(other.place, result.place):
                told.append(f"{other.source} and {result.source} would both become {result.target}")
                alike = alike or other.source.name == result.source.name
                break
        others.append(result)
    if not told:
        return ""
    advice = f'tell them apart with --name "{_DISTINCT_NAME}"'
    if alike:
        advice = "name one folder that holds both, below which they have places of their own"
    return f"{_several(told, '; ')}: {advice}, or restore one of them separately, with its own -o."


def _is_one_file(one: str, other: str) -> bool:
    """Return whether two places spelled differently are one to the file system; asks it, and leaves nothing behind."""
    folder = Path(one).parent
    while not _is_folder(folder):
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".seesr-", dir=folder) as probe:
            for part, spelled in zip(Path(one).parts, Path(other).parts, strict=True):
                if part != spelled:
                    Path(probe, part).touch()
                    if not Path(probe, spelled).exists():
                        return False
    except OSError:  # nothing can be written there: each result fails in its turn, and says so
        return False
    return True


def _places(paths: Iterable[Path]) -> list[str]:
    """Return the one spelling of each name in its folder; a link is a name of its own, a link among its folders not."""
    folders: dict[str, str] = {}
    places = []
    for path in paths:
        folder, separator, name = str(path).rpartition(os.sep)
        folder += separator
        if folder not in folders:
            folders[folder] = os.path.realpath(folder).rstrip(os.sep) + os.sep
        places.append(folders[folder] + name)
    return places


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what is the same for two names of one file, also through links and where capitals do not count."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_there(job: Job) -> bool:
    """Return whether something is at the place of the job's result (a folder there is an obstacle, not a result)."""
    return job.target is not None and os.path.lexists(job.target) and not job.target.is_dir()


def check_name(job: Job) -> None:
    """Return if the file system takes the names of the job's result and sidecar, else raise OutputUnwritable.

    Only where the folder is there is it the file system that answers.
    """
    for path in filter(None, (job.target, job.sidecar)):
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                reason = f"{path} cannot be written, the name is too long"
                raise OutputUnwritable(f"{reason}: choose shorter ones with --name, or rename the picture.") from error
