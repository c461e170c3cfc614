"""The reports of a run: an Outcome when a picture ends, and calls of a Watch before that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..errors import PictureError, ResourcesError, SeesrError
from ..files import disk_is_full
from ..sizes import Size
from .outputs import Job

if TYPE_CHECKING:
    from ..restore.tag import Tag

OutcomeState = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """The end of one picture: its state, its result, and how it was made.

    seconds: time this picture took, without loading the model.
    target: path of the result; None if there is no result, or if it goes to stdout.
    message: sentence that says why a picture was skipped or failed; of a preview, the words for what it shows.
    size_in, size_out: (height, width), pixels.
    tags, prompt: as the networks read them.
    notes: sentences for the person.
    record: what the result was made with, as in its metadata.
    consistency: PSNR of the result, reduced, against its input, dB; None where they are equal, or nothing was made.
    kept_seconds: seconds that the result took when it was made, if it is kept as it was made.
    content: the file itself if it goes to stdout.
    error: exception of a picture that failed.
    """

    source: Path
    state: OutcomeState
    seconds: float
    target: Path | None = None
    message: str = ""
    size_in: Size | None = None
    size_out: Size | None = None
    tags: "tuple[Tag, ...]" = ()
    prompt: str = ""
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    consistency: float | None = None
    kept_seconds: float | None = None
    content: bytes = field(default=b"", repr=False)
    error: Exception | None = field(default=None, compare=False)


class Watch(Protocol):
    """Listener that a run tells of its progress between outcomes.

    Several pictures may be in progress at once.
    """

    def started(self, source: Path, target: Path | None, node: str = "") -> None:
        """The picture `source` is begun on the machine `node`, empty for this one; its result goes to `target`."""

    def loading(self, what: str) -> None:
        """Tell that the model `what` is being loaded, which takes a while."""

    def stepped(self, source: Path, done: int, total: int) -> None:
        """The picture `source` has `done` of its `total` denoising steps."""

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        """The picture `source` has `done` of `total` parts of a phase: read, encode, denoise, decode or write."""

    def note(self, text: str) -> None:
        """The sentence `text` concerns the whole run, or the rest of it."""


def skipped_outcome(
    job: Job, reason: Literal["done", "edited"], notes: tuple[str, ...], kept_seconds: float | None = None
) -> Outcome:
    """Return the Outcome of a picture whose result is already there, made or edited before."""
    sentences = {
        "done": "is already there: left alone, --overwrite makes it again",
        "edited": "is already there and was edited since: left alone, --overwrite makes it again",
    }
    return Outcome(
        job.source.path,
        "skipped",
        0.0,
        job.target,
        f"{job.target} {sentences[reason]}.",
        notes=notes,
        kept_seconds=kept_seconds,
    )


def busy_outcome(job: Job) -> Outcome:
    """Return the Outcome of a picture that another process is at work on until the end of this run."""
    message = f"{job.target} is being made by another run, and left to it: run the same again to see it done."
    return Outcome(job.source.path, "failed", 0.0, message=message)


def failed_outcome(source: Path, error: Exception) -> Outcome:
    """Return the Outcome of a picture that failed with `error`.

    Raises `error` itself if it would make every other picture fail too.
    """
    if isinstance(error, SeesrError) and not isinstance(error, PictureError):
        raise error
    message = str(error)
    if _is_out_of_memory(error):
        message = "needs more memory than there is: use a smaller --scale, or cut it into parts."
    elif not isinstance(error, SeesrError):
        message = f"failed unexpectedly ({type(error).__name__}: {error}); --debug shows where: please report it."
    if str(source) not in message:
        message = f"{source}: {message}"
    return Outcome(source, "failed", 0.0, message=message, error=error)


def raise_if_disk_full(outcome: Outcome) -> None:
    """Raise ResourcesError if the picture failed because the disk is full, since all others would fail too."""
    error: BaseException | None = outcome.error
    while error is not None:
        if disk_is_full(error):
            raise ResourcesError("The disk is full: make room, and the same command again does what is left.")
        error = error.__cause__


def _is_out_of_memory(error: Exception) -> bool:
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    from ..machine.out_of_memory import ran_out  # a RuntimeError can come from torch, which is loaded by then

    return ran_out(error)
