"""The two stages as the engine sees them: learnt weights, loss of a sample, and exported files."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..catalogue import MODELS, Model
from ..errors import UsageError, WeightsMissing
from ..machine.device import Place
from ..models import keys, load
from ..models.keys import StateDict
from ..models.tagger import Tagger
from ..restore.latent import VAE
from ..restore.limits import Limits
from ..restore.prompt import TextEncoder, compose
from ..restore.sampler import Sampler
from ..restore.tag import Reader
from ..restore.upscaler import Upscaler
from ..sampling.schedule import signal_kept
from ..weights import find
from . import dape, lora, restorer
from .degradation import STRENGTHS, Strength
from .objective import Denoiser, Objective, add_noise, choose, error
from .recipe import Recipe
from .samples import Cut, Making, Sample, enlarged, spoil, tagger_input

Files = dict[str, StateDict]
"""Tensors by published names, by the name of their part: unet, controlnet, text_encoder, tagger or DAPE."""


class Loss(NamedTuple):
    """A loss, and its parts by name for the log."""

    total: Tensor
    parts: dict[str, float]


class SeesrStage:
    """ControlNet and UNet, with the frozen networks beside them.

    weights: the folder in the layout of `recipe.model`. device: where all of it works.
    """

    def __init__(self, recipe: Recipe, weights: Path, device: torch.device) -> None:
        self.recipe, self.weights, self.model = recipe, weights, _model(recipe)
        full = Place(device, torch.float32)
        frozen = Place(device, _dtype(recipe, device))
        model = self.model
        torch.manual_seed(recipe.seed)
        self.config = load.load_schedule_config(model, weights)
        asked = self.config.get("prediction_type", "epsilon")
        if asked != recipe.prediction:
            raise UsageError(
                f"prediction is {recipe.prediction}, and the scheduler file of {weights} says {asked}: restoring would "
                "take one for the other. Change the file in a copy of the folder, or the recipe."
            )
        self.kept = signal_kept(self.config)
        self.vae = load.load_vae(model, weights, frozen)
        learns_text = recipe.learns == "all"
        self.tokenizer, self.tower = load.load_text_tower(model, weights, full if learns_text else frozen)
        self.ram = load.load_teacher(model, weights, frozen)
        self.tagger = load.load_tagger(model, weights, frozen)
        self.names, thresholds = load.tag_names(model, weights), load.tag_thresholds(model, weights)
        self.thresholds = torch.tensor(thresholds, device=device)
        self.text_encoder = TextEncoder(self.tokenizer, self.tower)
        if recipe.start == "base":
            unet = load.load_base_unet(model, weights, full)
        else:
            unet = load.load_unet(model, weights, full)
        controlnet = load.load_controlnet(model, weights, full)
        if recipe.start == "nothing":
            _begin_anew(unet)
            if learns_text:
                self.tower.load_state_dict(CLIPTextModel(self.tower.config).state_dict())
        if recipe.start != "weights":
            _begin_anew(controlnet)
            restorer.copy_encoder(unet, controlnet)
            _close(controlnet)
        self.module = Denoiser(unet, controlnet, self.tower if learns_text else None)
        if recipe.learns == "lora":
            raise UsageError("learns = lora is of seesr train dape.")
        self.learning = choose(self.module, recipe.learns)
        if recipe.checkpointing:
            unet.enable_gradient_checkpointing()
            controlnet.enable_gradient_checkpointing()
        self.module.train()
        self.objective = Objective(recipe.prediction, recipe.weighting)
        self.making = _making(recipe, self._latent(), len(self.kept), self.objective)

    def _latent(self) -> tuple[int, int, int]:
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = self.recipe.size // factor
        return self.vae.config.latent_channels, side, side

    def loss(self, module: nn.Module, sample: Sample) -> Loss:
        """Return the loss of a micro-batch. module: `self.module`, or what the engine wrapped it in."""
        recipe, device = self.recipe, self.vae.device
        clean, degraded = pictures(sample, self.making, device)
        frame = enlarged(degraded, clean.shape[-1] // degraded.shape[-1], recipe.enlargement == "published")
        with torch.no_grad():
            tokens = self._tokens(frame, degraded, sample)
            latent = self._encoded(clean, sample.posterior.to(device))
            prompt = self._prompts(clean, sample)
        timestep, noise = sample.timestep.to(device), sample.noise.to(device)
        kept = self.kept[sample.timestep].to(device)
        predicted = module(add_noise(latent, noise, kept), timestep, prompt, tokens, frame)
        return Loss(error(self.objective, predicted, latent, noise, kept), {})

    def _tokens(self, frame: Tensor, degraded: Tensor, sample: Sample) -> Tensor:
        """Return the tokens of the enlarged frame, as published, or of the small picture, as inference reads it."""
        published = self.recipe.enlargement == "published"
        seen = tagger_input(frame if published else degraded, self.tagger.side, published)
        tokens = self.tagger(seen.to(self.tagger.to_tokens.weight.dtype))[1].float()
        return tokens * (~sample.untold).to(tokens)[:, None, None]

    def _encoded(self, clean: Tensor, noise: Tensor) -> Tensor:
        posterior = self.vae.encode((2 * clean - 1).to(self.vae.dtype)).latent_dist
        mean, deviation = posterior.mean.float(), posterior.std.float()
        latent = mean + deviation * noise if self.recipe.posterior else mean
        return latent * self.vae.config.scaling_factor

    def _prompts(self, clean: Tensor, sample: Sample) -> Tensor:
        """Return the prompts' embeddings, or their token ids where the text tower learns; tags of the clean picture."""
        seen = tagger_input(clean, self.ram.side, self.recipe.enlargement == "published")
        logits = self.ram(seen.to(self.ram.to_tokens.weight.dtype))[0].float()
        fired = torch.sigmoid(logits) > self.thresholds
        texts = []
        for row, untagged in zip(fired.tolist(), sample.untagged.tolist(), strict=True):
            tags = () if untagged else tuple(name for name, fires in zip(self.names, row, strict=True) if fires)
            if self.recipe.quality_words:
                texts.append(compose(tags, "", "").positive)
            else:
                texts.append(f"{', '.join(tags)}," if not untagged else "")
        ids = self.text_encoder.tokenize(tuple(texts)).to(clean.device)
        return ids if self.module.text is not None else self.tower(ids).last_hidden_state.float()

    def state(self) -> Files:
        """Return the learnt weights, by published names."""
        named = {
            "unet": keys.published(_learnt(self.module.unet)),
            "controlnet": keys.published(_learnt(self.module.controlnet)),
        }
        if self.module.text is not None:
            named["text_encoder"] = keys.published_text_tower(_learnt(self.module.text))
        return named

    def take(self, files: Files) -> None:
        """Load learnt weights. Raises UsageError for the files of another run."""
        _put(self.module.unet, keys.grafted(files["unet"]))
        _put(self.module.controlnet, keys.grafted(files["controlnet"]))
        if self.module.text is not None:
            _put(self.module.text, keys.text_tower(files["text_encoder"]))

    def upscaler(self) -> Upscaler:
        """Return the program's own upscaler on the live weights."""
        reader = Reader(self.tagger, self.names, tuple(self.thresholds.tolist()))
        unet, controlnet, vae = self.module.unet, self.module.controlnet, VAE(self.vae)
        sampler = Sampler(unet, controlnet, self.config, vae.factor, Limits(self.model.tilings))
        return Upscaler(reader, self.text_encoder, vae, sampler)

    def export(self, folder: Path) -> None:
        """Write the networks into `folder`, and link the other files of the weights folder, for `--weights`."""
        unet, controlnet = self.module.unet.state_dict(), self.module.controlnet.state_dict()
        places = {self.model.unet: keys.published(unet), self.model.controlnet: keys.published(controlnet)}
        if self.module.text is not None:
            tower = {name: each for name, each in self.tower.state_dict().items() if "position_ids" not in name}
            places[f"{self.model.base}/text_encoder"] = keys.published_text_tower(tower)
        for place, state in places.items():
            target = folder / place
            target.mkdir(parents=True, exist_ok=True)
            stem = load.TEXT if place.endswith("text_encoder") else load.DIFFUSION
            _save(target / f"{stem}.safetensors", state)
            shutil.copyfile(self.weights / place / "config.json", target / "config.json")
        _link(self.weights, folder, tuple(places))


class DapeStage:
    """A student that learns to read degraded pictures as its teacher reads clean ones."""

    def __init__(self, recipe: Recipe, weights: Path, device: torch.device) -> None:
        self.recipe, self.weights, self.model = recipe, weights, _model(recipe)
        config = load.tagger_config(self.model, weights)
        self.ram = load.load_teacher(self.model, weights, Place(device, torch.float32))
        self.names, thresholds = load.tag_names(self.model, weights), load.tag_thresholds(self.model, weights)
        self.thresholds = torch.tensor(thresholds, device=device)
        if recipe.start == "nothing":
            raise UsageError("start = nothing: DAPE has a teacher; give base or weights.")
        settings = dape.DapeRecipe(
            config["lora_rank"], config["lora_alpha"], tokens=recipe.token_loss, tags=recipe.tag_loss, seed=recipe.seed
        )
        self.settings = settings
        self.module: Tagger
        self.module, self.learning = dape.make_student(self.ram, settings)
        self.module.to(device)
        if recipe.learns == "all":
            lora.fold(self.module)
            self.learning = list(self.module.requires_grad_(True).parameters())
        dape.set_dropout(self.module, recipe.drop_path, recipe.dropout)
        self.module.train()
        self.making = _making(recipe, (0, 0, 0), 1, Objective())

    def loss(self, module: nn.Module, sample: Sample) -> Loss:
        """Return the loss of a micro-batch. module: `self.module`, or what the engine wrapped it in."""
        device, published = self.thresholds.device, self.recipe.enlargement == "published"
        clean, degraded = pictures(sample, self.making, device)
        if published:
            degraded = enlarged(degraded, clean.shape[-1] // degraded.shape[-1], published)
        side = self.ram.side
        with torch.no_grad():
            wanted = self.ram(tagger_input(clean, side, published))
        logits, tokens = module(tagger_input(degraded, side, published))
        with torch.no_grad():
            fired, told = (torch.sigmoid(each.float()) > self.thresholds for each in (logits, wanted[0]))
            both = 2 * (fired & told).sum() / (fired.sum() + told.sum()).clamp(min=1)
        total = dape.loss((logits.float(), tokens.float()), wanted, self.settings)
        return Loss(total, {"agreement": float(both)})

    def state(self) -> Files:
        """Return the learnt weights, by published names."""
        if self.recipe.learns == "all":
            return {"tagger": keys.published_tagger(_learnt(self.module))}
        return {"DAPE": lora.published(self.module)}

    def take(self, files: Files) -> None:
        """Load learnt weights."""
        if self.recipe.learns == "all":
            _put(self.module, keys.tagger(files["tagger"]))
        else:
            lora.take(self.module, files["DAPE"])

    def upscaler(self) -> None:
        """Return nothing: this stage restores no picture."""

    def export(self, folder: Path) -> None:
        """Write the LoRA as DAPE.pth, or the tagger where a model has but one file, and link the rest."""
        folder.mkdir(parents=True, exist_ok=True)
        learnt = self.state()
        single = len(self.model.tagger) == 1
        if not single and self.recipe.learns == "all":
            raise UsageError("learns = all gives no DAPE.pth: a published folder takes the LoRA alone.")
        if "DAPE" in learnt:
            torch.save(learnt["DAPE"], folder / "DAPE.pth")
        skipped: tuple[str, ...] = ("DAPE.pth",)
        if single:
            lora.fold(self.module)
            target = folder / self.model.tagger[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            _save(target, self.module.state_dict())
            skipped = (self.model.tagger[0],)
        _link(self.weights, folder, skipped)


Stage = SeesrStage | DapeStage


def build(recipe: Recipe, weights: Path, device: torch.device) -> Stage:
    """Return the stage of `recipe`, ready to learn on `device`. Raises WeightsMissing and WeightsInvalid."""
    return (SeesrStage if recipe.stage == "seesr" else DapeStage)(recipe, weights, device)


def counted(recipe: Recipe, weights: Path) -> tuple[int, int]:
    """Return how many parameters of UNet and ControlNet learn, and how many there are, by the files' headers alone.

    Nothing is loaded: for a machine that could not.
    """
    model = _model(recipe)
    learning = together = 0
    for place in (model.unet, model.controlnet):
        file = find(weights, *load.variants(f"{place}/{load.DIFFUSION}", torch.float32))
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no mapping
                count = prod(tensors.get_slice(name).get_shape())
                together += count
                whole = recipe.learns != "published" or place == model.controlnet
                learning += count if whole or f"{keys.IMAGE_ATTENTION}." in name else 0
    return learning, together


def _model(recipe: Recipe) -> Model:
    for name, model in MODELS.items():
        if name == recipe.model:
            return model
    raise UsageError(f"model is {recipe.model}: give {', '.join(MODELS)}.")


def _dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return the precision of frozen networks: the run's own, and fp32 on a CPU."""
    if device.type == "cpu":
        return torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


def _making(recipe: Recipe, latent: tuple[int, int, int], trained: int, objective: Objective) -> Making:
    return Making(
        recipe.seed,
        Cut(recipe.size, recipe.whole, recipe.flip, recipe.turns, recipe.least_side, recipe.least_bytes),
        STRENGTHS[Strength(recipe.degradation)],
        latent,
        trained,
        objective,
        recipe.tag_dropout,
        recipe.token_dropout,
        recipe.sharpened,
        recipe.degrade_on == "device",
    )


def pictures(sample: Sample, making: Making, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the clean and the degraded pictures on `device`; degraded there, where the workers have not done it."""
    clean = sample.clean.to(device)
    if not making.on_device:
        return clean, sample.degraded.to(device)
    pairs = zip(clean, sample.n.tolist(), strict=True)
    with torch.autocast(device.type, enabled=False):  # 255ths need more digits than 16 bits have
        return clean, torch.stack([spoil(each, making, n) for each, n in pairs])


def _learnt(module: nn.Module) -> StateDict:
    return {name: each.detach().contiguous() for name, each in module.named_parameters() if each.requires_grad}


@torch.no_grad()
def _put(module: nn.Module, state: StateDict) -> None:
    parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
    if parameters.keys() != state.keys():
        raise UsageError("The checkpoint is that of a recipe that trains other parts.")
    for name, parameter in parameters.items():
        parameter.copy_(state[name])


def _begin_anew(network: nn.Module) -> None:
    """Give every layer of `network` the weights that its constructor would."""
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


@torch.no_grad()
def _close(controlnet: nn.Module) -> None:
    """Begin the ControlNet as published: a copy of the encoder that adds nothing yet."""
    for name, parameter in controlnet.named_parameters():
        if name.startswith(("controlnet_down_blocks.", "controlnet_mid_block.")) or "cond_embedding.conv_out" in name:
            parameter.zero_()


def _save(path: Path, state: StateDict) -> None:
    save_file({name: each.detach().cpu().contiguous() for name, each in state.items()}, path, {"format": "pt"})


def _link(source: Path, folder: Path, replaced: tuple[str, ...]) -> None:
    """Give `folder` the other files of `source`: the same on disk where that can be, else copies."""
    for path in _files(source):
        name = path.relative_to(source).as_posix()
        if any(name == each or name.startswith(f"{each}/") for each in replaced):
            continue
        if len(path.relative_to(source).parts) == 1 and name.startswith("tagger") and name.endswith(".safetensors"):
            continue  # made from RAM and another DAPE
        target = folder / name
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(path.resolve(), target)
            continue
        shutil.copyfile(path, target)


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise WeightsMissing(f"The weights folder {folder} does not exist: give the folder that the run began with.")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
