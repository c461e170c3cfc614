"""Networks trained from nothing become a folder in the layout of the miniature: fp16, published names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..models import keys

DIFFUSION_FILE = "diffusion_pytorch_model.safetensors"


def export(
    folder: Path,
    configs: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Tensor]],
    tags: tuple[str, ...],
    thresholds: tuple[float, ...],
) -> int:
    """Write every part below `folder` and return the size of it all in bytes (tokenizer and card aside).

    configs: of vae, unet, controlnet, text, tagger and scheduler. states: weights of the first five, in our names.
    """
    _save(folder / "vae", DIFFUSION_FILE, configs["vae"], states["vae"])
    _save(folder / "unet", DIFFUSION_FILE, configs["unet"], keys.published(dict(states["unet"])))
    _save(folder / "controlnet", DIFFUSION_FILE, configs["controlnet"], keys.published(dict(states["controlnet"])))
    _save(
        folder / "text_encoder", "model.safetensors", configs["text"], keys.published_text_tower(dict(states["text"]))
    )
    _save(folder / "tagger", "model.safetensors", configs["tagger"], states["tagger"])
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", configs["scheduler"])
    (folder / "tagger" / "tags.txt").write_text("\n".join(tags) + "\n", encoding="utf-8")
    (folder / "tagger" / "thresholds.txt").write_text(
        "\n".join(f"{each:.3f}" for each in thresholds) + "\n", encoding="utf-8"
    )
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` readably."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _save(folder: Path, name: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    tensors = {
        key: tensor.detach().to(torch.float16).contiguous()
        for key, tensor in state.items()
        if tensor.is_floating_point()
    }
    save_file(tensors, folder / name, metadata={"format": "pt"})
