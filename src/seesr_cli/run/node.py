"""Restore pictures on a node of a cluster: what an actor is, which a run on another machine has started."""

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..errors import WeightsError
from ..machine.share import Worker
from .afar import work
from .request import Request


class About(NamedTuple):
    """What a node has. missing: sentence about weights that it lacks. sees: whether it sees the folders."""

    versions: str
    fingerprint: str
    missing: str
    sees: bool


def versions() -> str:
    """Return the versions that results depend on, in words."""
    return f"seesr {__version__} and torch {version('torch').partition('+')[0]}"


class Restorer:
    """Restores pictures on a node: a `Pipe` whose other end is the stream of `work` and the calls of `give`."""

    def __init__(self) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as for a process that is begun by hand
        self._given: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = False

    def about(self, folder: Path, places: Sequence[Path], request: Request, weights: Path | None, device: str) -> About:
        """Return what this node has, and convert the weights for it. folder: where the run was begun."""
        from ..machine.device import choose
        from ..models import convert
        from ..weights import locate
        from ..weights.fingerprint import fingerprint

        with suppress(OSError):  # then relative paths are not seen
            os.chdir(folder)
        known = missing = ""
        try:
            root = locate(request.model, weights)
            known = fingerprint(request.model, root)
            convert.prepare(request.model, root, choose(device, request.dtype, request.model.name))
        except WeightsError as error:
            missing = " ".join([str(error), *error.remedies])
        return About(versions(), known, missing, all(map(os.path.exists, places)))

    def work(self, worker: Worker, request: Request, weights: Path | None, fingerprint: str) -> Iterator[Any]:
        """Restore the pictures that are given, and yield what is told of them, until there are no more."""

        def at_work() -> None:
            try:
                work(worker, request, weights, fingerprint, self)
            finally:
                self._told.put(None)

        threading.Thread(target=at_work, daemon=True).start()
        while (message := self._told.get()) is not None:
            yield message

    def give(self, message: object) -> None:
        """Take the answer to a message."""
        self._given.put((message,))

    def stop(self) -> None:
        """Have `work` end at the next thing it tells, which is the end of a step at the latest."""
        self._stopped = True
        self._given.put(())

    def send(self, message: object) -> None:
        """Tell the run a message. Raises ConnectionError when it is to stop."""
        if self._stopped:
            raise ConnectionAbortedError
        self._told.put(message)

    def recv(self) -> Any:
        """Return the answer to the last message. Raises ConnectionError when the run is to stop."""
        answer = self._given.get()
        if not answer:
            raise ConnectionAbortedError
        return answer[0]
