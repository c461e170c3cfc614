"""Compose the prompt from the tags, and encode it with the CLIP text encoder."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from ..settings import QUALITY_WORDS


class Prompt(NamedTuple):
    """A positive and a negative prompt: words to move towards, and words to move away from."""

    positive: str
    negative: str


def compose(tags: tuple[str, ...], user_prompt: str, negative: str) -> Prompt:
    """Return the prompt of a picture, as published; an empty `user_prompt` leaves its comma and space."""
    return Prompt(f"{', '.join(tags)}, {user_prompt},{QUALITY_WORDS}", negative)


class Fitted(NamedTuple):
    """A prompt that fits into the tokens of the text encoder.

    left_out: tags without room, in the order in which they went.
    cut: end of the user's prompt that had no room even without tags.
    """

    prompt: Prompt
    left_out: tuple[str, ...]
    cut: str


class TextEncoder:
    """Encodes prompts with one tokenizer and its CLIP text encoder."""

    def __init__(self, tokenizer: CLIPTokenizer, network: CLIPTextModel) -> None:
        self._tokenizer = tokenizer
        self._network = network

    def tokenize(self, texts: tuple[str, ...]) -> Tensor:
        """Return token ids [texts, 77]; longer texts lose their end, shorter ones are padded."""
        length = self._network.config.max_position_embeddings
        return self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids

    @torch.inference_mode()
    def encode(self, texts: tuple[str, ...]) -> Tensor:
        """Return the embeddings [texts, 77, width] of the texts, after the last LayerNorm."""
        return self._network(self.tokenize(texts).to(self._network.device)).last_hidden_state

    def fit(self, tags: Sequence[str], certainty: Sequence[float], user_prompt: str, negative: str) -> Fitted:
        """Return the prompt of a picture within the 77 tokens of the text encoder, with all quality words.

        If everything fits, it is the published prompt. If not, the least certain tags are left out first, the later of
        equally certain ones; then the end of the user's prompt is cut. The negative prompt is not changed.

        certainty: of each tag; a higher number is surer.
        """
        least_first = sorted(range(len(tags)), key=lambda place: (certainty[place], -place))

        def without(number: int) -> str:
            gone = set(least_first[:number])
            stay = tuple(tag for place, tag in enumerate(tags) if place not in gone)
            return compose(stay, user_prompt, negative).positive

        # Each tag takes at least one token. Without this bound a threshold of 0 would count thousands of tags.
        surplus = max(0, len(tags) - self._room)
        number = surplus
        if not self._fits(without(surplus)):
            number = bisect_left(range(len(tags)), True, lo=surplus, key=lambda less: self._fits(without(less)))
        left_out = tuple(tags[place] for place in least_first[:number])
        if self._fits(positive := without(number)):
            return Fitted(Prompt(positive, negative), left_out, "")

        offsets = self._tokenizer(user_prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = [begin for begin, _ in offsets.offset_mapping[: self._room]]
        # From the longest down: a word that is cut may be split into other tokens, even into more.
        kept = (user_prompt[:place].rstrip() for place in reversed(places))
        own = next(own for own in kept if self._fits(compose((), own, negative).positive))
        return Fitted(compose((), own, negative), left_out, user_prompt[len(own) :].strip())

    def _fits(self, text: str) -> bool:
        return len(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids) <= self._room

    @property
    def _room(self) -> int:
        return self._network.config.max_position_embeddings - 2  # without the start and the end token

    def lost(self, text: str) -> str:
        """Return the end of `text` that has no room in the 77 tokens; empty if all of it fits."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = encoded.offset_mapping
        return text[places[self._room][0] :] if len(places) > self._room else ""
