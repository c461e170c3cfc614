"""Everything that is lacking is fetched, checked and put on the shelf; and taken from it again.

wanted = plan(lock.read(), "seesr")           # reads no weights, asks nobody
stock.in_words(wanted.files), wanted.origins  # to be told before a person says yes
fetch_all(wanted, watch)
"""

import shutil
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import WeightsError, WeightsInvalid, WeightsMissing
from ..files import cause, disk_is_full
from ..wording import bytes_in_words
from . import connection, hub, status
from .lock import SLACK, File, FileSource, Lock
from .shelf import MEMORY, Pin, Shelf, default, link, sha256


class PullProgress(NamedTuple):
    """How far a pull is, in bytes of the whole; `note` is something a person should know, once."""

    file: str
    done: int
    total: int
    note: str = ""


OnPull = Callable[[PullProgress], None]
Resolved = dict[tuple[str, str], str]
"""Of this pull: (repository, branch) → commit, so that all files of a repository come from one commit."""


def silent(progress: PullProgress) -> None:
    """Show no progress."""


class PullPlan(NamedTuple):
    """The files to fetch, and the names of licences that nobody has accepted yet.

    into: the shelf. linked: files go to huggingface_hub's cache and the shelf links there; else into the shelf itself.
    """

    lock: Lock
    model: str
    into: Shelf
    linked: bool
    files: tuple[File, ...]
    licences: tuple[str, ...]

    @property
    def origins(self) -> tuple[str, ...]:
        """The repositories that are asked first."""
        return tuple(dict.fromkeys(file.sources[0].repository for file in self.files))

    @property
    def bytes(self) -> int:
        """The bytes to fetch over the network, at most: parts that are already here do not count."""
        return sum(file.bytes for file in self.files)


def plan(
    lock: Lock, model: str, folder: Path | None = None, half: bool = False, roles: Collection[str] = ()
) -> PullPlan:
    """Return the plan for pulling `model` into the cache or into `folder`. Asks no network, changes nothing.

    half: 16-bit files where there are some. roles: of the files that are wanted; none for all.
    """
    into = default() if folder is None else Shelf(folder)
    files = status.lacking(lock, into, model, half, roles)
    accepted = {*into.memory().accepted, *default().memory().accepted}
    asked = dict.fromkeys(file.ask for file in files if file.ask and file.ask not in accepted)
    return PullPlan(lock, model, into, folder is None, files, tuple(asked))


def sized(wanted: PullPlan) -> PullPlan:
    """Return the plan with all sizes: for files without a published size the Hub is asked, if it answers."""
    files = []
    for file in wanted.files:
        if not file.bytes:
            with suppress(hub.Refused), hub.quiet():  # the pull will say why
                file = replace(file, bytes=hub.ask(file.sources[0]).size or 0)
        files.append(file)
    return wanted._replace(files=tuple(files))


def accept(shelf: Shelf, licences: Iterable[str]) -> None:
    """Remember that these licences are accepted, so that nobody is asked again."""
    with shelf.changing() as memory:
        memory.accepted = sorted({*memory.accepted, *licences})


def fetch_all(wanted: PullPlan, watch: OnPull = silent) -> None:
    """Put every file of the plan on its shelf, verified.

    What is here already, in huggingface_hub's cache, on the default shelf or as a part, is not fetched again. The disk
    is checked before the first byte. Raises WeightsError for a licence not accepted, a disk too small, the network
    forbidden, or proxies and certificates that cannot be used; WeightsMissing when no source gives a file;
    WeightsInvalid when what they give is not the file.
    """
    if wanted.licences:
        name = wanted.licences[0]
        raise WeightsError(
            f"The licence of {name} is its owner's own and not a free one: read it at https://huggingface.co/{name}, "
            f"then run: seesr weights pull {wanted.model} --accept-licence {name}."
        )
    try:
        with hub.quiet():
            _fetch_all(wanted, watch)
    except OSError as problem:
        where = problem.filename or wanted.into.root
        remedy = (
            "make room" if disk_is_full(problem) else "see to that, or choose another folder (HF_HOME, or --to DIR)"
        )
        raise WeightsError(
            f"The files cannot be written to {where} ({cause(problem)}). What has come is kept: {remedy}, then run the "
            "same again."
        ) from problem


def _fetch_all(wanted: PullPlan, watch: OnPull) -> None:
    total, done = wanted.bytes, 0
    lacking = []
    for file in wanted.files:
        watch(PullProgress(file.file, done, total))
        if _adopt(file, wanted):
            done += file.bytes
        else:
            lacking.append(file)
    if lacking:
        if hub.offline():
            raise WeightsMissing(_without_network(wanted, "HF_HUB_OFFLINE forbids the network"))
        if wanted.linked and str(hub.hub_cache()).startswith("~"):
            raise WeightsError(
                "There is no home folder to keep the weights in: set HF_HOME to a folder, or name one with --to DIR."
            )
        connection.check()
        _check_disk(lacking, wanted)
    resolved: Resolved = {}
    for file in lacking:
        with wanted.into.alone(file.file):
            if not wanted.into.settle(file):  # another process may have brought it meanwhile
                _bring(file, wanted, resolved, _Counter(file, done, total, watch))
        done += file.bytes
    watch(PullProgress("", total, total))


def _without_network(wanted: PullPlan, why: str) -> str:
    verb = "is" if len(wanted.files) == 1 else "are"
    return (
        f"{why}, and {status.in_words(wanted.files)} {verb} not here: run seesr weights pull {wanted.model} --to DIR "
        "on a machine that has a network, bring DIR here, and give it with --weights DIR."
    )


class _Counter:
    """Tells the watch how far the whole is while one file arrives."""

    def __init__(self, file: File, before: int, total: int, watch: OnPull) -> None:
        self._file, self._before, self._total, self._watch = file, before, total, watch
        self._here = 0

    def __call__(self, count: int) -> None:
        self._here += count
        here = min(max(self._here, 0), self._file.bytes)
        self._watch(PullProgress(self._file.file, self._before + here, self._total))

    def note(self, text: str) -> None:
        here = min(max(self._here, 0), self._file.bytes)
        self._watch(PullProgress(self._file.file, self._before + here, self._total, text))


def _adopt(file: File, wanted: PullPlan) -> bool:
    """Whether the file is on the shelf now, verified, without a network."""
    into = wanted.into
    if into.settle(file):
        return True
    expected = into.sha256(file)
    if not expected and (pin := default().memory().pins.get(file.file)):
        with into.changing() as memory:
            memory.pins[file.file] = pin
        expected = pin.sha256
    if not expected:
        return False
    pin = into.memory().pins.get(file.file)
    for source in (pin.source,) if pin else file.sources:
        if (path := hub.cached(source)) and sha256(path) == expected:
            _shelve(path, file, wanted)
            return into.settle(file)
    elsewhere = default().path(file.file)
    if not wanted.linked and elsewhere.is_file() and sha256(elsewhere) == expected:
        _shelve(elsewhere, file, wanted)
        return into.settle(file)
    return False


def _shelve(path: Path, file: File, wanted: PullPlan) -> None:
    """Let the shelf hold `file`, whose bytes are at `path`."""
    place = wanted.into.path(file.file)
    if wanted.linked and path.is_relative_to(hub.hub_cache()):
        link(path.absolute(), place)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(place.name + hub.PART)
    shutil.copyfile(path, part)
    part.replace(place)


def _check_disk(files: list[File], wanted: PullPlan) -> None:
    """Raise WeightsError unless the disks have room for `files`, less the parts that are there already."""
    cache = hub.hub_cache()
    needs: dict[Path, int] = {}
    for file in files:
        in_cache = wanted.linked and file.sources[0].on_hub
        folder = _existing(cache if in_cache else wanted.into.root)
        here = max((part.stat().st_size for part in _parts(file, wanted) if part.is_file()), default=0)
        needs[folder] = needs.get(folder, 0) + max(file.bytes - here, 0)
    for folder, need in needs.items():
        if (free := shutil.disk_usage(folder).free) < need:
            raise WeightsError(
                f"{folder} has {bytes_in_words(free)} free and {bytes_in_words(need)} have to come: free some space, "
                "or choose another place (HF_HOME, or --to DIR)."
            )


def _existing(folder: Path) -> Path:
    """Return the nearest folder that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _parts(file: File, wanted: PullPlan) -> list[Path]:
    """Return where parts of `file` may be: one place for each source, or the one in the folder itself."""
    beside = wanted.into.path(file.file)
    if not wanted.linked:
        return [beside.with_name(beside.name + hub.PART)]
    name = (file.sha256 or file.file.replace("/", "--")) + hub.PART
    return [
        hub.blob(source, name) if source.on_hub else beside.with_name(beside.name + hub.PART) for source in file.sources
    ]


def _bring(file: File, wanted: PullPlan, resolved: Resolved, counter: _Counter) -> None:
    """Fetch `file` from the first source that gives it, check it, shelve it, record it. Raises WeightsError."""
    pin = wanted.into.memory().pins.get(file.file)
    sources = (pin.source,) if pin else file.sources
    parts = _parts(file, wanted)
    reasons, wrong = [], False
    for number, source in enumerate(sources):
        part = parts[min(number, len(parts) - 1)]
        _move_part(parts, part)
        for resumed in (True, False) if part.is_file() else (False,):
            try:
                return _bring_from(source, file, part, wanted, resolved, counter)
            except hub.Refused as refusal:
                reasons.append(f"{source}: {refusal}")
                break
            except WeightsInvalid as problem:
                part.unlink(missing_ok=True)
                if resumed:  # the beginning may have been another's: once more, from the start
                    continue
                reasons.append(f"{source}: {problem}")
                wrong = True
        if number + 1 < len(sources):
            counter.note(f"{reasons[-1]}; the next mirror is asked.")
    told = "; ".join(reasons)
    if all("no route" in reason for reason in reasons):
        by = ", ".join(proxy.name for proxy in connection.proxies())
        through = f" by the proxy of {by}" if by else ""
        hosts = _hosts(sources, wanted.lock)
        raise WeightsMissing(_without_network(wanted, f"There is no route to {hosts}{through}"))
    if wrong:
        anew = "" if file.sha256 else f" To resolve its branch anew, delete {wanted.into.root / MEMORY / 'state.json'}."
        raise WeightsInvalid(f"{file.file} is not to be had as it should be. {told.rstrip('.')}.{anew}")
    raise WeightsMissing(f"{file.file} is not to be had now. {told}. What has come is kept: run the same again later.")


def _hosts(sources: Iterable[FileSource], lock: Lock) -> str:
    from huggingface_hub import constants

    places = [constants.ENDPOINT if source.on_hub else urlsplit(lock.url(source)).netloc for source in sources]
    return ", ".join(dict.fromkeys(places))


def _move_part(parts: list[Path], part: Path) -> None:
    """Let a part that came from another mirror go on here: the content is the same, or its checksum finds out."""
    for other in parts:
        if other != part and other.is_file() and not part.is_file():
            part.parent.mkdir(parents=True, exist_ok=True)
            other.replace(part)


def _bring_from(
    source: FileSource, file: File, part: Path, wanted: PullPlan, resolved: Resolved, counter: _Counter
) -> None:
    expected = wanted.into.sha256(file)
    if not source.on_hub:
        arrival = hub.fetch(wanted.lock.url(source), part, file.bytes, with_token=False, on_bytes=counter)
        _check_arrival(file, arrival, expected, "")
        place = wanted.into.path(file.file)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
        wanted.into.record(file.file, arrival.sha256)
        return
    if not source.revision:
        source = _resolve(source, wanted, resolved)
    remote = hub.ask(source)
    _check_remote(file, remote, expected)
    blob = hub.blob(source, remote.etag)
    if wanted.linked and blob.is_file() and sha256(blob) == (expected or remote.etag):
        arrival = hub.Arrival(blob, blob.stat().st_size, expected or remote.etag, "")  # only its place is lacking
    else:
        arrival = hub.fetch(remote.url, part, remote.size, with_token=True, on_bytes=counter)
    _check_arrival(file, arrival, expected, remote.etag)
    if file.tensors and not expected:
        check_tensors(arrival.part, wanted.lock.tensors(file))
    place = wanted.into.path(file.file)
    if wanted.linked:
        arrival.part.replace(blob)
        link(hub.tie_in(source, remote.commit).absolute(), place)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        arrival.part.replace(place)
    if not file.sha256:
        with wanted.into.changing() as memory:
            memory.pins[file.file] = Pin(
                source.repository, remote.commit, source.path, arrival.size, arrival.sha256, source.type
            )
        resolved[source.repository, file.sources[0].branch] = remote.commit
    wanted.into.record(file.file, arrival.sha256)


def check_tensors(path: Path, expected: dict[str, list[int]]) -> None:
    """Raise WeightsInvalid unless the safetensors file at `path` has the names and shapes of `expected`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as problem:
        raise WeightsInvalid(f"{path}: not a whole safetensors file ({problem}); get it anew.") from None
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            held = f"is {found[name]}" if name in found else "is missing"
            wanted = f"should be {expected[name]}" if name in expected else "is no part of the network"
            raise WeightsInvalid(f"{path}: tensor '{name}' {held} and {wanted}; the file is another one, get it anew.")


def _resolve(source: FileSource, wanted: PullPlan, resolved: Resolved) -> FileSource:
    """Return the source at the commit that its branch is at now, or was at when files of it were pinned."""
    for pin in wanted.into.memory().pins.values():
        if pin.repository == source.repository:
            resolved.setdefault((source.repository, source.branch), pin.revision)
    commit = resolved.get((source.repository, source.branch)) or hub.ask(source).commit
    resolved[source.repository, source.branch] = commit
    return replace(source, revision=commit)


def _check_remote(file: File, remote: hub.Remote, expected: str) -> None:
    """Raise WeightsInvalid when what the Hub says of the file shows already that it is another one."""
    slack = SLACK if file.computed else 0
    if remote.size is not None and abs(remote.size - file.bytes) > slack:
        raise WeightsInvalid(f"it is {remote.size} bytes long there and should be {file.bytes}")
    if expected and len(remote.etag) == len(expected) and remote.etag != expected:
        raise WeightsInvalid(f"its sha256 there is {remote.etag[:12]}... and should be {expected[:12]}...")


def _check_arrival(file: File, arrival: hub.Arrival, expected: str, etag: str) -> None:
    """Raise WeightsInvalid unless the bytes that came are the file's."""
    slack = SLACK if file.computed else 0
    if abs(arrival.size - file.bytes) > slack:
        raise WeightsInvalid(f"{arrival.size} bytes came and {file.bytes} should have")
    if expected and arrival.sha256 != expected:
        raise WeightsInvalid(f"what came has the sha256 {arrival.sha256[:12]}... and should have {expected[:12]}...")
    if not expected and etag not in (arrival.sha256, arrival.blob_id):
        raise WeightsInvalid("what came has not the checksum that the Hub gives for it")
