"""The weights' fingerprint is that of their bytes, and of nothing else."""

import shutil
from pathlib import Path

import pytest
import torch

from seesr_cli.catalogue import MINIATURE, SEESR, TURBO
from seesr_cli.errors import WeightsMissing
from seesr_cli.weights import fingerprint as module
from seesr_cli.weights import locate
from seesr_cli.weights.fingerprint import fingerprint
from seesr_cli.weights.shelf import Shelf, sha256

TOKENS = "stable-diffusion-2-base/tokenizer/special_tokens_map.json"
NETWORK = "seesr/unet/diffusion_pytorch_model"


@pytest.fixture
def weights(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


def test_the_same_bytes_in_another_folder_have_the_same_fingerprint(weights: Path, tiny_weights: Path) -> None:
    assert fingerprint(SEESR, weights) == fingerprint(SEESR, tiny_weights)
    assert fingerprint(SEESR, weights) != fingerprint(TURBO, weights)
    assert len(fingerprint(MINIATURE, locate(MINIATURE, None))) == 64


@pytest.mark.parametrize(
    "name", ["seesr/unet/diffusion_pytorch_model.safetensors", "DAPE.pth", "ram_tag_list_threshold.txt", TOKENS]
)
def test_one_byte_more_in_any_file_is_another_fingerprint(weights: Path, name: str) -> None:
    before = fingerprint(SEESR, weights)
    with (weights / name).open("ab") as file:
        file.write(b"0")
    assert fingerprint(SEESR, weights) != before


def test_the_fingerprint_is_that_of_the_files_that_loading_takes(weights: Path) -> None:
    before = fingerprint(SEESR, weights)
    for mark, content in ((".fp16", b"a"), (".bf16", b"b")):
        (weights / f"{NETWORK}{mark}.safetensors").write_bytes(content)  # beside the full file it is not loaded
    assert fingerprint(SEESR, weights) == before
    (weights / f"{NETWORK}.safetensors").unlink()  # now the precision decides which one is
    both = fingerprint(SEESR, weights)
    assert both != before
    for mark in (".fp16", ".bf16"):
        with (weights / f"{NETWORK}{mark}.safetensors").open("ab") as file:
            file.write(b"0")
        assert fingerprint(SEESR, weights) != both
        both = fingerprint(SEESR, weights)


def test_a_copy_made_here_counts_as_what_it_was_made_of(weights: Path) -> None:
    shelf = Shelf(weights)
    full, half = (f"seesr/unet/diffusion_pytorch_model{mark}.safetensors" for mark in ("", ".fp16"))
    before = fingerprint(SEESR, weights)
    made_of = {full: sha256(weights / full)}
    shutil.copy(weights / full, weights / half)
    shelf.record(half, "0" * 64, made_of)
    (weights / full).unlink()
    assert fingerprint(SEESR, weights) == before

    torch.save({}, weights / "tagger.safetensors")
    shelf.record("tagger.safetensors", "1" * 64, {name: sha256(weights / name) for name in SEESR.tagger})
    for name in SEESR.tagger:
        (weights / name).unlink()
    assert fingerprint(SEESR, weights) == before


def test_a_large_file_is_read_again_only_when_it_was_touched(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return "0" * 64

    monkeypatch.setattr(module, "sha256", counted)
    monkeypatch.setattr(module, "LARGE", 0)
    fingerprint(SEESR, weights)
    assert len(read) > 5
    read.clear()
    fingerprint(SEESR, weights)
    assert read == []
    (weights / "DAPE.pth").touch()
    fingerprint(SEESR, weights)
    assert read == [weights / "DAPE.pth"]


def test_weights_that_are_not_there_have_their_sentence(weights: Path) -> None:
    (weights / "ram_tag_list.txt").unlink()
    with pytest.raises(WeightsMissing, match=r"ram_tag_list\.txt"):
        fingerprint(SEESR, weights)
