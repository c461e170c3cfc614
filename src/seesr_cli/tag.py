"""The picture is read: tags, which are words, and tokens, which are the tagger's own."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .models.tagger import Tagger

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class Tag(NamedTuple):
    """A label with its probability in [0, 1] and the threshold above which it fires."""

    name: str
    score: float
    threshold: float


class Reading(NamedTuple):
    """What the tagger sees: the tags that fire, in label order, and the tokens [1, cells + 1, width]."""

    tags: tuple[Tag, ...]
    tokens: Tensor


class Reader:
    """Reads pictures with one tagger and its labels."""

    def __init__(self, tagger: Tagger, names: tuple[str, ...], thresholds: tuple[float, ...]) -> None:
        self.tagger = tagger
        self._names = names
        self._thresholds = thresholds

    @torch.inference_mode()
    def read(self, picture: Tensor) -> Reading:
        """Return what `picture` shows. picture: the input as it is, not enlarged: [3, h, w], RGB in [0, 1]."""
        weight = self.tagger.to_tokens.weight
        pixels = normalise(picture, self.tagger.side).to(weight.device, weight.dtype)
        logits, tokens = self.tagger(pixels)
        scores = torch.sigmoid(logits[0].float()).tolist()
        tags = (Tag(*entry) for entry in zip(self._names, scores, self._thresholds, strict=True))
        return Reading(tuple(tag for tag in tags if tag.score > tag.threshold), tokens)


def normalise(picture: Tensor, side: int) -> Tensor:
    """Return `picture` [3, h, w] in [0, 1] as the tagger's input [1, 3, side, side].

    Bilinear without regard to the aspect, averaging only where it shrinks; then ImageNet's mean and deviation.
    """
    square = F.interpolate(picture.unsqueeze(0), (side, side), mode="bilinear", antialias=True)
    mean, deviation = (square.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (square - mean) / deviation
