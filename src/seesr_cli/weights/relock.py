"""Write the lock anew from the Hub's present answers: for maintainers with a network."""

import tempfile
from dataclasses import replace
from pathlib import Path

from ..errors import WeightsInvalid, WeightsMissing
from . import connection, hub
from .lock import SLACK, File, FileSource, Lock
from .pull import OnPull, PullProgress, silent

SHA256_LENGTH = 64


def renew(lock: Lock, watch: OnPull = silent) -> Lock:
    """Return the lock with every source's branch resolved, and the size and checksum of each file's first source.

    A pinned revision stays; its files are asked for again, so that a checksum the Hub does not agree with is found.
    Files without a checksum get one, and are then pinned. The Hub gives the sha256 of large files; small ones are
    fetched and hashed. Mirrors that do not give the same file are left out, with a note.
    Raises WeightsMissing when a first source does not answer, WeightsInvalid when it has another file than the lock.
    """
    connection.check()
    files = []
    with hub.quiet():
        for number, file in enumerate(lock.files):
            watch(PullProgress(file.file, number, len(lock.files)))
            files.append(_renewed(file, lock, watch, number))
    watch(PullProgress("", len(lock.files), len(lock.files)))
    return replace(lock, files=tuple(files))


def _renewed(file: File, lock: Lock, watch: OnPull, number: int) -> File:
    first, *mirrors = file.sources
    try:
        first, size, sha256 = _asked(first, file, lock)
    except hub.Refused as refusal:
        raise WeightsMissing(f"{file.file}: {first}: {refusal}; the lock stays as it is.") from None
    if file.sha256 and sha256 != file.sha256:
        raise WeightsInvalid(
            f"{file.file}: {first} has the sha256 {sha256} and the lock {file.sha256}; find out why before changing it."
        )
    if file.bytes and abs(size - file.bytes) > (SLACK if file.computed else 0):
        raise WeightsInvalid(f"{file.file}: {first} has {size} bytes and the lock {file.bytes}; find out why.")
    kept = []
    for mirror in mirrors:
        try:
            resolved, _, found = _asked(mirror, file, lock)
            reason = "" if found == sha256 else f"its sha256 is {found}"
        except hub.Refused as refusal:
            resolved, reason = mirror, str(refusal)
        if reason:
            watch(PullProgress(file.file, number, len(lock.files), f"{file.file}: mirror left out, {mirror}: {reason}"))
        else:
            kept.append(resolved)
    return replace(
        file, sources=(first, *kept), bytes=size, computed=False, sha256=sha256, unpinned="", tensors=file.tensors
    )


def _asked(source: FileSource, file: File, lock: Lock) -> tuple[FileSource, int, str]:
    """Return the source with its full revision, and the size and sha256 that the file has there. Raises Refused."""
    if not source.on_hub:
        size, sha256 = _hashed(lock.url(source), file, with_token=False)
        return source, size, sha256
    remote = hub.ask(source)
    resolved = replace(source, revision=remote.commit, branch="")
    if len(remote.etag) == SHA256_LENGTH and remote.size is not None:
        return resolved, remote.size, remote.etag
    size, sha256 = _hashed(remote.url, file, with_token=True)
    return resolved, size, sha256


def _hashed(url: str, file: File, with_token: bool) -> tuple[int, str]:
    """Return size and sha256 of a small file, which is fetched for that. Raises Refused."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        limit = None if file.computed or not file.bytes else file.bytes
        arrival = hub.fetch(url, part, limit, with_token, on_bytes=lambda count: None)
    return arrival.size, arrival.sha256
