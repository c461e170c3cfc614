"""The tags become text, and the text what the UNet attends to."""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from .settings import QUALITY_WORDS


class Prompt(NamedTuple):
    """The words to move towards and the words to move away from."""

    positive: str
    negative: str


def compose(tags: tuple[str, ...], user_prompt: str, negative: str) -> Prompt:
    """Return the prompt of a picture, as published: an empty user prompt leaves its comma and space."""
    return Prompt(f"{', '.join(tags)}, {user_prompt},{QUALITY_WORDS}", negative)


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

    def lost(self, text: str) -> str:
        """Return the end of `text` that does not fit into the tower's 77 tokens; empty if all of it fits."""
        room = self._tower.config.max_position_embeddings - 2  # the start and end tokens take two places
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = encoded.offset_mapping
        return text[places[room][0] :] if len(places) > room else ""
