"""Finish a picture that has its latent: develop it to pixels; write the result, its sidecar and its journal line."""

import os
import time
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from .. import image
from ..files import cause, replacing
from ..records import latents, provenance, sidecar
from ..sizes import Sizes
from .begin import InProgress
from .outcome import Outcome, failed_outcome, skipped_outcome
from .outputs import Job
from .session import Session

if TYPE_CHECKING:
    from ..restore.sampled import Sampled


class _Result(NamedTuple):
    """A result before it is written.

    record: what it was made with, for metadata and sidecar.
    """

    picture: image.Picture
    sizes: Sizes
    sampled: "Sampled"
    record: dict[str, Any]
    notes: tuple[str, ...]


def finish(session: Session, begun: InProgress) -> Outcome:
    """Develop and write the picture, and give the path of its result free.

    Raises what would make every picture fail.
    """
    begun.resumed = time.monotonic()
    try:
        with begun.claim:
            outcome = _write(session, begun, _develop(session, begun))
        _teach_forecast(session, begun)
    except Exception as error:
        outcome = failed_outcome(begun.job.source.path, error)
    return replace(outcome, seconds=begun.seconds)


def _develop(session: Session, begun: InProgress) -> _Result:
    """Return the result with its pixels, alpha, metadata and notes."""
    from ..evaluate.consistency import consistency
    from ..evaluate.pixels import pixels_of, written

    picture = begun.picture
    if begun.failure is not None:
        failure, begun.failure = begun.failure, None  # the exception refers to the picture: leave no cycle behind
        raise failure
    assert begun.sampled is not None
    advanced = partial(session.watch.advanced, begun.job.source.path)
    settings = session.request.settings
    developed = session.upscaler().develop(begun.sampled.latent, begun.prepared, settings, advanced)
    advanced("write", 0, 1)
    sizes = begun.prepared.sizes
    finished = replace(picture, pixels=developed.pixels, alpha=developed.alpha, part=sizes.part)
    departs = consistency(written(finished, begun.job.kind, session.request.quality), pixels_of(picture)).as_record()
    record = _record(session, begun, begun.sampled) | {"consistency": departs}
    notes = begun.tagged.notes + picture.notes + begun.sampled.notes + developed.notes
    packet = picture.xmp
    if session.request.metadata != "none":
        packet, more = provenance.packet(picture.xmp, record, begun.job.kind)
        notes += more
    return _Result(replace(finished, xmp=packet), sizes, begun.sampled, record, notes)


def _record(session: Session, begun: InProgress, sampled: "Sampled") -> dict[str, Any]:
    """Return the record of how the result is made, for metadata and sidecar."""
    request, job, like = session.request, begun.job, session.request.like
    recipe = provenance.recipe_of(
        session.upscaler(),
        sampled,
        request.settings,
        request.model.name,
        session.weights or None,
        # A file that was renamed since is the same file, and its result must be the same to the byte.
        like.input_name if like and like.input_sha256 == begun.tagged.sha256 else job.source.path.name,
        begun.tagged.sha256,
        kind=job.kind,
        quality=request.quality,
        bits=begun.picture.bits if image.FORMATS[job.kind].deep else 8,
        metadata=request.metadata,
    )
    return provenance.record(recipe, sampled.reading.tags, sampled.fitted.prompt)


def _write(session: Session, begun: InProgress, result: _Result) -> Outcome:
    """Write the sidecar, the journal's line and the result, in this order, or the result alone to stdout."""
    job, quality = begun.job, session.request.quality
    if job.target is None:
        with BytesIO() as stream:
            notes = image.encode(stream, result.picture, job.kind, quality)
            return _done_outcome(job, result, notes, stream.getvalue())

    result = _write_sidecar(session, job, result)
    journal, key = session.journal(job), session.result_key(job, begun.tagged)
    # Asked once more: hours may have passed, and what a person put there meanwhile is theirs.
    found = session.find(job, job.target, begun.tagged)
    if found.state == "done" and not session.request.overwrite:  # by a node that was out of reach, and not lost
        return skipped_outcome(job, "done", result.notes, found.line.seconds if found.line else 0.0)
    replaced = session.request.overwrite or found.state == "stale"
    with replacing(job.target, replaced) as file:
        notes = image.encode(file, result.picture, job.kind, quality)
        if session.request.keep_time and not job.source.stream:
            notes += _keep_time(job.source.path, file)
        source, tags = None if job.source.stream else job.source.path, begun.tagged.tags
        journal.record(job.target, key, file, begun.seconds, source, tags if begun.tagged.by_hand else None)
    _settle_latent(session, job.target)
    return _done_outcome(job, result, notes)


def _keep_time(source: Path, file: BinaryIO) -> tuple[str, ...]:
    """Give the written file the time of change of its input; return a note if that has gone meanwhile."""
    file.flush()  # a later write would change the time again
    try:
        status = source.stat()
    except OSError as error:
        return (f"The time of {source} cannot be read ({cause(error)}): the result has its own.",)
    os.utime(file.name, ns=(status.st_atime_ns, status.st_mtime_ns))
    return ()


def _write_sidecar(session: Session, job: Job, result: _Result) -> _Result:
    """Write the sidecar, if one is asked for; return the result, with a note if a person's text is left as it is.

    The sidecar comes before the picture, because an existing picture means that the job is done.
    """
    if job.target is None or (path := session.sidecar_path(job.target)) is None:
        return result
    if path.exists() and not session.request.overwrite and sidecar.is_edited(path):
        kept = f"{path} was edited and is left as it is: --overwrite writes it anew."
        return result._replace(notes=(*result.notes, kept))
    sampled = result.sampled
    if session.request.sidecar == "txt":
        content = sidecar.as_text(result.record, sampled.reading.near, sampled.fitted.left_out)
    else:
        content = sidecar.as_json(
            result.record,
            about=session.request.model.about,
            size_in=result.sizes.picture,
            target=job.target.name,
            size_out=result.sizes.result,
            near=sampled.reading.near,
            left_out=sampled.fitted.left_out,
            cut=sampled.fitted.cut,
            notes=result.notes,
        )
    # Before the work it was checked that the file there is ours, missing, or to be overwritten.
    with replacing(path, overwrite=True) as file:
        file.write(content)
    return result


def _settle_latent(session: Session, target: Path) -> None:
    """Delete the latent of a result that is written, or give it the name under which a person keeps it."""
    path = latents.place(target)
    if not session.request.keep_latents:
        latents.discard(path)
    elif path.exists():
        path.replace(latents.kept_place(target))


def _teach_forecast(session: Session, begun: InProgress) -> None:
    """Let later forecasts learn from the picture's time, if it went through all stages."""
    if (expected := session.forecasts.get(begun.job.source.path)) is None or not begun.steps:
        return
    from ..forecast.estimate import remember
    from ..forecast.rates import Phases

    remember(expected, Phases(begun.before, begun.steps, begun.seconds - begun.before - begun.steps))


def _done_outcome(job: Job, result: _Result, notes: tuple[str, ...], content: bytes = b"") -> Outcome:
    return Outcome(
        job.source.path,
        "done",
        0.0,
        job.target,
        size_in=result.sizes.picture,
        size_out=result.sizes.result,
        tags=result.sampled.reading.tags,
        prompt=result.sampled.fitted.prompt.positive,
        notes=result.notes + notes,
        record=result.record,
        consistency=result.record["consistency"]["psnr"],
        content=content,
    )
