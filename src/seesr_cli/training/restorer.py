"""The SeeSR stage: ControlNet and UNet learn to turn a degraded picture's latent into a clean one.

`Published`, as in arXiv 2311.16518, section 3.3: the ControlNet starts as a copy of the UNet's encoder; it and the
UNet's image attention learn to predict the noise, with the tags of the clean picture (dropped half of the time) and the
tokens of the degraded one. `FromNothing`: everything learns, on the very step that is run later (from the noised latent
of the degraded picture), and what counts is the decoded picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..models.graft import Guide, TwoReadings
from ..restore.colour import low_frequencies, wavelet
from .autoencoder import gentle
from .optimise import Average, adamw, rate, set_rate
from .photographs import draw, unit


class Networks(NamedTuple):
    """What takes part. kept: cumulative product of (1 - beta), [number of training timesteps], as the scheduler's."""

    vae: AutoencoderKL
    text: CLIPTextModel
    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    kept: Tensor


class Pair(NamedTuple):
    """A clean picture, its degraded self, and what is computed from them once.

    clean: [3, H, W] uint8. degraded: [3, H/scale, W/scale] uint8; frame: the same enlarged to the clean size, uint8.
    goal, start: the latents of clean and frame, [C, H/f, W/f], scaled. tokens: [cells, width], of the degraded picture.
    tags: token ids of the clean picture's prompt, [77]; untagged: those of a prompt without tags.
    """

    clean: Tensor
    degraded: Tensor
    frame: Tensor
    goal: Tensor
    start: Tensor
    tokens: Tensor
    tags: Tensor
    untagged: Tensor


class Batch(NamedTuple):
    """Pairs cut to equal squares, stacked: pixels float32 in [0, 1], latents float32. prompt: token ids [B, 77]."""

    clean: Tensor
    frame: Tensor
    goal: Tensor
    start: Tensor
    tokens: Tensor
    prompt: Tensor


@dataclass(frozen=True)
class Published:
    """The published stage. Only the ControlNet and the UNet's image attention train; the loss is that of the noise."""

    steps: int = 150_000
    batch: int = 192
    crop: int = 512
    lr: float = 5e-5
    decay: float = 1e-2
    clip: float = 1.0
    tag_dropout: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class FromNothing:
    """The stage for a miniature. Networks and text tower train together, the decoder joins after `alone` of the steps.

    any_step: share of batches at a random timestep of the clean latent's diffusion (the others: the first step from the
    degraded latent). latent: weight of the latent's L1 beside the decoded picture's error. decoder_lr: the decoder's
    rate. mean: weight of the error's low frequencies, which colour alignment takes away.
    """

    steps: int = 4000
    batch: int = 8
    crop: int = 128
    lr: float = 6e-4
    decoder_lr: float = 6e-3
    decay: float = 1e-4
    clip: float = 1.0
    tag_dropout: float = 0.3
    any_step: float = 0.1
    latent: float = 0.1
    mean: float = 0.1
    alone: float = 0.3
    average: float = 0.998
    seed: int = 0


class Progress(NamedTuple):
    """After a step: steps done and its loss."""

    step: int
    loss: float


def copy_encoder(unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
    """Give `controlnet` the weights of the UNet's encoder; its own parts (picture embedding, zero convolutions)
    stay."""
    source, own = unet.state_dict(), controlnet.state_dict()
    strangers = [name for name in own if name not in source and not name.startswith("controlnet_")]
    if strangers:
        raise ValueError(f"The ControlNet is no copy of this UNet's encoder: it also has {strangers[0]}.")
    controlnet.load_state_dict({name: source.get(name, tensor) for name, tensor in own.items()})


@torch.no_grad()
def start_from_nothing(networks: Networks) -> None:
    """Start `networks` where the first step returns its input: the UNet predicts no noise, the control path is open.

    The less noise there is, the larger is what must be predicted to change the latent: the last norm is scaled for
    that.
    """
    noise = (1 - networks.kept[-1]).sqrt().item()
    nn.init.constant_(networks.unet.conv_norm_out.weight, max(1.0, 0.2 / noise))
    nn.init.zeros_(networks.unet.conv_out.weight)
    nn.init.zeros_(networks.unet.conv_out.bias)
    nn.init.xavier_uniform_(networks.controlnet.controlnet_cond_embedding.conv_out.weight)
    for convolution in (*networks.controlnet.controlnet_down_blocks, networks.controlnet.controlnet_mid_block):
        nn.init.normal_(convolution.weight, std=0.3 / convolution.in_channels**0.5)


def image_attention(unet: UNet2DConditionModel) -> Iterator[nn.Parameter]:
    """Yield the parameters of the grafted image transformers."""
    for module in unet.modules():
        if isinstance(module, TwoReadings):
            yield from module.image.parameters()


def batches(
    pairs: Sequence[Pair], size: int, crop: int, factor: int, dropout: float, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield batches of `size` squares of `crop` pixels, for ever (not turned: a latent does not turn with its picture).

    factor: pixels per latent pixel. The prompt loses its tags with probability `dropout`.
    """
    while True:
        parts: list[list[Tensor]] = []
        for _ in range(size):
            pair = pairs[draw(0, len(pairs), generator)]
            height, width = (side // factor for side in pair.clean.shape[-2:])
            side = crop // factor
            top, left = draw(0, height - side + 1, generator), draw(0, width - side + 1, generator)
            box = (
                slice(None),
                slice(top * factor, (top + side) * factor),
                slice(left * factor, (left + side) * factor),
            )
            small = (slice(None), slice(top, top + side), slice(left, left + side))
            untagged = float(torch.rand((), generator=generator)) < dropout
            parts.append(
                [
                    unit(pair.clean[box]),
                    unit(pair.frame[box]),
                    pair.goal[small].float(),
                    pair.start[small].float(),
                    pair.tokens.float(),
                    pair.untagged if untagged else pair.tags,
                ]
            )
        yield Batch(*(torch.stack(column) for column in zip(*parts, strict=True)))


def predict_noise(networks: Networks, latent: Tensor, step: Tensor, batch: Batch) -> Tensor:
    """Return the predicted noise in `latent` at timesteps `step` [B], seeing the frame, the prompt and the tokens."""
    text = networks.text(batch.prompt).last_hidden_state
    guide = Guide(text, batch.tokens)
    down, mid = networks.controlnet(
        latent, step, encoder_hidden_states=guide, controlnet_cond=batch.frame, return_dict=False
    )
    return networks.unet(
        latent,
        step,
        encoder_hidden_states=guide,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
        return_dict=False,
    )[0]


def add_noise(latent: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return sqrt(kept) * latent + sqrt(1 - kept) * noise for each picture's `kept` [B]."""
    share = kept[:, None, None, None]
    return share.sqrt() * latent + (1 - share).sqrt() * noise


def noise_loss(networks: Networks, batch: Batch, generator: torch.Generator) -> Tensor:
    """Return the published loss: mean squared error of the noise in the clean latent, at random timesteps."""
    step = torch.randint(0, len(networks.kept), (len(batch.goal),), generator=generator)
    noise = torch.randn(batch.goal.shape, generator=generator)
    predicted = predict_noise(networks, add_noise(batch.goal, noise, networks.kept[step]), step, batch)
    return F.mse_loss(predicted, noise)


def picture_loss(
    networks: Networks, batch: Batch, recipe: FromNothing, through_decoder: bool, generator: torch.Generator
) -> Tensor:
    """Return the error of the picture that one step from the degraded latent gives (now and then: from any timestep).

    Per picture, the root of the mean squared error after colour alignment: what PSNR measures. Before the decoder
    joins, that of the latent about its mean.
    """
    last = len(networks.kept) - 1
    if float(torch.rand((), generator=generator)) < recipe.any_step:
        step = torch.randint(0, last + 1, (len(batch.goal),), generator=generator)
        source = batch.goal
    else:
        step = torch.full((len(batch.goal),), last)
        source = batch.start
    noise = torch.randn(source.shape, generator=generator)
    kept = networks.kept[step]
    noisy = add_noise(source, noise, kept)
    predicted = predict_noise(networks, noisy, step, batch)
    share = kept[:, None, None, None]
    latent = (noisy - (1 - share).sqrt() * predicted) / share.sqrt()
    if not through_decoder:
        return _distance(latent, batch.goal, recipe.mean)
    pixels = networks.vae.decode(latent / networks.vae.config.scaling_factor).sample / 2 + 0.5
    aligned = wavelet(pixels, batch.frame)
    error = (aligned - batch.clean).square().mean((1, 2, 3)).add(1e-6).sqrt().mean()
    drift = F.l1_loss(low_frequencies(pixels), low_frequencies(batch.clean))
    return 2 * error + recipe.mean * drift + recipe.latent * F.l1_loss(latent, batch.goal)


def _distance(result: Tensor, goal: Tensor, mean: float) -> Tensor:
    error = result - goal
    colour = error.mean((2, 3), keepdim=True)
    spread = (error - colour).square().mean((1, 2, 3)).add(1e-6).sqrt()
    return spread.mean() + mean * colour.abs().mean()


def train_published(networks: Networks, pairs: Sequence[Pair], recipe: Published) -> Iterator[Progress]:
    """Train ControlNet and image attention in place, as published; yields after each step."""
    generator = torch.Generator().manual_seed(recipe.seed)
    learning = [*networks.controlnet.parameters(), *image_attention(networks.unet)]
    for network in (networks.vae, networks.text, networks.unet):
        network.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    optimiser = adamw([(learning, recipe.lr)], recipe.decay)
    factor = pairs[0].clean.shape[-1] // pairs[0].goal.shape[-1]
    source = batches(pairs, recipe.batch, recipe.crop, factor, recipe.tag_dropout, generator)
    for step in range(recipe.steps):
        loss = noise_loss(networks, next(source), generator)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learning, recipe.clip)
        optimiser.step()
        yield Progress(step + 1, loss.item())


class FromNothingTraining:
    """The training of a miniature: networks, optimiser and averages, which can be kept and taken up again."""

    def __init__(self, networks: Networks, recipe: FromNothing) -> None:
        self.networks = networks
        self.recipe = recipe
        self.step = 0
        self.generator = torch.Generator().manual_seed(recipe.seed)
        networks.vae.encoder.requires_grad_(False)
        networks.vae.quant_conv.requires_grad_(False)
        self.parts: dict[str, nn.Module] = {
            "text": networks.text,
            "unet": networks.unet,
            "controlnet": networks.controlnet,
            "vae": networks.vae,
        }
        core = [parameter for name in ("text", "unet", "controlnet") for parameter in self.parts[name].parameters()]
        decoder = nn.ModuleList([networks.vae.decoder, networks.vae.post_quant_conv])
        self.learning = [*core, *decoder.parameters()]
        self.optimiser = adamw([(core, recipe.lr), *gentle(decoder, recipe.decoder_lr)], recipe.decay)
        self.averages = {name: Average(part, recipe.average) for name, part in self.parts.items()}

    def run(self, pairs: Sequence[Pair]) -> Iterator[Progress]:
        """Train to the end of the recipe, in place; yields after each step."""
        recipe = self.recipe
        factor = pairs[0].clean.shape[-1] // pairs[0].goal.shape[-1]
        source = batches(pairs, recipe.batch, recipe.crop, factor, recipe.tag_dropout, self.generator)
        while self.step < recipe.steps:
            set_rate(self.optimiser, rate(self.step / recipe.steps))
            through_decoder = self.step >= recipe.alone * recipe.steps
            loss = picture_loss(self.networks, next(source), recipe, through_decoder, self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.learning, recipe.clip)
            self.optimiser.step()
            for name, average in self.averages.items():
                average.update(self.parts[name])
            self.step += 1
            yield Progress(self.step, loss.item())

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on from here."""
        return {
            "step": self.step,
            "generator": self.generator.get_state(),
            "optimiser": self.optimiser.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "averages": {name: (average.steps, average.weights) for name, average in self.averages.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.step = state["step"]
        self.generator.set_state(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
            self.averages[name].steps, self.averages[name].weights = state["averages"][name]
