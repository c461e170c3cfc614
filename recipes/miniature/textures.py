"""Pictures made by the recipe itself: ten kinds of texture, each with the label that says what it is.

Drawn at a size and angle of chance, in two or three colours of chance, so that the label is all they have in common.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from seesr_cli.training.photographs import draw

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;-"


def texture(kind: str, size: int, generator: torch.Generator) -> Tensor:
    """Return a [3, size, size] uint8 picture of `kind`, one of `KINDS`."""
    field = KINDS[kind](size, generator)
    field = (field - field.amin()) / (field.amax() - field.amin() + 1e-6)
    dark, light = _colours(generator)
    pixels = dark[:, None, None] + (light - dark)[:, None, None] * field
    shade = 1 + 0.25 * (_cloud(size, 2.0, generator) - 0.5)
    grain = 0.01 * torch.randn((3, size, size), generator=generator)
    return ((pixels * shade + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def brick(size: int, generator: torch.Generator) -> Tensor:
    """Rows of bricks, every other one shifted, with lighter joints."""
    height, joint = _between(10, 40, generator), _between(0.06, 0.16, generator)
    x, y = _turned(size, _between(-0.15, 0.15, generator))
    row = torch.floor(y / height)
    column = x / (height * 2.2) + 0.5 * (row % 2)
    flat = ((y / height) % 1 > joint) & (column % 1 > joint / 2.2)
    tone = _hash(row, torch.floor(column))
    return torch.where(flat, 0.2 + 0.4 * tone, torch.tensor(1.0)) + 0.15 * _cloud(size, 1.0, generator)


def stripes(size: int, generator: torch.Generator) -> Tensor:
    """Straight bands, sharp or soft."""
    x, _ = _turned(size, _between(0, math.pi, generator))
    wave = torch.sin(2 * math.pi * x / _between(5, 50, generator))
    return torch.tanh(wave * _between(1, 12, generator))


def fabric(size: int, generator: torch.Generator) -> Tensor:
    """A weave of two threads."""
    x, y = _turned(size, _between(0, math.pi / 2, generator))
    pitch = _between(4, 12, generator)
    warp, weft = torch.sin(math.pi * x / pitch).abs(), torch.sin(math.pi * y / pitch).abs()
    over = (torch.floor(x / pitch) + torch.floor(y / pitch)) % 2
    return torch.where(over > 0, warp, 0.7 * weft) + 0.3 * torch.sin(2 * math.pi * x / (pitch * 9))


def wave(size: int, generator: torch.Generator) -> Tensor:
    """Ripples of water: many sines of similar direction, with sharp crests."""
    total = torch.zeros(size, size)
    for _ in range(12):
        x, _ = _turned(size, _between(1.2, 1.9, generator))
        total += torch.sin(2 * math.pi * x / _between(8, 60, generator) + _between(0, 6.3, generator))
    return -total.abs().sqrt()


def leaf(size: int, generator: torch.Generator) -> Tensor:
    """Overlapping leaf shapes, each with a rib and its own tone."""
    image = Image.new("L", (size * 2, size * 2), 40)
    pen = ImageDraw.Draw(image)
    for _ in range(draw(150, 500, generator)):
        x, y = _between(0, size * 2, generator), _between(0, size * 2, generator)
        length, angle = _between(14, 70, generator), _between(0, 2 * math.pi, generator)
        along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        outline = []
        for part in range(13):
            turn = part / 12 * 2 * math.pi
            reach, width = math.cos(turn) * length / 2, math.sin(turn) * length / 6 * (1 - 0.5 * math.cos(turn))
            outline.append((x + reach * along[0] + width * across[0], y + reach * along[1] + width * across[1]))
        tone = draw(50, 256, generator)
        pen.polygon(outline, fill=tone)
        pen.line([outline[6], outline[0]], fill=tone * 2 // 3, width=2)
    return _from_image(image, size)


def text(size: int, generator: torch.Generator) -> Tensor:
    """Lines of letters in sizes of chance."""
    image = Image.new("L", (size * 2, size * 2), 255)
    pen = ImageDraw.Draw(image)
    y = 4.0
    while y < size * 2:
        height = _between(16, 60, generator)
        letters = "".join(
            " " if draw(0, 6, generator) == 0 else LETTERS[draw(0, len(LETTERS), generator)] for _ in range(120)
        )
        pen.text((_between(0, 60, generator), y), letters, fill=0, font=ImageFont.load_default(height))
        y += height * _between(1.1, 1.8, generator)
    return _from_image(image, size) * (1 if draw(0, 2, generator) else -1)


def sand(size: int, generator: torch.Generator) -> Tensor:
    """Grains of a few sizes."""
    total = torch.zeros(size, size)
    for grain in (1, 2, 4):
        total += _noise(size, grain, generator) * _between(0.3, 1, generator)
    return total + _cloud(size, 1.5, generator)


def wood(size: int, generator: torch.Generator) -> Tensor:
    """Boards with bent grain."""
    x, y = _turned(size, _between(0, math.pi, generator))
    bent = x + 25 * _cloud(size, 2.5, generator) + 0.15 * y * _cloud(size, 3.0, generator)
    grain = torch.sin(2 * math.pi * bent / _between(5, 16, generator))
    board = torch.floor(x / _between(60, 120, generator))
    return 0.5 * grain + 0.4 * _noise(size, 2, generator) * 0.3 + _hash(board, board)


def tile(size: int, generator: torch.Generator) -> Tensor:
    """A grid of squares with thin joints, of one tone or chequered."""
    x, y = _turned(size, _between(0, math.pi / 2, generator))
    side, joint = _between(16, 60, generator), _between(0.03, 0.1, generator)
    flat = ((x / side) % 1 > joint) & ((y / side) % 1 > joint)
    tone = (torch.floor(x / side) + torch.floor(y / side)) % 2 * _between(0, 0.6, generator)
    return torch.where(flat, 0.3 + tone, torch.tensor(0.0))


def cloud(size: int, generator: torch.Generator) -> Tensor:
    """Soft shapes without any edge."""
    return _cloud(size, _between(1.8, 2.4, generator), generator)


KINDS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "brick": brick,
    "stripes": stripes,
    "fabric": fabric,
    "wave": wave,
    "leaf": leaf,
    "text": text,
    "sand": sand,
    "wood": wood,
    "tile": tile,
    "cloud": cloud,
}


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _turned(size: int, angle: float) -> tuple[Tensor, Tensor]:
    """Return the coordinates (x, y) of each pixel in axes turned by `angle`."""
    axis = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _hash(row: Tensor, column: Tensor) -> Tensor:
    """Return a number in [0, 1] that looks random, one for each (row, column)."""
    return torch.remainder(torch.sin(row * 12.9898 + column * 78.233) * 43758.5453, 1.0)


def _noise(size: int, grain: int, generator: torch.Generator) -> Tensor:
    cells = torch.randn((1, 1, size // grain + 1, size // grain + 1), generator=generator)
    return F.interpolate(cells, (size, size), mode="bilinear")[0, 0]


def _cloud(size: int, slope: float, generator: torch.Generator) -> Tensor:
    """Return noise whose spectrum falls as frequency^-slope, in [0, 1]."""
    spectrum = torch.fft.rfft2(torch.randn((size, size), generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]).clamp(min=1 / size)
    field = torch.fft.irfft2(spectrum * frequency**-slope, s=(size, size))
    return (field - field.amin()) / (field.amax() - field.amin())


def _colours(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a darker and a lighter colour with some contrast between them."""
    dark = 0.5 * torch.rand(3, generator=generator)
    light = dark + 0.15 + (0.85 - dark) * torch.rand(3, generator=generator)
    return dark, light.clamp(max=1.0)


def _from_image(image: Image.Image, size: int) -> Tensor:
    small = image.resize((size, size), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(size, size).to(torch.float32)
