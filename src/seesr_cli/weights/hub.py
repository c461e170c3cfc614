"""One file from one source, over the network: huggingface_hub does the talking, and this module the checking.

A part that has arrived is kept, so that the next try goes on behind it, in this process or in another. The bytes are
hashed on their way to the disk; only a file with the right checksum gets a name that anybody looks at.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from ..errors import WeightsError
from .lock import FileSource
from .shelf import CHUNK

PART = ".seesr.incomplete"
TRIES = 4
LONGEST_WAIT = 60
"""Seconds; a server that asks for more patience than this is passed over for the next mirror."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

Result = TypeVar("Result")


class Refused(Exception):
    """A source does not give the file: the reason, in a few words. Another source may."""


class Remote(NamedTuple):
    """The facts that a source tells of a file before it is fetched.

    etag: a large file's sha256, a small file's blob id.
    """

    url: str
    commit: str
    etag: str
    size: int | None


class Arrival(NamedTuple):
    """The bytes that arrived, in the file that keeps them until they have a place."""

    part: Path
    size: int
    sha256: str
    blob_id: str


def offline() -> bool:
    """Whether the network is forbidden, by `HF_HUB_OFFLINE`."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def ask(source: FileSource) -> Remote:
    """Return the Hub's facts about a file. Raises Refused."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    kind = None if source.type == "model" else source.type
    url = hf_hub_url(source.repository, source.path, repo_type=kind, revision=source.revision or source.branch)
    found = _patiently(lambda: get_hf_file_metadata(url))
    if not _COMMIT.fullmatch(found.commit_hash or "") or not _ETAG.fullmatch(found.etag or ""):
        raise Refused("the answer is not the Hub's (a proxy in between?)")
    commit, etag = str(found.commit_hash), str(found.etag)
    exact = hf_hub_url(source.repository, source.path, repo_type=kind, revision=commit)
    return Remote(exact, commit, etag, found.size)


def fetch(url: str, part: Path, size: int | None, with_token: bool, on_bytes: Callable[[int], None]) -> Arrival:
    """Return the bytes at `url`, of which `part` may hold the beginning; they are in `part` then.

    size: what is expected; None takes what comes. with_token: send the user's token, to the Hub alone.
    on_bytes: told how many bytes have come, those of an earlier try included; less than nothing where they are lost.
    Raises Refused, or OSError of the disk; in both cases `part` keeps what has come.
    """
    from huggingface_hub.utils import build_hf_headers

    def once() -> Arrival:
        with _Sink(part, size, on_bytes) as sink:
            headers = build_hf_headers() if with_token else {}
            _get(url, sink, headers, size)
            return Arrival(part, sink.size, sink.digest.hexdigest(), sink.blob_id())

    try:
        return _patiently(once)
    except _TooLong:
        part.unlink(missing_ok=True)
        raise Refused("it sends more bytes than the file has") from None


def cached(source: FileSource) -> Path | None:
    """Return where huggingface_hub's cache holds the file at its full revision, or None."""
    from huggingface_hub import try_to_load_from_cache

    if not (source.on_hub and source.revision):
        return None
    kind = None if source.type == "model" else source.type
    found = try_to_load_from_cache(source.repository, source.path, revision=source.revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def hub_cache() -> Path:
    """Return the folder of huggingface_hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def blob(source: FileSource, etag: str) -> Path:
    """Return where huggingface_hub's cache keeps the content with this etag."""
    from huggingface_hub.file_download import repo_folder_name

    return hub_cache() / repo_folder_name(repo_id=source.repository, repo_type=source.type) / "blobs" / etag


def tie_in(source: FileSource, commit: str) -> Path:
    """Return the file's place in huggingface_hub's cache, once its blob is there. Raises Refused."""
    from huggingface_hub import hf_hub_download

    kind = None if source.type == "model" else source.type
    return Path(_patiently(lambda: hf_hub_download(source.repository, source.path, repo_type=kind, revision=commit)))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep huggingface_hub from writing to the terminal: we report its problems once, in our words."""
    from huggingface_hub.utils.logging import get_logger

    logger = get_logger()  # its first call sets the level; ours comes after it
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _TooLong(Exception):
    """More bytes come than the file has."""


class _Sink:
    """Where bytes go on their way to the disk: counted and hashed. Begins behind what is there already."""

    def __init__(self, path: Path, limit: int | None, on_bytes: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._limit = limit
        self._on_bytes = on_bytes
        self._stream: BinaryIO = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self.digest = hashlib.sha256()
        self.size = 0
        while chunk := self._stream.read(CHUNK):
            self._count(chunk)
        if limit is not None and self.size > limit:
            self.seek(0)
            self.truncate()

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *reason: object) -> None:
        self._stream.close()
        if reason[0] is not None:
            self._on_bytes(-self.size)  # the next try counts what is there again

    def write(self, chunk: bytes) -> int:
        if self._limit is not None and self.size + len(chunk) > self._limit:
            raise _TooLong
        self._stream.write(chunk)
        self._count(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self.size

    def seek(self, place: int) -> int:
        """Go to the beginning: the only place that is ever gone to, when a server starts over."""
        assert place == 0
        self._on_bytes(-self.size)
        self.digest, self.size = hashlib.sha256(), 0
        return self._stream.seek(0)

    def truncate(self) -> int:
        return self._stream.truncate(self.size)

    def blob_id(self) -> str:
        """Return git's name for the content, which the Hub gives as the ETag of a small file."""
        if self.size > CHUNK:
            return ""
        self._stream.seek(0)
        content = self._stream.read(CHUNK)
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def _count(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)
        self._on_bytes(len(chunk))


def _get(url: str, sink: _Sink, headers: dict[str, str], size: int | None) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars("huggingface_hub.http_get")
    http_get(url, sink, resume_size=sink.size, headers=headers, expected_size=size)  # type: ignore[arg-type]


def _patiently(action: Callable[[], Result]) -> Result:
    """Return what `action` returns, tried again where that may help. Raises Refused, or OSError of the disk."""
    import httpx2
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    reason = ""
    for tried in range(TRIES):
        wait = float(2**tried)
        try:
            return action()
        except OfflineModeIsEnabled:
            raise WeightsError("HF_HUB_OFFLINE forbids the network.") from None
        except GatedRepoError:
            raise Refused("it is gated: accept its terms on its page and set HF_TOKEN") from None
        except HfHubHTTPError as problem:
            status = problem.response.status_code
            if status in (401, 403):
                raise Refused(
                    f"it is not there, or wants a token ({status}): set HF_TOKEN, or run hf auth login"
                ) from None
            if status == 416:
                raise _TooLong from None
            if status not in (408, 429) and status < 500:
                raise Refused(f"it is not there ({status})") from None
            asked = problem.response.headers.get("retry-after", "")
            wait = float(asked) if asked.isdigit() else wait
            reason = f"the server answers {status}"
            if wait > LONGEST_WAIT:
                raise Refused(f"{reason} and asks to wait {wait:.0f} seconds") from None
        except httpx2.ConnectError as problem:
            if "CERTIFICATE_VERIFY_FAILED" in str(problem):
                raise Refused(
                    "its certificate is not among those that are trusted here: name your network's with SSL_CERT_FILE"
                ) from None
            raise Refused("there is no route to it") from None
        except httpx2.ProxyError as problem:
            raise Refused(f"the proxy refuses ({problem})") from None
        except (httpx2.TransportError, httpx2.TimeoutException) as problem:
            reason = f"the connection broke ({type(problem).__name__})"
        except OSError as problem:
            if problem.errno is not None:
                raise  # of the disk, not of the network
            reason = "it is cut short"  # the length is checked by huggingface_hub, which has no errno for it
        if tried + 1 < TRIES:
            time.sleep(wait)
    raise Refused(reason)
