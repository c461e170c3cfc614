"""How much memory, disk and processor there is for this process."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .share import ALONE, Share

if TYPE_CHECKING:
    import torch

_MEMORY = Path("/proc/meminfo")
_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = (  # version 2, version 1: where the groups are, the limit, what is used, and what of that can be given back
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_QUOTAS = (("", ("cpu.max",)), ("cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")))  # time, and of how much time

ASSUMED = 2**33
"""Bytes of memory of a machine that does not say."""


class Room(NamedTuple):
    """Bytes that are free; None where that cannot be known. On a CPU `device` is None: its memory is the host's.

    device, host: for the whole of this process, what it has already included. share: what both are a part of.
    """

    device: int | None
    host: int | None
    disk: int | None
    share: Share = ALONE

    def whole(self) -> "Room":
        """Return the room of one process alone."""
        return self._replace(device=_times(self.device, self.share.device), host=_times(self.host, self.share.host))


def room(device: "torch.device", folder: Path, share: Share = ALONE) -> Room:
    """Return the free bytes of `device`, of the host's memory, and of the disk that holds `folder`.

    share: the part of the first two that is counted.
    """
    on_device, host = _device(device), _host()
    return Room(
        None if on_device is None else on_device // share.device,
        None if host is None else host // share.host,
        disk(folder),
        share,
    )


def cores() -> int:
    """Return how many cores this process may keep busy, by its affinity and its control groups."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min([len(affinity(0)) if affinity else os.cpu_count() or 1, *_quotas()])


def _times(free: int | None, count: int) -> int | None:
    return None if free is None else free * count


def free_on(device: "torch.device", share: Share = ALONE) -> int:
    """Return the bytes that new tensors of this process may still take on `device`.

    On CUDA that is what the driver has, divided by the share, and what this process's allocator holds without using it.
    Of a host that does not say what is free, half of what it has is taken to be another's.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // share.device + _kept(device)
    if device.type == "mps":
        most, taken = torch.mps.recommended_max_memory(), torch.mps.driver_allocated_memory()
        return max(0, most - taken) // share.host
    left = unclaimed()
    return ((installed() or ASSUMED) // 2 if left is None else left) // share.host


def unclaimed() -> int | None:
    """Return the bytes of the host's memory that may still be asked for; None where the system does not say.

    What this process has is not among them, not even what it would use again.
    """
    available = _limits()
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        available.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    return min(available, default=None)


def installed() -> int | None:
    """Return the bytes of memory that the host has; None where the system does not say."""
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _device(device: "torch.device") -> int | None:
    """Return what this process may have on the GPU in all, its tensors included."""
    if device.type != "cuda":
        return None
    import torch

    return free_on(device) + torch.cuda.memory_allocated(device)


def _kept(device: "torch.device") -> int:
    """Return the bytes that torch's CUDA allocator holds ready for the next tensor.

    The pools of CUDA graphs are left out: a graph is replayed in its pool, and no other tensor gets a place there.
    """
    import torch

    if torch.cuda.get_allocator_backend() != "native":  # CUDA's own allocator does not say what its pools hold
        return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
    return sum(
        int(segment["total_size"] - segment["allocated_size"])
        for segment in segments
        if segment["device"] == index and segment["segment_pool_id"] == (0, 0)
    )


def _host() -> int | None:
    left = unclaimed()
    # Elsewhere there is no portable way to what is free; what there is in all still refuses the impossible.
    return installed() if left is None else left + _own()


def _own() -> int:
    """Return the bytes of memory that this process has, as far as the system says."""
    with suppress(AttributeError, OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _limits() -> list[int]:
    """Return what the control groups of this process leave it, from the innermost outwards."""
    found = []
    for root, limit, usage, reclaimable in _LIMITS:
        for folder in _groups(root):
            with suppress(OSError, ValueError, StopIteration):  # no such group, or "max": no limit
                stated = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
                cached = int(next(line for line in stated if line.startswith(f"{reclaimable} ")).split()[1])
                most = int((folder / limit).read_text(encoding="ascii"))
                found.append(max(0, most - int((folder / usage).read_text(encoding="ascii")) + cached))
    return found


def _quotas() -> list[int]:
    """Return how many cores' time the control groups of this process allow it, whole ones at least."""
    found = []
    for root, files in _QUOTAS:
        for folder in _groups(root):
            with suppress(OSError, ValueError):  # no such group, or "max": no quota
                quota, period = " ".join((folder / name).read_text(encoding="ascii") for name in files).split()
                if int(quota) > 0:
                    found.append(max(1, int(quota) // int(period)))
    return found


def _groups(controller: str) -> list[Path]:
    """Return the folders of this process's control groups, from the innermost outwards; "" for version 2."""
    group = _GROUPS / controller / _group(controller)
    return [folder for folder in (group, *group.parents) if _GROUPS in (folder, *folder.parents)]


def _group(controller: str) -> str:
    """Return the path of this process's control group, for a controller of version 1, or "" for version 2."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                return path.lstrip("/")
    return ""


def disk(folder: Path) -> int | None:
    """Return the bytes that are free on the disk of `folder`, or of where it will be; None where there is no disk."""
    for there in (folder, *folder.absolute().parents):
        with suppress(OSError):
            usage = shutil.disk_usage(there)
            return usage.free if usage.total else None  # /proc and its like are no disks
    return None
