"""How one run divides the machine among its processes."""

from collections.abc import Sequence
from typing import NamedTuple


class Share(NamedTuple):
    """The numbers of processes that divide the host's memory and the memory of one device."""

    host: int = 1
    device: int = 1


ALONE = Share()


class Worker(NamedTuple):
    """A process of a run: its device, its threads on a CPU, and its share of memory."""

    device: str
    threads: int
    share: Share


def divide(devices: Sequence[str], jobs: int, pictures: int, cores: int) -> tuple[Worker, ...]:
    """Return the workers of a run: `jobs` on each device in turn, at most one for each picture.

    They have equal parts of the machine's `cores`.
    """
    taken = (jobs * list(devices))[: max(1, pictures)]
    threads = max(1, cores // len(taken))
    return tuple(Worker(device, threads, Share(len(taken), taken.count(device))) for device in taken)
