"""Files become networks: strictly, built on the meta device, filled by assignment.

The one place where `weights` (files) and the networks meet. Every loader checks the complete set of names and shapes
first, in the published names, and says which file and which tensor is wrong. The libraries that networks come from are
imported by those loaders alone that need them: the tagger's needs none, and takes a third of the time to begin.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..catalogue import Model
from ..errors import WeightsInvalid
from ..machine.device import Place
from ..machine.precision import of_features
from ..weights import find, places
from ..weights.shelf import Shelf
from . import keys, products
from .configs import PUBLISHED_TAGGER, read_json
from .keys import StateDict
from .tagger import Tagger

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

Network = TypeVar("Network", bound=nn.Module)

DIFFUSION, TEXT, TAGGER = "diffusion_pytorch_model", "model", "tagger"
"""Stems of the names of weight files: of diffusers' networks, of the text tower, of the slim tagger."""

TOKENIZER = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json")
"""Files beside the vocabulary. Without the last one the pad token is another: 49407 instead of 0."""

PRECISIONS = {torch.float32: "", torch.float16: ".fp16", torch.bfloat16: ".bf16"}
"""What stands in the names of weight files between stem and suffix, as diffusers has it."""


def load_unet(model: Model, weights: Path, place: Place) -> "UNet2DConditionModel":
    """Return the model's grafted UNet, on `place`, ready to run.

    Where the model takes its image attention from another folder (turbo), that folder's tensors of the second branch
    join those of the UNet's own file, which has none. Raises WeightsMissing or WeightsInvalid, as all loaders do.
    """
    from .graft import build_unet

    config, file, state = _diffusers_folder(weights, model.unet, place)
    if model.image_attention is not None:
        _, _, donor = _diffusers_folder(weights, model.image_attention, place)
        state |= {name: tensor for name, tensor in donor.items() if f"{keys.IMAGE_ATTENTION}." in name}
        config["use_image_cross_attention"] = True
    return fill(lambda: build_unet(config), state, file, place, keys.grafted, keys.published)


def load_controlnet(model: Model, weights: Path, place: Place) -> "ControlNetModel":
    """Return the model's grafted ControlNet, on `place`, ready to run."""
    from .graft import build_controlnet

    config, file, state = _diffusers_folder(weights, model.controlnet, place)
    return fill(lambda: build_controlnet(config), state, file, place, keys.grafted, keys.published)


def load_vae(model: Model, weights: Path, place: Place) -> "AutoencoderKL":
    """Return the model's VAE, on `place`, ready to run; files with the old attention names are read too."""
    from .graft import build_vae

    config, file, state = _diffusers_folder(weights, f"{model.base}/vae", place)
    vae = fill(lambda: build_vae(config), keys.vae(state), file, place)
    # narrow convolutions take less time on a CPU where channels lie side by side (decision 58)
    return vae.to(memory_format=torch.channels_last) if "compact_decoder" in config else vae


def load_text_tower(model: Model, weights: Path, place: Place) -> "tuple[CLIPTokenizer, CLIPTextModel]":
    """Return the model's tokenizer and its CLIP text tower, on `place`, ready to run."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    config = CLIPTextConfig.from_dict(read_json(find(weights, f"{model.base}/text_encoder/config.json")))
    file = network_file(weights, f"{model.base}/text_encoder/{TEXT}", place)
    state = keys.published_text_tower(keys.text_tower(tensors(file)))
    tower = fill(lambda: CLIPTextModel(config), state, file, place, keys.text_tower, keys.published_text_tower)
    tower.embeddings.position_ids = torch.arange(config.max_position_embeddings, device=place.device).unsqueeze(0)
    vocabulary = find(weights, f"{model.base}/tokenizer/vocab.json")
    for name in TOKENIZER:
        find(vocabulary.parent, name)
    return CLIPTokenizer.from_pretrained(vocabulary.parent, local_files_only=True), tower


def load_schedule_config(model: Model, weights: Path) -> dict[str, Any]:
    """Return the entries of the model's scheduler file."""
    return read_json(find(weights, f"{model.scheduler}/scheduler_config.json"))


def load_tagger(model: Model, weights: Path, place: Place) -> Tagger:
    """Return the model's tagger with its LoRA folded in, on `place`, ready to run.

    The files are one slim safetensors file of the tagger as it stands, or RAM's checkpoint and DAPE's LoRA; where both
    are there, the slim one is read if the folder remembers having made it.
    """
    if slim := _slim(model, weights, place):
        config, labels = _tagger_sizes(model, weights)
        return fill(lambda: Tagger(config, labels), tensors(slim), slim, place)
    return load_published_tagger(model, weights, place)


def load_published_tagger(model: Model, weights: Path, place: Place) -> Tagger:
    """Return the tagger of RAM's checkpoint and DAPE's LoRA, as `load_tagger` does; slim files are passed over."""
    config, labels = _tagger_sizes(model, weights)
    ram, dape = (find(weights, name) for name in model.tagger)
    state, strays = keys.fold_lora(
        keys.ram(pickled(ram, "model")), pickled(dape), config["lora_rank"], config["lora_alpha"]
    )
    if strays:
        raise WeightsInvalid(f"{dape}: tensor '{strays[0]}' belongs to no weight of the tagger; get the file anew.")
    return fill(lambda: Tagger(config, labels), state, ram, place, keys.tagger, keys.published_tagger)


def load_teacher(model: Model, weights: Path, place: Place) -> Tagger:
    """Return the tagger that DAPE learns from: RAM without the LoRA, or the model's only tagger."""
    if len(model.tagger) == 1:
        return load_tagger(model, weights, place)
    config, labels = _tagger_sizes(model, weights)
    ram = find(weights, model.tagger[0])
    state = keys.ram(pickled(ram, "model"))
    return fill(lambda: Tagger(config, labels), state, ram, place, keys.tagger, keys.published_tagger)


def tagger_config(model: Model, weights: Path) -> dict[str, Any]:
    """Return the sizes of the model's tagger and of its LoRA."""
    return _tagger_sizes(model, weights)[0]


def load_base_unet(model: Model, weights: Path, place: Place) -> "UNet2DConditionModel":
    """Return the model's UNet with image attention as its constructor makes it: where training as published begins.

    The UNet is that of Stable Diffusion, in the base's folder `unet`; the configuration is that of the model's own UNet
    where there is one.
    """
    from .graft import build_unet

    config, file, state = _diffusers_folder(weights, f"{model.base}/unet", place)
    config["use_image_cross_attention"] = True
    grafted = keys.grafted(state)
    network = build_unet(config)
    own = network.state_dict()
    fresh = {name: tensor for name, tensor in own.items() if name not in grafted and ".image." in name}
    _check(keys.published(own), keys.published(grafted | fresh), file)
    network.load_state_dict(grafted | fresh)
    return network.to(place.device, place.dtype)


def _tagger_sizes(model: Model, weights: Path) -> tuple[dict[str, Any], int]:
    config_file = weights / model.tagger_config
    config = PUBLISHED_TAGGER | (read_json(config_file) if config_file.is_file() else {})
    return config, len(tag_names(model, weights))


def _slim(model: Model, weights: Path, place: Place) -> Path | None:
    """Return the file of the slim tagger that is to be read, or None where RAM and DAPE are."""
    if len(model.tagger) == 1:
        return find(weights, *model.tagger)
    made = Shelf(weights).memory().files
    alone = not any(path.is_file() for path in places(weights, model.tagger[0]))
    for name in variants(TAGGER, of_features(place.device.type, place.dtype)):
        if (weights / name).is_file() and (alone or name in made):
            return weights / name
    return None


def network_file(weights: Path, stem: str, place: Place) -> Path:
    """Return the file that a network on `place` reads, never a 16-bit one of unknown origin.

    Another 16-bit file may hold other weights, and the fingerprint would not know of it. Raises WeightsMissing.
    """
    names, full = variants(stem, of_features(place.device.type, place.dtype)), f"{stem}.safetensors"
    if any(path.is_file() for path in places(weights, full)):
        record = Shelf(weights).memory().files.get(names[0])
        return find(weights, *(names[:1] if record and full in record.made_of else ()), full)
    return find(weights, *names)


def variants(stem: str, dtype: torch.dtype) -> list[str]:
    """Return the possible names of a network's file: its own precision first, then full, then others."""
    marks = dict.fromkeys((PRECISIONS[dtype], *PRECISIONS.values()))
    return [f"{stem}{mark}.safetensors" for mark in marks]


def tag_names(model: Model, weights: Path) -> tuple[str, ...]:
    """Return the labels, in the order of the tagger's logits."""
    return tuple(line.strip() for line in _lines(find(weights, model.tags)))


def tag_thresholds(model: Model, weights: Path) -> tuple[float, ...]:
    """Return each label's threshold on its probability. Raises WeightsInvalid unless there is one per label."""
    path = find(weights, model.thresholds)
    try:
        thresholds = tuple(float(line) for line in _lines(path))
    except ValueError as problem:
        raise WeightsInvalid(f"{path}: not a list of numbers, one a line ({problem}); get the file anew.") from None
    if len(thresholds) != (labels := len(tag_names(model, weights))):
        raise WeightsInvalid(f"{path}: {len(thresholds)} thresholds for {labels} labels; get both files anew.")
    return thresholds


def same(state: StateDict) -> StateDict:
    """Return `state`: the key map of files whose names are ours."""
    return state


def fill(
    build: Callable[[], Network],
    state: StateDict,
    file: Path,
    place: Place,
    to_ours: Callable[[StateDict], StateDict] = same,
    to_published: Callable[[StateDict], StateDict] = same,
) -> Network:
    """Return the built network holding exactly `state`, cast and moved to `place`, frozen and in evaluation mode."""
    with torch.device("meta"):
        network = build()
    _check(to_published(network.state_dict()), state, file)
    features = of_features(place.device.type, place.dtype)
    ours = {name: tensor.to(place.device, features) for name, tensor in to_ours(state).items()}
    network.load_state_dict(ours, strict=True, assign=True)
    if features != place.dtype:
        products.lower(network, place.dtype)
    return network.requires_grad_(False).eval()


def _check(expected: StateDict, found: StateDict, file: Path) -> None:
    """Raise WeightsInvalid, naming file and tensor, unless `found` has the names and shapes of `expected`."""
    for name, tensor in expected.items():
        if name not in found:
            raise WeightsInvalid(f"{file}: tensor '{name}' is missing; get the file anew.")
        if found[name].shape != tensor.shape:
            shapes = f"{list(found[name].shape)} and not {list(tensor.shape)}"
            raise WeightsInvalid(f"{file}: tensor '{name}' is {shapes}; the file belongs to another network.")
    for name in found:
        if name not in expected:
            raise WeightsInvalid(
                f"{file}: tensor '{name}' is not part of the network; the file belongs to another one."
            )


def _diffusers_folder(weights: Path, folder: str, place: Place) -> tuple[dict[str, Any], Path, StateDict]:
    config = read_json(find(weights, f"{folder}/config.json"))
    file = network_file(weights, f"{folder}/{DIFFUSION}", place)
    return config, file, tensors(file)


def tensors(path: Path) -> StateDict:
    """Return the tensors of a safetensors file, mapped from disk. Raises WeightsInvalid."""
    try:
        return load_file(path)
    except SafetensorError as problem:
        raise WeightsInvalid(f"{path}: not a whole safetensors file ({problem}); get the file anew.") from problem


def pickled(path: Path, entry: str | None = None) -> StateDict:
    """Return the tensors of a PyTorch file, mapped from disk; nothing in it can run code.

    Files of before PyTorch 1.6 are no archives and are read whole: those of AlexNet, VGG16, LPIPS and DISTS.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as problem:  # torch has no common class for what a damaged or hostile file raises
        reason = str(problem).partition("\n")[0]
        raise WeightsInvalid(f"{path}: not a whole PyTorch file of tensors ({reason}); get the file anew.") from problem
    if entry is not None:
        content = content.get(entry) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise WeightsInvalid(f"{path}: holds no table of tensors{f' {entry!r}' if entry else ''}; get the file anew.")
    return content


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
