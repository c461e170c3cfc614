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
from seesr_cli.weights.shelf import Shelf, sha256

GOLDEN = Path(__file__).parent / "golden"
LABELS = 4585

PUBLISHED = GOLDEN / "real" / "published"
"""The published small files, byte for byte: tokenizer, configurations, schedulers, labels and thresholds."""

BASE = "stable-diffusion-2-base"

TEXT_CONFIG = json.loads((PUBLISHED / BASE / "text_encoder" / "config.json").read_text())
"""Of Stable Diffusion 2's text encoder: 340 million parameters."""

VAE_CONFIG = {
    name: value
    for name, value in json.loads((PUBLISHED / BASE / "vae" / "config.json").read_text()).items()
    if not name.startswith("_")
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
    shutil.copytree(PUBLISHED, folder, dirs_exist_ok=True)
    base = folder / BASE
    pour(base / "text_encoder" / "model.safetensors", "text_encoder", _text_shapes())
    pour(base / "vae" / "diffusion_pytorch_model.safetensors", "vae", _vae_shapes())
    torch.save({"model": ram(names("ram_keys.json"))}, folder / "ram_swin_large_14m.pth")
    lora = {name: rule.tensor("DAPE", name, shape) for name, shape in names("dape_keys.json").items()}
    torch.save(lora, folder / "DAPE.pth")


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


def shelf(folder: Path) -> Shelf:
    """Return `folder` as a shelf with the checkpoint of real size, written if need be, as if it had been pulled."""
    if not (folder / "seesr").exists():
        write(folder)
    made = Shelf(folder)
    known = made.memory().files
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and ".seesr" not in name and name not in known:
            made.record(name, sha256(path))
    return made
