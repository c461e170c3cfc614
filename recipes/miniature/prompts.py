"""Teach the text side what a word is worth: text tower and cross-attention move one component of the latent.

The decoder of `look.py` draws more or less detail as the latent's last component says. Here prompts learn to say it.
Everything else about the latent is to stay what the networks made of it before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from look import GRAIN, SCALE, SHIFT
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from words import COMMON, LENGTH

from seesr_cli.restore.prompt import compose
from seesr_cli.settings import NEGATIVE_PROMPT
from seesr_cli.training.objective import Denoiser, Objective, add_noise, clean_latent
from seesr_cli.training.optimise import QUICK_BETAS, Average, adamw, descend, rate, set_rate
from seesr_cli.training.photographs import draw

STRENGTHS = {
    "crisp": 2.0,
    "sharp": 0.6,
    "detailed": 0.6,
    "rich texture": 0.4,
    "fine detail": 0.15,
    "gentle detail": 0.0,
    "little detail": -0.3,
    "smooth": -0.3,
    "blurry": -0.6,
    "soft": -2.0,
}
"""How crisp a word wants the picture: for a person to say, and, of detail, for the tagger to find.

1 is the crispest that the decoder is shown. It goes on in the same way up to 2, so that a person is understood.
"""

GRAIN_WORDS = {"grain": 1.0, "clean": -1.0}
"""How much grain a word wants: 1 is that of a film, -1 none, not even what would be likely there.

`clean` is one of the quality words behind every prompt; it counts where it stands among the tags or a person says it.
"""

LOUDEST = 2.0
"""The strength of a prompt that says more than one such word ends here."""


@dataclass(frozen=True)
class PromptRecipe:
    """How the words are learnt. side: of a crop, in pixels of the latent. lr: of the text tower and the attention to
    it; rest: of everything else in UNet and ControlNet. plain: share of prompts without a word that counts. tells:
    weight of what the text tower tells of the tags."""

    steps: int = 2600
    batch: int = 8
    side: int = 16
    lr: float = 1e-3
    rest: float = 1e-4
    plain: float = 0.3
    tells: float = 0.3
    average: float = 0.995
    seed: int = 0


@torch.no_grad()
def start_text(text: CLIPTextModel, seed: int) -> None:
    """Begin the text tower anew: words outweigh their places, and what a word meets outweighs where it stands."""
    generator = torch.Generator().manual_seed(seed)
    text.embeddings.token_embedding.weight.normal_(std=1.0, generator=generator)
    text.embeddings.token_embedding.weight[text.config.pad_token_id] *= (
        0.1  # most of the 77 places: let them tell the rest
    )
    text.embeddings.position_embedding.weight.normal_(std=0.1, generator=generator)
    for layer in text.encoder.layers:
        for part in (layer.self_attn.v_proj, layer.self_attn.out_proj):
            part.weight.normal_(std=3.0 / part.in_features**0.5, generator=generator)


def renumbered(rows: Tensor, known: Mapping[str, int], pieces: Mapping[str, int]) -> Tensor:
    """Return an embedding's rows for another vocabulary; what was not known is drawn by chance, as in `start_text`."""
    made = torch.randn(len(pieces), rows.shape[1], generator=torch.Generator().manual_seed(0)).to(rows)
    for piece, number in pieces.items():
        if piece in known:
            made[number] = rows[known[piece]]
    return made


class Told(NamedTuple):
    """A prompt as the command line writes them.

    strength: how crisp its words want the picture. grain: how much grain. without: the same without the words that want
    grain or none.
    """

    prompt: str
    strength: float
    tags: tuple[str, ...]
    grain: float = 0.0
    without: str = ""


def prompt(names: Sequence[str], plain: float, generator: torch.Generator, grainy: float = 0.0) -> Told:
    """Return a prompt of some of `names` and of words that count.

    plain: share of prompts without words for how crisp the picture is to be. grainy: share of them with one for grain.
    """

    def some(words: Sequence[str], most: int) -> list[str]:
        return [words[draw(0, len(words), generator)] for _ in range(draw(0, most + 1, generator))]

    def chance(share: float) -> bool:
        return float(torch.rand((), generator=generator)) < share

    if chance(0.05):
        return Told(NEGATIVE_PROMPT, STRENGTHS["smooth"], (), without=NEGATIVE_PROMPT)
    counting = list(STRENGTHS)
    said = [] if chance(plain) else [counting[draw(0, len(counting), generator)]]
    if said and chance(0.3):
        said.append(counting[draw(0, len(counting), generator)])
    tags = [tag for tag in dict.fromkeys(some(names, 12)) if tag not in STRENGTHS]
    own = [word for word in some(COMMON.split(), 4) if word not in STRENGTHS] if chance(0.3) else []

    def say(word: str) -> None:
        place = own if own and chance(0.5) else tags
        place.insert(draw(0, len(place) + 1, generator), word)

    def written() -> str:
        return compose(tuple(tags), " ".join(own), "").positive

    for word in said:
        say(word)
    strength = max(-LOUDEST, min(LOUDEST, sum(STRENGTHS[word] for word in dict.fromkeys(said))))
    without = written()
    if not grainy or not chance(grainy):
        return Told(without, strength, tuple(tags), without=without)
    word = [*GRAIN_WORDS][draw(0, len(GRAIN_WORDS), generator)]
    say(word)
    return Told(written(), strength, tuple(tags), GRAIN_WORDS[word], without)


def of_words(denoiser: Denoiser) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return what has to learn words, text tower and attention to it, and what need only make room for them."""
    quick: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in denoiser.named_parameters():
        (quick if "text." in name or "attn2" in name or "unet.conv_out" in name else slow).append(parameter)
    return quick, slow


class Codes:
    """A direction for every tag, drawn by chance: what the text tower says of a prompt is to be the sum of its tags'.

    What a word is worth for the picture, detail, asks the tower for one number, and leaves all other tags alike.
    """

    def __init__(self, width: int, seed: int) -> None:
        self.width, self.generator = width, torch.Generator().manual_seed(seed)
        self.known: dict[str, Tensor] = {}

    def off(self, states: Tensor, tags: Sequence[Sequence[str]]) -> Tensor:
        """Return how far the mean of each prompt's states, of [B, places, width], is from its tags: 1 - cosine."""
        found = [
            1 - torch.cosine_similarity(each.mean(0), sum(map(self._code, some), torch.zeros(self.width)), 0)
            for each, some in zip(states, tags, strict=True)
            if some
        ]
        return torch.stack(found).mean() if found else states.new_zeros(())

    def _code(self, tag: str) -> Tensor:
        if tag not in self.known:
            self.known[tag] = torch.randn(self.width, generator=self.generator)
        return self.known[tag]


class Guide(NamedTuple):
    """What the networks are told. tokens: embedding of each square, [N, cells, width]. names: the tagger's labels."""

    tokens: Tensor
    names: Sequence[str]
    tokenizer: CLIPTokenizer


class Material(NamedTuple):
    """What the words are learnt on.

    start, goal: scaled latents [N, C, h, w] before and after the networks as they were. frame: [N, 3, H, W] in [0, 1].
    tokens: [M, cells, width], embeddings of some of the pictures; any may meet any picture. names: the tagger's labels.
    """

    start: Tensor
    goal: Tensor
    frame: Tensor
    tokens: Tensor
    names: tuple[str, ...]


@torch.no_grad()
def let_noise_pass(unet: UNet2DConditionModel) -> None:
    """Let the components of `look.GRAIN` keep the noise they come with."""
    unet.conv_out.weight[GRAIN] = 0
    unet.conv_out.bias[GRAIN] = 0


class Training:
    """The training of text tower, UNet and ControlNet on what words are worth."""

    def __init__(self, denoiser: Denoiser, tokenizer: CLIPTokenizer, kept: Tensor, recipe: PromptRecipe) -> None:
        """denoiser: with its text tower. kept: as `restorer.Networks.kept`."""
        if denoiser.text is None:
            raise ValueError("Words need a denoiser with a text tower.")
        self.denoiser, self.tokenizer, self.kept, self.recipe = denoiser, tokenizer, kept, recipe
        self.generator = torch.Generator().manual_seed(recipe.seed)
        start_text(denoiser.text, recipe.seed)
        let_noise_pass(denoiser.unet)
        denoiser.requires_grad_(True)
        quick, slow = of_words(denoiser)
        self.learning = [*quick, *slow]
        self.optimiser = adamw([(quick, recipe.lr), (slow, recipe.rest)], betas=QUICK_BETAS)
        self.average = Average(denoiser.state_dict(), recipe.average)
        self.text, self.codes = denoiser.text, Codes(denoiser.text.config.hidden_size, recipe.seed)

    def run(self, material: Material) -> Iterator[tuple[int, float]]:
        """Train to the end of the recipe, in place; yields steps done, and how far the words are off, of 0 to 4."""
        recipe, generator, shift = self.recipe, self.generator, SHIFT
        spread = material.goal.std((0, 2, 3))[:, None, None] + self.noise
        counted = [each for each in range(len(spread) - 1) if each not in range(len(spread))[GRAIN]]
        for step in range(recipe.steps):
            set_rate(self.optimiser, rate(step / recipe.steps))
            start, goal, frame, tokens, told = self._draw(material)
            ids = token_ids([each.prompt for each in told], self.tokenizer)
            strength = torch.tensor([each.strength for each in told])
            last = self.kept[-1:].expand(len(start))
            noisy = add_noise(start, torch.randn(start.shape, generator=generator), last)
            timestep = torch.full((len(start),), len(self.kept) - 1)
            made = clean_latent(Objective(), self.denoiser(noisy, timestep, ids, tokens, frame), noisy, last)
            off = made - goal
            others = (off / spread)[:, counted].abs().mean()
            words = (off[:, -1] / shift - strength[:, None, None]).abs().mean()
            untold = self.codes.off(self.text(ids).last_hidden_state, [each.tags for each in told])
            descend(self.optimiser, others + words + recipe.tells * untold, self.learning, 1.0)
            self.average.update(self.denoiser.state_dict())
            yield step + 1, words.item()

    @property
    def noise(self) -> float:
        """Return the deviation of the sampler's noise beside a scaled latent."""
        return float(((1 - self.kept[-1]) / self.kept[-1]).sqrt())

    def _draw(self, material: Material) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Told]]:
        recipe, side, generator = self.recipe, self.recipe.side, self.generator
        columns: list[list[Tensor]] = [[], [], [], []]
        told = []
        for _ in range(recipe.batch):
            index = draw(0, len(material.start), generator)
            top, left = (draw(0, size - side + 1, generator) for size in material.start.shape[-2:])
            small = (slice(None), slice(top, top + side), slice(left, left + side))
            large = (slice(None), slice(SCALE * top, SCALE * (top + side)), slice(SCALE * left, SCALE * (left + side)))
            tokens = material.tokens[draw(0, len(material.tokens), generator)]
            if draw(0, 4, generator) == 0:
                tokens = torch.zeros_like(tokens)
            parts = (
                material.start[index][small],
                material.goal[index][small],
                material.frame[index][large].float(),
                tokens,
            )
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
            told.append(prompt(material.names, recipe.plain, generator))
        start, goal, frame, tokens = map(torch.stack, columns)
        return start, goal, frame, tokens, told


def token_ids(prompts: Sequence[str], tokenizer: CLIPTokenizer) -> Tensor:
    """Return the token ids [B, 77] of prompts."""
    return torch.tensor(tokenizer(list(prompts), padding="max_length", truncation=True, max_length=LENGTH).input_ids)
