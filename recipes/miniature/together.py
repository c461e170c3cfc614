"""UNet, ControlNet and decoder learn the look together, from the error of the picture.

A decoder alone sees little around a pixel: it cannot know whether a soft edge is the lens's, on purpose, or came after.
The UNet sees farther, and what it takes away as noise no decoder can bring back: a latent that is right in the mean has
lost the hair of a fur that the small picture still shows. So it begins by changing nothing (`begin`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from judge import Adversary, Connoisseur, Judge, balanced, levels
from look import (
    GRAIN,
    NOTHING,
    SCALE,
    WINDOW,
    Squares,
    blur,
    encoded,
    grained,
    in_strength,
    otherwise,
    repeating,
    turned,
)
from muon import Muon
from prompts import LOUDEST, Guide, prompt, token_ids
from torch import Tensor, nn

from seesr_cli.models.compact import CompactDecoder
from seesr_cli.restore.colour import low_frequencies, wavelet
from seesr_cli.training.objective import Denoiser, Objective, add_noise, clean_latent
from seesr_cli.training.optimise import QUICK_BETAS, Average, descend, rate, set_rate
from seesr_cli.training.photographs import draw, unit


@dataclass(frozen=True)
class TogetherRecipe:
    """How UNet, ControlNet and decoder learn.

    side: of a crop, pixels of the small picture. edge: pixels along the crop's border that do not count, for the
    teacher saw beyond it. lr: of the decoder; rest: of UNet and ControlNet. gradient: weight of the error of
    differences between neighbours, beside 1 for pixels; mean: of the low frequencies, which alignment takes away;
    spectrum: of the local spectrum of fine detail; lattice: of what repeats with the latent's pixels. true: weight of
    the original in the place of the teacher's picture, for pixels. natural: spectra and adversaries compare with the
    original, not with the teacher's picture. judged: slope of what the adversaries say, as a share of that of all the
    rest, to which it rises over `rising` steps; 0: there are none. match: weight of their features beside their marks.
    judge_lr: their rate. plain: share of prompts without a word that counts. untold: share of pictures without their
    embedding. grain: components that hold noise, asked: whether there is one by which words ask for it; where they are
    not, the networks are given them before they learn (`grain.py`). heard: how the decoder begins to listen to words,
    as `hear` says it. grainy: share of prompts with a word for grain.
    average: decay of the averaged weights. before: share of the weights that they began with in those that they end
    with (arXiv 1809.00219).
    """

    steps: int = 800
    batch: int = 4
    side: int = 40
    edge: int = 4
    lr: float = 2.5e-4
    rest: float = 2e-4
    gradient: float = 1.0
    mean: float = 0.1
    spectrum: float = 2.0
    lattice: float = 6.0
    true: float = 0.2
    natural: bool = False
    judged: float = 0.5
    rising: int = 100
    match: float = 2.0
    judge_lr: float = 4e-4
    plain: float = 0.6
    untold: float = 0.25
    heard: float = 0.0
    grain: int = 0
    asked: bool = False
    grainy: float = 0.0
    average: float = 0.995
    before: float = 0.0
    seed: int = 0


class Batch(NamedTuple):
    """Crops of squares, stacked, float32.

    asked: how crisp and how grainy each is to be, [B, 2] from -1 to 1. ids: token ids of their prompts, [B, 77].
    tokens: their embeddings, or zeros.
    """

    frame: Tensor
    taught: Tensor
    clean: Tensor
    asked: Tensor
    ids: Tensor
    tokens: Tensor


LOUDER = 5.0
"""What the latent is multiplied by before all learn together. The sampler's noise then covers a hundredth of it: of a
twentieth the UNet had to free it first, and took hair and thin lines for noise."""


@torch.no_grad()
def begin(unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
    """Let UNet and ControlNet, which knew a latent of deviation 1, read one that is `LOUDER`, and pass it on as it is.

    Only the last component, by which words ask for detail, is changed as before.
    """
    for network in (unet, controlnet):
        network.conv_in.weight /= LOUDER
    last = unet.conv_out
    for parameter in (last.weight, last.bias):
        parameter *= LOUDER
        parameter[:-1] = 0


@torch.no_grad()
def hear(decoder: CompactDecoder, share: float, component: int = -1) -> None:
    """Let the decoder read a component by which words ask for something, in ways drawn by chance.

    share: of the weights' deviation, beside that of the components that hold most of a picture.
    """
    weight = decoder.conv_in.weight
    chance = torch.randn(len(weight), generator=torch.Generator().manual_seed(-1 - component))
    weight[:, component, 1, 1] += share * weight[:, : GRAIN.start].flatten(1).std(1) * chance


SLOWEST = 0.3
"""The adversaries' rate falls no further than to this share: they must keep up with the decoder to the end."""


class Together:
    """The training of UNet, ControlNet and decoder; the text tower rests.

    Networks, optimiser and average can be kept and taken up again.
    """

    def __init__(
        self, vae: AutoencoderKL, denoiser: Denoiser, kept: Tensor, recipe: TogetherRecipe, guide: Guide
    ) -> None:
        """denoiser: with its text tower. kept: as `restorer.Networks.kept`."""
        self.vae, self.denoiser, self.kept, self.recipe, self.guide = vae, denoiser, kept, recipe, guide
        self.step = 0
        self.generator = torch.Generator().manual_seed(recipe.seed)
        for network in (vae, denoiser):
            network.requires_grad_(False)
        for network in (vae.decoder, denoiser.unet, denoiser.controlnet):
            network.requires_grad_(True)
        last = [*denoiser.unet.conv_out.parameters()]  # its weights are as much larger
        rest = [each for each in denoiser.parameters() if each.requires_grad and all(each is not one for one in last)]
        groups: list[dict[str, Any]] = [
            {"params": [*vae.decoder.parameters()], "base_lr": recipe.lr, "orthogonal": True},
            {"params": rest, "base_lr": recipe.rest},
            {"params": last, "base_lr": recipe.rest * LOUDER},
        ]
        self.learning = [each for group in groups for each in group["params"]]
        self.optimiser = Muon(groups, QUICK_BETAS)
        self.average = Average(self.weights(), recipe.average)
        torch.manual_seed(recipe.seed)
        self.adversary = Adversary([Judge(), Connoisseur(levels())], recipe.judge_lr) if recipe.judged else None

    def run(self, squares: Squares) -> Iterator[tuple[int, float]]:
        """Train to the end of the recipe, in place; yields steps done, and the error as a share of enlargement's."""
        while self.step < self.recipe.steps:
            yield self.learn(self.draw(squares))

    def weights(self) -> dict[str, Tensor]:
        """Return what is kept and averaged, by part and name: live tensors."""
        return by_name({"vae": self.vae, "unet": self.denoiser.unet, "controlnet": self.denoiser.controlnet})

    def draw(self, squares: Squares) -> Batch:
        """Return some crops, each in one of eight positions, and as crisp as its prompt wants it."""
        recipe, side, generator = self.recipe, self.recipe.side * SCALE, self.generator
        columns: list[list[Tensor]] = [[], [], []]
        places = [draw(0, len(squares.frame), generator) for _ in range(recipe.batch)]
        for index in places:
            top, left = (SCALE * draw(0, (size - side) // SCALE + 1, generator) for size in squares.frame.shape[-2:])
            turns = draw(0, 8, generator)
            frame, taught, clean = (each[index, :, top : top + side, left : left + side] for each in squares[1:])
            for column, part in zip(columns, (frame.float(), unit(taught), unit(clean)), strict=True):
                column.append(turned(part, turns))
        told = [prompt(self.guide.names, recipe.plain, generator, recipe.grainy) for _ in places]
        asked = torch.tensor([(each.strength / LOUDEST, each.grain) for each in told])
        ids = token_ids([each.prompt for each in told], self.guide.tokenizer)
        known = torch.tensor([float(draw(0, 100, generator) >= 100 * recipe.untold) for _ in places])
        frame, taught, clean = map(torch.stack, columns)
        return Batch(frame, taught, clean, asked, ids, self.guide.tokens[places] * known[:, None, None])

    def restored(self, batch: Batch) -> Tensor:
        """Return what the networks make of the crops in one step, [B, 3, H, W] about 0 to 1."""
        start = encoded(self.vae, batch.frame)
        last = self.kept[-1:].expand(len(start))
        noisy = add_noise(start, torch.randn(start.shape, generator=self.generator), last)
        step = torch.full((len(start),), len(self.kept) - 1)
        told = self.denoiser(noisy, step, batch.ids, batch.tokens, batch.frame)
        latent = clean_latent(Objective(), told, noisy, last)
        return self.vae.decode(latent / self.vae.config.scaling_factor).sample / 2 + 0.5

    def learn(self, batch: Batch) -> tuple[int, float]:
        """Take one step; returns steps done, and the error as a share of enlargement's."""
        recipe, frame = self.recipe, batch.frame
        strength, grain = batch.asked.unbind(1)
        factor = rate(self.step / recipe.steps)
        set_rate(self.optimiser, factor)
        made = self.restored(batch)
        drift = F.l1_loss(low_frequencies(made), low_frequencies(frame))
        aligned = wavelet(made, frame)
        taught, clean = (in_strength(each, strength) for each in (batch.taught, batch.clean))
        off = self._error(aligned, taught, grain)
        seen = grained(clean, taught, grain, self.generator) if recipe.natural else taught
        loss = (
            torch.lerp(off, self._error(aligned, clean, grain), recipe.true)
            + recipe.spectrum * otherwise(aligned, seen)
            + recipe.lattice * repeating(aligned - taught)
        )
        if self.adversary is not None:
            # from another place of the lattice each time: what is said of a picture cannot follow it
            top, left = (draw(0, SCALE, self.generator) for _ in range(2))
            part = slice(top, top - SCALE or None), slice(left, left - SCALE or None)
            made, true = aligned[..., *part], seen[..., *part]
            self.adversary.learn(made, true, batch.asked, max(factor, SLOWEST))
            marks = self.adversary.loss(made, true, batch.asked, recipe.match)
            slope = balanced(loss, marks, aligned, recipe.judged * min(1.0, self.step / recipe.rising))
            loss = (slope * aligned).sum()  # has this slope
        loss = loss + recipe.mean * drift
        descend(self.optimiser, loss, self.learning, 1.0)
        self.average.update(self.weights())
        self.step += 1
        return self.step, off.item() / self._error(frame, taught, grain).item()

    def _error(self, made: Tensor, goal: Tensor, grain: Tensor) -> Tensor:
        """Return how far pictures are apart: root mean square in windows, and the mean of these.

        The absolute difference of each pixel would ask for the median, and where it is not sure which of many pixels a
        hair is on, that is none: fur becomes plaster. The square asks for the mean, and leaves what can be seen. Where
        grain is asked for, fine detail is not compared: where a grain lies is chance.
        """
        inside = slice(self.recipe.edge, -self.recipe.edge)
        off = made - goal
        off = torch.lerp(off, blur(off), grain.clamp_min(0)[:, None, None, None])[..., inside, inside]
        slopes = off.diff(dim=-1)[..., 1:, :].square() + off.diff(dim=-2)[..., 1:].square()
        power = (off[..., 1:, 1:].square() + self.recipe.gradient * slopes).mean(1, keepdim=True)
        return F.avg_pool2d(power, WINDOW, WINDOW // 2).add(NOTHING**2).sqrt().mean()

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on from here."""
        return {
            "step": self.step,
            "generator": self.generator.get_state(),
            "optimiser": self.optimiser.state_dict(),
            "weights": self.weights(),
            "average": self.average.weights,
            "adversary": None if self.adversary is None else self.adversary.state(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.step = self.average.steps = state["step"]
        self.generator.set_state(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, tensor in self.weights().items():
            tensor.copy_(state["weights"][name])
        self.average.weights = state["average"]
        if self.adversary is not None:
            self.adversary.restore(state["adversary"])


def by_name(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the live tensors of networks, with the names of their parts before their own."""
    return {f"{part}.{name}": each for part, network in parts.items() for name, each in network.state_dict().items()}


def by_part(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return each part's tensors by their own names: what `by_name` joined."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        part, _, own = name.partition(".")
        parts.setdefault(part, {})[own] = tensor
    return parts
