"""Divide one run among the nodes of a Ray cluster, which take pictures from one queue.

An actor for every GPU, or for every `--jobs` of a node without, does what a worker process does on one machine
(`node`). Its messages come as a stream, and each is answered by a call. Nothing that matters is left to Ray: the
queue, the claims, the journal and what was lost are this process's (`dispatch`).
"""

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ResourcesError, UsageError, WeightsMissing
from ..machine.available import cores
from ..machine.share import Share, Worker
from .dispatch import Dispatch, Hand
from .node import About, Restorer, versions
from .outcome import Outcome, Watch
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # spares a warning about GPUs that an actor does not ask for
    "RAY_worker_niceness": "0",  # Ray takes 15, and leaves the cores to whatever else runs
    "RAY_LOG_TO_DRIVER": "0",
}
"""Environment of Ray, unless it is set already."""

PATIENCE = 8.0
"""Seconds that actors get to end their step when the run is to stop, before they are killed."""

DYING = 1.0
"""Seconds that a killed process gets to be gone."""

FIRST_ANSWERS = 120.0
"""Seconds that the nodes there are at the start get to say what they have, before the others begin without them."""

LOOKING = 2.0
"""Seconds between two looks for nodes that joined or left."""

STORE_BYTES = 80 << 20
"""Memory of the object store of a cluster of one's own: Ray's least, because messages are small."""


class Asked(NamedTuple):
    """What --cluster asks for.

    address: HOST:PORT of a cluster, or "auto"; empty: a cluster on this machine, for this run alone.
    actors: pictures at a time: on a node that has no GPU, or on this machine.
    device: as for --device.
    retries: how often a picture is given out again after a node was lost that had it.
    """

    address: str
    actors: int
    device: str = "auto"
    retries: int = 2


def check_installed() -> None:
    """Raise UsageError if Ray is not installed."""
    if find_spec("ray") is None:
        raise UsageError("--cluster needs Ray, which is not installed: pip install 'seesr-cli[cluster]'.")


def run(
    jobs: Sequence[Job],
    request: Request,
    asked: Asked,
    weights: Path | None,
    fingerprint: Callable[[], str],
    watch: Watch,
    foreseen: "Mapping[Path, Forecast] | None" = None,
) -> Iterator[Outcome]:
    """Restore every job's picture on the nodes of a cluster, and yield the Outcomes as they come.

    Nodes that join are used. The pictures of a node that is lost are given to others. Nothing that was started here is
    left when the run ends, however it ends.

    Raises what `batch.run` raises, UsageError if there is no cluster or a node has other versions, other weights or
    other folders than this machine, WeightsMissing if a node has none, and ResourcesError if all nodes were lost.

    weights: folder as for `Upscaler.load`. The other parameters are those of `batch.run`.
    """
    known = ""
    with suppress(WeightsMissing):  # pictures that are done do not need them; for others the nodes say so
        known = fingerprint()
    with _connected(asked) as ray, _probe(jobs) as places:
        dispatch = Dispatch(jobs, request, watch, foreseen or {}, asked.retries)
        crew = _Crew(ray, asked, request, weights, known, dispatch, places)
        try:
            crew.begin()
            while dispatch.left or crew.actors:
                crew.fill()
                yield from crew.hear()
        finally:
            crew.stop()


@contextmanager
def _connected(asked: Asked) -> Iterator[Any]:
    """Give Ray, connected to the cluster or to one that is started for this block. Raises UsageError."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what goes wrong is told here
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as stack:
        options: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
        if asked.address:
            options["address"] = asked.address
        else:
            folder = stack.enter_context(TemporaryDirectory(prefix="seesr-", ignore_cleanup_errors=True))
            threads = max(cores(), asked.actors)
            options |= {"address": "local", "num_cpus": threads, "include_dashboard": False}
            options |= {"object_store_memory": STORE_BYTES, "_temp_dir": folder}
        stack.callback(ray.shutdown)
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            what = f"the cluster at {asked.address} cannot be joined" if asked.address else "Ray cannot be started"
            raise UsageError(
                f"--cluster: {what} ({_first_line(error)}): is it running, and is this a node of it?"
            ) from error
        finally:
            for number, handler in handlers.items():  # Ray puts its own in the place of SIGTERM's
                signal.signal(number, handler)
        yield ray


@contextmanager
def _probe(jobs: Sequence[Job]) -> Iterator[dict[Path, Path]]:
    """Give the folders of pictures and results by paths in them that every node must see; one is a file made for it."""
    places = {}
    if sources := [job.source.path.parent for job in jobs if not job.source.stream]:
        common = Path(os.path.commonpath([source.absolute() for source in sources]))
        places[common] = common
    with ExitStack() as stack:
        if (folder := next((job.folder for job in jobs if job.folder is not None), None)) is not None:
            with suppress(OSError):  # then every picture fails, and says why
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".seesr-{secrets.token_hex(8)}"
                probe.touch()
                stack.callback(probe.unlink, missing_ok=True)
                places[probe] = folder
        yield places


@dataclass
class _Node:
    """A node of the cluster. slots: actors that it is to have. lost: actors lost since it finished a picture."""

    id: str
    name: str
    slots: int
    threads: int
    gpus: float
    checked: bool = False
    refused: bool = False
    lost: int = 0


@dataclass
class _Actor:
    """An actor, what is given to it, and the next that is awaited: what its node has, or its stream of messages."""

    node: _Node
    handle: Any
    hand: Hand
    awaited: Any
    at_work: bool = False


class _Crew:
    """The actors of a run, and the nodes that they are on."""

    def __init__(
        self,
        ray: Any,
        asked: Asked,
        request: Request,
        weights: Path | None,
        fingerprint: str,
        dispatch: Dispatch,
        places: Mapping[Path, Path],
    ) -> None:
        self.actors: list[_Actor] = []
        self._ray = ray
        self._restorer = ray.remote(Restorer)
        self._asked = asked
        self._request = request
        self._weights = weights
        self._own = About(versions(), fingerprint, "", True)
        self._dispatch = dispatch
        self._places = places
        self._nodes: dict[str, _Node] = {}
        self._looked = 0.0

    def begin(self) -> None:
        """Start an actor on every node, and compare what they have with this machine. Raises what is wrong."""
        self.fill()
        until = time.monotonic() + FIRST_ANSWERS
        awaited = [actor.awaited for actor in self.actors]
        while awaited and time.monotonic() < until:
            awaited = self._ray.wait(awaited, num_returns=len(awaited), timeout=1.0)[1]
        missing, wrong = [], []
        for actor in [actor for actor in self.actors if actor.awaited not in awaited]:
            about, trouble = self._about(actor)
            if about is not None and about.missing:
                missing.append(f"{actor.node.name}: {about.missing}")
            elif trouble:
                wrong.append(trouble)
            else:
                self._start_work(actor)
        if missing:
            raise WeightsMissing(" ".join(missing))
        if wrong:
            raise UsageError(" ".join(wrong))

    def fill(self) -> None:
        """Start actors where a node has a place for one and a picture waits for it."""
        if time.monotonic() - self._looked > LOOKING:
            self._looked = time.monotonic()
            self._look()
        for node in self._nodes.values():
            on_node = [actor for actor in self.actors if actor.node is node]
            while (
                not node.refused
                and len(on_node) < (node.slots if node.checked else 1)
                and sum(not actor.at_work for actor in self.actors) < self._dispatch.left
            ):
                on_node.append(self._start(node))

    def hear(self) -> Iterator[Outcome]:
        """Wait for messages for a moment, and handle them; yield the Outcomes that follow."""
        if not self.actors:
            if any(not node.refused for node in self._nodes.values()):
                time.sleep(LOOKING / 4)
                return
            raise ResourcesError("Every node of the cluster was lost: the same command again does what is left.")
        ready = self._ray.wait([actor.awaited for actor in self.actors], timeout=1.0)[0]
        for actor in [actor for actor in self.actors if any(actor.awaited is each for each in ready)]:
            yield from self._hear_stream(actor) if actor.at_work else self._hear_about(actor)

    def stop(self) -> None:
        """End all actors, at the end of their steps where that is soon; delete their part files, close the journals."""
        left = list(self.actors)
        waiting = [actor.awaited for actor in left if actor.at_work]
        with suppress(self._ray.exceptions.RayError):
            for actor in left:
                actor.handle.stop.remote()
            until = time.monotonic() + PATIENCE
            while waiting and (patience := until - time.monotonic()) > 0:
                for stream in self._ray.wait(waiting, timeout=patience)[0]:
                    if not isinstance(_next(self._ray, stream), tuple):
                        waiting = [each for each in waiting if each is not stream]
        for actor in left:
            self._ray.kill(actor.handle)
        if waiting:
            time.sleep(DYING)  # a file of one that still lives is not deleted
        self._dispatch.close([actor.hand for actor in left])

    def _look(self) -> None:
        """Take notice of nodes that joined and left."""
        alive = {about["NodeID"]: about for about in self._ray.nodes() if about["Alive"]}
        self._nodes = {id: node for id, node in self._nodes.items() if id in alive}
        for id, about in alive.items():
            has = about["Resources"]
            cpus, gpus = int(has.get("CPU", 0)), 0 if self._asked.device == "cpu" else int(has.get("GPU", 0))
            if id in self._nodes or not (cpus or gpus):
                continue
            names = [node.name for node in self._nodes.values()]
            host = about["NodeManagerHostname"]
            known = chain([host], (f"{host}-{number}" for number in count(2)))
            name = next(each for each in known if each not in names)
            slots = gpus if gpus and self._asked.address else self._asked.actors
            self._nodes[id] = _Node(id, name, slots, max(1, cpus // slots), min(1.0, gpus / slots))

    def _start(self, node: _Node) -> _Actor:
        """Start an actor on a node, and ask it what the node has."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Ray keeps OpenMP to `num_cpus` threads, and rounding depends on their number.
        handle = self._restorer.options(
            num_cpus=node.threads,
            num_gpus=node.gpus,
            max_restarts=0,
            max_concurrency=4,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote()
        device = "cpu" if self._asked.device == "cpu" else "auto"
        awaited = handle.about.remote(Path.cwd(), list(self._places), self._request, self._weights, device)
        self.actors.append(_Actor(node, handle, Hand(handle.give.remote, node.name), awaited))
        return self.actors[-1]

    def _about(self, actor: _Actor) -> tuple[About | None, str]:
        """Return what the actor's node has, and a sentence if it cannot take part."""
        name = actor.node.name
        try:
            about: About = self._ray.get(actor.awaited)
        except self._ray.exceptions.RayError as error:
            if "creation task" in str(error) or isinstance(error, self._ray.exceptions.RayTaskError):
                return None, f"The node {name} cannot run seesr ({_first_line(error)}): install the same version there."
            return None, f"The node {name} was lost before it began ({type(error).__name__})."
        if about.versions != self._own.versions:
            return about, (
                f"The node {name} has {about.versions}, and this machine {self._own.versions}: install the same there."
            )
        if not about.sees:
            folders = " and ".join(sorted({str(folder.absolute()) for folder in self._places.values()}))
            return about, (
                f"The node {name} does not see {folders}: pictures and results must lie in folders that every node "
                "sees, under the same paths."
            )
        if about.missing or (self._own.fingerprint and about.fingerprint != self._own.fingerprint):
            return about, about.missing or f"The node {name} has other weights than this machine: pull the same there."
        actor.node.checked = True
        return about, ""

    def _start_work(self, actor: _Actor) -> None:
        node = actor.node
        worker = Worker(
            "cpu" if self._asked.device == "cpu" else "auto",
            node.threads,
            Share(node.slots, max(1, round(1 / node.gpus)) if node.gpus else node.slots),
        )
        actor.at_work = True
        actor.awaited = actor.handle.work.options(num_returns="streaming").remote(
            worker, self._request, self._weights, self._own.fingerprint
        )

    def _hear_about(self, actor: _Actor) -> Iterator[Outcome]:
        """Have an actor whose node is as it should be go to work; one that joined and is not is told and left out."""
        _, trouble = self._about(actor)
        if not trouble:
            self._start_work(actor)
            return
        actor.node.refused = True
        self._dispatch.note(trouble)
        yield from self._end(actor)

    def _hear_stream(self, actor: _Actor) -> Iterator[Outcome]:
        """Handle the next message of an actor, or its end."""
        message = _next(self._ray, actor.awaited)
        if isinstance(message, tuple):
            yield from self._dispatch.hear(actor.hand, message)
            if message[0] == "outcome":
                actor.node.lost = 0
        else:
            yield from self._end(actor, message)

    def _end(self, actor: _Actor, error: Exception | None = None) -> Iterator[Outcome]:
        """Let go of an actor; what it has not finished is given to others."""
        self.actors.remove(actor)
        self._ray.kill(actor.handle)  # it may live, out of reach
        if error is None and not actor.hand.jobs:
            return
        actor.node.lost += 1
        actor.node.refused = actor.node.lost > self._asked.retries
        how = "was ended" if error is None else f"was lost ({type(error).__name__})"
        name = actor.node.name
        yield from self._dispatch.lost(
            actor.hand, f"the node {name} {how} while it was given to it: run the same command again."
        )
        if not actor.node.refused and self._dispatch.left:
            self._dispatch.note(f"The node {name} {how}: its pictures are given out again.")


def _next(ray: Any, stream: Any) -> Any:
    """Return the next message of a stream, None at its end, or the error of an actor that was lost."""
    try:
        return ray.get(next(stream))
    except StopIteration:
        return None
    except ray.exceptions.RayError as error:
        return error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
