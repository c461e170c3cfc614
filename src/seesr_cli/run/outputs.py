"""Plan where each result goes, before anything is made.

A plan is refused when a result would replace an input or another result. Nothing here imports torch, and each picture
costs hardly a question to the disk, so a hundred thousand results are planned in seconds.
"""

import errno
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .. import image
from ..errors import OutputUnwritable, UsageError
from ..files import as_spelled, composed
from ..settings import Format
from .inputs import STREAM, TAG_SUFFIXES, InputFile, in_words, is_folder, spelled_once
from .naming import DEFAULT_PATTERN, VARIANT_PATTERN, checked, filled

_DISTINCT_NAME = "{name}_x{scale}{suffix}"  # keeps a.jpg and a.png apart


@dataclass(frozen=True)
class Job:
    """One picture to restore.

    target: path of the result; None: stdout.
    kind: format of the result.
    """

    source: InputFile
    target: Path | None
    kind: Format

    @property
    def folder(self) -> Path | None:
        """Folder that the person named, for the results or for the pictures, whose journal tells of the result."""
        if self.target is None:
            return None
        folder, inner = self.target.parent, self.source.relative.parent.parts
        spelled = [[composed(part) for part in parts] for parts in (folder.parts[-len(inner) :], inner)]
        if inner and spelled[0] == spelled[1]:  # not so if one file was named for the result
            return folder.parents[len(inner) - 1]
        return folder

    @property
    def sidecar(self) -> Path | None:
        """Longest path of a sidecar of the result; None if the result goes to stdout."""
        return None if self.target is None else self.target.with_suffix(".json")


def plan_results(
    pictures: Sequence[InputFile],
    output: str | None,
    name: str | None = None,
    scale_label: str = "4",
    kind: Format | None = None,
    seed: int = 0,
    several: bool = False,
) -> tuple[Job, ...]:
    """Return one job per picture. Without `output` the result is `photo_x4.png` beside `photo.jpg`.

    output: `-` for stdout (one picture only), the name of the one result, or a folder. It is a folder if it exists as
        one, ends in a separator, has no suffix, or is meant for several pictures. In it each result has the relative
        path of its picture. The folder is made when the first result is written.
    name: pattern of the results' names, default `{stem}_x{scale}{suffix}`; not used if `output` is a file. Fields:
        {stem} and {name}, the picture's name without and with suffix; {scale}, the `scale_label`; {seed}, the seed;
        {suffix}, the result's suffix, which stands at the end unless the pattern ends in a suffix itself.
    kind: format of the results; None: that of the suffix of the output or the pattern, else PNG.
    seed: of the results. several: whether they are one of several variants, whose names have their seeds in them.

    Raises UsageError if the pattern cannot be filled in, a suffix contradicts `kind`, a result would replace an input
    (also through a link), or two results would be one file. Two names can be one file to a file system that ignores
    capitals or the spelling of accents. All such collisions are told together, before anything is made.
    """
    if output == STREAM:
        if several or len(pictures) > 1:
            count = "several variants" if several else len(pictures)
            raise UsageError(f"stdout (-) takes one picture, but there are {count}: name a folder with -o.")
        return (Job(pictures[0], None, kind or "png"),)
    if output is not None and not _names_folder(output, several or len(pictures) > 1):
        jobs = [Job(pictures[0], *_checked_file(as_spelled(Path(output)), kind))]
    else:
        if name is None:
            name = VARIANT_PATTERN if several else DEFAULT_PATTERN
        elif several and "{seed}" not in name:
            raise UsageError(f"--name {name} gives all variants of a picture one name: put {{seed}} into it.")
        kind = checked(name, kind)
        suffix = image.FORMATS[kind].suffixes[0]
        targets = []
        for source in pictures:
            if output is None and source.stream:
                which = "on stdin" if source.stdin else f"that comes by {source.path}"
                raise UsageError(
                    f"The picture {which} has no folder for its result: name a file with -o, or - for stdout."
                )
            folder = source.path.parent if output is None else Path(output, source.relative.parent)
            targets.append(folder / filled(name, source.relative.name, scale_label, suffix, seed))
        jobs = [Job(source, target, kind) for source, target in zip(pictures, _spelled(targets), strict=True)]
    _check_apart(jobs)
    return tuple(jobs)


def _spelled(targets: Sequence[Path]) -> list[Path]:
    """Return the targets as their folders spell accents, where that is no other picture's target."""
    listings: dict[Path, dict[str, str]] = {}
    there = [as_spelled(target, listings) for target in targets]
    if there == list(targets):
        return there
    others = set(targets)
    return [target if place in others else place for target, place in zip(targets, there, strict=True)]


def _names_folder(output: str, several: bool) -> bool:
    path = Path(output)
    if not output:
        raise UsageError("--output is empty: name a file or a folder.")
    if is_folder(path):
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
    if not is_folder(path.parent):
        raise UsageError(f"{path} cannot be written, there is no folder {path.parent}: make it first.")
    return path, own


def _check_apart(jobs: Sequence[Job]) -> None:
    """Raise UsageError if a result would replace an input or another result; name them all."""
    targets = [job.target for job in jobs if job.target is not None]
    results = [
        _Planned(job.source.path, target, place)
        for job, target, place in zip(jobs, targets, spelled_once(targets), strict=True)
    ]
    troubles = [_replaced(results, [job.source.path for job in jobs if not job.source.stream]), _doubled(results)]
    if any(troubles):
        raise UsageError(" ".join(filter(None, troubles)))


class _Planned(NamedTuple):
    """A picture, the path of its result, and that path with links among its folders resolved."""

    source: Path
    target: Path
    place: str


def _replaced(results: Sequence[_Planned], inputs: Sequence[Path]) -> str:
    """Return the sentence about results that would replace inputs; empty if there are none."""
    by_place = dict(zip(spelled_once(inputs), inputs, strict=True))
    tags = [place for place in by_place if place.endswith(TAG_SUFFIXES)]  # inputs at the path of a sidecar
    identities = [_identity(result.target) for result in results]
    by_identity = {_identity(path): path for path in inputs} if any(identities) else {}
    told = []
    for result, identity in zip(results, identities, strict=True):
        taken = by_place.get(result.place) or (by_identity.get(identity) if identity else None)
        if tags and not taken:
            stem = result.place.removesuffix(result.target.suffix)
            sidecars = {stem + suffix for suffix in TAG_SUFFIXES}
            taken = next((by_place[place] for place in tags if place in sidecars), None)
        if taken:
            told.append(f"{result.target} is to be the result of {result.source}, but {taken} is an input")
    if not told:
        return ""
    leave = "leave it out" if len(told) == 1 else "leave those out"
    return f"{in_words(told, '; ')}, and inputs are never overwritten: {leave}, or choose another place with -o."


def _doubled(results: Sequence[_Planned]) -> str:
    """Return the sentence about results that would be one file; empty if there are none."""
    made: dict[str, list[_Planned]] = {}
    told = []
    alike = False
    for result in results:
        others = made.setdefault(composed(result.place).casefold(), [])
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
    return f"{in_words(told, '; ')}: {advice}, or restore one of them separately, with its own -o."


def _is_one_file(one: str, other: str) -> bool:
    """Return whether the file system takes two spellings for one path; tried in a temporary folder."""
    folder = Path(one).parent
    while not is_folder(folder):
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".seesr-", dir=folder) as probe:
            for part, spelled in zip(Path(one).parts, Path(other).parts, strict=True):
                if part != spelled:
                    Path(probe, part).touch()
                    if not Path(probe, spelled).exists():
                        return False
    except OSError:  # not writable: each result fails in its turn and says so
        return False
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at `path`, which all names of one file share; None if missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_there(job: Job) -> bool:
    """Return whether a file is at the path of the job's result; a folder does not count."""
    return job.target is not None and os.path.lexists(job.target) and not job.target.is_dir()


def check_name(job: Job) -> None:
    """Raise OutputUnwritable if the file system refuses the names of the job's result and sidecar as too long.

    A folder that does not exist yet is not checked.
    """
    for path in filter(None, (job.target, job.sidecar)):
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                reason = f"{path} cannot be written, the name is too long"
                raise OutputUnwritable(f"{reason}: choose shorter ones with --name, or rename the picture.") from error
