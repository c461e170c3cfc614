"""What the tagger learns from: views of photographs and made textures, each with its labels and its degraded self."""

from collections.abc import Sequence

import attributes
import textures
import torch
import torch.nn.functional as F
from torch import Tensor
from words import HAND_LABELS, labels

from seesr_cli.training.degradation import Degradation, degrade
from seesr_cli.training.pairs import whole
from seesr_cli.training.photographs import Photograph, crop, draw, turn, unit
from seesr_cli.training.teacher import Example

SIDE = 432
DETAIL_LEVELS = (0.006, 0.01, 0.015)
"""Parts the four words for detail: near the quartiles of the training photographs at their own size."""


def make_examples(
    photographs: Sequence[Photograph], count: int, mixture: Sequence[tuple[float, Degradation]], seed: int
) -> list[Example]:
    """Return `count` examples: half are whole views of photographs, the rest crops at their own size and textures.

    Hand labels hold for whole views; of a crop only what can be measured is known.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = tuple(textures.KINDS)
    made = []
    for index in range(count):
        if index % 4 == 3:
            kind = kinds[draw(0, len(kinds), generator)]
            made.append(_example(textures.texture(kind, SIDE, generator), (kind,), mixture, generator))
        elif index % 4 == 2:
            made.append(_example(crop(photographs, SIDE, generator)[1], None, mixture, generator))
        else:
            photograph = photographs[draw(0, len(photographs), generator)]
            shown = HAND_LABELS.get(photograph.name)
            made.append(_example(_view(photograph, generator), shown, mixture, generator))
    return made


def whole_views(
    photographs: Sequence[Photograph], mixture: Sequence[tuple[float, Degradation]], seed: int
) -> list[Example]:
    """Return one unturned, whole view of each photograph, as an example: for measuring."""
    generator = torch.Generator().manual_seed(seed)
    return [
        _example(_resized(photograph.pixels), HAND_LABELS.get(photograph.name), mixture, generator)
        for photograph in photographs
    ]


def _view(photograph: Photograph, generator: torch.Generator) -> Tensor:
    """Return most of a photograph, sometimes mirrored, without regard to its aspect, as the tagger sees pictures."""
    height, width = photograph.pixels.shape[-2:]
    tall, wide = (round(side * (0.75 + 0.25 * float(torch.rand((), generator=generator)))) for side in (height, width))
    top, left = draw(0, height - tall + 1, generator), draw(0, width - wide + 1, generator)
    view = _resized(photograph.pixels[:, top : top + tall, left : left + wide])
    return turn(view, 4 * draw(0, 2, generator))


def _resized(pixels: Tensor) -> Tensor:
    return whole(F.interpolate(unit(pixels)[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0])


def _example(
    clean: Tensor, shown: Sequence[str] | None, mixture: Sequence[tuple[float, Degradation]], generator: torch.Generator
) -> Example:
    weights = torch.tensor([weight for weight, _ in mixture])
    _, degradation = mixture[int(torch.multinomial(weights, 1, generator=generator))]
    names = labels()
    told = {*attributes.words(attributes.measure(unit(clean)), DETAIL_LEVELS), *(shown or ())}
    measured = set(attributes.WORDS)
    return Example(
        clean=clean,
        degraded=whole(degrade(unit(clean), degradation, generator)),
        labels=torch.tensor([float(name in told) for name in names]),
        known=torch.tensor([float(shown is not None or name in measured) for name in names]),
    )
