"""Guidance and tiling are functions of predictors, and the loop ends where the predictions point."""

import torch
from torch import Tensor

from seesr_cli.denoise import begin, denoise, guided, tiled
from seesr_cli.noise import seeded
from seesr_cli.schedule import schedule
from seesr_cli.tiles import Tile, cover
from test_schedule import STABLE_DIFFUSION


def two_rows(latent: Tensor, timestep: int, tile: Tile) -> Tensor:
    return torch.cat([latent, 3 * latent + timestep])


def pixelwise(latent: Tensor, timestep: int, tile: Tile) -> Tensor:
    return torch.sin(tile.crop(latent)) * timestep


def test_guidance_moves_away_from_the_negative_prompt() -> None:
    latent = torch.randn(1, 4, 8, 8)
    (tile,) = cover((8, 8), 96, 4)
    torch.testing.assert_close(guided(two_rows, 5.5)(latent, 10, tile), latent + 5.5 * (2 * latent + 10))
    torch.testing.assert_close(guided(two_rows, 1.0)(latent, 10, tile), 3 * latent + 10)


def test_tiles_of_a_pixelwise_predictor_give_the_whole() -> None:
    latent = torch.randn(1, 4, 40, 52)
    whole = torch.sin(latent) * 7
    torch.testing.assert_close(tiled(pixelwise, cover((40, 52), 16, 4))(latent, 7), whole)
    assert torch.equal(tiled(pixelwise, cover((40, 52), 96, 4))(latent, 7), whole)


def test_knowing_the_noise_leads_back_to_the_picture() -> None:
    clean = torch.randn(1, 4, 8, 8)
    table = schedule(STABLE_DIFFUSION, 10)

    def oracle(latent: Tensor, timestep: int) -> Tensor:
        step = next(step for step in table.steps if step.timestep == timestep)
        return (latent - step.signal_level * clean) / step.noise_level

    latents = list(denoise(begin(clean, table, seeded(0)), oracle, table, seeded(1)))
    assert len(latents) == 10
    torch.testing.assert_close(latents[-1], clean, atol=1e-4, rtol=1e-4)
