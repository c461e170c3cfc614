"""Begin a picture: read it, claim the path of its result, and plan its sizes, until only sampling is left."""

import hashlib
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import image
from ..errors import OutputUnwritable, PictureError
from ..records import latents, provenance, sidecar
from ..records.journal import Found
from ..records.lines import STREAM, Line
from ..settings import Settings
from ..sizes import result_size
from .foresee import check_pixels
from .inputs import read_bytes
from .outcome import Outcome, failed_outcome, skipped_outcome
from .outputs import Job, check_name
from .session import Session, TaggedInput

if TYPE_CHECKING:
    from ..restore.sampled import PreparedPicture, Sampled


@dataclass
class InProgress:
    """A picture that has been read, and waits for its latent or for its turn to be written.

    picture: as it was read, with its metadata.
    prepared: the same picture with its sizes and its frame.
    claim: the lock on the path of the result; closing it gives the path free.
    settings: with the tiling that the forecast chose.
    repeats: whether the result must equal an earlier one byte for byte, because --like asks for it.
    sampled: the denoised latent, once there is one.
    failure: exception that sampling ended with.
    before, steps, after: seconds until the first step, for all steps, and from then until `resumed`. Time spent on
        several pictures at once is divided equally.
    resumed: time.monotonic() when finishing began.
    """

    job: Job
    tagged: TaggedInput
    picture: image.Picture
    prepared: "PreparedPicture"
    settings: Settings
    repeats: bool
    claim: ExitStack
    sampled: "Sampled | None" = None
    failure: Exception | None = None
    before: float = 0.0
    steps: float = 0.0
    after: float = 0.0
    resumed: float = 0.0

    @property
    def group_key(self) -> object:
        """The properties that pictures must share to be sampled together."""
        return self.prepared.sizes.padded, self.settings, self.repeats

    @property
    def seconds(self) -> float:
        """Seconds that the picture took in all, while it is being finished."""
        return self.before + self.steps + self.after + time.monotonic() - self.resumed


def begin(session: Session, job: Job) -> InProgress | Outcome | None:
    """Begin the job's picture; return None if another process is at work on it.

    An Outcome is that of a picture that needs no work, or that failed. Raises what would make every picture fail.
    """
    start, loading = time.monotonic(), session.loading_seconds
    session.watch.started(job.source.path, job.target)
    try:
        with ExitStack() as claim:
            begun = _open(session, job, claim)
    except Exception as error:
        begun = failed_outcome(job.source.path, error)
    seconds = time.monotonic() - start - (session.loading_seconds - loading)  # loading is no picture's time
    if isinstance(begun, InProgress):
        begun.before = seconds
        return begun
    return None if begun is None else replace(begun, seconds=seconds)


def _open(session: Session, job: Job, claim: ExitStack) -> InProgress | Outcome | None:
    """Return as `begin` does; a picture in progress takes over what `claim` holds."""
    # 1. Read the file, and the tags that a person gave for it.
    request = session.request
    data = read_bytes(job.source)
    tagged = tags_given(session, job, hashlib.sha256(data).hexdigest())
    # 2. Claim the path of the result, and leave a result alone that is there already.
    if job.target is not None:
        _prepare_folder(session, job, job.target)
        journal = session.journal(job)
        if not claim.enter_context(journal.claim(job.target)):
            return None
        tagged, found = find_result(session, job, job.target, tagged)
        again = request.overwrite and not (found.state == "done" and journal.made_meanwhile(job.target))
        if not again and (outcome := _left_alone(job, job.target, tagged, found)) is not None:
            return outcome
        _check_sidecar(session, job.target, tagged.tags_file)
    # 3. Decode the picture, and refuse a result that could not be written.
    picture = image.limited(image.decode(data, job.source.path, request.tolerant), request.metadata)
    height, width = picture.pixels.shape[-2:]
    size = result_size((height, width), request.settings)
    check_pixels(job, size, request.max_pixels)
    if job.target is not None:
        image.check_target(job.target, size, job.kind)
    # 4. Load the model, and compute the picture's sizes and frame, which all stages share.
    prepared = session.upscaler().prepare(picture.pixels, request.settings, picture.alpha)
    # 5. Take the tiling that the forecast chose, and the latent of an earlier run.
    settings = session.tiled_settings(job)
    repeats = _must_repeat(session, tagged)
    sampled = _recalled(session, job, tagged)
    return InProgress(job, tagged, picture, prepared, settings, repeats, claim.pop_all(), sampled)


def find_result(session: Session, job: Job, target: Path, tagged: TaggedInput) -> tuple[TaggedInput, Found]:
    """Return the state of the result's path, and `tagged` with the tags that a person gave for it."""
    found = session.find(job, target, tagged)
    if found.line is None or not _takes_tags_again(session, target, tagged, found.line):
        return tagged, found
    again = _tagged_again(tagged, target, found.line)
    return again, session.find(job, target, again)


def tags_given(session: Session, job: Job, sha256: str) -> TaggedInput:
    """Return the tags that a person gave for the file with this sha256.

    By --tags-from or --like, else by editing the sidecar beside the result.
    """
    request = session.request
    if request.tags_from is None:
        if request.like is None:
            return _tagged_beside(session, job, sha256)
        tags = request.like.tags if request.like.input_sha256 == sha256 else None
        return TaggedInput(sha256, tags, _differences(session, request.like, sha256))
    name = job.target.name if job.target else job.source.path.name
    given = sidecar.find(request.tags_from, job.source.relative, name)
    if given is None:
        return TaggedInput(sha256, None, (f"{request.tags_from} holds no tags for it: it was read.",))
    if given.stale(sha256):
        note = f"{given.path} is stale, the picture has changed since: it was read anew."
        return TaggedInput(sha256, None, (note,))
    return TaggedInput(sha256, given.tags, (), given.path, by_hand=True)


def _tagged_beside(session: Session, job: Job, sha256: str) -> TaggedInput:
    """Return the tags of the sidecar beside the result, if a person edited it and this run is not to write it anew."""
    given = None if job.target is None else sidecar.edited_beside(job.target)
    if given is None or job.target is None:
        return TaggedInput(sha256, None, ())
    if session.request.overwrite and given.path == session.sidecar_path(job.target):
        return TaggedInput(sha256, None, ())
    if given.stale(sha256):
        note = f"{given.path} was edited, but is stale, the picture has changed since: it was read anew."
        return TaggedInput(sha256, None, (note,))
    note = f"{given.path} was edited, so its tags are used: move it away to have the picture read again."
    return TaggedInput(sha256, given.tags, (note,), given.path, by_hand=True)


def _takes_tags_again(session: Session, target: Path, tagged: TaggedInput, line: Line) -> bool:
    """Return whether the tags that a person gave for the present result are to be used again.

    Not if this run says itself which tags to use, or makes everything anew, or if the picture has changed since.
    """
    request = session.request
    asked = request.overwrite or request.tags_from is not None or request.like is not None or tagged.by_hand
    return not asked and line.made.tags is not None and line.key.input == tagged.sha256 and target.exists()


def _tagged_again(tagged: TaggedInput, target: Path, line: Line) -> TaggedInput:
    note = f"{target} was made with tags given by hand, which are used again: --overwrite reads the picture anew."
    return tagged._replace(tags=line.made.tags, notes=(*tagged.notes, note), by_hand=True)


def _left_alone(job: Job, target: Path, tagged: TaggedInput, found: Found) -> Outcome | None:
    """Return the Outcome of a picture whose result is there, or None if the result is to be made.

    Raises OutputUnwritable if what is there is not the result of this picture.
    """
    match found.state:
        case "done":  # a run may have been killed just before it deleted the latent
            latents.discard(latents.place(target))
            return skipped_outcome(job, "done", tagged.notes, found.line.seconds if found.line else 0.0)
        case "edited" if says_made_from(target, tagged.sha256):
            return skipped_outcome(job, "edited", tagged.notes)
        case "edited" | "foreign":
            reason = f"{target} is already there and is not what this tool left there: left alone"
            raise OutputUnwritable(f"{reason}, --overwrite makes it again.")
        case "other":
            assert found.line is not None
            path = found.line.made.path
            origin = "another picture on stdin" if path == STREAM else path
            raise OutputUnwritable(
                f"{target} is already there, and was made from {origin}: left alone. Choose another place with -o or "
                "another name with --name, or replace it with --overwrite."
            )
        case "absent" | "stale":
            return None


def says_made_from(result: Path, sha256: str) -> bool:
    """Return whether the metadata of `result`, which was edited, still say that it is of the file with this sha256."""
    try:
        xmp = image.read(result).xmp
    except PictureError:
        return False
    record = provenance.extract(xmp) if xmp else None
    source = record.get("input") if record else None
    return isinstance(source, dict) and source.get("sha256") == sha256


def _differences(session: Session, recipe: provenance.Recipe, sha256: str) -> tuple[str, ...]:
    """Return a sentence for each reason why the result will differ from the one of `recipe`."""
    notes = []
    if recipe.input_sha256 != sha256:
        notes.append("The result to repeat was made of another file: its settings are taken, its tags are not.")
    if recipe.weights != session.weights:
        notes.append("The result to repeat was made with other weights: this one becomes another picture.")
    return tuple(notes)


def _prepare_folder(session: Session, job: Job, target: Path) -> None:
    """Make the folder of the result, and delete what killed runs left there. Raises OutputUnwritable."""
    check_name(job)
    if target.is_dir():
        raise OutputUnwritable(f"{target} is a folder: name another file with -o.")
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"The folder {folder} cannot be made ({error.strerror})"
        raise OutputUnwritable(f"{reason}: choose another place with -o.") from error
    session.sweep_once(folder)


def _check_sidecar(session: Session, target: Path, tags_file: Path | None) -> None:
    """Raise OutputUnwritable if a person's own file is at the path of the sidecar.

    `tags_file` may be there: the text that the tags were read from is left as it is.
    """
    path = session.sidecar_path(target)
    if path is None or session.request.overwrite or not path.exists() or sidecar.is_ours(path):
        return
    if tags_file is None or not path.samefile(tags_file):
        raise OutputUnwritable(f"{path} is already there and not of this tool: move it, or use --overwrite.")


def _must_repeat(session: Session, tagged: TaggedInput) -> bool:
    """Return whether the result must equal that of --like: same input, settings, kind of device and precision."""
    like, request = session.request.like, session.request
    place = session.upscaler().place
    if like is None or request.batch_size is not None:
        return False
    return (like.input_sha256, like.settings, (like.device, like.dtype)) == (tagged.sha256, request.settings, place)


def _recalled(session: Session, job: Job, tagged: TaggedInput) -> "Sampled | None":
    """Return the latent that an earlier run left, because it failed later or was told to keep it."""
    from ..restore.sampled import Sampled

    for path in (latents.place(job.target), latents.kept_place(job.target)) if job.target else ():
        if (found := latents.load(path, session.latent_key(tagged))) is not None:
            return Sampled.recalled(*found)
    return None
