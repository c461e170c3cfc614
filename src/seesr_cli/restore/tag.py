"""The picture is read: tags, which are words, and tokens, which are the tagger's own.

What the tagger says is a beginning: `edited` puts in its place what a person wants said.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..machine.device import threads_enough
from ..models.tagger import Tagger

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

NEAR = 10
"""Near misses that are told: enough to find the word that is missing, few enough to read."""


class Tag(NamedTuple):
    """A label with its probability in [0, 1] and the threshold above which it fires.

    Words that a person asked for have the threshold 1, which no probability is above, and the probability 0 where the
    tagger does not know them.
    """

    name: str
    score: float
    threshold: float

    @property
    def fires(self) -> bool:
        """Whether the tagger says it; a tag that does not, and is there all the same, is a person's."""
        return self.score > self.threshold

    @property
    def certainty(self) -> float:
        """How sure it is that the tag belongs to the picture: its score, and without limit where a person said so."""
        return self.score if self.fires else math.inf


class Reading(NamedTuple):
    """What the tagger sees.

    tags: those that fire, in label order, until they are edited. tokens: [1, cells + 1, width]. seen: every label,
    in label order, whether it fires or not.
    """

    tags: tuple[Tag, ...]
    tokens: Tensor
    seen: tuple[Tag, ...] = ()

    @property
    def near(self) -> tuple[Tag, ...]:
        """The labels next below their thresholds, at most `NEAR`, the nearest first; none that is a tag already."""
        taken = {tag.name.casefold() for tag in self.tags}
        below = (tag for tag in self.seen if not tag.fires and tag.name.casefold() not in taken)
        return tuple(sorted(below, key=lambda tag: tag.threshold - tag.score)[:NEAR])


def words(text: str) -> tuple[str, ...]:
    """Return the tags that `text` lists between commas, white space made single; empty ones are none."""
    entries = (" ".join(entry.split()) for entry in text.split(","))
    return tuple(entry for entry in entries if entry)


def edited(
    reading: Reading,
    given: Sequence[str] | None = None,
    threshold: float | None = None,
    drop: Sequence[str] = (),
    add: Sequence[str] = (),
) -> Reading:
    """Return `reading` with the tags that a person wants; labels are compared without regard to case.

    threshold: one for every label, in [0, 1], in the place of each one's own. given: replace what fires, in their
    order, those that the tagger knows with its scores. drop: are taken away, unless they are added. add: words, or
    several between commas, are put at the end; one that is there already stays in its place. Done again with its own
    tags as `given`, it changes nothing.
    """
    seen, tags = reading.seen, list(reading.tags)
    if threshold is not None:
        seen = tuple(tag._replace(threshold=threshold) for tag in seen)
        tags = [tag for tag in seen if tag.fires]
    known = {tag.name.casefold(): tag for tag in seen} | {tag.name: tag for tag in seen}
    if given is not None:
        tags = [_named(name, known) for name in given]
    wanted = [name for text in add for name in words(text)]
    unwanted = {name.casefold() for name in drop} - {name.casefold() for name in wanted}
    tags = [tag for tag in tags if tag.name.casefold() not in unwanted]
    for name in wanted:
        places = [place for place, tag in enumerate(tags) if tag.name.casefold() == name.casefold()]
        if not places:
            places = [len(tags)]
            tags.append(_named(name, known))
        for place in places:
            tags[place] = tags[place]._replace(threshold=1.0)
    return Reading(tuple(tags), reading.tokens, seen)


def _named(name: str, known: dict[str, Tag]) -> Tag:
    tag = known.get(name) or known.get(name.casefold())
    return Tag(name, 0.0, 1.0) if tag is None else tag._replace(name=name)


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
        with threads_enough(sum(parameter.numel() for parameter in self.tagger.parameters())):
            logits, tokens = self.tagger(pixels)
        scores = torch.sigmoid(logits[0].float()).tolist()
        seen = tuple(Tag(*entry) for entry in zip(self._names, scores, self._thresholds, strict=True))
        return Reading(tuple(tag for tag in seen if tag.fires), tokens, seen)


def normalise(picture: Tensor, side: int) -> Tensor:
    """Return `picture` [3, h, w] in [0, 1] as the tagger's input [1, 3, side, side].

    Bilinear without regard to the aspect, averaging only where it shrinks; then ImageNet's mean and deviation.
    """
    square = F.interpolate(picture.unsqueeze(0), (side, side), mode="bilinear", antialias=True)
    mean, deviation = (square.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (square - mean) / deviation
