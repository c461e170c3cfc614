"""Loading is strict: what is missing, extra, misshaped, damaged or hostile is named and refused."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seesr_cli.catalogue import SEESR, TURBO
from seesr_cli.errors import WeightsInvalid, WeightsMissing
from seesr_cli.machine.device import Place, choose
from seesr_cli.models import load
from seesr_cli.weights.shelf import Shelf

CPU = choose("cpu", "fp32")
UNET = "seesr/unet/diffusion_pytorch_model.safetensors"
VAE = "stable-diffusion-2-base/vae/diffusion_pytorch_model.safetensors"
TEXT = "stable-diffusion-2-base/text_encoder/model.safetensors"
LOADERS: dict[str, Callable[..., object]] = {
    UNET: load.load_unet,
    "seesr/controlnet/diffusion_pytorch_model.safetensors": load.load_controlnet,
    VAE: load.load_vae,
    TEXT: load.load_text_tower,
}


@pytest.fixture
def weights(tiny_weights: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be damaged."""
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> str:
    """Change the tensors of a file; returns the name of its first one."""
    state = load_file(path)
    first = next(iter(state))
    change(state)
    save_file(state, path, {"format": "pt"})
    return first


@pytest.mark.parametrize("file", LOADERS)
def test_a_missing_tensor_is_named_with_its_file(weights: Path, file: str) -> None:
    name = rewrite(weights / file, lambda state: state.pop(next(iter(state))))
    with pytest.raises(WeightsInvalid, match=rf"{re.escape(file)}.*'{re.escape(name)}' is missing"):
        LOADERS[file](SEESR, weights, CPU)


@pytest.mark.parametrize("file", LOADERS)
def test_an_extra_tensor_is_named_with_its_file(weights: Path, file: str) -> None:
    rewrite(weights / file, lambda state: state.update(stowaway=torch.ones(1)))
    with pytest.raises(WeightsInvalid, match=rf"{re.escape(file)}.*stowaway"):
        LOADERS[file](SEESR, weights, CPU)


@pytest.mark.parametrize("file", LOADERS)
def test_a_misshaped_tensor_is_named_with_its_file_and_both_shapes(weights: Path, file: str) -> None:
    name = rewrite(weights / file, lambda state: state.update({next(iter(state)): torch.ones(7, 5)}))
    with pytest.raises(WeightsInvalid, match=rf"{re.escape(file)}.*'{re.escape(name)}' is \[7, 5\] and not"):
        LOADERS[file](SEESR, weights, CPU)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop("image_proj.weight"), "'image_proj.weight' is missing"),
        (lambda state: state.pop("visual_encoder.layers.1.blocks.0.attn.qkv.bias"), "qkv.bias' is missing"),
        (lambda state: state.update(stowaway=torch.ones(1)), "'stowaway' is not part"),
        (lambda state: state.update({"fc.weight": torch.ones(2, 3)}), "'fc.weight' is \\[2, 3\\]"),
    ],
)
def test_a_wrong_ram_file_is_named_with_the_published_tensor(
    weights: Path, change: Callable[[dict[str, Tensor]], object], complaint: str
) -> None:
    path = weights / "ram_swin_large_14m.pth"
    state = torch.load(path, weights_only=True)["model"]
    change(state)
    torch.save({"model": state}, path)
    with pytest.raises(WeightsInvalid, match=f"ram_swin_large_14m.pth.*{complaint}"):
        load.load_tagger(SEESR, weights, CPU)


def test_a_lora_of_another_network_is_refused(weights: Path) -> None:
    path = weights / "DAPE.pth"
    lora = torch.load(path, weights_only=True)
    lora["visual_encoder.layers.9.blocks.0.attn.qkv.lora_A"] = torch.ones(16, 16)
    torch.save(lora, path)
    with pytest.raises(WeightsInvalid, match=r"DAPE.pth.*layers\.9"):
        load.load_tagger(SEESR, weights, CPU)


class Bomb:
    """Would create a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(weights: Path, tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    torch.save({"x": Bomb(fired)}, weights / "DAPE.pth")
    with pytest.raises(WeightsInvalid, match=r"DAPE\.pth"):
        load.load_tagger(SEESR, weights, CPU)
    (weights / "DAPE.pth").write_bytes(pickle.dumps(Bomb(fired)))
    with pytest.raises(WeightsInvalid, match=r"DAPE\.pth"):
        load.load_tagger(SEESR, weights, CPU)
    assert not fired.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"", lambda data: b"\xff" * 64 + data])
def test_a_damaged_file_is_named(weights: Path, damage: Callable[[bytes], bytes]) -> None:
    for file, loader in ((UNET, load.load_unet), ("ram_swin_large_14m.pth", load.load_tagger)):
        (weights / file).write_bytes(damage((weights / file).read_bytes()))
        with pytest.raises(WeightsInvalid, match=re.escape(file)):
            loader(SEESR, weights, CPU)


def test_a_missing_file_is_named(weights: Path) -> None:
    for file in (UNET, "DAPE.pth", "ram_tag_list.txt", "stable-diffusion-2-base/tokenizer/merges.txt"):
        (weights / file).unlink()
    for loader in (load.load_unet, load.load_tagger, load.load_text_tower):
        with pytest.raises(WeightsMissing, match="is missing"):
            loader(SEESR, weights, CPU)


@pytest.mark.parametrize("name", ["vocab.json", *load.TOKENIZER])
def test_a_tokenizer_that_is_not_whole_is_refused(weights: Path, name: str) -> None:
    (weights / "stable-diffusion-2-base/tokenizer" / name).unlink()
    with pytest.raises(WeightsMissing, match=re.escape(name)):
        load.load_text_tower(SEESR, weights, CPU)


def test_a_config_that_is_not_json_is_named(weights: Path) -> None:
    (weights / "seesr/unet/config.json").write_text("{")
    with pytest.raises(WeightsInvalid, match=r"config\.json: not readable as JSON"):
        load.load_unet(SEESR, weights, CPU)


def test_thresholds_must_be_as_many_numbers_as_labels(weights: Path) -> None:
    path = weights / "ram_tag_list_threshold.txt"
    path.write_text("0.5\n0.5\n")
    with pytest.raises(WeightsInvalid, match="2 thresholds for 24 labels"):
        load.tag_thresholds(SEESR, weights)
    path.write_text("half\n")
    with pytest.raises(WeightsInvalid, match="not a list of numbers"):
        load.tag_thresholds(SEESR, weights)


def test_a_vae_with_the_old_attention_names_is_the_same_vae(weights: Path) -> None:
    new = load.load_vae(SEESR, weights, CPU).state_dict()
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def age(state: dict[str, Tensor]) -> None:
        for name in [name for name in state if ".attentions." in name]:
            aged = name
            for today, once in old_names.items():
                aged = aged.replace(f".{today}.", f".{once}.")
            state[aged] = state.pop(name)

    rewrite(weights / VAE, age)
    assert any(".query." in name for name in load_file(weights / VAE))
    old = load.load_vae(SEESR, weights, CPU).state_dict()
    assert all(torch.equal(new[name], old[name]) for name in new)


def test_turbo_is_its_own_unet_with_seesr_s_image_attention(tiny_weights: Path) -> None:
    own = load_file(tiny_weights / "sd-turbo/unet/diffusion_pytorch_model.safetensors")
    donor = load_file(tiny_weights / UNET)
    turbo = load.load_unet(TURBO, tiny_weights, CPU)
    assert torch.equal(turbo.state_dict()["conv_in.weight"], own["conv_in.weight"])
    assert torch.equal(
        turbo.state_dict()["mid_block.attentions.0.image.norm.weight"],
        donor["mid_block.image_attentions.0.norm.weight"],
    )


def test_half_precision_files_serve_where_full_ones_are_missing(weights: Path) -> None:
    state = {name: tensor.half() for name, tensor in load_file(weights / UNET).items()}
    (weights / UNET).unlink()
    save_file(state, weights / UNET.replace(".safetensors", ".fp16.safetensors"), {"format": "pt"})
    assert load.load_unet(SEESR, weights, CPU).dtype == torch.float32


def test_a_16_bit_file_beside_the_full_one_is_read_only_if_it_was_made_of_it_here(weights: Path) -> None:
    half = UNET.replace(".safetensors", ".fp16.safetensors")
    other = {name: torch.zeros_like(tensor).half() for name, tensor in load_file(weights / UNET).items()}
    save_file(other, weights / half, {"format": "pt"})
    place = Place(torch.device("cpu"), torch.float16)
    assert load.load_unet(SEESR, weights, place).conv_in.weight.any()
    Shelf(weights).record(half, "0" * 64)  # known, but as no copy of the full file
    assert load.load_unet(SEESR, weights, place).conv_in.weight.any()
    Shelf(weights).record(half, "0" * 64, {UNET: "1" * 64})
    assert not load.load_unet(SEESR, weights, place).conv_in.weight.any()


def test_the_precision_is_that_of_the_place(tiny_weights: Path) -> None:
    network = load.load_unet(SEESR, tiny_weights, Place(torch.device("cpu"), torch.float16))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_a_slim_tagger_file_reads_as_the_two_it_was_made_of(weights: Path) -> None:
    whole = load.load_tagger(SEESR, weights, CPU)
    save_file(whole.state_dict(), weights / "slim.safetensors", {"format": "pt"})
    slim = load.load_tagger(replace(SEESR, tagger=("slim.safetensors",)), weights, CPU)
    pixels = torch.randn(1, 3, whole.side, whole.side)
    with torch.inference_mode():
        for ours, theirs in zip(slim(pixels), whole(pixels), strict=True):
            assert torch.equal(ours, theirs)


def test_sizes_of_the_tagger_come_from_its_config_where_there_is_one(weights: Path) -> None:
    config = json.loads((weights / "tagger_config.json").read_text())
    (weights / "tagger_config.json").unlink()
    with pytest.raises(WeightsInvalid, match=r"is \[.*\] and not \["):  # the published sizes are expected now
        load.load_tagger(SEESR, weights, CPU)
    (weights / "tagger_config.json").write_text(json.dumps(config))
    assert load.load_tagger(SEESR, weights, CPU).to_tokens.in_features == 128
