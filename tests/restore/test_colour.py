"""The result takes the colours of the reference, by closed form and by a second source."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import Tensor

from seesr_cli.restore import colour
from seesr_cli.restore.colour import LEVELS, adain, align, low_frequencies, wavelet
from seesr_cli.settings import Colour


def noise(seed: int, height: int = 40, width: int = 56) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_adain_gives_the_reference_s_mean_and_deviation() -> None:
    result, reference = noise(0), 0.3 + 0.2 * noise(1)
    aligned = adain(result, reference)
    torch.testing.assert_close(aligned.mean((-2, -1)), reference.mean((-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(aligned.std((-2, -1)), reference.std((-2, -1)), atol=1e-3, rtol=0)


def test_adain_of_a_flat_picture_is_the_reference_s_mean() -> None:
    flat, reference = torch.full((1, 3, 8, 8), 0.9), noise(1, 8, 8)
    torch.testing.assert_close(adain(flat, reference), reference.mean((-2, -1), keepdim=True).expand(1, 3, 8, 8))


def test_wavelet_keeps_a_picture_that_is_its_own_reference() -> None:
    torch.testing.assert_close(wavelet(noise(0), noise(0)), noise(0))


def test_wavelet_takes_brightness_from_the_reference_and_detail_from_the_result() -> None:
    torch.testing.assert_close(wavelet(noise(0) + 0.25, noise(0)), noise(0))
    flat = torch.full((1, 3, 40, 56), 0.5)
    torch.testing.assert_close(wavelet(noise(0), flat), noise(0) - low_frequencies(noise(0)) + 0.5)


def test_low_frequencies_are_scipy_s_dilated_blurs() -> None:
    channel = noise(2)[0, 0].numpy().astype(np.float64)
    for level in range(LEVELS):
        kernel = np.zeros((2 * 2**level + 1,) * 2)
        kernel[:: 2**level, :: 2**level] = np.outer([1, 2, 1], [1, 2, 1]) / 16
        channel = convolve(channel, kernel, mode="nearest")
    np.testing.assert_allclose(low_frequencies(noise(2))[0, 0].numpy(), channel, atol=1e-5)


def test_none_only_clamps() -> None:
    wild = 3 * noise(0) - 1
    assert torch.equal(align(wild, noise(1), "none"), wild.clamp(0, 1))


@pytest.mark.parametrize("method", ["adain", "wavelet", "none"])
def test_bands_of_rows_make_what_the_whole_makes(method: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    result, reference = noise(0, 150, 37), noise(1, 150, 37)
    whole = align(result.clone(), reference, method)
    monkeypatch.setattr(colour, "BAND", 37 * 40)
    banded = align(result, reference, method)
    assert banded.data_ptr() == result.data_ptr()
    torch.testing.assert_close(banded, whole, atol=1e-6, rtol=0)


def test_alignment_is_the_formula_s_result_clamped() -> None:
    result, reference = noise(0), noise(1)
    torch.testing.assert_close(align(result.clone(), reference, "wavelet"), wavelet(result, reference).clamp(0, 1))
    torch.testing.assert_close(align(result.clone(), reference, "adain"), adain(result, reference).clamp(0, 1))


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_strength_blends_the_result_with_the_aligned_one(method: Colour) -> None:
    result, reference = noise(0), noise(1)
    whole = {"adain": adain, "wavelet": wavelet}[method](result, reference)
    assert torch.equal(align(result.clone(), reference, method, 0), result)
    blended = (0.75 * result + 0.25 * whole).clamp(0, 1)
    torch.testing.assert_close(align(result.clone(), reference, method, 0.25), blended)


def test_the_moments_of_a_part_that_is_all_are_its_own() -> None:
    result, reference = noise(0), noise(1)
    expected = colour.expected_moments(result, reference, reference)
    torch.testing.assert_close(
        align(result.clone(), reference, "adain", 1, expected), align(result, reference, "adain")
    )


def test_the_moments_of_a_whole_are_expected_from_a_part_where_all_changes_alike() -> None:
    """A picture half dark and even, half bright and rough, of which all is made brighter and noisier alike."""
    reference = torch.cat([0.2 + 0.01 * noise(0), 0.5 + 0.3 * noise(1)], dim=-1)
    whole = reference + 0.1 + 0.05 * torch.randn(reference.shape, generator=torch.Generator().manual_seed(2))
    for part in (slice(0, 56), slice(56, 112)):
        (mean, deviation), _ = colour.expected_moments(whole[..., part], reference[..., part], reference)
        torch.testing.assert_close(mean, whole.mean((-2, -1), keepdim=True), atol=3e-3, rtol=0)
        torch.testing.assert_close(deviation, whole.std((-2, -1), keepdim=True), atol=3e-3, rtol=0)
