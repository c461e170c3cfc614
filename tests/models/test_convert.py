"""Copies are made once, of verified sources, whole or not at all; and read in their place."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import seesr_cli
from seesr_cli.catalogue import SEESR
from seesr_cli.errors import WeightsInvalid, WeightsMissing
from seesr_cli.machine.device import Place, choose
from seesr_cli.models import convert, load
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.weights import lock, verify
from seesr_cli.weights.shelf import Shelf, sha256

CPU = choose("cpu", "fp32")
HALF = Place(torch.device("cpu"), torch.float16)
UNET = "seesr/unet/diffusion_pytorch_model.safetensors"
UNET_HALF = "seesr/unet/diffusion_pytorch_model.fp16.safetensors"
RAM, DAPE = SEESR.tagger


@pytest.fixture
def shelf(tiny_weights: Path, tmp_path: Path) -> Shelf:
    """The tiny checkpoint as if it had been pulled."""
    shelf = Shelf(Path(shutil.copytree(tiny_weights, tmp_path / "shelf")))
    with shelf.changing():
        pass
    for path in tiny_weights.rglob("*"):
        if path.is_file():
            shelf.record(str(path.relative_to(tiny_weights)), sha256(path))
    return shelf


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "LARGE", 0)


def put(path: Path, data: bytes) -> None:
    """Put another file in the place of this one: networks may have the old one mapped."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_ram_and_dape_become_one_tagger_that_reads_the_same(shelf: Shelf) -> None:
    whole = load.load_published_tagger(SEESR, shelf.root, CPU)
    convert.prepare(SEESR, shelf.root, CPU)
    slim = shelf.path("tagger.safetensors")
    assert json.loads(metadata(slim)["sources"]) == {name: sha256(shelf.path(name)) for name in (RAM, DAPE)}
    assert metadata(slim)["converter"] == str(convert.VERSION)
    for name in (RAM, DAPE):
        put(shelf.path(name), b"")  # not opened any more
    read = load.load_tagger(SEESR, shelf.root, CPU)
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert slim.stat().st_size < 1.2 * sum(tensor.nbytes for tensor in whole.state_dict().values())


def test_a_network_is_copied_in_the_precision_that_the_device_runs(shelf: Shelf, everything_is_large: None) -> None:
    convert.prepare(SEESR, shelf.root, HALF)
    full, half = load_file(shelf.path(UNET)), load_file(shelf.path(UNET_HALF))
    assert full.keys() == half.keys()
    assert all(torch.equal(tensor.half(), half[name]) for name, tensor in full.items())
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    put(shelf.path(UNET), b"")
    assert load.load_unet(SEESR, shelf.root, HALF).dtype == torch.float16


def test_bf16_has_its_own_copy(shelf: Shelf, everything_is_large: None) -> None:
    convert.prepare(SEESR, shelf.root, Place(torch.device("cuda"), torch.bfloat16))
    assert load_file(shelf.path(UNET.replace(".safe", ".bf16.safe")))["conv_in.bias"].dtype == torch.bfloat16
    assert shelf.path("tagger.bf16.safetensors").is_file()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_cpu_gets_no_copies_of_networks(shelf: Shelf, everything_is_large: None, dtype: str) -> None:
    convert.prepare(SEESR, shelf.root, choose("cpu", dtype))
    assert {path.name for path in shelf.root.rglob("*.safetensors") if "16" in path.name} == set()


def test_small_networks_are_not_copied(shelf: Shelf) -> None:
    convert.prepare(SEESR, shelf.root, HALF)
    assert not shelf.path(UNET_HALF).exists()


def test_a_folder_that_nobody_verified_stays_as_it_is(tiny_weights: Path) -> None:
    before = sorted(tiny_weights.rglob("*"))
    convert.prepare(SEESR, tiny_weights, HALF)
    Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    assert sorted(tiny_weights.rglob("*")) == before


def test_a_copy_is_made_once(shelf: Shelf, everything_is_large: None) -> None:
    convert.prepare(SEESR, shelf.root, HALF)
    times = {name: shelf.path(name).stat().st_mtime_ns for name in (UNET_HALF, "tagger.fp16.safetensors")}
    convert.prepare(SEESR, shelf.root, HALF)
    assert times == {name: shelf.path(name).stat().st_mtime_ns for name in times}


@pytest.mark.parametrize("damage", ["bytes", "length", "gone"])
def test_a_damaged_copy_is_made_anew(shelf: Shelf, everything_is_large: None, damage: str) -> None:
    convert.prepare(SEESR, shelf.root, HALF)
    path = shelf.path(UNET_HALF)
    whole, content = load_file(path), path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        put(path, content[:-1] + b"\x01" if damage == "bytes" else content[:-1])
    convert.prepare(SEESR, shelf.root, HALF)
    assert equal(load_file(path), whole)


def test_a_copy_of_other_sources_or_another_converter_is_made_anew(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert.prepare(SEESR, shelf.root, CPU)
    slim = shelf.path("tagger.safetensors")
    before = sha256(slim)
    lora = torch.load(shelf.path(DAPE), weights_only=True)
    shelf.path(DAPE).unlink()
    torch.save({name: 2 * tensor for name, tensor in lora.items()}, shelf.path(DAPE))
    shelf.record(DAPE, sha256(shelf.path(DAPE)))
    convert.prepare(SEESR, shelf.root, CPU)
    assert sha256(slim) != before
    monkeypatch.setattr(convert, "VERSION", 99)
    convert.prepare(SEESR, shelf.root, CPU)
    assert metadata(slim)["converter"] == "99"


def test_a_source_that_is_not_what_was_verified_is_never_opened(shelf: Shelf, tmp_path: Path) -> None:
    fired = tmp_path / "fired"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (fired,)

    torch.save({"x": Bomb()}, shelf.path(DAPE))
    with pytest.raises(WeightsInvalid, match=r"DAPE\.pth.*not what was verified"):
        convert.prepare(SEESR, shelf.root, CPU)
    with pytest.raises(WeightsInvalid, match=r"DAPE\.pth.*not what was verified"):
        Upscaler.load(SEESR, shelf.root, "cpu", "fp32")
    assert not fired.exists()
    assert not shelf.path("tagger.safetensors").exists()


def test_freed_originals_are_not_missed(shelf: Shelf, everything_is_large: None) -> None:
    convert.prepare_slim(SEESR, shelf)
    freed = convert.free_sources(shelf)
    assert freed > 0
    assert not any(shelf.path(name).exists() for name in (UNET, RAM, DAPE))
    convert.prepare(SEESR, shelf.root, CPU)
    assert load.load_unet(SEESR, shelf.root, CPU).dtype == torch.float32
    upscaler = Upscaler.load(SEESR, shelf.root, "cpu", "fp32")
    assert not shelf.path("tagger.safetensors").exists(), "the copy that was kept serves full precision too"
    assert upscaler.reader.tagger.to_tokens.weight.dtype == torch.float32


def test_a_damaged_copy_whose_sources_were_freed_says_what_to_do(shelf: Shelf, everything_is_large: None) -> None:
    convert.prepare_slim(SEESR, shelf)
    convert.free_sources(shelf)
    put(shelf.path(UNET_HALF), b"")
    with pytest.raises(WeightsMissing, match="seesr weights pull"):
        convert.prepare(SEESR, shelf.root, HALF)
    assert not shelf.path(UNET_HALF).exists()


def test_a_damaged_copy_is_never_loaded(shelf: Shelf) -> None:
    convert.prepare(SEESR, shelf.root, CPU)
    slim = shelf.path("tagger.safetensors")
    whole, content = load_file(slim), slim.read_bytes()
    put(slim, content[:-4] + bytes(4))
    Upscaler.load(SEESR, shelf.root, "cpu", "fp32")
    assert equal(load_file(slim), whole)


def test_prune_leaves_what_others_wrote_and_what_is_being_written(shelf: Shelf, tmp_path: Path) -> None:
    verify.prune(lock.read(), shelf)
    name = next(iter(shelf.memory().files))
    ours, theirs = shelf.root / f"{name}.part", shelf.root / "film.part"
    for path in (ours, theirs, tmp_path / f"{Path(name).name}.part"):
        path.write_text("half")
    with shelf.alone(name):
        assert verify.prune(lock.read(), shelf) == ()
    assert verify.prune(lock.read(), shelf) == ((str(ours), 4),)
    assert theirs.exists()
    assert verify.prune(lock.read(), Shelf(tmp_path)) == ()
    assert (tmp_path / f"{Path(name).name}.part").exists()


def test_prune_knows_files_of_earlier_versions_by_the_locks_they_left(shelf: Shelf) -> None:
    verify.prune(lock.read(), shelf)
    gone, theirs = "old--unet/model--2.safetensors", "old/film.safetensors"
    for name in (gone, theirs):
        shelf.path(name).parent.mkdir(parents=True, exist_ok=True)
        put(shelf.path(f"{name}.seesr.incomplete"), b"half")
    with shelf.alone(gone):
        assert verify.prune(lock.read(), shelf) == ()
    assert verify.prune(lock.read(), shelf) == ((str(shelf.path(f"{gone}.seesr.incomplete")), 4),)
    assert shelf.path(f"{theirs}.seesr.incomplete").exists()  # nothing says that it was fetched here


def test_prune_deletes_a_copy_that_is_damaged_and_no_other(shelf: Shelf, everything_is_large: None) -> None:
    convert.prepare(SEESR, shelf.root, HALF)
    touched, damaged = shelf.path("tagger.fp16.safetensors"), shelf.path(UNET_HALF)
    os.utime(touched)
    put(damaged, b"x")
    shelf.path("x.part").write_bytes(b"x")
    verify.prune(lock.read(), shelf)
    assert touched.is_file()
    assert shelf.path(UNET).is_file()
    assert not damaged.exists()
    assert shelf.path("x.part").exists()  # no name that is written here


def test_a_conversion_that_was_killed_leaves_nothing_that_is_read(shelf: Shelf) -> None:
    code = f"""
import sys, time
from pathlib import Path
import torch
from seesr_cli.machine.device import Place, choose
from seesr_cli.models import convert
from seesr_cli.catalogue import SEESR
def half(tensors, part, metadata):
    Path(part).write_bytes(b"half")
    print("midway", flush=True)
    time.sleep(30)
convert.save_file = half
convert.prepare(SEESR, Path({str(shelf.root)!r}), choose("cpu", "fp32"))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(seesr_cli.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "midway\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not shelf.path("tagger.safetensors").exists()
    began = time.monotonic()
    convert.prepare(SEESR, shelf.root, CPU)
    assert time.monotonic() - began < 20, "the dead process holds nothing"
    whole = load.load_published_tagger(SEESR, shelf.root, CPU).state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(shelf.path("tagger.safetensors")).items())
    assert not list(shelf.root.rglob("*.part"))


def test_an_interrupted_conversion_leaves_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "save_file", interrupted)
    before = sorted(path for path in shelf.root.rglob("*") if ".seesr" not in path.parts)
    with pytest.raises(KeyboardInterrupt):
        convert.prepare(SEESR, shelf.root, CPU)
    assert sorted(path for path in shelf.root.rglob("*") if ".seesr" not in path.parts) == before


def test_the_copy_has_the_checksum_that_is_remembered(shelf: Shelf) -> None:
    convert.prepare(SEESR, shelf.root, CPU)
    content = shelf.path("tagger.safetensors").read_bytes()
    assert shelf.memory().files["tagger.safetensors"].sha256 == hashlib.sha256(content).hexdigest()
