"""Train the SeeSR stage on pairs in memory: ControlNet and UNet learn to restore latents.

`Training` is one loop with the loss as a choice: `Denoising` is the published one, of a model of several steps, with
whatever part of the networks `learns` names. `OneStep` is that of the miniature: everything learns on the very step
that is run later, and what counts is the decoded picture. Runs that are larger than memory are `engine`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..models.graft import Conditioning, TwoCrossAttentions
from ..restore.colour import low_frequencies, wavelet
from .autoencoder import gentle
from .objective import Denoiser, Learns, Objective, add_noise, choose, clean_latent, draw_timestep, error
from .optimise import QUICK_BETAS, Average, adamw, descend, rate, set_rate
from .photographs import draw, unit


class Networks(NamedTuple):
    """The networks of the stage.

    kept: cumulative product of (1 - beta), [number of training timesteps], as the scheduler's.
    """

    vae: AutoencoderKL
    text: CLIPTextModel
    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    kept: Tensor


class Pair(NamedTuple):
    """A clean picture, its degraded self, and the tensors that are computed from them once.

    clean: [3, H, W] uint8. degraded: [3, H/scale, W/scale] uint8; frame: the same enlarged to the clean size, uint8.
    goal, start: the latents of clean and frame, [C, H/f, W/f], scaled: means of their posteriors. deviation: of the
    clean one's posterior. tokens: [cells, width], of the degraded picture or another. tags: token ids of the clean
    picture's prompt, [77]; untagged: those of a prompt without tags.
    """

    clean: Tensor
    degraded: Tensor
    frame: Tensor
    goal: Tensor
    deviation: Tensor
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
class Denoising:
    """A training of several steps by the error of predictions; the defaults are the published ones.

    steps: of the optimiser. batch: pictures a step. crop: side of a square, pixels. lr: learning rate; warm and floor:
    shares of the steps and of the rate for a rise and a fall by half a cosine, None for a constant rate.
    tag_dropout, token_dropout: shares of pictures that lose their tags, and their tokens (which become zeros).
    posterior: sample the clean latent's posterior at every step, or take its mean. average: decay of averaged weights.
    """

    steps: int = 150_000
    batch: int = 192
    crop: int = 512
    lr: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 1e-2
    clip: float = 1.0
    warm: float | None = None
    floor: float = 1.0
    objective: Objective = field(default_factory=Objective)
    learns: Learns = "published"
    tag_dropout: float = 0.5
    token_dropout: float = 0.0
    posterior: bool = True
    average: float = 0.999
    seed: int = 0


@dataclass(frozen=True)
class OneStep:
    """The training of a miniature.

    Networks and text tower train together, the decoder joins after `alone` of the steps.

    any_step: share of batches at a random timestep of the clean latent's diffusion (the others: the first step from the
    degraded latent). latent: weight of the latent's L1 beside the decoded picture's error. decoder_lr: the decoder's
    rate. mean: weight of the error's low frequencies, which colour alignment takes away.
    """

    steps: int = 4000
    batch: int = 8
    crop: int = 128
    lr: float = 6e-4
    decoder_lr: float = 6e-3
    betas: tuple[float, float] = QUICK_BETAS
    decay: float = 1e-4
    clip: float = 1.0
    warm: float | None = 0.03
    floor: float = 0.02
    objective: Objective = field(default_factory=Objective)
    tag_dropout: float = 0.3
    token_dropout: float = 0.0
    posterior: bool = False
    any_step: float = 0.1
    latent: float = 0.1
    mean: float = 0.1
    alone: float = 0.3
    average: float = 0.998
    seed: int = 0


Recipe = Denoising | OneStep


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


@torch.no_grad()
def start_at_noise(networks: Networks) -> None:
    """Start `networks` where the UNet takes its whole input for noise, and the ControlNet adds nothing.

    At the noisiest timesteps that is nearly right, so that training begins with what the noise hides. The highest level
    carries each latent channel twice, with both signs: SiLU(x) - SiLU(-x) = x. Its blocks add nothing at first. Needs
    twice as many channels there as the latent has. The control path is closed as in a published ControlNet.
    """
    unet, controlnet = networks.unet, networks.controlnet
    channels = unet.config.in_channels
    identity = torch.cat([torch.eye(channels), -torch.eye(channels)])
    highest = (unet.down_blocks[0], unet.up_blocks[-1], controlnet.down_blocks[0])
    for block in (block for stage in highest for block in stage.resnets):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
    for convolution in (unet.conv_in, controlnet.conv_in):
        _carry(convolution, identity, 0)
    last = unet.up_blocks[-1].resnets[-1]
    # what it reads ends with the features that `conv_in` made
    skipped = last.conv_shortcut.in_channels - unet.conv_in.out_channels
    _carry(last.conv_shortcut, torch.eye(2 * channels), skipped)
    nn.init.zeros_(unet.conv_out.weight)
    _carry(unet.conv_out, identity.T, 0)
    for convolution in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    nn.init.xavier_uniform_(controlnet.controlnet_cond_embedding.conv_out.weight)
    # the last norm divides by the features' deviation, which a trial tells
    noise = torch.randn(16, channels, 16, 16, generator=torch.Generator().manual_seed(0)).to(unet.device, unet.dtype)
    nothing = [torch.zeros(16, 1, width).to(noise) for width in _context_widths(unet)]
    step = torch.full((16,), len(networks.kept) - 1, device=unet.device)
    found = unet(noise, step, encoder_hidden_states=Conditioning(*nothing), return_dict=False)[0]
    unet.conv_out.weight.mul_((noise * found).mean() / found.square().mean())


def _carry(convolution: nn.Conv2d, weight: Tensor, first: int) -> None:
    """Let the first outputs of `convolution` be `weight` times its inputs from `first` on, pixel by pixel."""
    outputs, inputs = weight.shape
    middle = convolution.kernel_size[0] // 2
    convolution.weight[:outputs] = 0
    convolution.weight[:outputs, first : first + inputs, middle, middle] = weight.to(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def _context_widths(unet: UNet2DConditionModel) -> tuple[int, int]:
    """Return the widths of the encoded prompt and of the tokens that `unet` attends to."""
    place = next(module for module in unet.modules() if isinstance(module, TwoCrossAttentions))
    text, image = (each.transformer_blocks[0].attn2.to_k.in_features for each in (place.text, place.image))
    return text, image


def batches(
    pairs: Sequence[Pair], recipe: Recipe, factor: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Yield batches of squares, for ever, on `device` (not turned: a latent does not turn with its picture).

    factor: pixels per latent pixel. What is dropped and drawn is as `recipe` says.
    """
    while True:
        parts: list[list[Tensor]] = []
        for _ in range(recipe.batch):
            pair = pairs[draw(0, len(pairs), generator)]
            height, width = (side // factor for side in pair.clean.shape[-2:])
            side = recipe.crop // factor
            top, left = draw(0, height - side + 1, generator), draw(0, width - side + 1, generator)
            box = (
                slice(None),
                slice(top * factor, (top + side) * factor),
                slice(left * factor, (left + side) * factor),
            )
            small = (slice(None), slice(top, top + side), slice(left, left + side))
            untagged = float(torch.rand((), generator=generator)) < recipe.tag_dropout
            untold = recipe.token_dropout > 0 and float(torch.rand((), generator=generator)) < recipe.token_dropout
            goal = pair.goal[small].float()
            if recipe.posterior:
                goal = goal + pair.deviation[small].float() * torch.randn(goal.shape, generator=generator)
            parts.append(
                [
                    unit(pair.clean[box]),
                    unit(pair.frame[box]),
                    goal,
                    pair.start[small].float(),
                    torch.zeros_like(pair.tokens, dtype=torch.float32) if untold else pair.tokens.float(),
                    pair.untagged if untagged else pair.tags,
                ]
            )
        yield Batch(*(torch.stack(column).to(device) for column in zip(*parts, strict=True)))


def denoising_loss(
    denoiser: nn.Module, batch: Batch, kept: Tensor, objective: Objective, generator: torch.Generator
) -> Tensor:
    """Return the error of the predictions of `denoiser` for clean latents, each at its own timestep.

    kept: as `Networks.kept`. Chance is drawn on the CPU, whatever the batch's device.
    """
    place = batch.goal.device
    step = torch.tensor([draw_timestep(objective, len(kept), generator) for _ in batch.goal])
    noise = torch.randn(batch.goal.shape, generator=generator).to(place)
    shares = kept.cpu()[step].to(place)
    noisy = add_noise(batch.goal, noise, shares)
    predicted = denoiser(noisy, step.to(place), batch.prompt, batch.tokens, batch.frame)
    return error(objective, predicted, batch.goal, noise, shares)


def picture_loss(
    denoiser: nn.Module,
    vae: AutoencoderKL,
    batch: Batch,
    kept: Tensor,
    recipe: OneStep,
    through_decoder: bool,
    generator: torch.Generator,
) -> Tensor:
    """Return the error of the picture that one step from the degraded latent gives (now and then: from any timestep).

    Per picture, the root of the mean squared error after colour alignment: what PSNR measures. Before the decoder
    joins, that of the latent about its mean.
    """
    last = len(kept) - 1
    if float(torch.rand((), generator=generator)) < recipe.any_step:
        step = torch.randint(0, last + 1, (len(batch.goal),), generator=generator)
        source = batch.goal
    else:
        step = torch.full((len(batch.goal),), last)
        source = batch.start
    place = source.device
    shares = kept.cpu()[step].to(place)
    noisy = add_noise(source, torch.randn(source.shape, generator=generator).to(place), shares)
    predicted = denoiser(noisy, step.to(place), batch.prompt, batch.tokens, batch.frame)
    latent = clean_latent(recipe.objective, predicted, noisy, shares)
    if not through_decoder:
        return _distance(latent, batch.goal, recipe.mean)
    pixels = vae.decode(latent / vae.config.scaling_factor).sample / 2 + 0.5
    aligned = wavelet(pixels, batch.frame)
    off = (aligned - batch.clean).square().mean((1, 2, 3)).add(1e-6).sqrt().mean()
    drift = F.l1_loss(low_frequencies(pixels), low_frequencies(batch.clean))
    return 2 * off + recipe.mean * drift + recipe.latent * F.l1_loss(latent, batch.goal)


def _distance(result: Tensor, goal: Tensor, mean: float) -> Tensor:
    off = result - goal
    colour = off.mean((2, 3), keepdim=True)
    spread = (off - colour).square().mean((1, 2, 3)).add(1e-6).sqrt()
    return spread.mean() + mean * colour.abs().mean()


class Training:
    """A training of the SeeSR stage: networks, optimiser and averages, which can be kept and taken up again.

    It works where the networks are: on any device, in any precision that they can learn in.
    """

    def __init__(self, networks: Networks, recipe: Recipe) -> None:
        self.networks = networks
        self.recipe = recipe
        self.step = 0
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.denoiser = Denoiser(networks.unet, networks.controlnet, networks.text)
        networks.vae.requires_grad_(False)
        self.parts: dict[str, nn.Module] = {
            "text": networks.text,
            "unet": networks.unet,
            "controlnet": networks.controlnet,
            "vae": networks.vae,
        }
        if isinstance(recipe, OneStep):
            core = choose(self.denoiser, "all")
            decoder = nn.ModuleList([networks.vae.decoder, networks.vae.post_quant_conv]).requires_grad_(True)
            self.learning = [*core, *decoder.parameters()]
            groups = [(core, recipe.lr), *gentle(decoder, recipe.decoder_lr)]
        else:
            self.learning = choose(self.denoiser, recipe.learns)
            groups = [(self.learning, recipe.lr)]
            del self.parts["vae"]
        self.optimiser = adamw(groups, recipe.decay, recipe.betas)
        self.averages = {name: Average(part.state_dict(), recipe.average) for name, part in self.parts.items()}

    def run(self, pairs: Sequence[Pair]) -> Iterator[Progress]:
        """Train to the end of the recipe, in place; yields after each step."""
        recipe = self.recipe
        factor = pairs[0].clean.shape[-1] // pairs[0].goal.shape[-1]
        source = batches(pairs, recipe, factor, self.generator, self.networks.unet.device)
        while self.step < recipe.steps:
            yield self.learn(next(source))

    def learn(self, batch: Batch) -> Progress:
        """Take one step of the optimiser on `batch`."""
        recipe = self.recipe
        if recipe.warm is not None:
            set_rate(self.optimiser, rate(self.step / recipe.steps, recipe.warm, recipe.floor))
        loss = self._loss(batch)
        descend(self.optimiser, loss, self.learning, recipe.clip)
        for name, average in self.averages.items():
            average.update(self.parts[name].state_dict())
        self.step += 1
        return Progress(self.step, loss.item())

    def _loss(self, batch: Batch) -> Tensor:
        recipe, kept = self.recipe, self.networks.kept
        if isinstance(recipe, Denoising):
            return denoising_loss(self.denoiser, batch, kept, recipe.objective, self.generator)
        through_decoder = self.step >= recipe.alone * recipe.steps
        return picture_loss(self.denoiser, self.networks.vae, batch, kept, recipe, through_decoder, self.generator)

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
