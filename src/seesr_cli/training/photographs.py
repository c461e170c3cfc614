"""Pictures in memory, and crops of them drawn by an explicit generator."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..evaluate.pixels import Pixels

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


class Photograph(NamedTuple):
    """name: the file's name without its ending. pixels: [3, H, W], uint8 RGB."""

    name: str
    pixels: Tensor


class Split(NamedTuple):
    """Pictures to learn from, and pictures no stage of training ever sees."""

    training: tuple[Photograph, ...]
    held_out: tuple[Photograph, ...]


def read(folder: Path) -> tuple[Photograph, ...]:
    """Return the pictures of `folder`, sorted by name, as RGB; raises FileNotFoundError if there are no pictures."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        raise FileNotFoundError(f"No picture in {folder}.")
    photographs = []
    for path in paths:
        with Image.open(path) as image:
            array = np.array(image.convert("RGB"))
        photographs.append(Photograph(path.stem, torch.from_numpy(array).permute(2, 0, 1).contiguous()))
    return tuple(photographs)


def split(photographs: Sequence[Photograph], every: int = 5, first: int = 2) -> Split:
    """Keep every `every`-th picture aside, beginning with number `first`: a rule, so that nobody can choose kindly."""
    aside = set(range(first, len(photographs), every))
    return Split(
        tuple(photograph for index, photograph in enumerate(photographs) if index not in aside),
        tuple(photograph for index, photograph in enumerate(photographs) if index in aside),
    )


def draw(low: int, high: int, generator: torch.Generator) -> int:
    """Return a whole number, evenly drawn from low to high - 1."""
    return int(torch.randint(low, high, (), generator=generator))


def crop(
    photographs: Sequence[Photograph], size: int, generator: torch.Generator, turned: bool = True
) -> tuple[int, Tensor]:
    """Return which photograph was drawn and a square of it, [3, size, size] uint8.

    turned: mirror it and turn it by quarters at random, which labels that name a direction forbid.
    Photographs are drawn evenly, whatever their size. Raises ValueError when one is smaller than the crop.
    """
    index = draw(0, len(photographs), generator)
    pixels = photographs[index].pixels
    height, width = pixels.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"{photographs[index].name} is {width}x{height}: too small for a crop of {size}.")
    top, left = draw(0, height - size + 1, generator), draw(0, width - size + 1, generator)
    square = pixels[:, top : top + size, left : left + size]
    return index, turn(square, draw(0, 8, generator)) if turned else square


def turn(pixels: Tensor, way: int) -> Tensor:
    """Return one of the eight turned and mirrored versions of a picture; way 0 is the picture itself."""
    turned = torch.rot90(pixels, way % 4, (-2, -1))
    return turned.flip(-1) if way >= 4 else turned


def unit(pixels: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]."""
    return pixels.to(torch.float32) / 255.0


def in_8_bits(pixels: Tensor) -> Pixels:
    """Return [3, H, W] pixels in [0, 1] as [H, W, 3] of 8 bits."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
