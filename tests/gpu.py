"""What torch's CUDA allocator says of its memory, put in its place: no test needs a GPU."""

from typing import NamedTuple

import pytest
import torch

OWN, GRAPH = (0, 0), (0, 1)
"""The pool of all tensors, and that of a CUDA graph, as torch numbers them."""


class Segment(NamedTuple):
    """Bytes that the allocator has from the driver, and of them those that tensors have."""

    total: int
    used: int
    pool: tuple[int, int] = OWN
    device: int = 0


def put(monkeypatch: pytest.MonkeyPatch, free: int, *segments: Segment, backend: str = "native") -> None:
    """Let torch answer that the driver has `free` bytes on every GPU, and its allocator `segments`."""

    def reserved(device: torch.device) -> int:
        return sum(segment.total for segment in segments if segment.device == (device.index or 0))

    def allocated(device: torch.device) -> int:
        return sum(segment.used for segment in segments if segment.device == (device.index or 0))

    def snapshot() -> list[dict[str, object]]:
        if backend != "native":
            raise RuntimeError("this allocator has no segments")
        return [
            {
                "device": segment.device,
                "total_size": segment.total,
                "allocated_size": segment.used,
                "segment_pool_id": segment.pool,
            }
            for segment in segments
        ]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: backend)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", allocated)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", snapshot)
