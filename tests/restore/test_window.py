"""A window is the same place of the whole run: exactly in one tile, nearly among several."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seesr_cli.catalogue import SEESR
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.restore.window import REACH, Window
from seesr_cli.sampling.noise import seeded
from seesr_cli.sampling.tiles import Tiling, grid
from seesr_cli.settings import Settings
from seesr_cli.sizes import sizes

QUICK = Settings(scale=2, steps=3, process_size=64)


@pytest.fixture(scope="module")
def upscaler(tiny_weights: Path) -> Upscaler:
    return Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")


def picture(height: int, width: int) -> Tensor:
    """Return a picture of slow changes with noise on them, [3, height, width]."""
    ramp = torch.linspace(0.2, 0.8, width).expand(height, width)
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    return torch.stack([ramp, ramp.flip(1), ramp]) * 0.8 + noise * 0.2


def both(
    upscaler: Upscaler, pixels: Tensor, box: tuple[int, int, int, int], settings: Settings
) -> tuple[Tensor, Tensor, Window]:
    """Return the place `box` of the whole run, the window made alone, and the window."""
    prepared = upscaler.prepare(pixels, settings, alpha=pixels[:1])
    whole = upscaler.develop(upscaler.sample(prepared, settings).latent, prepared, settings)
    part = upscaler.within(prepared, box, settings)
    alone = upscaler.develop(upscaler.sample(part, settings).latent, part, settings)
    top, left, bottom, right = box
    assert alone.alpha is not None
    assert whole.alpha is not None
    assert torch.equal(alone.alpha, whole.alpha[:, top:bottom, left:right])
    assert part.window is not None
    return whole.pixels[:, top:bottom, left:right], alone.pixels, part.window


@pytest.mark.parametrize(
    ("size", "change"),
    [
        ((45, 37), {}),  # padded
        ((45, 37), {"start": "noise", "guidance": 1.0}),
        ((20, 40), {}),  # enlarged first, and reduced at the end
        ((45, 37), {"width": 60, "height": 60}),  # cut off
    ],
)
def test_a_window_of_one_tile_is_the_place_of_the_whole_run(
    upscaler: Upscaler, size: tuple[int, int], change: dict[str, object]
) -> None:
    settings = replace(QUICK, **change)  # type: ignore[arg-type]
    place, alone, window = both(upscaler, picture(*size), (8, 3, 40, 35), settings)
    assert torch.equal(alone, place)
    assert window.laid.count == 1


def test_among_several_tiles_a_window_is_near_to_the_whole_run(upscaler: Upscaler) -> None:
    settings, pixels, box = replace(QUICK, steps=2, tile=16, overlap=4), picture(240, 240), (100, 100, 164, 164)
    whole = upscaler.prepare(pixels, settings)
    part = upscaler.within(whole, box, settings)
    assert part.window is not None
    assert (part.window.laid.count, grid(part.window.latent, 16, 4).count) == (9, 25)
    apart = upscaler.prepare(pixels[:, 50:82, 50:82], settings)
    latents = [(upscaler.sample(each, settings).latent, each) for each in (whole, part, apart)]
    for colour in ("adain", "wavelet"):
        coloured = replace(settings, colour=colour)
        made, alone, cut = (upscaler.develop(latent, each, coloured).pixels for latent, each in latents)
        place = made[:, 100:164, 100:164]
        off, off_apart = (255 * float((each - place).square().mean().sqrt()) for each in (alone, cut))
        assert off < off_apart / 4, f"{off:.2f} grey levels, where the part alone is off by {off_apart:.2f}"


def test_a_window_sees_its_part_of_the_noise_of_the_whole(upscaler: Upscaler) -> None:
    stations = sizes((96, 128), QUICK)
    window = Window.of((10, 100, 40, 130), stations, 8, Tiling(16, 4))
    top, left, bottom, right = window.laid.box
    part, whole = window.noise(seeded(3)), seeded(3)
    for _ in range(2):
        assert torch.equal(
            part(torch.Size((1, 4, *window.size))), whole(torch.Size((1, 4, 24, 32)))[..., top:bottom, left:right]
        )


def test_the_tiles_of_a_window_are_those_within_reach() -> None:
    stations = sizes((512, 512), Settings(scale=4))
    for box in ((700, 700, 900, 900), (0, 0, 512, 512), (1536, 1000, 2048, 1512)):
        window = Window.of(box, stations, 8, Tiling(96, 4))
        near = [
            (top, left)
            for top in grid((256, 256), 96, 4).tops
            for left in grid((256, 256), 96, 4).lefts
            if top * 8 < box[2] + 8 * REACH
            and (top + 96) * 8 > box[0] - 8 * REACH
            and left * 8 < box[3] + 8 * REACH
            and (left + 96) * 8 > box[1] - 8 * REACH
        ]
        assert [(top, left) for top in window.laid.tops for left in window.laid.lefts] == near
