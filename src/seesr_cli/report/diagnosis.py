"""Describe the machine, the installation and what is in force on it: what a report of trouble needs.

Nothing in it is personal: the home folder is `~`, the user's name and passwords of addresses are left out.
"""

import getpass
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..catalogue import MODELS
from ..errors import SeesrError
from ..files import cache_folder, home
from ..wording import bytes_in_words
from . import columns

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "huggingface_hub",
    "httpx2",
    "safetensors",
    "numpy",
    "pillow",
    "pillow-heif",
    "typer",
    "rich",
    "accelerate",
    "scikit-image",
    "gradio",
)
VARIABLES = ("OMP_", "MKL_", "KMP_", "GOMP_", "TORCH", "PYTORCH", "CUDA", "NVIDIA_", "HF_", "XDG_CACHE", "PYTHON")
"""Beginnings of the names of variables that change what happens."""

SECRETS = ("TOKEN", "PASSWORD", "SECRET", "KEY")
"""Words in the names of variables whose values are nobody's business."""

SIDE = 64
"""Of the picture of the self-test, in pixels."""

LEAST_CONSISTENCY = 20.0
"""dB of the self-test's result against its picture, below which something computes wrongly; it has 30 where all is
well."""


class Bytes(int):
    """A number of bytes: a number in JSON, and in words on a terminal."""


Section = dict[str, Any]


class InForce(NamedTuple):
    """An option that is not typed and has a value all the same. place: where it is from."""

    option: str
    value: str
    place: str


class Diagnosis(NamedTuple):
    """What was found, by section, and whether anything does not work."""

    sections: dict[str, Section]
    sound: bool


def diagnose(configuration: Callable[[], Sequence[InForce]]) -> Diagnosis:
    """Return all that is told. configuration: the options in force."""
    parts: dict[str, Callable[[], Section]] = {
        "versions": _versions,
        "machine": _machine,
        "device": _device,
        "weights": _weights,
        "configuration": lambda: {one.option: f"{one.value} ({one.place})" for one in configuration()},
        "environment": _environment,
        "network": _network,
        "self-test": _self_test,
    }
    found: dict[str, Section] = {}
    sound = True
    for name, part in parts.items():
        try:
            found[name] = part()
        except SeesrError as error:
            found[name] = {"wrong": str(error)}
        except Exception as error:  # whatever is broken here is what the report is about
            found[name] = {"wrong": f"{type(error).__name__}: {error}"}
        sound &= "wrong" not in found[name]
    return Diagnosis(_private(found), sound)


def show(diagnosis: Diagnosis) -> None:
    """Print the diagnosis in words, a table a section."""
    for name, section in diagnosis.sections.items():
        rows = [(key, _in_words(value)) for key, value in section.items()]
        columns.show(name, rows or [("nothing", "")], width=23)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return bytes_in_words(value) if isinstance(value, Bytes) else "not known" if value is None else str(value)


def _versions() -> Section:
    found: Section = {"seesr": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _machine() -> Section:
    from ..machine.available import cores, disk, installed, unclaimed

    return {
        "processor": platform.machine(),
        "cores": f"{cores()} for this process, of {os.cpu_count()}",
        "memory": _bytes(installed()),
        "memory free": _bytes(unclaimed()),
        "disk free here": _bytes(disk(Path())),
        "disk free for the cache": _bytes(disk(cache_folder())),
    }


def _bytes(count: int | None) -> Bytes | None:
    return None if count is None else Bytes(count)


def _device() -> Section:
    import torch

    from ..forecast.rates import device_name
    from ..machine.available import free_on
    from ..machine.device import choose, vae_place
    from ..machine.precision import has_bf16

    place = choose()
    found: Section = {"device": str(place.device), "name": device_name(place.device.type, place.device.index)}
    for name in MODELS:
        others = choose(model=name)
        found[f"precision of {name}"] = f"{_plain(others.dtype)}, its VAE {_plain(vae_place(others).dtype)}"
    found |= {"instructions": torch.backends.cpu.get_cpu_capability(), "bf16 in hardware": has_bf16()}
    found |= {"threads": torch.get_num_threads(), "CUDA of torch": torch.version.cuda or "none"}
    if place.device.type != "cpu":
        found["memory free on it"] = Bytes(free_on(place.device))
    return found


def _plain(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _weights() -> Section:
    from ..weights import FOLDER_VARIABLE, locate, lock, places, shelf, status

    shelved, entries = shelf.default(), lock.read()
    found: Section = {"folder of seesr weights": str(shelved.root)}
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        found[FOLDER_VARIABLE] = named
    for name, model in MODELS.items():
        if model.bundled:
            continue
        try:
            folder = locate(model, None)
        except SeesrError as error:
            found[name] = str(error)
            continue
        if folder == shelved.root:
            found[name] = "complete and verified"
        else:
            files = [file for file in entries.of(str(name)) if not file.instead_of]
            here = [file for file in files if any(path.is_file() for path in places(folder, file.file))]
            found[name] = f"{len(here)} of {status.in_words(tuple(files))} are in that folder"
    return found


def _environment() -> Section:
    return {
        name: "set, not shown" if any(word in name for word in SECRETS) else value
        for name, value in sorted(os.environ.items())
        if name.startswith(VARIABLES)
    }


def _network() -> Section:
    from ..weights import connection, hub

    found: Section = {proxy.name: connection.without_password(proxy.value) for proxy in connection.proxies()}
    if certificates := connection.certificates():
        found[certificates.name] = certificates.value
    found["offline"] = hub.offline()
    connection.check()
    return found


def _self_test() -> Section:
    """Restore a small picture with the miniature, and compare the result with it."""
    import torch

    from ..door import Upscaler
    from ..evaluate.consistency import consistency
    from ..evaluate.pixels import pixels_of
    from ..image import Picture

    began = time.monotonic()
    upscaler = Upscaler("miniature")
    loaded = time.monotonic()
    slope = torch.linspace(0.1, 0.9, SIDE)
    picture = torch.stack([slope.expand(SIDE, SIDE), slope.expand(SIDE, SIDE).T, torch.full((SIDE, SIDE), 0.5)])
    result = upscaler.upscale(picture, replace(upscaler.settings, scale=2, process_size=2 * SIDE))
    seconds = time.monotonic() - loaded
    found: Section = {"loaded in": f"{loaded - began:.1f} s", "restored in": f"{seconds:.1f} s"}
    found |= {"device": result.recipe.device, "precision": result.recipe.dtype}
    departs = consistency(pixels_of(Picture(result.pixels)), pixels_of(Picture(picture))).psnr
    found["consistency"] = f"{departs:.1f} dB"
    if not departs >= LEAST_CONSISTENCY:
        found["wrong"] = (
            f"the result is not the picture enlarged: {departs:.1f} dB, where {LEAST_CONSISTENCY:g} are few"
        )
    return found


# --- nothing personal --------------------------------------------------------------------------------------------


def _private(found: Mapping[str, Section]) -> dict[str, Section]:
    hidden = list(_hidden())
    return {
        name: {key: _without(value, hidden) if isinstance(value, str) else value for key, value in section.items()}
        for name, section in found.items()
    }


def _hidden() -> Iterator[tuple[re.Pattern[str], str]]:
    """Yield what must not be shown, and what is shown in its place."""
    yield re.compile(r"(?<=://)[^/@\s]*@"), ""  # name and password of an address
    folder = home()
    if folder is not None and folder != folder.parent:
        for spelled in {str(folder), os.path.realpath(folder)}:
            yield re.compile(rf"(?<![\w.-]){re.escape(spelled)}(?![\w.-])"), "~"
    with suppress(Exception):  # KeyError before Python 3.13, OSError since
        name = getpass.getuser()
        if name not in ("root", ""):
            yield re.compile(rf"(?<!\w){re.escape(name)}(?!\w)"), "USER"


def _without(text: str, hidden: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, instead in hidden:
        text = pattern.sub(instead, text)
    return text
