"""Guidance and tiling are functions of predictors, and the loop ends where the predictions point."""

import pytest
import torch
from torch import Tensor

from sampling.test_schedule import STABLE_DIFFUSION
from seesr_cli.restore.denoise import Tiles, begin, denoise, guided, tiled, within
from seesr_cli.sampling.noise import seeded
from seesr_cli.sampling.schedule import schedule
from seesr_cli.sampling.tiles import cover


def two_rows(latent: Tensor, timestep: int, tiles: Tiles) -> Tensor:
    return torch.stack([latent, 3 * latent + timestep], dim=1).flatten(0, 1)


def pixelwise(latent: Tensor, timestep: int, tiles: Tiles) -> Tensor:
    return torch.cat([torch.sin(tile.crop(latent)) * timestep for tile in tiles])


def test_guidance_moves_away_from_the_negative_prompt() -> None:
    latent = torch.randn(3, 4, 8, 8)
    tiles = cover((8, 8), 96, 4)
    torch.testing.assert_close(guided(two_rows, 5.5)(latent, 10, tiles), latent + 5.5 * (2 * latent + 10))
    torch.testing.assert_close(guided(two_rows, 1.0)(latent, 10, tiles), 3 * latent + 10)


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("pictures", [1, 2])
def test_tiles_of_a_pixelwise_predictor_give_the_whole(pictures: int, batch: int) -> None:
    latent = torch.randn(pictures, 4, 40, 52)
    whole = torch.sin(latent) * 7
    torch.testing.assert_close(tiled(pixelwise, cover((40, 52), 16, 4), batch)(latent, 7), whole)
    assert torch.equal(tiled(pixelwise, cover((40, 52), 96, 4), batch)(latent, 7), whole)


def test_calls_are_as_equal_as_can_be() -> None:
    calls = []

    def count(latent: Tensor, timestep: int, tiles: Tiles) -> Tensor:
        calls.append(len(tiles))
        return pixelwise(latent, timestep, tiles)

    tiles = cover((40, 40), 16, 4)
    assert len(tiles) == 9
    tiled(count, tiles, 4)(torch.randn(1, 4, 40, 40), 7)
    assert calls == [3, 3, 3]


def test_guidance_is_given_where_it_is_asked_for() -> None:
    latent, tiles = torch.randn(1, 4, 8, 8), cover((8, 8), 96, 4)
    somewhere = within(frozenset({5, 6}), pixelwise, lambda latent, timestep, tiles: 0 * latent)
    assert torch.equal(somewhere(latent, 5, tiles), pixelwise(latent, 5, tiles))
    assert not somewhere(latent, 7, tiles).any()


def test_knowing_the_noise_leads_back_to_the_picture() -> None:
    clean = torch.randn(1, 4, 8, 8)
    table = schedule(STABLE_DIFFUSION, 10)

    def oracle(latent: Tensor, timestep: int) -> Tensor:
        step = next(step for step in table.steps if step.timestep == timestep)
        return (latent - step.signal_level * clean) / step.noise_level

    latents = list(denoise(begin(clean, table, seeded(0)), oracle, table, seeded(1)))
    assert len(latents) == 10
    torch.testing.assert_close(latents[-1], clean, atol=1e-4, rtol=1e-4)
