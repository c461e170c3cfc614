"""What the person named becomes jobs: pictures, and where their results go.

No torch, so that a wrong name is answered at once.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import image
from .errors import UsageError


class Sources(NamedTuple):
    """The pictures to work on, each once, in the order named; and what was passed over, a sentence each."""

    pictures: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One picture to restore, and where the result goes."""

    source: Path
    target: Path

    @property
    def sidecar(self) -> Path:
        """Where the description of the result goes, if one is asked for."""
        return self.target.with_suffix(".json")


def find(inputs: Sequence[str]) -> Sources:
    """Return the pictures that `inputs` name: files as they are, and the pictures directly in folders.

    In a folder a picture is a file with a known suffix, in natural order (photo 9 before photo 10); hidden ones are
    passed over, and so are earlier results, `photo_x4.png` beside `photo.jpg`. A picture named twice is there once.
    Raises UsageError where an input is not there or a folder holds no picture.
    """
    pictures: list[Path] = []
    notes: list[str] = []
    for name in inputs:
        path = Path(name)
        if not name:
            raise UsageError("An input is empty: give the name of a picture or a folder.")
        if _is_folder(path):
            found, results = _pictures_in(path)
            pictures += found
            if results:
                rest = f" and {len(results) - 1} more" if len(results) > 1 else ""
                notes.append(f"{results[0]}{rest}: passed over as earlier results; name them to restore them too")
        elif os.path.lexists(path):
            pictures.append(path)
        else:
            raise UsageError(f"{name} is not there: check the name.")
    once: dict[Path, Path] = {}
    for path in pictures:
        once.setdefault(_place(path), path)
    return Sources(tuple(once.values()), tuple(notes))


def _place(path: Path) -> Path:
    """Return the one spelling of a name in a folder; a link is a name of its own."""
    return Path(os.path.realpath(path.parent), path.name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long to be one
        return False


def _pictures_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures in `folder` to restore, and those that are earlier results."""
    try:
        files = [entry for entry in folder.iterdir() if entry.suffix.lower() in image.SUFFIXES and entry.is_file()]
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be read ({error.strerror}): check its permissions.") from error
    files = sorted((entry for entry in files if not entry.name.startswith(".")), key=_natural)
    stems = {entry.stem for entry in files}
    results = [entry for entry in files if _origin(entry) in stems]
    if not files:
        raise UsageError(f"The folder {folder} holds no pictures: folders in it are not searched, name them too.")
    return [entry for entry in files if _origin(entry) not in stems], results


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Return a key that sorts numbers in names by their value."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)], path.name


def _origin(path: Path) -> str | None:
    """Return the stem of the picture that `path`, by its name, is a result of; None where the name is no result's."""
    named = re.fullmatch(r"(.+)_x\d+(?:\.\d+)?", path.stem, flags=re.DOTALL)
    return named[1] if named and path.suffix == ".png" else None


def plan(pictures: Sequence[Path], output: str | None, scale: float) -> tuple[Job, ...]:
    """Return a job per picture. Without `output` the result is `photo_x4.png` beside `photo.jpg`.

    `output` is a folder for such names (made when the first one is written) if it is one, ends in a separator, has
    no suffix, or several pictures go there; otherwise it is the one result's own name, whose suffix is its format.
    Raises UsageError where a result would replace an input, or two results have one name.
    """
    if output is None:
        jobs = [Job(path, path.with_name(_result_name(path, scale))) for path in pictures]
    elif _names_folder(output, several=len(pictures) > 1):
        jobs = [Job(path, Path(output) / _result_name(path, scale)) for path in pictures]
    else:
        jobs = [Job(pictures[0], _checked_file(Path(output)))]
    _check_apart(jobs)
    return tuple(jobs)


def _result_name(source: Path, scale: float) -> str:
    return f"{source.stem}_x{scale:g}.png"


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


def _checked_file(path: Path) -> Path:
    if path.suffix.lower() not in image.WRITTEN_SUFFIXES:
        known = " ".join(image.WRITTEN_SUFFIXES)
        raise UsageError(f"{path} has no suffix that is written: end it with one of {known}, or with / for a folder.")
    if not _is_folder(path.parent):
        raise UsageError(f"{path} cannot be written, there is no folder {path.parent}: make it first.")
    return path


def _check_apart(jobs: Sequence[Job]) -> None:
    """Return if no result takes the place of an input or of another result, else raise UsageError naming both."""
    inputs = {_identity(job.source): job.source for job in jobs}
    made: dict[Path, Job] = {}
    for job in jobs:
        for path in (job.target, job.sidecar):
            taken = inputs.get(_identity(path))
            if taken is not None:
                raise UsageError(
                    f"{path} is to be the result of {job.source}, but {taken} is an input, and inputs are never "
                    "overwritten: leave it out, or choose another place with -o."
                )
        other = made.setdefault(_place(job.target), job)
        if other is not job:
            raise UsageError(
                f"{other.source} and {job.source} would both become {job.target}: restore one of them separately, "
                "with its own -o."
            )


def _identity(path: Path) -> tuple[int, int] | Path:
    """Return what is the same for two names of one file, also through links and where case does not matter."""
    try:
        status = path.stat()
    except OSError:
        return path.absolute()
    return status.st_dev, status.st_ino


def is_there(job: Job) -> bool:
    """Return whether something is at the place of the job's result (a folder there is an obstacle, not a result)."""
    return os.path.lexists(job.target) and not job.target.is_dir()
