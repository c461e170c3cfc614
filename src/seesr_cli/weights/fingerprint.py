"""Which weights a result was made with, as one number: the sha256 over those of the model's files."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from ..catalogue import Model
from ..errors import OutputUnwritable, WeightsMissing
from ..files import write_json
from . import find, places
from .shelf import Record, Shelf, ShelfMemory, default, sha256

LARGE = 1 << 26
"""Bytes from which on a file's checksum is worth remembering: smaller ones are read in no time."""

NETWORK, TEXT = "diffusion_pytorch_model", "text_encoder/model"


def fingerprint(model: Model, folder: Path) -> str:
    """Return the sha256 over names and checksums of the files of `model` in `folder`.

    These are the files that loading takes, in any precision: the full ones, and 16-bit ones where there is no full one.
    A copy made here counts as what it was made of, so that a conversion changes nothing. Checksums that the folder
    remembers are taken as they are, while size and time of change are; those of other large files are remembered beside
    the cache of weights. Raises WeightsMissing.
    """
    memory = Shelf(folder).memory()
    known = _Known()
    parts = [
        f"{name} {','.join(sorted({_identity(path, folder, memory, known) for path in _found(folder, choices)}))}"
        for name, choices in _files(model).items()
    ]
    try:
        tagger = {_identity(find(folder, name), folder, memory, known) for name in model.tagger}
    except WeightsMissing:  # freed once the slim file had been made of them
        tagger = {_identity(path, folder, memory, known) for path in _found(folder, _variants("tagger"))}
    known.keep()
    return hashlib.sha256("\n".join([*parts, f"tagger {','.join(sorted(tagger))}"]).encode()).hexdigest()


def _files(model: Model) -> dict[str, list[str]]:
    """Return the model's files but the tagger's, and the names under which each may be found, the full one first."""
    networks = [model.unet, model.controlnet, f"{model.base}/vae"]
    if model.image_attention is not None:
        networks.append(model.image_attention)
    files = {stem: _variants(stem) for stem in [f"{folder}/{NETWORK}" for folder in networks]}
    files[TEXT] = _variants(f"{model.base}/{TEXT}")
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        files[name] = [f"{model.base}/tokenizer/{name}"]
    files["schedule"] = [f"{model.scheduler}/scheduler_config.json"]
    return files | {name: [name] for name in (model.tags, model.thresholds)}


def _found(folder: Path, choices: list[str]) -> list[Path]:
    """Return the full file, the first choice; if it is missing, all other choices. Raises WeightsMissing."""
    full, *others = choices
    if not others or any(path.is_file() for path in places(folder, full)):
        return [find(folder, full)]
    there = [name for name in others if any(path.is_file() for path in places(folder, name))]
    return [find(folder, name) for name in there] or [find(folder, *choices)]


def _variants(stem: str) -> list[str]:
    return [f"{stem}{mark}.safetensors" for mark in ("", ".fp16", ".bf16")]


def _identity(path: Path, folder: Path, memory: ShelfMemory, known: "_Known") -> str:
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""
    record = memory.files.get(name)
    if record is not None and Shelf(folder).untouched(name, record):
        return ",".join(sorted(record.made_of.values())) or record.sha256
    return known.sha256(path)


class _Known:
    """Checksums of large files that no shelf vouches for, remembered from run to run."""

    def __init__(self) -> None:
        self._place = default().root.parent / "checksums.json"
        self._records: dict[str, Record] = {}
        self._changed = False
        with suppress(OSError, ValueError, TypeError, AttributeError):
            content = json.loads(self._place.read_text(encoding="utf-8"))
            self._records = {name: Record(**entry) for name, entry in content.items()}

    def sha256(self, path: Path) -> str:
        """Return the checksum of the file, which is read unless it is as it was when it was read last."""
        try:
            stat = path.stat()
            if stat.st_size < LARGE:
                return sha256(path)
            record = self._records.get(name := str(path.resolve()))
            if record is None or (record.size, record.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                record = self._records[name] = Record(stat.st_size, stat.st_mtime_ns, sha256(path))
                self._changed = True
            return record.sha256
        except OSError as problem:
            raise WeightsMissing(f"{path} cannot be read ({problem.strerror}): check its permissions.") from problem

    def keep(self) -> None:
        """Write the checksums for the next run; if the write fails, the next run reads the files again."""
        if self._changed:
            with suppress(OutputUnwritable):
                write_json(self._place, {name: record._asdict() for name, record in self._records.items()})
