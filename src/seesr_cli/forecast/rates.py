"""How fast this device works: probed once, then remembered from what real pictures took."""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

from ..files import cache_folder
from ..machine.device import Place
from .counts import Networks

Probe = tuple[Callable[[], object], int]
"""Something to do, and its operations."""

Source = Literal["measured here in earlier runs", "probed just now", "measured in this run"]

WEIGHT, FASTER = 0.3, 0.8
"""Of the newest run in the exponential mean; and where it was faster, for other programs make a run slower only."""

PROBE_SECONDS = 0.12
"""For each of the three things that are probed, about."""

PROBED = {"cpu": 3e9, "cuda": 3e11, "mps": 3e10}
"""Operations of one call in a probe at most, by type of device: enough to outweigh what starting it takes. It begins
with 64 times fewer: a precision that a CPU has no instructions for is a thousand times slower than others."""

EFFICIENCY = {"cpu": 0.6, "cuda": 0.3, "mps": 0.3}
"""Of a network over what its layers reach alone, by type of device; measured on a CPU, assumed for others."""

PIXELS_PER_SECOND = 4e6
"""Reading, enlarging, colours and writing as PNG on one CPU core: of the result's pixels."""


class Parts(NamedTuple):
    """One number for each part of the work on a picture: seconds, operations, or operations per second.

    pixels: reading, resizing, colours and writing, counted in pixels of the frame.
    """

    tagger: float
    text: float
    encode: float
    denoise: float
    decode: float
    pixels: float


class Phases(NamedTuple):
    """Seconds that a picture took before its first step, in the steps, and after them."""

    before: float
    steps: float
    after: float


class Rates(NamedTuple):
    """Operations per second of every part, and where they are from."""

    parts: Parts
    source: Source


def rates(place: Place, model: str, networks: Networks) -> Rates:
    """Return the rates of `place` for `model`: remembered ones, or else those of a probe of half a second."""
    found = _read().get(_key(place, model), {})
    with suppress(TypeError, ValueError):  # the file is anybody's to write into
        parts = Parts(**{name: float(found[name]) for name in Parts._fields if name in found})
        if all(0 < rate < float("inf") for rate in parts):
            return Rates(parts, "measured here in earlier runs")
    return Rates(_probe(place, networks), "probed just now")


def remember(place: Place, model: str, used: Rates, expected: Parts, taken: Phases) -> None:
    """Keep what a picture took for later forecasts: the rates of a phase move by what it took over what was expected.

    used: the rates that gave `expected`, seconds. Nothing is raised where nothing can be kept.
    """
    content = _read()
    key = _key(place, model)
    before = expected.tagger + expected.text + expected.encode
    after = expected.decode + expected.pixels
    slower = {"tagger": taken.before / before, "text": taken.before / before, "encode": taken.before / before}
    slower |= {"denoise": taken.steps / expected.denoise, "decode": taken.after / after, "pixels": taken.after / after}

    def moved(part: str, rate: float) -> float:
        weight = 1.0 if key not in content else WEIGHT if slower[part] > 1 else FASTER
        return rate / (1 - weight + weight * max(slower[part], 1e-9))

    content[key] = {part: moved(part, rate) for part, rate in used.parts._asdict().items()}
    path = _path()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part_file = path.with_name(f"{path.name}.{os.getpid()}.part")
        part_file.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part_file.replace(path)


def _read() -> dict[str, dict[str, float]]:
    try:
        content = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, dict)}


def _path() -> Path:
    return cache_folder() / "rates.json"


def _key(place: Place, model: str) -> str:
    return " | ".join((_name(place.device.type, place.device.index), str(place.dtype).removeprefix("torch."), model))


@lru_cache
def _name(device: str, index: int | None) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name(index)
    name = f"{platform.machine()} {platform.processor()}".strip()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads" if device == "cpu" else f"{name} {device}"


@lru_cache
def _probe(place: Place, networks: Networks) -> Parts:
    """Return the rates of layers as these networks have, run alone: a matrix product, two convolutions with norm."""
    import torch
    import torch.nn.functional as F

    def convolution(channels: int, operations: float) -> Probe:
        side = max(4, min(512, int((operations / 18) ** 0.5 / channels)))
        pixels = torch.ones(1, channels, side, side, device=place.device, dtype=place.dtype)
        weight = torch.ones(channels, channels, 3, 3, device=place.device, dtype=place.dtype)
        return lambda: F.conv2d(F.silu(F.group_norm(pixels, 1)), weight, padding=1), 18 * channels**2 * side**2

    def matrix(width: int, operations: float) -> Probe:
        count = max(16, min(2**15, int(operations / 16 / width**2)))
        tokens = torch.ones(count, width, device=place.device, dtype=place.dtype)
        weight = torch.ones(width, 8 * width, device=place.device, dtype=place.dtype)
        return lambda: tokens @ weight, 16 * width**2 * count

    width = networks.unet["block_out_channels"][0]
    product, mixed = _rate(place, partial(matrix, width)), _rate(place, partial(convolution, width))
    # Of the VAE the second level: most of its operations are between it and the first, at full size.
    coder = _rate(place, partial(convolution, networks.vae["block_out_channels"][1]))
    factor = EFFICIENCY[place.device.type]
    linear, denoise = factor * product, factor * 2 / (1 / product + 1 / mixed)
    return Parts(linear, linear, factor * coder, denoise, factor * coder, PIXELS_PER_SECOND)


def _rate(place: Place, probe: Callable[[float], Probe]) -> float:
    """Return the operations per second of the fastest of a few calls: the others were disturbed by other programs."""
    import torch

    synchronise = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(place.device.type, lambda: None)
    most = PROBED[place.device.type]

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        synchronise()
        return time.perf_counter() - start

    with torch.inference_mode():
        for operations in (most / 64, most / 8, most):
            work, counted = probe(operations)
            seconds(work)  # the first is slower: libraries choose how they compute
            fastest = seconds(work)
            if fastest > PROBE_SECONDS / 16:
                break
        begun = time.perf_counter()
        while time.perf_counter() - begun < PROBE_SECONDS / 2:
            fastest = min(fastest, seconds(work))
    return counted / fastest
