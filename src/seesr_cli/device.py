"""Where the networks run, and in which precision."""

from typing import NamedTuple

import torch

from .errors import UsageError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Place(NamedTuple):
    """A device and the precision of weights and activations on it."""

    device: torch.device
    dtype: torch.dtype


def choose(device: str = "auto", dtype: str = "auto") -> Place:
    """Return the place that is asked for; "auto" is the best there is: CUDA or Apple in fp16, otherwise CPU in fp32.

    Raises UsageError for a device that this machine lacks, and for fp16 on a CPU, which has no arithmetic for it.
    """
    chosen = _best() if device == "auto" else _named(device)
    if dtype == "auto":
        return Place(chosen, torch.float32 if chosen.type == "cpu" else torch.float16)
    if dtype not in DTYPES:
        raise UsageError(f"The precision '{dtype}' is not known: choose auto, {', '.join(DTYPES)}.")
    if chosen.type == "cpu" and dtype == "fp16":
        raise UsageError("A CPU computes fp16 hundreds of times slower than fp32: use --dtype fp32 or bf16 there.")
    return Place(chosen, DTYPES[dtype])


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _named(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"The device '{name}' is not known: choose auto, cpu, cuda, cuda:N or mps.") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise UsageError(f"The device '{name}' is not on this machine: choose auto, or cpu, which always is.")
    return device
