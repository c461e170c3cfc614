"""Where the networks run, and in which precision."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..catalogue import DEFAULT_MODEL
from ..errors import UsageError
from .available import free_on
from .precision import DTYPES, of_network, of_vae
from .share import ALONE, Share

HOPPER = 9
"""Its major number of compute capability."""

FAST_ON_HOPPER = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Options of glibc's mallopt, from its malloc.h."""

KEPT_BYTES = 2**30
"""Free memory at the heap's end beyond which it goes back to the system all the same."""

USUAL_BYTES = 2**25
"""Above it glibc maps memory: what its default grows to in a process with large tensors."""

RETURNED_BYTES = 2**20
"""Blocks from this size on are mapped where memory is to be returned."""

SMALL = 10**7
"""Parameters below which a network is computed by one thread: the miniature's tagger has a twentieth of it, RAM 200."""

NUMBERS_A_PIXEL = 2**15
"""Held at once while the networks predict, per latent pixel and row: 1.0 GB in fp32 for two rows of 64 × 64."""

MOST_TILES = 8
"""In one call, of one picture or several; more gain nothing on any device that was measured by others."""


class Place(NamedTuple):
    """A device and the precision of weights and activations on it."""

    device: torch.device
    dtype: torch.dtype


def choose(device: str = "auto", dtype: str = "auto", model: str = DEFAULT_MODEL) -> Place:
    """Return the place for the given options; "auto" chooses the best device, and `model`'s precision on it.

    Raises UsageError for a device that this machine lacks, and for fp16 on a CPU, which has no arithmetic for it.
    """
    chosen = _best() if device == "auto" else _named(device)
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"The precision '{dtype}' is not known: choose auto, {', '.join(DTYPES)}.")
    if chosen.type == "cpu" and dtype == "fp16":
        raise UsageError("A CPU computes fp16 hundreds of times slower than fp32: use --dtype fp32 or bf16 there.")
    return Place(chosen, of_network(model, "others", chosen.type, dtype))


def place_of(network: nn.Module) -> Place:
    """Return the device of `network` and the precision of its first weights, which is that of the features it is given.

    diffusers' properties of these names visit every module of a network, each time.
    """
    first = next(network.parameters())
    return Place(first.device, first.dtype)


def vae_place(place: Place) -> Place:
    """Return where, and in which precision, the VAE of a model on `place` is computed."""
    return Place(place.device, of_vae(place.device.type, place.dtype))


def keep_to(threads: int) -> None:
    """Let torch compute with at most so many threads: by itself it takes no notice of a container's quota."""
    torch.set_num_threads(min(threads, torch.get_num_threads()))


@contextmanager
def one_thread_each(at_once: int) -> Iterator[None]:
    """Let each of several threads that compute at once have no further threads of torch; a single one keeps them."""
    before = torch.get_num_threads()
    if at_once > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tiles_a_call(place: Place, pixels: int, rows: int, share: Share = ALONE) -> int:
    """Return how many tiles of `pixels` latent pixels go into one call, within half of the free memory.

    On CUDA, at most MOST_TILES; elsewhere 1, because on a CPU more gained nothing. rows: of each tile. share: of that
    memory, where other processes of the same run work beside this one.
    """
    if place.device.type != "cuda":
        return 1
    tile = pixels * rows * NUMBERS_A_PIXEL * place.dtype.itemsize
    return max(1, min(MOST_TILES, free_on(place.device, share) // 2 // tile))


def layout(place: Place) -> torch.memory_format:
    """Return how features lie in memory while the networks predict on `place`: on a CPU in bf16 channels-last.

    There convolutions gain 25 to 45 % by it, in fp32 nothing. That latent and picture come so is enough: every block
    keeps the layout that it is given.
    """
    beside = place.device.type == "cpu" and place.dtype == torch.bfloat16
    return torch.channels_last if beside else torch.contiguous_format


def attention(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which attention on `device` is computed as fast as it can be there.

    On a Hopper GPU cuDNN's is the fastest (1.7 to 2.3 times the default's speed) and not torch's first choice.
    Elsewhere torch's own order holds.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != HOPPER:
        return nullcontext()
    return sdpa_kernel(FAST_ON_HOPPER, set_priority=True)


@contextmanager
def threads_enough(parameters: int) -> Iterator[None]:
    """Limit the threads inside to those that a network of so many parameters has work for.

    Threads wait for each other after every operation, and compute while they do; where other programs have the cores,
    that is much longer than the operations themselves.
    """
    before = torch.get_num_threads()
    if parameters < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_kept(device: torch.device) -> Iterator[None]:
    """Let memory that is freed inside stay with the process, ready for the next tensor; given back at the end.

    On a CPU under glibc, whose malloc otherwise maps every large tensor anew: the system then clears each of its pages
    when it is first written to, which takes a fifth of a step's time. Elsewhere nothing is done.
    """
    with _allocating(device, {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT_BYTES}):
        yield


@contextmanager
def memory_returned(device: torch.device) -> Iterator[None]:
    """Return freed memory to the system at once, so that the process holds no more than it uses.

    On a CPU under glibc, whose malloc otherwise keeps what is freed of blocks below USUAL_BYTES, in pieces that the
    next tensor often does not fit in: more than is in use, once over. Elsewhere nothing is done.
    """
    with _allocating(device, {M_MMAP_THRESHOLD: RETURNED_BYTES, M_TRIM_THRESHOLD: RETURNED_BYTES}):
        yield


@contextmanager
def _allocating(device: torch.device, options: Mapping[int, int]) -> Iterator[None]:
    """Let glibc's malloc, if `device` takes memory from it, have `options` inside; then the usual ones, and trim it."""
    if device.type != "cpu" or sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        yield
        return
    libc = ctypes.CDLL(None)
    for option, value in options.items():
        libc.mallopt(option, value)
    try:
        yield
    finally:
        # Once told anything, glibc does not learn its thresholds any more: these are what it had learnt.
        libc.mallopt(M_MMAP_MAX, 65536)
        libc.mallopt(M_MMAP_THRESHOLD, USUAL_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * USUAL_BYTES)
        libc.malloc_trim(0)


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
