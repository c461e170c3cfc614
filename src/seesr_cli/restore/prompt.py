"""The tags become text, and the text what the UNet attends to."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from ..settings import QUALITY_WORDS


class Prompt(NamedTuple):
    """The words to move towards and the words to move away from."""

    positive: str
    negative: str


def compose(tags: tuple[str, ...], user_prompt: str, negative: str) -> Prompt:
    """Return the prompt of a picture, as published: an empty user prompt leaves its comma and space."""
    return Prompt(f"{', '.join(tags)}, {user_prompt},{QUALITY_WORDS}", negative)


class Fitted(NamedTuple):
    """A prompt that the text tower reads to its end.

    left_out: the tags there was no room for, the first to go first. cut: the end of the person's own words that there
    was no room for even without tags.
    """

    prompt: Prompt
    left_out: tuple[str, ...]
    cut: str


class Scribe:
    """Encodes prompts with one tokenizer and its CLIP text tower."""

    def __init__(self, tokenizer: CLIPTokenizer, tower: CLIPTextModel) -> None:
        self._tokenizer = tokenizer
        self._tower = tower

    def tokenize(self, texts: tuple[str, ...]) -> Tensor:
        """Return token ids [texts, 77]; longer texts lose their end, shorter ones are filled with the pad token."""
        length = self._tower.config.max_position_embeddings
        return self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids

    @torch.inference_mode()
    def encode(self, texts: tuple[str, ...]) -> Tensor:
        """Return the texts' embeddings [texts, 77, width], after the tower's last LayerNorm."""
        return self._tower(self.tokenize(texts).to(self._tower.device)).last_hidden_state

    def fit(self, tags: Sequence[str], certainty: Sequence[float], user_prompt: str, negative: str) -> Fitted:
        """Return the prompt of a picture within the tower's 77 tokens, its quality words whole.

        While all of it fits, it is the published one. Else the least certain tags go, of equally certain ones the
        later; then the end of the user's prompt. certainty: of each tag, the higher the surer. The negative prompt is
        as it was given.
        """
        least_first = sorted(range(len(tags)), key=lambda place: (certainty[place], -place))

        def without(number: int) -> str:
            gone = set(least_first[:number])
            stay = tuple(tag for place, tag in enumerate(tags) if place not in gone)
            return compose(stay, user_prompt, negative).positive

        # Each tag takes a token at least, which spares counting the thousands of tags of a threshold of 0.
        surplus = max(0, len(tags) - self._room)
        number = surplus
        if not self._fits(without(surplus)):
            number = bisect_left(range(len(tags)), True, lo=surplus, key=lambda less: self._fits(without(less)))
        left_out = tuple(tags[place] for place in least_first[:number])
        if self._fits(positive := without(number)):
            return Fitted(Prompt(positive, negative), left_out, "")

        offsets = self._tokenizer(user_prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = [begin for begin, _ in offsets.offset_mapping[: self._room]]
        # From the longest down: where a word is cut, its rest may take other tokens, even more.
        kept = (user_prompt[:place].rstrip() for place in reversed(places))
        own = next(own for own in kept if self._fits(compose((), own, negative).positive))
        return Fitted(compose((), own, negative), left_out, user_prompt[len(own) :].strip())

    def _fits(self, text: str) -> bool:
        return len(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids) <= self._room

    @property
    def _room(self) -> int:
        return self._tower.config.max_position_embeddings - 2  # the start and end tokens take two places

    def lost(self, text: str) -> str:
        """Return the end of `text` that does not fit into the tower's 77 tokens; empty if all of it fits."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = encoded.offset_mapping
        return text[places[self._room][0] :] if len(places) > self._room else ""
