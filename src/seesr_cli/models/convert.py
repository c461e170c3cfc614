"""Files are made small once: RAM and DAPE become one tagger, large networks get a 16-bit copy.

Only on a shelf, and only from sources whose bytes were verified there: the sources' sha256 and this converter's version
stand in the copy's metadata and in the shelf's memory, and a copy that does not fit them is made again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..catalogue import Model
from ..errors import WeightsError, WeightsInvalid, WeightsMissing
from ..files import cause, sync
from ..machine.device import Place, vae_place
from ..machine.precision import of_features
from ..weights import verify
from ..weights.shelf import PART, Record, Shelf, sha256
from . import load
from .keys import StateDict

VERSION = 1
"""To be raised when the same sources would become another copy."""

LARGE = 1 << 28
"""Bytes; a smaller network is cast when it is loaded, each time: that takes less than a second."""

HALVES = (torch.float16, torch.bfloat16)


def prepare(model: Model, folder: Path, place: Place) -> None:
    """Make on the shelf `folder` the copies that a run of `model` on `place` reads.

    A folder without memory, or that cannot be written, stays as it is: loading reads what is there.

    Raises WeightsMissing when a copy no longer fits and its sources were freed, WeightsInvalid as loading does, and
    WeightsError when the folder cannot be written.
    """
    prepare_tagger(model, folder, place)
    others = of_features(place.device.type, place.dtype)
    _prepare_networks(model, Shelf(folder), others, vae_place(place).dtype)


def _prepare_networks(model: Model, shelf: Shelf, others: torch.dtype, vae: torch.dtype) -> None:
    """Make the copies of the diffusers networks: of the VAE in the precision `vae`, of the others in `others`."""
    if not _kept(shelf):
        return
    for stem, dtype in _stems(model, others, vae):
        if dtype not in HALVES:
            continue
        full, half = f"{stem}.safetensors", load.variants(stem, dtype)[0]
        memory = shelf.memory()
        record = memory.files.get(half)
        published = record is not None and not record.made_of and shelf.untouched(half, record)
        large = full in memory.files and memory.files[full].size > LARGE
        if not published and (large or record is not None):
            network(shelf, full, half, dtype)


def prepare_tagger(model: Model, folder: Path, place: Place) -> None:
    """Make the slim tagger on the shelf `folder`, as `prepare` does."""
    shelf = Shelf(folder)
    if len(model.tagger) == 1 or not _kept(shelf):
        return
    dtype = of_features(place.device.type, place.dtype)
    names = load.variants(load.TAGGER, dtype)
    if not (folder / model.tagger[0]).is_file() and any(_fresh(shelf, name, model.tagger) for name in names):
        return  # the sources were freed: the copy that was kept serves every precision
    tagger(shelf, model, names[0], dtype)


def prepare_slim(model: Model, shelf: Shelf) -> None:
    """Make on the shelf the fp16 copies of everything of `model` that is large."""
    prepare_tagger(model, shelf.root, Place(torch.device("cpu"), torch.float16))
    _prepare_networks(model, shelf, torch.float16, torch.float16)


def free_sources(shelf: Shelf) -> int:
    """Delete the originals that have a copy, and return how many bytes were freed."""
    memory = shelf.memory()
    made = [record for name, record in memory.files.items() if record.made_of and shelf.untouched(name, record)]
    sources = sorted({source for record in made for source in record.made_of})
    return sum(verify.free(shelf, name) for name in sources if shelf.path(name).is_file())


def tagger(shelf: Shelf, model: Model, name: str, dtype: torch.dtype) -> None:
    """Let the shelf hold RAM with DAPE folded in, and no captioner, in `dtype`, under `name`."""
    with shelf.alone(name):
        if _fresh(shelf, name, model.tagger):
            return
        sources = _sources(shelf, name, model.tagger)
        network = load.load_published_tagger(model, shelf.root, Place(torch.device("cpu"), dtype))
        _write(shelf, name, network.state_dict(), dtype, sources)


def network(shelf: Shelf, full: str, half: str, dtype: torch.dtype) -> None:
    """Let the shelf hold the network `full` in `dtype`, under `half`: the same tensors and names."""
    with shelf.alone(half):
        if _fresh(shelf, half, (full,)):
            return
        sources = _sources(shelf, half, (full,))
        _write(shelf, half, load.tensors(shelf.path(full)), dtype, sources)


def _kept(shelf: Shelf) -> bool:
    return bool(shelf.memory().files) and shelf.writable


def _stems(model: Model, others: torch.dtype, vae: torch.dtype) -> Iterator[tuple[str, torch.dtype]]:
    """Yield the stem of each network's file, and the precision that the network is read in."""
    for folder in dict.fromkeys((model.unet, model.image_attention or model.unet, model.controlnet)):
        yield f"{folder}/{load.DIFFUSION}", others
    yield f"{model.base}/vae/{load.DIFFUSION}", vae
    yield f"{model.base}/text_encoder/{load.TEXT}", others


def _fresh(shelf: Shelf, name: str, sources: tuple[str, ...]) -> bool:
    """Whether the copy is there, whole, of this converter, and made of those of its sources that are there."""
    memory = shelf.memory()
    record = memory.files.get(name)
    if record is None or record.maker != VERSION or set(record.made_of) != set(sources):
        return False
    here = {source: memory.files[source].sha256 for source in sources if source in memory.files}
    if any(record.made_of[source] != found for source, found in here.items()):
        return False
    return shelf.untouched(name, record) or _rehashed(shelf, name, record)


def _rehashed(shelf: Shelf, name: str, record: Record) -> bool:
    path = shelf.path(name)
    if not path.is_file() or sha256(path) != record.sha256:
        return False
    shelf.record(name, record.sha256, record.made_of, record.maker)
    return True


def _sources(shelf: Shelf, name: str, sources: tuple[str, ...]) -> dict[str, str]:
    """Return the verified checksums of the sources, and let the old copy be forgotten.

    Raises WeightsMissing unless all of them are there.
    """
    shelf.forget(name)
    memory = shelf.memory()
    for source in sources:
        record = memory.files.get(source)
        if record is None or not shelf.path(source).is_file():
            raise WeightsMissing(
                f"{shelf.path(source)} is missing, of which {name} is to be made anew. Run: seesr weights pull."
            )
        if not shelf.untouched(source, record) and not _rehashed(shelf, source, record):
            raise WeightsInvalid(f"{shelf.path(source)} is not what was verified. Run: seesr weights pull.")
    return {source: memory.files[source].sha256 for source in sources}


def _write(shelf: Shelf, name: str, state: StateDict, dtype: torch.dtype, sources: dict[str, str]) -> None:
    """Write the tensors of `state` as a copy in `dtype`, which gets its name when it is whole.

    It takes the memory of the copy, at most 2.3 GB: those of the published UNet in 16 bits.
    """
    path = shelf.path(name)
    part = path.with_name(path.name + PART)
    made = {"format": "pt", "converter": str(VERSION), "sources": json.dumps(sources, sort_keys=True)}
    cast = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in cast.items()}, part, made)
        with part.open("r+b") as stream:
            sync(stream.fileno())
        found = sha256(part)
        part.replace(path)
    except (OSError, SafetensorError) as problem:
        raise WeightsError(f"{path} cannot be written ({cause(problem)}): free some space and run it again.") from None
    finally:
        part.unlink(missing_ok=True)
    shelf.record(name, found, sources, VERSION)
