"""The run through the jobs: one Outcome per picture, whatever happens to the others.

The model is loaded when the first picture that needs it has been read.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from . import __version__, image
from .errors import OutputUnwritable, PictureError, SeesrError
from .files import replacing
from .jobs import Job, is_there
from .settings import MAX_FRAME_PIXELS, Model, Settings

if TYPE_CHECKING:
    from .pipeline import Restored, Upscaler
    from .tag import Reader, Tag

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    message: the sentence of a picture that was skipped or failed; error: what it failed with. sizes are (height,
    width). target, prompt and the sizes are empty where there are none. notes: what the person should know.
    """

    source: Path
    state: State
    seconds: float
    target: Path | None = None
    message: str = ""
    size_in: tuple[int, int] | None = None
    size_out: tuple[int, int] | None = None
    tags: "tuple[Tag, ...]" = ()
    prompt: str = ""
    notes: tuple[str, ...] = ()
    error: Exception | None = field(default=None, compare=False)


class Watch(Protocol):
    """Who is told how a run goes on, between outcomes."""

    def started(self, source: Path) -> None:
        """The picture `source` is taken up."""

    def loading(self, what: str) -> None:
        """A model is being loaded, which takes a while."""

    def stepped(self, done: int, total: int) -> None:
        """`done` of the `total` steps for this picture are done."""


def run(
    jobs: Sequence[Job],
    model: Model,
    settings: Settings,
    load: "Callable[[], Upscaler]",
    watch: Watch,
    *,
    overwrite: bool = False,
    sidecar: bool = False,
) -> Iterator[Outcome]:
    """Restore every job's picture and yield what became of each, in order, as soon as it is known.

    A result that is already there is skipped unless `overwrite`. `load` is called once, when the first picture that
    needs the model has been read and its place been checked. A picture that fails is an Outcome; what makes every
    picture fail (UsageError, WeightsError, whatever `load` raises) ends the run.
    """
    upscaler: Upscaler | None = None
    for job in jobs:
        start = time.monotonic()
        watch.started(job.source)
        if is_there(job) and not overwrite:
            yield Outcome(job.source, "skipped", 0.0, job.target, f"{job.target} is already there")
            continue
        try:
            picture = _taken_up(job, settings.scale, sidecar, overwrite)
        except Exception as error:
            yield _failed(job.source, start, error)
            continue
        if upscaler is None:
            watch.loading(model.name)
            began = time.monotonic()
            upscaler = load()
            start += time.monotonic() - began  # loading is no picture's time
        try:
            outcome = _restored(job, picture, upscaler, model, settings, watch, overwrite, sidecar)
        except Exception as error:
            outcome = _failed(job.source, start, error)
        yield replace(outcome, seconds=time.monotonic() - start)


def _taken_up(job: Job, scale: float, sidecar: bool, overwrite: bool) -> image.Picture:
    """Return the job's picture, once it is certain that its result has a place to go to."""
    folder = job.target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"The folder {folder} cannot be made ({error.strerror})"
        raise OutputUnwritable(f"{reason}: choose another place with -o.") from error
    if sidecar and not overwrite and job.sidecar.exists() and not _is_sidecar(job.sidecar):
        raise OutputUnwritable(f"{job.sidecar} is already there and not of this tool: move it, or use --overwrite.")
    picture = image.read(job.source)
    height, width = _scaled(picture, scale)
    if height * width > MAX_FRAME_PIXELS:
        reason = f"{job.source} would become {width} x {height} pixels"
        most = f"more than the {MAX_FRAME_PIXELS // 10**6} million that are made"
        raise PictureError(f"{reason}, {most}: use a smaller --scale, or cut it into parts.")
    image.check_target(job.target, height, width)
    return picture


def _scaled(picture: image.Picture, scale: float) -> tuple[int, int]:
    height, width = picture.pixels.shape[-2:]
    return round(scale * height), round(scale * width)


def _restored(
    job: Job,
    picture: image.Picture,
    upscaler: "Upscaler",
    model: Model,
    settings: Settings,
    watch: Watch,
    overwrite: bool,
    sidecar: bool,
) -> Outcome:
    from . import prepare

    restored = upscaler.upscale(picture.pixels, settings, watch.stepped)
    size = _scaled(picture, settings.scale)
    alpha = None if picture.alpha is None else prepare.resize(picture.alpha, size)
    result = replace(picture, pixels=restored.pixels, alpha=alpha)
    if sidecar:
        # Before the picture: what is there says that the job is done, and then its description is there as well.
        _write_sidecar(job, picture, restored, model, settings)
    notes = restored.notes + image.write(job.target, result, overwrite)
    return Outcome(
        job.source,
        "done",
        0.0,
        job.target,
        size_in=_size(picture),
        size_out=_size(result),
        tags=restored.reading.tags,
        prompt=restored.prompt,
        notes=notes,
    )


def _size(picture: image.Picture) -> tuple[int, int]:
    height, width = picture.pixels.shape[-2:]
    return height, width


def _failed(source: Path, start: float, error: Exception) -> Outcome:
    """Return the Outcome of a picture that cannot be restored; raise what would make every other picture fail too."""
    if isinstance(error, SeesrError) and not isinstance(error, PictureError):
        raise error
    message = str(error)
    if isinstance(error, MemoryError):
        message = "needs more memory than there is: use a smaller --scale, or cut it into parts."
    elif not isinstance(error, SeesrError):
        message = f"failed unexpectedly ({type(error).__name__}: {error}); --debug shows where: please report it."
    if str(source) not in message:
        message = f"{source}: {message}"
    return Outcome(source, "failed", time.monotonic() - start, message=message, error=error)


def read_tags(sources: Sequence[Path], model: Model, load: "Callable[[], Reader]", watch: Watch) -> Iterator[Outcome]:
    """Read the tags of every picture and yield an Outcome for each, in order; failures as in `run`."""
    reader: Reader | None = None
    for source in sources:
        start = time.monotonic()
        watch.started(source)
        try:
            picture = image.read(source)
        except Exception as error:
            yield _failed(source, start, error)
            continue
        if reader is None:
            watch.loading(model.name)
            began = time.monotonic()
            reader = load()
            start += time.monotonic() - began
        try:
            tags = reader.read(picture.pixels).tags
        except Exception as error:
            yield _failed(source, start, error)
            continue
        yield Outcome(source, "done", time.monotonic() - start, size_in=_size(picture), tags=tags)


def _write_sidecar(job: Job, picture: image.Picture, restored: "Restored", model: Model, settings: Settings) -> None:
    """Write beside the result what it was made with, as JSON in ASCII."""
    height, width = _size(picture)
    out_height, out_width = restored.pixels.shape[-2:]
    content = {
        "seesr": __version__,
        "model": {"name": model.name, "about": model.about},
        "input": {"name": job.source.name, "width": width, "height": height},
        "output": {"name": job.target.name, "width": out_width, "height": out_height},
        "settings": asdict(settings),
        "prompt": restored.prompt,
        "negative_prompt": restored.negative,
        "tags": [tag._asdict() for tag in restored.reading.tags],
        "notes": list(restored.notes),
    }
    # Ours or not there, or told to overwrite: that was checked before the work was done.
    with replacing(job.sidecar, overwrite=True) as file:
        file.write(json.dumps(content, indent=2).encode("ascii") + b"\n")


def _is_sidecar(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "seesr" in content
