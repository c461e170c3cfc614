"""The run through the jobs: one Outcome per picture, whatever happens to the others.

The model is loaded when the first picture that needs it has been read.
"""

import errno
import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

from .. import image
from ..errors import OutputUnwritable, PictureError, ResourcesError, SeesrError, WeightsMissing
from ..files import replacing, sweep
from ..records import latents, provenance, sidecar
from ..records.journal import Journal, Key
from ..settings import MAX_PIXELS, Model, Settings, Sidecar
from ..sizes import Size, Sizes, sizes
from .outputs import Job, Source, check_name

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..machine.device import Place
    from ..machine.share import Share
    from ..restore.tag import Reader, Tag
    from ..restore.upscaler import Sampled, Upscaler

State = Literal["done", "skipped", "failed"]

MOST_JPEG_XMP = 65_502
"""Bytes of XMP that one segment of a JPEG holds."""


@dataclass(frozen=True)
class Request:
    """What is asked for every picture of a run, besides where its result goes.

    quality: of the file, None for the format's own. tags_from: folder of sidecars, whose tags take the place of what
    the tagger sees; so do those of like, an earlier result's recipe. keep_latents: leave the denoised latent beside the
    result. tolerant: take damaged pictures as far as they can be read. max_pixels: of a result. batch_size: most tiles,
    of one picture or several, in one call of the networks; None: what memory holds, and what repeats `like` as it was.
    compiled: the networks' blocks are.
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
    batch_size: int | None = None
    compiled: bool = False


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
    """Who is told how a run goes on, between outcomes; several pictures may have been taken up at once."""

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
    from ..forecast import counts, estimate
    from ..machine.available import room

    multiple = counts.networks(request.model, weights).multiple
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
        taken = estimate.forecast(
            stations,
            request.settings,
            request.model,
            place,
            there,
            weights,
            job.kind,
            bits,
            header.alpha,
            request.batch_size or 1,
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
    What another process is at work on is taken up at the end, if it is not done by then. Pictures whose frames are of
    one size are sampled together, as many as memory holds: so many jobs are asked for before the first is done.
    `load` is called once, when the first picture that needs the model has been read and its place been checked;
    `fingerprint` gives that of the weights. A picture that fails is an Outcome; what makes every picture fail
    (UsageError, WeightsError, ResourcesError, whatever `load` raises) ends the run.

    foreseen: by source, forecasts that learn from what the pictures took.
    """
    busy: list[Job] = []
    with _Run(request, load, fingerprint, watch, foreseen or {}) as going:
        for outcome in chain(going.restored(jobs, busy), going.restored(busy)):
            yield outcome
            _check_disk(outcome)


class _Asked(NamedTuple):
    """A picture as it was named: the sha256 of its file, and the tags a person gave for it, and where."""

    sha256: str
    given: tuple[str, ...] | None
    notes: tuple[str, ...]
    given_in: Path | None = None


@dataclass
class _Begun:
    """A picture that has been read and waits for its latent, or has it and waits to be developed and written.

    claim: what holds the result's place. settings: with tiles that there is the memory for. repeats: it is what an
    earlier result was made of, to be made just so. failure: why there is no latent. before, steps, after: seconds until
    its first step, for all steps, and since then until it was resumed; of what was done for several at once its share.
    """

    job: Job
    asked: _Asked
    picture: image.Picture
    sizes: Sizes
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
    def kind(self) -> object:
        """What pictures that are sampled together have in common."""
        return self.sizes.padded, self.settings, self.repeats

    @property
    def seconds(self) -> float:
        """What it took in all, now that it is being finished."""
        return self.before + self.steps + self.after + time.monotonic() - self.resumed


class _Made(NamedTuple):
    """A result before it is written: the picture, and all that is known of it."""

    picture: image.Picture
    sizes: Sizes
    sampled: "Sampled"
    record: dict[str, Any]
    notes: tuple[str, ...]


class _Run:
    """What is kept from picture to picture: the model, the journals, and the pictures that have been begun.

    A context: whatever ends it, no claim is held any more.
    """

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
        self._loading = 0.0
        self._journals: dict[Path, Journal] = {}
        self._swept: set[Path] = set()
        self._told: set[str] = set()
        self._foreseen = foreseen
        self._queue: deque[_Begun | Outcome] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for begun in self._queue:
            if isinstance(begun, _Begun):
                begun.claim.close()

    def restored(self, jobs: Iterable[Job], later: list[Job] | None = None) -> Iterator[Outcome]:
        """Yield what becomes of the jobs' pictures, in order.

        later: takes the jobs that another process is at work on; without it their pictures are skipped.
        """
        for job in jobs:
            if not self._begin(job):
                if later is not None:
                    later.append(job)
                    continue
                self._queue.append(_skipped(job, "busy"))
            while ready := self._ready():
                yield from self._finished(ready)
        yield from self._finished(len(self._queue))

    def _ready(self) -> int:
        """Return how many of the queue wait for nothing more, from its head on.

        Nothing there has to be sampled, or it is as much as is sampled at once, or what came last is of another size.
        """
        waiting = [begun for begun in self._queue if isinstance(begun, _Begun) and begun.sampled is None]
        if not waiting:
            return len(self._queue)
        first, last = waiting[0], waiting[-1]
        if last.kind != first.kind:
            return len(self._queue) - 1
        return len(self._queue) if len(waiting) >= self._together(first) else 0

    def _finished(self, count: int) -> Iterator[Outcome]:
        """Yield what became of the first of the queue, sampled together."""
        if group := [
            begun for begun in islice(self._queue, count) if isinstance(begun, _Begun) and begun.sampled is None
        ]:
            self._sample(group)
        del group
        for _ in range(count):
            outcome = self._finish(self._queue.popleft())
            for note in [note for journal in self._journals.values() for note in journal.notes]:
                if note not in self._told and outcome.state != "failed":
                    self._told.add(note)
                    self._watch.note(note)
            yield outcome

    # A picture is begun.

    def _begin(self, job: Job) -> bool:
        """Take up the job's picture, as the last of the queue; return False where another process is at work on it."""
        start, loading = time.monotonic(), self._loading
        self._watch.started(job.source.path, job.target)
        try:
            with ExitStack() as claim:
                begun = self._begun(job, claim)
        except Exception as error:
            begun = _failed(job.source.path, error)
        seconds = time.monotonic() - start - (self._loading - loading)  # loading is no picture's time
        if isinstance(begun, _Begun):
            begun.before = seconds
        elif begun is not None:
            begun = replace(begun, seconds=seconds)
        if begun is not None:
            self._queue.append(begun)
        return begun is not None

    def _begun(self, job: Job, claim: ExitStack) -> _Begun | Outcome | None:
        """Return the job's picture, which `claim` then holds no more; what became of it; or None where it is taken."""
        request = self._request
        data = sys.stdin.buffer.read() if job.source.stdin else image.load(job.source.path)
        asked = self._asked(job, hashlib.sha256(data).hexdigest())
        if job.target is not None:
            self._make_ready(job, job.target)
            journal = self._journal(job.source, job.target)
            if not claim.enter_context(journal.claim(job.target)):
                return None
            state = journal.state(job.target, self._key(job, asked))
            again = request.overwrite and not (state == "done" and journal.made_meanwhile(job.target))
            if state in ("done", "foreign") and not again:
                if state == "done":  # a run may have been killed just before it took the latent away
                    latents.discard(latents.place(job.target))
                return _skipped(job, state)
            self._check_sidecar(job.target, asked.given_in)
        picture = image.decode(data, job.source.path, request.tolerant)
        stations = sizes(_size(picture), request.settings)
        _check_size(job, stations, request.max_pixels)
        if job.target is not None:
            image.check_target(job.target, stations.result, job.kind)
        # A forecast knows what tiles there is the memory for.
        planned = self._foreseen.get(job.source.path)
        settings = request.settings if planned is None else planned.case.settings
        repeats = self._repeats(asked, self._loaded())
        sampled = self._recalled(job, asked)
        return _Begun(job, asked, picture, stations, settings, repeats, claim.pop_all(), sampled)

    def _asked(self, job: Job, sha256: str) -> _Asked:
        request = self._request
        if request.tags_from is None:
            if request.like is None:
                return _Asked(sha256, None, ())
            tags = request.like.tags if request.like.input_sha256 == sha256 else None
            return _Asked(sha256, tags, self._unlike(request.like, sha256))
        name = job.target.name if job.target else job.source.path.name
        given = sidecar.find(request.tags_from, job.source.relative, name)
        if given is None:
            return _Asked(sha256, None, (f"{request.tags_from} holds no tags for it: it was read.",))
        if given.stale(sha256):
            return _Asked(sha256, None, (f"{given.path} is stale, the picture has changed since: it was read anew.",))
        return _Asked(sha256, given.tags, (), given.path)

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

    def _loaded(self) -> "Upscaler":
        if self._upscaler is None:
            self._watch.loading(self._request.model.name)
            began = time.monotonic()
            self._upscaler = self._load()
            self._loading += time.monotonic() - began
        return self._upscaler

    def _repeats(self, asked: _Asked, upscaler: "Upscaler") -> bool:
        """Return whether the picture is to become what it became before, in the same place: to the byte."""
        like, request = self._request.like, self._request
        if like is None or request.batch_size is not None:
            return False
        made = (like.input_sha256, like.settings, (like.device, like.dtype))
        return made == (asked.sha256, request.settings, upscaler.place)

    def _recalled(self, job: Job, asked: _Asked) -> "Sampled | None":
        """Return the latent that an earlier run left, when it failed behind it or was told to keep it."""
        from ..restore.upscaler import Sampled

        for place in (latents.place(job.target), latents.kept_place(job.target)) if job.target else ():
            if (found := latents.load(place, self._key(job, asked, of_latent=True))) is not None:
                return Sampled.recalled(*found)
        return None

    # It gets its latent.

    def _together(self, begun: _Begun) -> int:
        """Return how many pictures of its kind are sampled at once."""
        if begun.repeats:
            return 1
        return self._loaded().pictures_a_call(begun.sizes.padded, begun.settings, self._request.batch_size)

    def _sample(self, group: list[_Begun]) -> None:
        """Let all have their latents, sampled together, or each by itself where that fails; or why they have none."""
        start, steps, found = time.monotonic(), list[float](), list["Sampled"]()

        def stepped(done: int, total: int) -> None:
            steps.append(time.monotonic())
            for begun in group:
                self._watch.stepped(begun.job.source.path, done, total)

        try:
            found = self._sampled(group, stepped)
        except Exception as error:
            if len(group) == 1:
                group[0].failure = error
        if not found and len(group) > 1:  # only here, out of the handler, is free what the attempt held
            for begun in group:
                self._sample([begun])
        for begun, sampled in zip(group, found, strict=False):
            begun.sampled = self._kept(begun, sampled)
        for begun in group[: len(found)]:
            begun.before += (steps[0] - start) / len(group)
            begun.steps = (steps[-1] - steps[0]) / len(group)
            begun.after = (time.monotonic() - steps[-1]) / len(group)

    def _sampled(self, group: list[_Begun], stepped: Callable[[int, int], None]) -> "list[Sampled]":
        from ..restore.upscaler import Wanted

        upscaler, like, batch_size = self._loaded(), self._request.like, self._request.batch_size
        wanted = [Wanted(begun.picture.pixels, begun.asked.given) for begun in group]
        if group[0].repeats and like is not None:
            # Rounding can depend on how much is computed at once, and on the place in it: copies are all around.
            count = upscaler.pictures_a_call(group[0].sizes.padded, group[0].settings, like.batch_size)
            copies = upscaler.sample_together(count * wanted, group[0].settings, stepped, like.batch_size)
            return [copies[min(like.batch_place, count - 1)]]
        return upscaler.sample_together(wanted, group[0].settings, stepped, batch_size)

    def _kept(self, begun: _Begun, sampled: "Sampled") -> "Sampled":
        """Return what was sampled, now that it is on disk until its picture is."""
        if begun.job.target is not None:
            key = self._key(begun.job, begun.asked, of_latent=True)
            try:
                latents.save(latents.place(begun.job.target), sampled.latent, sampled.about(), key)
            except OutputUnwritable as error:
                note = f"The latent could not be kept ({error}), so a failure from here on would cost the sampling."
                return sampled._replace(notes=(*sampled.notes, note))
        return sampled

    # It is developed and written.

    def _finish(self, begun: _Begun | Outcome) -> Outcome:
        """Return what becomes of the picture; its place is free afterwards."""
        if isinstance(begun, Outcome):
            return begun
        begun.resumed = time.monotonic()
        try:
            with begun.claim:
                outcome = self._written(begun, self._made(begun))
            self._remember(begun)
        except Exception as error:
            outcome = _failed(begun.job.source.path, error)
        return replace(outcome, seconds=begun.seconds)

    def _made(self, begun: _Begun) -> _Made:
        from ..restore.prepare import finish

        request, job, picture, upscaler = self._request, begun.job, begun.picture, self._loaded()
        if begun.failure is not None:
            failure, begun.failure = begun.failure, None  # it knows of the picture: no circle is left behind
            raise failure
        assert begun.sampled is not None
        sampled = begun.sampled
        pixels, notes = upscaler.develop(sampled.latent, picture.pixels, request.settings)
        alpha = None if picture.alpha is None else finish(picture.alpha, begun.sizes)
        device, dtype = upscaler.place
        like = request.like
        record = provenance.record(
            model=request.model,
            weights=self._weights or None,
            settings=replace(request.settings, tile=sampled.tile, overlap=sampled.overlap),
            # A file that was renamed since is still that file, and its result the same to the byte.
            name=like.input_name if like and like.input_sha256 == begun.asked.sha256 else job.source.path.name,
            sha256=begun.asked.sha256,
            tags=sampled.reading.tags,
            prompt=sampled.fitted.prompt.positive,
            negative=sampled.fitted.prompt.negative,
            device=device,
            dtype=dtype,
            threads=upscaler.threads,
            batch_size=sampled.batch_size,
            batch_place=sampled.batch_place,
            kind=job.kind,
            quality=request.quality,
            bits=picture.bits if image.FORMATS[job.kind].deep else 8,
        )
        packet: bytes | None = provenance.embed(picture.xmp, record)
        if job.kind == "jpeg" and packet is not None and len(packet) > MOST_JPEG_XMP:
            packet = picture.xmp
            notes += ("A JPEG has no room beside the picture's XMP for how it was made: --like cannot repeat it.",)
        result = replace(picture, pixels=pixels, alpha=alpha, xmp=packet)
        return _Made(result, begun.sizes, sampled, record, begun.asked.notes + picture.notes + sampled.notes + notes)

    def _written(self, begun: _Begun, made: _Made) -> Outcome:
        job, quality = begun.job, self._request.quality
        if job.target is None:
            with BytesIO() as stream:
                notes = image.encode(stream, made.picture, job.kind, quality)
                return _done(job, made, notes, stream.getvalue())

        made = self._with_sidecar(job, made)
        journal, key = self._journal(job.source, job.target), self._key(job, begun.asked)
        # Once more: it may have taken hours, and what a person put there meanwhile is theirs.
        replaced = self._request.overwrite or journal.state(job.target, key) == "stale"
        with replacing(job.target, replaced) as file:
            notes = image.encode(file, made.picture, job.kind, quality)
            journal.record(job.target, key, file, begun.seconds)
        self._settle_latent(job.target)
        return _done(job, made, notes)

    def _remember(self, begun: _Begun) -> None:
        """Let later forecasts know how long the picture took, if it went all the way."""
        if (expected := self._foreseen.get(begun.job.source.path)) is None or not begun.steps:
            return
        from ..forecast.estimate import remember
        from ..forecast.rates import Phases

        remember(expected, Phases(begun.before, begun.steps, begun.seconds - begun.before - begun.steps))

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

    def _key(self, job: Job, asked: _Asked, of_latent: bool = False) -> Key:
        """Return what the result follows from, or its latent alone."""
        return Key(asked.sha256, self._digest(job, asked, of_latent), self._weights)

    def _digest(self, job: Job, asked: _Asked, of_latent: bool) -> str:
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


def _skipped(job: Job, state: Literal["done", "foreign", "busy"]) -> Outcome:
    reason = {
        "done": "is already there: left alone, --overwrite makes it again",
        "foreign": "is already there and is not what this tool left there: left alone, --overwrite makes it again",
        "busy": "is being made by another run: left to it",
    }
    return Outcome(job.source.path, "skipped", 0.0, job.target, f"{job.target} {reason[state]}.")


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
    from ..machine.out_of_memory import ran_out  # torch, which says it with RuntimeErrors, is here already

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
