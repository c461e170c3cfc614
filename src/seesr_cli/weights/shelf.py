"""A shelf: a folder of weights that remembers which files were verified, and which revisions were resolved.

The memory is `.seesr/state.json` in that folder. A file counts as verified while its size and time of change are those
of the moment its bytes were hashed, and it is hashed again when they are not; so a run does not read 14 GB to begin.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import OutputUnwritable, WeightsError, WeightsInvalid
from ..files import cache_folder, cause, write_json
from .lock import File, FileSource

MEMORY = ".seesr"
CHUNK = 1 << 22
PART = ".part"
"""Ends the name of what is being written."""

FileState = Literal["verified", "unverified", "replaced", "missing"]


class Record(NamedTuple):
    """A file as it was when it was hashed; for a converted file also its sources (file → sha256)."""

    size: int
    mtime_ns: int
    sha256: str
    made_of: dict[str, str] = {}  # noqa: RUF012  # never changed in place
    maker: int = 0


class Pin(NamedTuple):
    """The revision that a branch had when it was resolved, for a file without a published checksum."""

    repository: str
    revision: str
    path: str
    bytes: int
    sha256: str
    type: str = "model"

    @property
    def source(self) -> FileSource:
        return FileSource(self.repository, self.type, self.path, self.revision)


@dataclass
class ShelfMemory:
    """All that a shelf remembers. accepted: names of licences."""

    files: dict[str, Record] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)


class Shelf:
    """The folder `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def memory(self) -> ShelfMemory:
        """Return the shelf's present memory. Raises WeightsInvalid when the memory is no longer readable."""
        path = self.root / MEMORY / "state.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return ShelfMemory(
                {name: Record(**entry) for name, entry in content["files"].items()},
                {name: Pin(**entry) for name, entry in content["pins"].items()},
                list(content["accepted"]),
            )
        except FileNotFoundError:
            return ShelfMemory()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            raise WeightsInvalid(
                f"{path}: not readable ({problem}); delete it, and the files are checked anew."
            ) from None

    @contextmanager
    def changing(self) -> Iterator[ShelfMemory]:
        """Give the memory to be changed, and write it whole or not at all, one process at a time."""
        path = self.root / MEMORY / "state.json"
        with self.alone("state"):
            memory = self.memory()
            yield memory
            content = {
                "files": {name: record._asdict() for name, record in sorted(memory.files.items())},
                "pins": {name: pin._asdict() for name, pin in sorted(memory.pins.items())},
                "accepted": sorted(set(memory.accepted)),
            }
            assert content.keys() == asdict(memory).keys()
            try:
                write_json(path, content)
            except OutputUnwritable as problem:
                reason = cause(problem.__cause__ or problem)
                raise WeightsError(
                    f"{path} cannot be written ({reason}): make room and run it again, or choose another folder."
                ) from problem

    @contextmanager
    def alone(self, name: str, wait: bool = True) -> Iterator[None]:
        """Keep other processes away from `name`; a process that dies lets go.

        wait: until another process lets go. Raises WeightsError, also where there is no waiting for one that does not.
        """
        from huggingface_hub.utils import WeakFileLock

        lock = self.lock(name)
        with ExitStack() as held:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(WeakFileLock(lock, timeout=None if wait else 0.1))
            except OSError as problem:
                raise WeightsError(
                    f"{self.root} cannot be written to ({problem.strerror}); choose another folder."
                ) from None
            yield

    def lock(self, name: str) -> Path:
        """Return the file whose lock keeps other processes out of what `name` stands for."""
        return self.root / MEMORY / "locks" / f"{name.replace('/', '--')}.lock"

    @property
    def writable(self) -> bool:
        """Whether the shelf can remember: a stick or a shared folder may be there to be read only."""
        return os.access(self.root / MEMORY, os.W_OK)

    def path(self, name: str) -> Path:
        """Return where the file of that name is, or would be."""
        return self.root / name

    def sha256(self, file: File) -> str:
        """Return the checksum that `file` must have: the lock's, or its pin's, or "" before there is one."""
        pin = self.memory().pins.get(file.file)
        return file.sha256 or (pin.sha256 if pin else "")

    def record(self, name: str, sha256: str, made_of: dict[str, str] | None = None, maker: int = 0) -> None:
        """Remember that the file of that name, as it is now, has this checksum."""
        stat = self.path(name).stat()
        with self.changing() as memory:
            memory.files[name] = Record(stat.st_size, stat.st_mtime_ns, sha256, made_of or {}, maker)

    def forget(self, name: str) -> None:
        """Delete the file of that name, and forget it."""
        self.path(name).unlink(missing_ok=True)
        with self.changing() as memory:
            memory.files.pop(name, None)

    def state(self, file: File, memory: ShelfMemory | None = None) -> FileState:
        """Return how `file` stands, without reading it. "replaced": a verified copy made of it serves in its place."""
        memory = memory or self.memory()
        pin = memory.pins.get(file.file)
        wanted = file.sha256 or (pin.sha256 if pin else "")
        if wanted:
            if (
                (record := memory.files.get(file.file))
                and record.sha256 == wanted
                and self.untouched(file.file, record)
            ):
                return "verified"
            for name, record in memory.files.items():
                if record.made_of.get(file.file) == wanted and self.untouched(name, record):
                    return "replaced"
        return "unverified" if self.path(file.file).is_file() else "missing"

    def untouched(self, name: str, record: Record) -> bool:
        """Whether the file of that name has the size and time of change that were remembered."""
        try:
            stat = self.path(name).stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (record.size, record.mtime_ns)

    def settle(self, file: File) -> bool:
        """Whether `file` is there with the bytes it should have; hashes it if it was touched since."""
        wanted = self.sha256(file)
        if self.state(file) == "verified":
            return True
        if not wanted or not self.path(file.file).is_file() or sha256(self.path(file.file)) != wanted:
            return False
        self.record(file.file, wanted)
        return True

    def hold(self) -> None:
        """Make sure that every remembered file that is there has the bytes that were verified.

        A copy made here that has others is deleted: it is made anew. Raises WeightsInvalid, naming it, for any other.
        """
        for name, record in self.memory().files.items():
            path = self.path(name)
            if not path.is_file() or self.untouched(name, record):
                continue
            if sha256(path) != record.sha256:
                if record.made_of and self.writable:
                    self.forget(name)
                    continue
                raise WeightsInvalid(
                    f"{path} is not what was verified; seesr weights pull gets it again "
                    f"(or delete {self.root / MEMORY} to use the folder as your own)."
                )
            if self.writable:
                self.record(name, record.sha256, record.made_of, record.maker)


def default() -> Shelf:
    """Return the shelf that `pull` fills: among huggingface_hub's assets, beside its cache.

    For a user who has no home, and says no HF_HOME, the shelf is in a folder of this process and empty. Raises
    WeightsError where huggingface_hub's variables have values that it cannot read.
    """
    try:
        from huggingface_hub import constants
    except ValueError as problem:
        named = ", ".join(sorted(name for name in os.environ if name.startswith("HF_")))
        raise WeightsError(f"A variable of huggingface_hub cannot be read ({problem}): look at {named}.") from None
    assets = Path(constants.HF_ASSETS_CACHE)
    if assets.parts[0].startswith("~"):  # as huggingface_hub leaves it where there is no home
        assets = cache_folder()
    return Shelf(assets / "seesr" / "weights" / "default")


def sha256(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> str:
    """Return the sha256 of a file's content; `on_bytes` is told of each part read."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def link(target: Path, path: Path) -> None:
    """Make `path` the file `target`, by a link if the system allows it, else by a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    part.unlink(missing_ok=True)
    try:
        part.symlink_to(target)
    except OSError:  # Windows allows it to few
        shutil.copyfile(target, part)
    part.replace(path)
