"""A checkpoint of the published size, made by the rule, tensor by tensor: its files are as large as the real ones.

What the tagger drops (RAM's captioner, of which the list of names has a part) is zeros, as many as make the file as
large as the published one; everything else follows from its name, as in the tiny checkpoint.
"""

import json
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

import rule
from seesr_cli.models import keys

GOLDEN = Path(__file__).parent / "golden"
LABELS = 4585

TEXT_CONFIG = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
"""Stable Diffusion 2's text tower: 340 million parameters."""

VAE_CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 768,
}

RAM_BYTES = 5_625_000_000
"""What the published file holds, nearly."""

CAPTIONER = ("text_decoder.", "tag_encoder.")

Shapes = dict[str, list[int]]


def write(folder: Path) -> None:
    """Write the checkpoint of model seesr into `folder`, in the published layout: 13.8 GB; needs 7 GB of memory."""
    for part in ("unet", "controlnet"):
        place = folder / "seesr" / part
        place.mkdir(parents=True)
        shutil.copy(GOLDEN / "real" / f"{part}_config.json", place / "config.json")
        pour(place / "diffusion_pytorch_model.safetensors", f"seesr/{part}", names(f"{part}_keys.json"))
    base = folder / "stable-diffusion-2-base"
    for inner, config, stem, shapes in (
        ("text_encoder", TEXT_CONFIG, "model", _text_shapes()),
        ("vae", VAE_CONFIG, "diffusion_pytorch_model", _vae_shapes()),
    ):
        (base / inner).mkdir(parents=True)
        (base / inner / "config.json").write_text(json.dumps(config))
        pour(base / inner / f"{stem}.safetensors", inner, shapes)
    for inner in ("tokenizer", "scheduler"):
        shutil.copytree(GOLDEN / "stable-diffusion-2-base" / inner, base / inner)
    torch.save({"model": ram(names("ram_keys.json"))}, folder / "ram_swin_large_14m.pth")
    lora = {name: rule.tensor("DAPE", name, shape) for name, shape in names("dape_keys.json").items()}
    torch.save(lora, folder / "DAPE.pth")
    (folder / "ram_tag_list.txt").write_text("".join(f"label {number}\n" for number in range(LABELS)))
    (folder / "ram_tag_list_threshold.txt").write_text("0.68\n" * LABELS)


def names(file: str) -> Shapes:
    """Return names and shapes of a published file."""
    return json.loads((GOLDEN / "real" / file).read_text())


def ram(shapes: Shapes) -> dict[str, Tensor]:
    """Return RAM's tensors; those of the captioner, never read, are zeros that take no memory."""
    rest = RAM_BYTES // 4 - sum(prod(shape) for shape in shapes.values())
    return {
        name: torch.zeros(shape) if name.startswith(CAPTIONER) else rule.tensor("ram", name, shape)
        for name, shape in (shapes | {"text_decoder.rest": [rest]}).items()
    }


def pour(path: Path, part: str, shapes: Shapes) -> None:
    """Write a safetensors file in the memory of one tensor."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            stream.write(rule.tensor(part, name, shape).numpy().tobytes())


def _shapes(build: Callable[[], torch.nn.Module]) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build().state_dict()


def _text_shapes() -> Shapes:
    state = keys.published_text_tower(_shapes(lambda: CLIPTextModel(CLIPTextConfig.from_dict(TEXT_CONFIG))))
    return {name: list(tensor.shape) for name, tensor in state.items()}


def _vae_shapes() -> Shapes:
    return {name: list(tensor.shape) for name, tensor in _shapes(lambda: AutoencoderKL(**VAE_CONFIG)).items()}
