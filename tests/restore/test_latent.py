"""Encoding samples the posterior, decoding survives what is too large for 16 bits."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from seesr_cli.catalogue import SEESR
from seesr_cli.machine.device import choose
from seesr_cli.models.load import load_vae
from seesr_cli.restore.latent import Coder
from seesr_cli.sampling.noise import seeded
from seesr_cli.vae.plan import BESIDES


@pytest.fixture
def coder(tiny_weights: Path) -> Coder:
    return Coder(load_vae(SEESR, tiny_weights, choose("cpu", "fp32")))


def nothing(shape: torch.Size) -> Tensor:
    return torch.zeros(shape)


def ones(shape: torch.Size) -> Tensor:
    return torch.ones(shape)


def test_the_latent_is_the_posterior_s_mean_plus_its_deviation_times_the_noise(coder: Coder) -> None:
    pixels = torch.rand(1, 3, 32, 48)
    mean = coder.encode(pixels, nothing)
    assert mean.shape == (1, 4, 4, 6)
    assert coder.factor == 8
    up = coder.encode(pixels, ones) - mean
    sampled = coder.encode(pixels, seeded(3))
    torch.testing.assert_close(sampled, mean + up * seeded(3)(torch.Size((1, 4, 4, 6))))


def test_decoding_beyond_the_range_of_16_bits_is_seen_and_done_again_in_full(coder: Coder) -> None:
    coder.vae.half()
    coder.vae.decoder.conv_out.bias.data.fill_(6e4)
    coder.vae.decoder.conv_out.weight.data.mul_(1e4)
    latent = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    assert not coder.decode(latent).isfinite().all()
    assert coder.decode_in_full_precision(latent).isfinite().all()
    assert coder.vae.dtype == torch.float16


def test_what_fits_the_budget_is_what_the_networks_make_to_the_bit(coder: Coder) -> None:
    latent = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = coder.vae.decode(latent / coder.vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5
    assert torch.equal(coder.decode(latent), plain)
    assert coder.whole((32, 48))


def test_a_smaller_budget_makes_the_same_picture_with_less(coder: Coder) -> None:
    pixels, latent = torch.rand(1, 3, 64, 88), torch.randn(1, 4, 8, 11, generator=torch.Generator().manual_seed(0))
    whole, encoded, most = coder.decode(latent), coder.encode(pixels, seeded(3)), coder.working_memory((64, 88))
    coder.budget = (most - BESIDES) * 4 // 5
    assert coder.working_memory((64, 88)) < most
    assert not coder.whole((64, 88))
    torch.testing.assert_close(coder.decode(latent), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(coder.encode(pixels, seeded(3)), encoded, atol=1e-4, rtol=0)


def test_the_vae_moves(coder: Coder) -> None:
    coder.vae.to("meta")
    assert coder.vae.device.type == "meta"
