"""Read a picture with the tagger: tags, which are words, and tokens, which only the networks read.

`edited` changes the tags as a person asks for it. Nothing here needs the libraries of the other networks.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..catalogue import Model
from ..machine.device import Place, choose, threads_enough
from ..models import convert, load
from ..models.tagger import Tagger
from ..weights import locate

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

NEAR = 10
"""Most near misses that are told: enough to find a missing word, few enough to read."""


class Tag(NamedTuple):
    """A label with its probability (`score`) in [0, 1] and the threshold above which it fires.

    A tag that a person asked for has the threshold 1, so it never fires. Its score is 0 if the tagger does not know it.
    """

    name: str
    score: float
    threshold: float

    @property
    def fires(self) -> bool:
        """Whether the tagger sees it. A tag that does not fire comes from a person."""
        return self.score > self.threshold

    @property
    def certainty(self) -> float:
        """How sure it is that the tag belongs to the picture: its score, or infinity if a person said so."""
        return self.score if self.fires else math.inf


class Reading(NamedTuple):
    """The tags and tokens that the tagger finds in one picture.

    tags: those that fire, in label order, or as a person edited them.
    tokens: [1, cells + 1, width].
    seen: every label, in label order.
    """

    tags: tuple[Tag, ...]
    tokens: Tensor
    seen: tuple[Tag, ...] = ()

    @property
    def near(self) -> tuple[Tag, ...]:
        """The labels just below their thresholds that are not among the tags, at most `NEAR`, the nearest first."""
        taken = {tag.name.casefold() for tag in self.tags}
        below = (tag for tag in self.seen if not tag.fires and tag.name.casefold() not in taken)
        return tuple(sorted(below, key=lambda tag: tag.threshold - tag.score)[:NEAR])


def words(text: str) -> tuple[str, ...]:
    """Return the tags that `text` lists between commas, with single spaces, without empty ones."""
    entries = (" ".join(entry.split()) for entry in text.split(","))
    return tuple(entry for entry in entries if entry)


def edited(
    reading: Reading,
    given: Sequence[str] | None = None,
    threshold: float | None = None,
    drop: Sequence[str] = (),
    add: Sequence[str] = (),
) -> Reading:
    """Return `reading` with the tags that a person wants. Labels are compared without regard to case.

    Applied again with its own tags as `given`, it changes nothing.

    threshold: in [0, 1], for every label; None: each label's own.
    given: tags that replace those that fire, in this order; known ones keep the tagger's scores.
    drop: tags to take away, unless they are added too.
    add: tags, or several between commas, to put at the end; an existing one stays in its place.
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
        """Return the tags and tokens of `picture`, [3, h, w], RGB in [0, 1], not enlarged."""
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


def load_reader(model: Model, weights: Path | None = None, device: str = "auto", dtype: str = "auto") -> Reader:
    """Return the model's tagger without its other networks, ready to read pictures.

    Raises UsageError for a device or precision that cannot be had, WeightsMissing and WeightsInvalid for the files.
    """
    place, folder = choose(device, dtype, model.name), locate(model, weights)
    convert.prepare_tagger(model, folder, place)
    return assemble(model, folder, place)


def assemble(model: Model, folder: Path, place: Place) -> Reader:
    """Return the reader of the model's tagger; its files in `folder` must be prepared (models/convert.py)."""
    tagger = load.load_tagger(model, folder, place)
    return Reader(tagger, load.tag_names(model, folder), load.tag_thresholds(model, folder))
