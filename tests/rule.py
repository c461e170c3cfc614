"""The rule that the goldens' tiny checkpoint is made by: every tensor follows from its name alone.

A golden folder holds names and shapes (`keys.json`), configs, tokenizer and label lists, but no weights. `write` turns
it into a folder in the published layout.
"""

import json
import shutil
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

SEED = 1234

NETWORKS = {  # folder, which is also the name of the part unless another is given → file
    "stable-diffusion-2-base/text_encoder": ("text_encoder", "model.safetensors"),
    "stable-diffusion-2-base/vae": ("vae", "diffusion_pytorch_model.safetensors"),
    "seesr/unet": ("seesr/unet", "diffusion_pytorch_model.safetensors"),
    "seesr/controlnet": ("seesr/controlnet", "diffusion_pytorch_model.safetensors"),
    "sd-turbo/unet": ("sd-turbo/unet", "diffusion_pytorch_model.safetensors"),
}
FOLDERS = ("stable-diffusion-2-base/tokenizer", "stable-diffusion-2-base/scheduler", "sd-turbo/scheduler")
LABEL_LISTS = ("ram_tag_list.txt", "ram_tag_list_threshold.txt")


def tensor(part: str, name: str, shape: list[int], seed: int = SEED) -> Tensor:
    """Return standard normals drawn by a generator seeded with the name, scaled as that kind of tensor wants."""
    normals = np.random.RandomState(crc32(f"{seed}/{part}/{name}".encode())).standard_normal(tuple(shape))
    values = normals.astype(np.float32)
    match name.rpartition(".")[2]:
        case "relative_position_bias_table":
            values = 0.2 * values
        case "lora_B":
            values = 0.3 * values
        case "label_embed":
            pass
        case _ if len(shape) >= 2:
            values = values / np.float32(np.sqrt(np.prod(shape[1:])))
        case "weight":
            values = 1 + 0.1 * values
        case _:
            values = 0.05 * values
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def state(keys: Path, part: str, seed: int = SEED) -> dict[str, Tensor]:
    """Return all tensors of one file; weights that the captioner shares with the tagging head are made equal."""
    shapes: dict[str, list[int]] = json.loads(keys.read_text())
    made = {}
    for name, shape in shapes.items():
        twin = name.replace("tag_encoder", "tagging_head", 1)
        made[name] = tensor(part, twin if "lora_" not in name and twin in shapes else name, shape, seed)
    return made


def write(golden: Path, destination: Path, seed: int = SEED) -> None:
    """Write the checkpoint that `golden` describes into `destination`, in the published layout."""
    for folder, (part, file) in NETWORKS.items():
        (destination / folder).mkdir(parents=True)
        shutil.copy(golden / folder / "config.json", destination / folder)
        save_file(state(golden / folder / "keys.json", part, seed), destination / folder / file, {"format": "pt"})
    for folder in FOLDERS:
        shutil.copytree(golden / folder, destination / folder)
    torch.save({"model": state(golden / "ram/ram_keys.json", "ram", seed)}, destination / "ram_swin_large_14m.pth")
    torch.save(state(golden / "ram/dape_keys.json", "DAPE", seed), destination / "DAPE.pth")
    for name in LABEL_LISTS:
        shutil.copy(golden / "ram/data" / name, destination)
    shutil.copy(golden / "ram/config.json", destination / "tagger_config.json")
