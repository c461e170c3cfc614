"""Keep the things that all pictures of a run share: model, journals, keys, fingerprint of the weights."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import WeightsMissing
from ..files import as_spelled, sweep
from ..records.journal import Found, Journal
from ..records.lines import Key
from ..settings import Settings
from .outcome import Watch
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..restore.upscaler import Upscaler


class TaggedInput(NamedTuple):
    """Contents of an input file, and the tags that a person gave for it.

    sha256: of the file.
    tags: that replace those of the tagger; None: the tagger's are used.
    notes: sentences about the choice of tags.
    tags_file: file that the tags are from.
    by_hand: whether the tags are a person's own, and not those of an earlier result.
    """

    sha256: str
    tags: tuple[str, ...] | None
    notes: tuple[str, ...]
    tags_file: Path | None = None
    by_hand: bool = False


class Session:
    """The state of a run from picture to picture.

    request: what is asked for every picture.
    watch: listener that is told of the progress.
    forecasts: by source; they learn from the time that the pictures took.
    open_journal: gives the journal of a folder.
    loading_seconds: time spent on loading the model so far.
    """

    def __init__(
        self,
        request: Request,
        load: "Callable[[], Upscaler]",
        fingerprint: Callable[[], str],
        watch: Watch,
        forecasts: "Mapping[Path, Forecast]",
        open_journal: Callable[[Path], Journal],
    ) -> None:
        self.request = request
        self.watch = watch
        self.forecasts = forecasts
        self.loading_seconds = 0.0
        self._load = load
        self._fingerprint = fingerprint
        self._open_journal = open_journal
        self._upscaler: Upscaler | None = None
        self._journals: dict[Path, Journal] = {}
        self._above: dict[Path, Journal | None] = {}
        self._swept: set[Path] = set()
        self._told: set[str] = set()

    def upscaler(self) -> "Upscaler":
        """Return the model; the first call loads it."""
        if self._upscaler is None:
            self.watch.loading(self.request.model.name)
            began = time.monotonic()
            self._upscaler = self._load()
            self.loading_seconds += time.monotonic() - began
        return self._upscaler

    @cached_property
    def weights(self) -> str:
        """The fingerprint of the weights; empty if they are missing, which a picture that is done does not mind."""
        with suppress(WeightsMissing):
            return self._fingerprint()
        return ""

    def journal(self, job: Job) -> Journal:
        """Return the journal that tells of the job's result, which goes to a file."""
        assert job.folder is not None
        if job.folder not in self._journals:
            self._journals[job.folder] = self._open_journal(job.folder)
        return self._journals[job.folder]

    def close(self) -> None:
        """End writing the journals."""
        for journal in self._journals.values():
            journal.close()

    def find(self, job: Job, target: Path, tagged: TaggedInput) -> Found:
        """Return the state of `target`, the path of the job's result.

        What the run's own journal does not know may have been made by a run that named another folder of the same
        tree: so journals of the folders above are asked, too.
        """
        key, source = self.result_key(job, tagged), None if job.source.stream else job.source.path
        own = self.journal(job)
        found = own.find(target, key, source)
        if found.state == "foreign":
            for other in self._journals_above(target, own):
                if (told := other.find(target, key, source)).state != "foreign":
                    return told
        return found

    def _journals_above(self, target: Path, own: Journal) -> Iterator[Journal]:
        """Yield the journals, other than the run's own, in the folders that `target` is in."""
        mine, nearest = own.folder.resolve(), target.parent.resolve()
        for folder in (nearest, *nearest.parents):
            if folder == mine:
                continue
            if folder not in self._above:
                self._above[folder] = Journal.open(folder) if Journal.is_in(folder) else None
            if (journal := self._above[folder]) is not None:
                yield journal

    def tiled_settings(self, job: Job) -> Settings:
        """Return the settings with the tiling that the forecast of the picture chose, if there is one."""
        if (forecast := self.forecasts.get(job.source.path)) is None:
            return self.request.settings
        chosen = forecast.case.settings  # of one variant of the picture; all have the same tiling
        return replace(self.request.settings, tile=chosen.tile, overlap=chosen.overlap)

    def tell_notes(self) -> None:
        """Tell the watch each note of the journals that was not told yet."""
        for note in [note for journal in self._journals.values() for note in journal.notes]:
            if note not in self._told:
                self._told.add(note)
                self.watch.note(note)

    def sweep_once(self, folder: Path) -> None:
        """Delete the part files of killed runs in `folder`, if this run has not done so yet."""
        if folder not in self._swept:
            self._swept.add(folder)
            sweep(folder)

    def sidecar_path(self, target: Path) -> Path | None:
        """Return the path of the sidecar of the result `target`; None if sidecars are not asked for."""
        return None if self.request.sidecar == "none" else as_spelled(target.with_suffix(f".{self.request.sidecar}"))

    def result_key(self, job: Job, tagged: TaggedInput) -> Key:
        """Return the key of the result: digests of the input, of the deciding options, and of the weights."""
        about_file: dict[str, object] = {"kind": job.kind, "quality": self.request.quality}
        if self.request.metadata != "keep":  # the default is left out, so that results of earlier versions keep theirs
            about_file["metadata"] = self.request.metadata
        return self._key(tagged, self._decisive(tagged) | about_file)

    def latent_key(self, tagged: TaggedInput) -> Key:
        """Return the key of the denoised latent, over which neither colours nor the file's format decide."""
        decisive = self._decisive(tagged)
        for about_colours in ("colour", "colour_strength"):
            decisive.pop(about_colours, None)
        return self._key(tagged, decisive)

    def _decisive(self, tagged: TaggedInput) -> dict[str, object]:
        request = self.request
        settings = asdict(request.settings)
        if request.settings.colour_strength == 1:  # left out, so that results of earlier versions keep their keys
            del settings["colour_strength"]
        return settings | {
            "model": request.model.name,
            "dtype": request.dtype,
            "tags": tagged.tags,
            "tolerant": request.tolerant,
        }

    def _key(self, tagged: TaggedInput, decisive: dict[str, object]) -> Key:
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        return Key(tagged.sha256, digest, self.weights)
