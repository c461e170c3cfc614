"""Encoding samples the posterior, decoding survives what is too large for 16 bits."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from seesr_cli.catalogue import SEESR
from seesr_cli.machine.device import choose
from seesr_cli.models.load import load_vae
from seesr_cli.restore.latent import VAE
from seesr_cli.sampling.noise import seeded
from seesr_cli.vae.plan import BESIDES


@pytest.fixture
def vae(tiny_weights: Path) -> VAE:
    return VAE(load_vae(SEESR, tiny_weights, choose("cpu", "fp32")))


def nothing(shape: torch.Size) -> Tensor:
    return torch.zeros(shape)


def ones(shape: torch.Size) -> Tensor:
    return torch.ones(shape)


def test_the_latent_is_the_posterior_s_mean_plus_its_deviation_times_the_noise(vae: VAE) -> None:
    pixels = torch.rand(1, 3, 32, 48)
    mean = vae.encode(pixels, nothing)
    assert mean.shape == (1, 4, 4, 6)
    assert vae.factor == 8
    up = vae.encode(pixels, ones) - mean
    sampled = vae.encode(pixels, seeded(3))
    torch.testing.assert_close(sampled, mean + up * seeded(3)(torch.Size((1, 4, 4, 6))))


def test_decoding_beyond_the_range_of_16_bits_is_seen_and_done_again_in_full(vae: VAE) -> None:
    vae.network.half()
    vae.network.decoder.conv_out.bias.data.fill_(6e4)
    vae.network.decoder.conv_out.weight.data.mul_(1e4)
    latent = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    assert not vae.decode(latent).isfinite().all()
    assert vae.decode_in_full_precision(latent).isfinite().all()
    assert vae.network.dtype == torch.float16


def test_what_fits_the_budget_is_what_the_networks_make_to_the_bit(vae: VAE) -> None:
    latent = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = vae.network.decode(latent / vae.network.config.scaling_factor, return_dict=False)[0] / 2 + 0.5
    assert torch.equal(vae.decode(latent), plain)
    assert vae.whole((32, 48))


def test_a_smaller_budget_makes_the_same_picture_with_less(vae: VAE) -> None:
    pixels, latent = torch.rand(1, 3, 64, 88), torch.randn(1, 4, 8, 11, generator=torch.Generator().manual_seed(0))
    whole, encoded, most = vae.decode(latent), vae.encode(pixels, seeded(3)), vae.working_memory((64, 88))
    vae.budget = (most - BESIDES) * 4 // 5
    assert vae.working_memory((64, 88)) < most
    assert not vae.whole((64, 88))
    torch.testing.assert_close(vae.decode(latent), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.encode(pixels, seeded(3)), encoded, atol=1e-4, rtol=0)


def test_the_vae_moves(vae: VAE) -> None:
    vae.network.to("meta")
    assert vae.network.device.type == "meta"
