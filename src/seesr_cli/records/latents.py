"""Keep the denoised latent on disk until its result is written, so that a failure costs a decode only."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import replacing
from .lines import Key

if TYPE_CHECKING:
    from torch import Tensor

NAME = "latent"
LONGEST = 255  # bytes of a file's name, nearly everywhere
LONGEST_HEADER = 2**20  # bytes of a latent's file that tell what it is


def place(target: Path) -> Path:
    """Return the path of the latent of `target` in the making: beside it, hidden, with a short name."""
    return target.with_name(f".seesr-{_digest(os.fsencode(target.name))[:16]}.latent")


def kept_place(target: Path) -> Path:
    """Return where the latent of `target` stays for the person: `photo_x4.latent.safetensors` beside `photo_x4.png`.

    Of a name that this would make too long, the beginning and a checksum are taken.
    """
    suffix = ".latent.safetensors"
    stem = os.fsencode(target.stem)
    if len(stem) + len(suffix) <= LONGEST:
        return target.with_name(target.stem + suffix)
    suffix = f"-{_digest(stem)[:16]}{suffix}"
    return target.with_name(stem[: LONGEST - len(suffix)].decode("utf-8", "ignore") + suffix)


def save(path: Path, latent: "Tensor", about: dict[str, Any], key: Key) -> None:
    """Write `latent` and its description to `path`, whole and on disk, over an earlier one.

    latent: float32 [1, C, h, w], kept bit for bit. about: whatever JSON can say (tuples come back as lists).
    key: what the latent follows from, asked for at loading. Raises OutputUnwritable.
    """
    import safetensors.torch

    text = json.dumps({"key": key, "about": about})
    latent = latent.detach().cpu().contiguous()
    # The format has no checksum of its own.
    metadata = {"seesr": text, "sha256": _checksum(latent, text)}
    with replacing(path, overwrite=True) as file:
        file.write(safetensors.torch.save({NAME: latent}, metadata))


def load(path: Path, key: Key) -> "tuple[Tensor, dict[str, Any]] | None":
    """Return the latent and the description that `save` wrote to `path` under `key`.

    None where there is nothing, where it follows from something else, and where it is damaged: then it has to be
    sampled, which is what it would have saved and no error.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    try:
        # Not by its name: safetensors opens none that is not UTF-8.
        content = path.read_bytes()
        metadata = _metadata(content)
        latent = safetensors.torch.load(content)[NAME]
        said = json.loads(metadata["seesr"])
        if metadata["sha256"] == _checksum(latent, metadata["seesr"]) and said["key"] == list(key):
            return latent, said["about"]
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError, SafetensorError):
        pass
    return None


def is_latent(path: Path) -> bool:
    """Return whether the file at `path` is one that `save` wrote, by its header."""
    try:
        with path.open("rb") as file:
            return "seesr" in _metadata(file.read(LONGEST_HEADER))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False


def discard(path: Path) -> None:
    """See to it that there is no latent at `path`; where the system refuses, it stays, and does no harm."""
    with suppress(OSError):
        path.unlink()


def _metadata(content: bytes) -> dict[str, str]:
    """Return what the header says beside the tensors: it follows its length, 8 bytes, little endian."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def _checksum(latent: "Tensor", text: str) -> str:
    return _digest(latent.numpy().tobytes() + text.encode("ascii"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
