"""Pictures to learn from, by number: folders, lists and tar shards become one list of names, read when asked for.

Nothing is opened to be listed. Which picture a sample takes follows from (seed, n) alone, and so does every draw.
"""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PictureUnreadable, UsageError
from ..files import replacing
from .photographs import ENDINGS


class Source(NamedTuple):
    """Where one picture is: a file, or `size` bytes from `offset` on in a tar shard. name: what it is told by."""

    name: str
    path: str
    offset: int = 0
    size: int | None = None

    def load(self) -> bytes:
        """Return the picture's file as bytes."""
        if self.size is None:
            return Path(self.path).read_bytes()
        with Path(self.path).open("rb") as shard:
            shard.seek(self.offset)
            return shard.read(self.size)


def find(given: Sequence[str]) -> tuple[Source, ...]:
    """Return the pictures of folders (with subfolders), of tar shards, and of lists of names, sorted.

    Raises UsageError for what is none of these, and where there is no picture at all.
    """
    found: list[Source] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            entries = list(_below(path))
            shards = [each for each in entries if each.suffix == ".tar"]
            found += [Source(str(each), str(each)) for each in entries if each.suffix.lower() in ENDINGS]
            found += [source for shard in shards for source in _in_shard(shard)]
        elif path.suffix == ".tar" and path.is_file():
            found += _in_shard(path)
        elif path.is_file():
            found += list(_listed(path))
        else:
            raise UsageError(f"--data {text}: there is no such folder, list or shard.")
    if not found:
        raise UsageError(
            f"--data {', '.join(given)}: there is no picture in it. Give a folder with {', '.join(sorted(ENDINGS))} "
            "files, a text file with a name a line, or .tar shards."
        )
    return tuple(sorted(found))


def _below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _listed(path: Path) -> Iterator[Source]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"--data {path}: this is no list of names; give a folder, or a text file.") from None
    for line in lines:
        if name := line.strip():
            whole = os.path.join(path.parent, name)  # noqa: PTH118  a Path takes four times as long
            yield Source(whole, whole)


def _in_shard(path: Path) -> list[Source]:
    try:
        with tarfile.open(path) as shard:
            return [
                Source(f"{path}:{member.name}", str(path), member.offset_data, member.size)
                for member in shard
                if member.isfile() and Path(member.name).suffix.lower() in ENDINGS
            ]
    except (tarfile.TarError, OSError) as problem:
        raise UsageError(f"--data {path}: not a whole tar shard ({problem}); make it anew.") from None


def write_shards(sources: Sequence[Source], folder: Path, most: int) -> list[Path]:
    """Write the pictures into tar shards of at most `most` bytes, in webdataset's layout, and return their paths.

    Each picture is NNNNNNNN.ending; its own name is dropped. Raises OutputUnwritable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    pending = list(enumerate(sources))
    while pending:
        path = folder / f"shard-{len(written):05d}.tar"
        with replacing(path) as file, closing(tarfile.open(fileobj=file, mode="w")) as shard:
            room = most
            while pending:
                number, source = pending[0]
                data = source.load()
                if room < most and len(data) > room:
                    break
                entry = tarfile.TarInfo(f"{number:08d}{Path(source.name).suffix.lower()}")
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))
                room -= len(data) + 1024
                pending.pop(0)
        written.append(path)
    return written


def read(source: Source, least_side: int = 0, least_bytes: int = 0) -> Tensor:
    """Return a picture as [3, H, W] uint8 RGB. Raises PictureUnreadable for a damaged one, or one that is too small."""
    try:
        data = source.load()
        if len(data) < least_bytes:
            raise PictureUnreadable(f"{source.name} has {len(data)} bytes, below {least_bytes}.")
        with Image.open(io.BytesIO(data)) as picture:
            if min(picture.size) < least_side:
                raise PictureUnreadable(
                    f"{source.name} is {picture.width}x{picture.height}, below {least_side} pixels."
                )
            array = np.array(picture.convert("RGB"))
    except PictureUnreadable:
        raise
    except Exception as problem:  # Pillow has no common class for what a damaged file raises
        raise PictureUnreadable(f"{source.name} cannot be read ({type(problem).__name__}: {problem}).") from problem
    return torch.from_numpy(array).permute(2, 0, 1)


def chance(seed: int, *place: object) -> torch.Generator:
    """Return the generator of one place of a run: the same for the same seed and place, on every machine."""
    key = blake2b("/".join(map(str, (seed, *place))).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(key))


class Order:
    """Says which picture sample n takes: every picture once an epoch, in an order of that epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, n: int, further: int = 0) -> int:
        """Return the number of the picture of sample n, or of the `further`-th behind it in the epoch's order."""
        epoch, place = divmod(n, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self._count, generator=chance(self._seed, "epoch", epoch))
        return int(self._order[(place + further) % self._count])


def aside(sources: Sequence[Source], count: int) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """Return the pictures to learn from, and `count` evenly chosen ones that are only looked at."""
    if not 0 < count < len(sources):
        return tuple(sources), ()
    kept = {place * len(sources) // count for place in range(count)}
    return (
        tuple(source for place, source in enumerate(sources) if place not in kept),
        tuple(source for place, source in enumerate(sources) if place in kept),
    )


def digest(sources: Iterable[Source]) -> str:
    """Return a digest of the names, the same for the same pictures wherever they are."""
    summed = blake2b(digest_size=16)
    for source in sources:
        summed.update(f"{Path(source.name).name}\0".encode())
    return summed.hexdigest()
