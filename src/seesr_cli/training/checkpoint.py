"""Checkpoints of a run, each there whole or not at all; a run goes on from the newest one.

    RUN/step-00001000/   learnt/*.safetensors   average/*.safetensors   optimiser.pt   state.json

A checkpoint is written as `step-N.part`, brought to the disk and then renamed. Tensors have their published names.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from .. import files
from ..errors import ResourcesError, UsageError
from .stages import Files

STATE = "state.json"


class Checkpoint(NamedTuple):
    """The state from which a run goes on.

    state: step, samples, digests, recipe, versions and how the devices were used.
    """

    state: dict[str, Any]
    learnt: Files
    average: Files
    optimiser: dict[str, Any]


def whole(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run, the newest last."""
    return sorted(path.parent for path in run.glob(f"step-*/{STATE}") if not path.parent.name.endswith(".part"))


def read_state(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's state. Raises UsageError where it is no state."""
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{folder / STATE} cannot be read ({problem}): delete the folder {folder.name}.") from None


def read(folder: Path) -> Checkpoint:
    """Return a checkpoint; nothing in it can run code."""
    parts = [
        {path.stem: load_file(path) for path in sorted((folder / name).glob("*.safetensors"))}
        for name in ("learnt", "average")
    ]
    optimiser = torch.load(folder / "optimiser.pt", map_location="cpu", weights_only=True)
    return Checkpoint(read_state(folder), parts[0], parts[1], optimiser)


def write(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, delete all but the newest `keep`, and return its folder.

    Raises ResourcesError when there is no room or the disk fails; the checkpoints before it stay whole.
    """
    target = run / f"step-{checkpoint.state['step']:08d}"
    part = target.with_name(f"{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        for name, parts in (("learnt", checkpoint.learnt), ("average", checkpoint.average)):
            (part / name).mkdir(parents=True)
            for stem, tensors in parts.items():
                path = part / name / f"{stem}.safetensors"
                save_file({key: each.cpu().contiguous() for key, each in tensors.items()}, path, {"format": "pt"})
        torch.save(checkpoint.optimiser, part / "optimiser.pt")
        (part / STATE).write_text(json.dumps(checkpoint.state, indent=1) + "\n", encoding="utf-8")
        for path in sorted(part.rglob("*")):
            _sync(path)
        _sync(part)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
        _sync(run)
    except (OSError, RuntimeError) as problem:
        shutil.rmtree(part, ignore_errors=True)
        last = whole(run)
        stays = f"The last whole checkpoint is {last[-1].name}" if last else "There is no checkpoint yet"
        reason = files.cause(problem).partition("\n")[0]
        raise ResourcesError(
            f"{target} cannot be written ({reason}). {stays}: make room, then go on with --resume."
        ) from problem
    for old in whole(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def sweep(run: Path) -> None:
    """Delete the unfinished checkpoints that a killed run left."""
    for part in run.glob("step-*.part"):
        shutil.rmtree(part, ignore_errors=True)
    files.sweep(run)


def _sync(path: Path) -> None:
    """Bring a file or a folder's entries to the disk; some network drives know no such thing for folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
