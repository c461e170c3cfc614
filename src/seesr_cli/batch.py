"""The run through the jobs: one Outcome per picture, whatever happens to the others.

The model is loaded when the first picture that needs it has been read.
"""

import errno
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from . import image, latents, provenance, sidecar
from .errors import OutputUnwritable, PictureError, ResourcesError, SeesrError, WeightsMissing
from .files import replacing, sweep
from .jobs import Job, Source, check_name
from .journal import Journal, Key
from .settings import MAX_PIXELS, Model, Settings, Sidecar
from .sizes import Size, Sizes, sizes

if TYPE_CHECKING:
    from .device import Place
    from .forecast import Forecast
    from .pipeline import Sampled, Upscaler
    from .share import Share
    from .tag import Reader, Tag

State = Literal["done", "skipped", "failed"]

MOST_JPEG_XMP = 65_502
"""Bytes of XMP that one segment of a JPEG holds."""


@dataclass(frozen=True)
class Request:
    """What is asked for every picture of a run, besides where its result goes.

    quality: of the file, None for the format's own. tags_from: folder of sidecars, whose tags take the place of what
    the tagger sees; so do those of like, an earlier result's recipe. keep_latents: leave the denoised latent beside the
    result. tolerant: take damaged pictures as far as they can be read. max_pixels: of a result.
    """

    model: Model
    settings: Settings
    dtype: str = "auto"
    quality: int | None = None
    overwrite: bool = False
    sidecar: Sidecar = "none"
    tags_from: Path | None = None
    like: provenance.Recipe | None = None
    keep_latents: bool = False
    tolerant: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    message: the sentence of a picture that was skipped or failed; error: what it failed with. sizes are (height,
    width). target, prompt, record and the sizes are empty where there are none. notes: what the person should know.
    record: what the result was made with; content: the result itself, where it goes to stdout.
    """

    source: Path
    state: State
    seconds: float
    target: Path | None = None
    message: str = ""
    size_in: Size | None = None
    size_out: Size | None = None
    tags: "tuple[Tag, ...]" = ()
    prompt: str = ""
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    error: Exception | None = field(default=None, compare=False)


class Planned(NamedTuple):
    """A picture that is to be restored, what it will become, and what that will take."""

    job: Job
    sizes: Sizes
    forecast: "Forecast"


class Watch(Protocol):
    """Who is told how a run goes on, between outcomes."""

    def started(self, source: Path, target: Path | None) -> None:
        """The picture `source` is taken up, to become `target`."""

    def loading(self, what: str) -> None:
        """A model is being loaded, which takes a while."""

    def stepped(self, source: Path, done: int, total: int) -> None:
        """`done` of the `total` steps for the picture `source` are done."""

    def note(self, text: str) -> None:
        """Something that concerns the run, or what follows in it."""


def foresee(
    jobs: Sequence[Job], request: Request, place: "Place", weights: Path | None, share: "Share"
) -> Iterator[Planned | Outcome]:
    """Yield what each job's picture will become and take on `place`, judged by the headers of the files.

    An Outcome is that of a picture that will fail. One on stdin is left out. weights: folder with the model's
    configurations, where it is not the published one. share: of the memory, that one picture has.
    """
    from . import costs, forecast
    from .room import room

    multiple = costs.networks(request.model, weights).multiple
    there = room(place, jobs[0].target.parent if jobs and jobs[0].target else Path(), share)
    for job in jobs:
        if job.source.stdin:
            continue
        try:
            header = image.probe(job.source.path)
            stations = sizes(header.size, request.settings, multiple)
            _check_size(job, stations, request.max_pixels)
        except PictureError as error:
            yield _failed(job.source.path, error)
            continue
        bits = header.bits if image.FORMATS[job.kind].deep else 8
        taken = forecast.forecast(
            stations, request.settings, request.model, place, there, weights, job.kind, bits, header.alpha
        )
        yield Planned(job, stations, taken)


def run(
    jobs: Iterable[Job],
    request: Request,
    load: "Callable[[], Upscaler]",
    fingerprint: Callable[[], str],
    watch: Watch,
    foreseen: "Mapping[Path, Forecast] | None" = None,
) -> Iterator[Outcome]:
    """Restore every job's picture and yield what became of each, as soon as it is known, in order.

    A picture whose result is there already, made from the same input, settings and weights, is skipped; so is one in
    whose result's place is a file that this program did not make or that was changed since, unless `request.overwrite`.
    What another process is at work on is taken up at the end, if it is not done by then. `load` is called once, when
    the first picture that needs the model has been read and its place been checked; `fingerprint` gives that of the
    weights. A picture that fails is an Outcome; what makes every picture fail (UsageError, WeightsError,
    ResourcesError, whatever `load` raises) ends the run.

    foreseen: by source, forecasts that learn from what the pictures took.
    """
    going = _Run(request, load, fingerprint, watch, foreseen or {})
    busy: list[Job] = []
    for job in jobs:
        outcome = going.take_up(job)
        if outcome is None:
            busy.append(job)
            continue
        yield outcome
        _check_disk(outcome)
    for job in busy:
        yield going.take_up(job) or Outcome(
            job.source.path, "skipped", 0.0, job.target, f"{job.target} is being made by another run"
        )


class _Asked(NamedTuple):
    """A picture as it was named: its file's bytes and their sha256, and the tags a person gave for it, and where."""

    data: bytes
    sha256: str
    given: tuple[str, ...] | None
    notes: tuple[str, ...]
    given_in: Path | None = None


class _Made(NamedTuple):
    """A result before it is written: the picture, and all that is known of it."""

    picture: image.Picture
    sizes: Sizes
    sampled: "Sampled"
    record: dict[str, Any]
    notes: tuple[str, ...]


class _Run:
    """What is kept from picture to picture: the model and the journals."""

    def __init__(
        self,
        request: Request,
        load: "Callable[[], Upscaler]",
        fingerprint: Callable[[], str],
        watch: Watch,
        foreseen: "Mapping[Path, Forecast]",
    ) -> None:
        self._request = request
        self._load = load
        self._fingerprint = fingerprint
        self._watch = watch
        self._upscaler: Upscaler | None = None
        self._journals: dict[Path, Journal] = {}
        self._swept: set[Path] = set()
        self._told: set[str] = set()
        self._foreseen = foreseen
        self._start = 0.0
        self._stepping: list[float] = []

    def take_up(self, job: Job) -> Outcome | None:
        """Return what became of the job's picture; None where another process is at work on it."""
        self._start = time.monotonic()
        self._stepping = []
        self._watch.started(job.source.path, job.target)
        try:
            outcome = self._handled(job)
        except Exception as error:
            outcome = _failed(job.source.path, error)
        for note in [note for journal in self._journals.values() for note in journal.notes]:
            if note not in self._told and (outcome is None or outcome.state != "failed"):
                self._told.add(note)
                self._watch.note(note)
        return outcome and replace(outcome, seconds=self._seconds)

    def _handled(self, job: Job) -> Outcome | None:
        asked = self._asked(job)
        if job.target is None:
            made = self._made(job, asked)
            with BytesIO() as stream:
                notes = image.encode(stream, made.picture, job.kind, self._request.quality)
                return _done(job, made, notes, stream.getvalue())

        self._make_ready(job, job.target)
        key = Key(asked.sha256, self._digest(job, asked), self._weights)
        journal = self._journal(job.source, job.target)
        with journal.claim(job.target) as mine:
            if not mine:
                return None
            state = journal.state(job.target, key)
            again = self._request.overwrite and not (state == "done" and journal.made_meanwhile(job.target))
            if state in ("done", "foreign") and not again:
                if state == "done":  # a run may have been killed just before it took the latent away
                    latents.discard(latents.place(job.target))
                return _skipped(job, state)
            self._check_sidecar(job.target, asked.given_in)
            made = self._made(job, asked)
            made = self._with_sidecar(job, made)
            # Once more: it may have taken hours, and what a person put there meanwhile is theirs.
            replaced = self._request.overwrite or journal.state(job.target, key) == "stale"
            with replacing(job.target, replaced) as file:
                notes = image.encode(file, made.picture, job.kind, self._request.quality)
                journal.record(job.target, key, file, self._seconds)
            self._settle_latent(job.target)
        self._remember(job)
        return _done(job, made, notes)

    def _asked(self, job: Job) -> _Asked:
        data = sys.stdin.buffer.read() if job.source.stdin else image.load(job.source.path)
        sha256 = hashlib.sha256(data).hexdigest()
        request = self._request
        if request.tags_from is None:
            if request.like is None:
                return _Asked(data, sha256, None, ())
            tags = request.like.tags if request.like.input_sha256 == sha256 else None
            return _Asked(data, sha256, tags, self._unlike(request.like, sha256))
        name = job.target.name if job.target else job.source.path.name
        given = sidecar.find(request.tags_from, job.source.relative, name)
        if given is None:
            return _Asked(data, sha256, None, (f"{request.tags_from} holds no tags for it: it was read.",))
        if given.stale(sha256):
            return _Asked(
                data, sha256, None, (f"{given.path} is stale, the picture has changed since: it was read anew.",)
            )
        return _Asked(data, sha256, given.tags, (), given.path)

    def _unlike(self, recipe: provenance.Recipe, sha256: str) -> tuple[str, ...]:
        """Return why the result will not be the one that is to be repeated, if that is so."""
        notes = []
        if recipe.input_sha256 != sha256:
            notes.append("The result to repeat was made of another file: its settings are taken, its tags are not.")
        if recipe.weights != self._weights:
            notes.append("The result to repeat was made with other weights: this one becomes another picture.")
        return tuple(notes)

    def _make_ready(self, job: Job, target: Path) -> None:
        """Have a place where the result can go, clear of what killed runs left there."""
        check_name(job)
        if target.is_dir():
            raise OutputUnwritable(f"{target} is a folder: name another file with -o.")
        folder = target.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"The folder {folder} cannot be made ({error.strerror})"
            raise OutputUnwritable(f"{reason}: choose another place with -o.") from error
        if folder not in self._swept:
            self._swept.add(folder)
            sweep(folder)

    def _check_sidecar(self, target: Path, given_in: Path | None) -> None:
        """Raise OutputUnwritable where a person's own file is in the sidecar's place.

        Unless it is `given_in`, the text with the tags that were asked for, which is left as it is.
        """
        beside = self._sidecar(target)
        if beside is None or self._request.overwrite or not beside.exists() or sidecar.is_ours(beside):
            return
        if given_in is None or not beside.samefile(given_in):
            raise OutputUnwritable(f"{beside} is already there and not of this tool: move it, or use --overwrite.")

    def _made(self, job: Job, asked: _Asked) -> _Made:
        from .prepare import finish

        request = self._request
        picture = image.decode(asked.data, job.source.path, request.tolerant)
        stations = sizes(_size(picture), request.settings)
        _check_size(job, stations, request.max_pixels)
        if job.target is not None:
            image.check_target(job.target, stations.result, job.kind)
        upscaler = self._loaded()
        sampled = self._sampled(job, asked, picture, upscaler)
        pixels, notes = upscaler.develop(sampled.latent, picture.pixels, request.settings)
        alpha = None if picture.alpha is None else finish(picture.alpha, stations)
        device, dtype = upscaler.place
        like = request.like
        record = provenance.record(
            model=request.model,
            weights=self._weights or None,
            settings=replace(request.settings, tile=sampled.tile, overlap=sampled.overlap),
            # A file that was renamed since is still that file, and its result the same to the byte.
            name=like.input_name if like and like.input_sha256 == asked.sha256 else job.source.path.name,
            sha256=asked.sha256,
            tags=sampled.reading.tags,
            prompt=sampled.fitted.prompt.positive,
            negative=sampled.fitted.prompt.negative,
            device=device,
            dtype=dtype,
            kind=job.kind,
            quality=request.quality,
            bits=picture.bits if image.FORMATS[job.kind].deep else 8,
        )
        packet: bytes | None = provenance.embed(picture.xmp, record)
        if job.kind == "jpeg" and packet is not None and len(packet) > MOST_JPEG_XMP:
            packet = picture.xmp
            notes += ("A JPEG has no room beside the picture's XMP for how it was made: --like cannot repeat it.",)
        result = replace(picture, pixels=pixels, alpha=alpha, xmp=packet)
        return _Made(result, stations, sampled, record, asked.notes + picture.notes + sampled.notes + notes)

    def _loaded(self) -> "Upscaler":
        if self._upscaler is None:
            self._watch.loading(self._request.model.name)
            began = time.monotonic()
            self._upscaler = self._load()
            self._start += time.monotonic() - began  # loading is no picture's time
        return self._upscaler

    def _sampled(self, job: Job, asked: _Asked, picture: image.Picture, upscaler: "Upscaler") -> "Sampled":
        """Return the picture's latent: the one that an earlier run left when it failed behind it, or else a new one."""
        from .pipeline import Sampled

        # A forecast knows what tiles there is the memory for.
        planned = self._foreseen.get(job.source.path)
        settings = self._request.settings if planned is None else planned.case.settings

        def stepped(done: int, total: int) -> None:
            self._stepping.append(time.monotonic())
            self._watch.stepped(job.source.path, done, total)

        if job.target is None:
            return upscaler.sample(picture.pixels, settings, asked.given, stepped)

        key = Key(asked.sha256, self._digest(job, asked, of_latent=True), self._weights)
        places = latents.place(job.target), latents.kept_place(job.target)
        for place in places:
            if (found := latents.load(place, key)) is not None:
                return Sampled.recalled(*found)
        sampled = upscaler.sample(picture.pixels, settings, asked.given, stepped)
        try:
            latents.save(places[0], sampled.latent, sampled.about(), key)
        except OutputUnwritable as error:
            note = f"The latent could not be kept ({error}), so a failure from here on would cost the sampling."
            return sampled._replace(notes=(*sampled.notes, note))
        return sampled

    def _remember(self, job: Job) -> None:
        """Let later forecasts know how long the picture took, if it went all the way."""
        if (expected := self._foreseen.get(job.source.path)) is None or len(self._stepping) < 2:
            return
        from .forecast import remember
        from .rates import Phases

        first, last = self._stepping[0], self._stepping[-1]
        remember(expected, Phases(first - self._start, last - first, time.monotonic() - last))

    def _settle_latent(self, target: Path) -> None:
        """Take the latent away, now that its picture is there, or leave it to the person under a name of its own."""
        place = latents.place(target)
        if not self._request.keep_latents:
            latents.discard(place)
        elif place.exists():
            place.replace(latents.kept_place(target))

    def _with_sidecar(self, job: Job, made: _Made) -> _Made:
        """Write what is known of a result beside it, and return it; text that a person edited is left as it is.

        Before the picture: what is there says that the job is done, and then its description is there too.
        """
        if job.target is None or (place := self._sidecar(job.target)) is None:
            return made
        sampled = made.sampled
        if self._request.sidecar == "txt":
            if place.exists() and not self._request.overwrite and sidecar.is_edited(place):
                kept = f"{place} was edited and is left as it is: --overwrite writes it anew."
                return made._replace(notes=(*made.notes, kept))
            content = sidecar.as_text(made.record, sampled.reading.near, sampled.fitted.left_out)
        else:
            content = sidecar.as_json(
                made.record,
                about=self._request.model.about,
                size_in=made.sizes.picture,
                target=job.target.name,
                size_out=made.sizes.result,
                near=sampled.reading.near,
                left_out=sampled.fitted.left_out,
                cut=sampled.fitted.cut,
                notes=made.notes,
            )
        # Ours, or not there, or told to overwrite: that was checked before the work was done.
        with replacing(place, overwrite=True) as file:
            file.write(content)
        return made

    def _sidecar(self, target: Path) -> Path | None:
        return None if self._request.sidecar == "none" else target.with_suffix(f".{self._request.sidecar}")

    def _journal(self, source: Source, target: Path) -> Journal:
        """Return the journal of the folder that the person named, for the result or for the pictures."""
        depth = len(source.relative.parts) - 1
        folder = target.parent
        for _ in range(depth):
            folder = folder.parent
        if folder not in self._journals:
            self._journals[folder] = Journal.open(folder)
        return self._journals[folder]

    @cached_property
    def _weights(self) -> str:
        """The fingerprint of the weights; empty where they are not here, which is nothing to a picture that is done."""
        try:
            return self._fingerprint()
        except WeightsMissing:
            return ""

    def _digest(self, job: Job, asked: _Asked, of_latent: bool = False) -> str:
        """Return the sha256 of what is asked for: of all that decides over the file, or over the latent alone."""
        request = self._request
        decisive: dict[str, object] = asdict(request.settings) | {
            "model": request.model.name,
            "dtype": request.dtype,
            "tags": asked.given,
            "tolerant": request.tolerant,
        }
        if of_latent:
            del decisive["colour"]
        else:
            decisive |= {"kind": job.kind, "quality": request.quality}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._start


def _done(job: Job, made: _Made, notes: tuple[str, ...], content: bytes = b"") -> Outcome:
    return Outcome(
        job.source.path,
        "done",
        0.0,
        job.target,
        size_in=made.sizes.picture,
        size_out=made.sizes.result,
        tags=made.sampled.reading.tags,
        prompt=made.sampled.fitted.prompt.positive,
        notes=made.notes + notes,
        record=made.record,
        content=content,
    )


def _skipped(job: Job, state: Literal["done", "foreign"]) -> Outcome:
    message = f"{job.target} is already there"
    if state == "foreign":
        message += " and is not what this tool left there"
    return Outcome(job.source.path, "skipped", 0.0, job.target, message)


def _check_size(job: Job, stations: Sizes, most: int) -> None:
    height, width = stations.result
    if height * width > most:
        reason = f"{job.source.path} would become {width} x {height} pixels"
        allowed = f"more than the {most:,} that --max-pixels allows"
        raise PictureError(f"{reason}, {allowed}: raise it if that is meant, or ask for a smaller size.")


def _size(picture: image.Picture) -> Size:
    height, width = picture.pixels.shape[-2:]
    return height, width


def _failed(source: Path, error: Exception) -> Outcome:
    """Return the Outcome of a picture that cannot be restored; raise what would make every other picture fail too."""
    if isinstance(error, SeesrError) and not isinstance(error, PictureError):
        raise error
    message = str(error)
    if _ran_out(error):
        message = "needs more memory than there is: use a smaller --scale, or cut it into parts."
    elif not isinstance(error, SeesrError):
        message = f"failed unexpectedly ({type(error).__name__}: {error}); --debug shows where: please report it."
    if str(source) not in message:
        message = f"{source}: {message}"
    return Outcome(source, "failed", 0.0, message=message, error=error)


def _ran_out(error: Exception) -> bool:
    """Return whether memory ran out, where nothing was left to step down to."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    from .memory import ran_out  # torch, which says it with RuntimeErrors, is here already

    return ran_out(error)


def _check_disk(outcome: Outcome) -> None:
    """Raise ResourcesError when the disk was full for this picture: it would be for the others too."""
    error: BaseException | None = outcome.error
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourcesError("The disk is full: make room, and the same command again does what is left.")
        error = error.__cause__


def read_tags(
    sources: Sequence[Source], model: str, load: "Callable[[], Reader]", watch: Watch, *, tolerant: bool = False
) -> Iterator[Outcome]:
    """Read the tags of every picture and yield an Outcome for each, in order; failures as in `run`."""
    reader: Reader | None = None
    for source in sources:
        start = time.monotonic()
        watch.started(source.path, None)
        try:
            data = sys.stdin.buffer.read() if source.stdin else image.load(source.path)
            picture = image.decode(data, source.path, tolerant)
            if reader is None:
                watch.loading(model)
                began = time.monotonic()
                reader = load()
                start += time.monotonic() - began
            tags = reader.read(picture.pixels).tags
        except Exception as error:
            outcome = _failed(source.path, error)
        else:
            outcome = Outcome(source.path, "done", 0.0, size_in=_size(picture), tags=tags, notes=picture.notes)
        yield replace(outcome, seconds=time.monotonic() - start)
