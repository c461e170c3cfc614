"""Remember how fast this device works, from real pictures; before the first one it is not known."""

import json
import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import OutputUnwritable
from ..files import cache_folder, write_json
from ..machine.device import Place

RateSource = Literal["measured here in earlier runs", "known after the first step", "measured in this run"]

WEIGHT, FASTER = 0.3, 0.8
"""Of the newest run in the exponential mean; and where it was faster, for other programs make a run slower only."""

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


ASSUMED = Parts(1e11, 1e11, 1e11, 1e11, 1e11, PIXELS_PER_SECOND)
"""Rates before anything was measured: only their ratios are used. A probe of half a second took waiting for computing
on a busy machine, and was wrong by a factor of 50."""


class Phases(NamedTuple):
    """Seconds that a picture took before its first step, in the steps, and after them."""

    before: float
    steps: float
    after: float


class Rates(NamedTuple):
    """Operations per second of every part, and the source of these numbers."""

    parts: Parts
    source: RateSource


def rates(place: Place, model: str) -> Rates:
    """Return the rates of `place` for `model`: remembered ones, or else assumed ones."""
    found = _read().get(_key(place, model), {})
    with suppress(TypeError, ValueError):  # the file is anybody's to write into
        parts = Parts(**{name: float(found[name]) for name in Parts._fields if name in found})
        if all(0 < rate < float("inf") for rate in parts):
            return Rates(parts, "measured here in earlier runs")
    return Rates(ASSUMED, "known after the first step")


def remember(place: Place, model: str, used: Rates, expected: Parts, taken: Phases) -> None:
    """Teach later forecasts: move each rate of a phase by taken over expected time.

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
    with suppress(OutputUnwritable):
        write_json(_path(), content)


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
    return " | ".join(
        (device_name(place.device.type, place.device.index), str(place.dtype).removeprefix("torch."), model)
    )


@lru_cache
def device_name(device: str, index: int | None) -> str:
    """Return what a device is called; of a CPU also how many threads compute on it."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name(index)
    name = f"{platform.machine()} {platform.processor()}".strip()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads" if device == "cpu" else f"{name} {device}"
