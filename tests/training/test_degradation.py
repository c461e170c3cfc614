"""The degradation: kernels against closed forms, sizes, ranges, chance."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seesr_cli.training import degradation, kernels
from seesr_cli.training.degradation import STRENGTHS, Blur, Degradation, Noise, Ringing, Strength, degrade


def smooth_picture(side: int = 96) -> Tensor:
    """Return waves of a few colours, [3, side, side] in [0.2, 0.8]."""
    axis = torch.linspace(0, 4 * math.pi, side)
    return torch.stack([0.5 + 0.3 * torch.sin(axis * k)[:, None] * torch.cos(axis * k)[None, :] for k in (1, 2, 3)])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", kernels.KINDS)
@pytest.mark.parametrize("size", [7, 21])
def test_every_kernel_sums_to_one_and_is_the_same_turned_half_around(kind: kernels.Kind, size: int) -> None:
    kernel = kernels.make(kind, size, (2.1, 0.7), beta=1.4, angle=0.6)
    assert kernel.shape == (size, size)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(kernel, kernel.flip(0, 1), atol=1e-7)


def test_the_sinc_filter_sums_to_one_and_is_symmetric_in_both_axes() -> None:
    kernel = kernels.sinc(21, math.pi / 2)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(kernel, kernel.T, atol=1e-7)
    assert torch.allclose(kernel, kernel.flip(0), atol=1e-7)


def test_the_sinc_filter_is_continuous_at_its_centre() -> None:
    cutoff, near = 1.3, torch.tensor(1e-4, dtype=torch.float64)
    limit = cutoff * torch.special.bessel_j1(cutoff * near) / (2 * math.pi * near)
    kernel = kernels.sinc(31, cutoff)
    next_to_it = cutoff * torch.special.bessel_j1(torch.tensor(cutoff)) / (2 * math.pi)
    assert (kernel[15, 15] / kernel[15, 16]).item() == pytest.approx((limit / next_to_it).item(), rel=1e-3)


def test_a_gaussian_has_the_variance_it_is_asked_for() -> None:
    kernel = kernels.gaussian(41, (3.0, 1.5))
    axis = torch.arange(41.0) - 20
    assert (kernel.sum(0) * axis**2).sum().item() == pytest.approx(9.0, rel=0.01)
    assert (kernel.sum(1) * axis**2).sum().item() == pytest.approx(2.25, rel=0.01)


def test_a_quarter_turn_exchanges_the_axes_of_a_gaussian() -> None:
    assert torch.allclose(kernels.gaussian(15, (3.0, 1.0), math.pi / 2), kernels.gaussian(15, (3.0, 1.0)).T, atol=1e-6)


def test_the_generalised_gaussian_at_beta_one_is_the_gaussian() -> None:
    assert torch.allclose(
        kernels.generalised(15, (2.0, 1.0), 1.0, 0.4), kernels.gaussian(15, (2.0, 1.0), 0.4), atol=1e-7
    )


def test_the_plateau_kernel_is_one_over_one_plus_the_distance() -> None:
    kernel = kernels.plateau(9, (2.0, 2.0), 1.0)
    assert (kernel[4, 8] / kernel[4, 4]).item() == pytest.approx(1 / (1 + 4.0), rel=1e-5)


def test_kinds_are_drawn_as_often_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    make = kernels.make

    def noted(kind: kernels.Kind, *rest: Any) -> Tensor:
        drawn.append(kind)
        return make(kind, *rest)

    monkeypatch.setattr(kernels, "make", noted)
    generator = seeded()
    for _ in range(1500):
        degradation.draw_kernel(Blur(sinc=0.0, size=7), generator)
    for kind, probability in zip(kernels.KINDS, Blur().kinds, strict=True):
        assert drawn.count(kind) / 1500 == pytest.approx(probability, abs=0.05)


def test_the_published_numbers_are_the_defaults() -> None:
    first, second = Degradation().rounds
    assert (first.blur.size, second.blur.size, second.blur.probability) == (21, 21, 0.8)
    assert (first.blur.sigma, second.blur.sigma) == ((0.2, 3.0), (0.2, 1.5))
    assert (first.resize.enlarge, first.resize.shrink, first.resize.factor) == (0.2, 0.7, (0.15, 1.5))
    assert (second.resize.enlarge, second.resize.shrink, second.resize.factor) == (0.3, 0.4, (0.3, 1.2))
    assert (first.noise.sigma, second.noise.sigma) == ((1.0, 30.0), (1.0, 25.0))
    assert (first.noise.poisson, second.noise.poisson) == ((0.05, 3.0), (0.05, 2.5))
    assert first.jpeg == second.jpeg == (30.0, 95.0)
    assert Degradation().ringing == Ringing(0.8, (7, 21), (math.pi / 3, math.pi))


@pytest.mark.parametrize("strength", list(Strength))
def test_the_same_seed_gives_the_same_picture_and_another_seed_another(strength: Strength) -> None:
    picture = smooth_picture()
    first, again, other = (degrade(picture, STRENGTHS[strength], seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("strength", list(Strength))
def test_the_result_is_exactly_a_quarter_in_whole_255ths(strength: Strength) -> None:
    for seed in range(4):
        degraded = degrade(torch.rand(3, 72, 104, generator=seeded(seed)), STRENGTHS[strength], seeded(seed))
        assert degraded.shape == (3, 18, 26)
        assert degraded.min() >= 0
        assert degraded.max() <= 1
        assert torch.allclose(degraded * 255, (degraded * 255).round(), atol=1e-4)


@pytest.mark.parametrize("strength", list(Strength))
def test_brightness_is_kept_on_average(strength: Strength) -> None:
    picture = smooth_picture()
    shifts = [
        (degrade(picture, STRENGTHS[strength], seeded(seed)).mean() - picture.mean()).item() for seed in range(12)
    ]
    assert abs(sum(shifts) / len(shifts)) < 0.02


def test_a_side_that_is_no_multiple_of_the_scale_is_an_error() -> None:
    with pytest.raises(ValueError, match="crop it first"):
        degrade(torch.zeros(3, 30, 32), Degradation(), seeded())


def test_sharpening_leaves_a_flat_picture_alone_and_raises_the_contrast_of_an_edge() -> None:
    flat = torch.full((3, 64, 64), 0.4)
    assert torch.allclose(degradation.sharpen(flat), flat, atol=1e-5)
    edge = torch.full((3, 64, 64), 0.3)
    edge[:, :, 32:] = 0.7
    sharpened = degradation.sharpen(edge)
    assert sharpened[0, 32, 31] < 0.3
    assert sharpened[0, 32, 32] > 0.7


def test_grey_noise_is_the_same_in_all_colours_and_coloured_noise_is_not() -> None:
    grey = torch.full((3, 16, 16), 0.5)
    for gaussian in (0.0, 1.0):
        same = degradation.add_noise(grey, Noise(gaussian=gaussian, sigma=(20, 20), poisson=(1, 1), grey=1.0), seeded())
        different = degradation.add_noise(
            grey, Noise(gaussian=gaussian, sigma=(20, 20), poisson=(1, 1), grey=0.0), seeded()
        )
        assert torch.allclose(same[0], same[1], atol=1e-6)
        assert not torch.allclose(different[0], different[1], atol=1e-3)


def test_gaussian_noise_has_the_deviation_it_is_asked_for() -> None:
    noisy = degradation.add_noise(torch.full((3, 64, 64), 0.5), Noise(gaussian=1.0, sigma=(10, 10), grey=0.0), seeded())
    assert (noisy.std() * 255).item() == pytest.approx(10, rel=0.05)


def test_a_lower_jpeg_quality_loses_more() -> None:
    picture = torch.rand(3, 32, 32, generator=seeded())
    errors = [(degradation.jpeg(picture, quality) - picture).square().mean().item() for quality in (30, 60, 95)]
    assert errors == sorted(errors, reverse=True)


def test_the_last_filter_is_drawn_as_published() -> None:
    drawn: list[tuple[int, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "sinc", lambda size, cutoff: drawn.append((size, cutoff)))
        generator = seeded()
        for _ in range(10_000):
            degradation.draw_ringing(Ringing(), generator)
    sides, cutoffs = [size for size, _ in drawn], [cutoff for _, cutoff in drawn]
    assert len(sides) / 10_000 == pytest.approx(0.8, abs=0.015)
    assert {size: round(sides.count(size) / len(sides), 2) for size in set(sides)} == dict.fromkeys(
        range(7, 22, 2), pytest.approx(1 / 8, abs=0.02)
    )
    assert min(cutoffs) >= math.pi / 3
    assert sum(cutoffs) / len(cutoffs) == pytest.approx(2 * math.pi / 3, abs=0.02)


def test_a_fixed_blur_is_that_blur_and_takes_no_chance() -> None:
    fixed = Blur(fixed=(9, 1.5))
    assert torch.equal(degradation.draw_kernel(fixed, seeded(1)), kernels.gaussian(9, (1.5, 1.5)))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 1])
def test_ten_thousand_blurs_are_drawn_as_published(number: int) -> None:
    recipe = Degradation().rounds[number].blur
    drawn: list[tuple[Any, ...]] = []
    rings: list[tuple[int, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "make", lambda *each: drawn.append(each))
        patch.setattr(kernels, "sinc", lambda *each: rings.append(each))
        generator = seeded(5)
        for _ in range(10_000):
            degradation.draw_kernel(recipe, generator)
    share = (1.0, 0.8)[number]
    assert len(rings) / 10_000 == pytest.approx(0.1 * share, abs=0.012)
    assert len(drawn) / 10_000 == pytest.approx(0.9 * share, abs=0.015)
    for kind, probability in zip(kernels.KINDS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), strict=True):
        assert sum(each[0] == kind for each in drawn) / len(drawn) == pytest.approx(probability, abs=0.02)
    for size in range(7, 22, 2):
        assert sum(each[1] == size for each in drawn) / len(drawn) == pytest.approx(1 / 8, abs=0.02)
    most = (3.0, 1.5)[number]
    for axis in (0, 1):
        values = torch.tensor([each[2][axis] for each in drawn])
        assert 0.2 <= values.min() < 0.21
        assert most - 0.01 < values.max() <= most
        assert values.mean().item() == pytest.approx((0.2 + most) / 2, abs=0.04)
    for family, least, top in (("generalised", 0.5, 4.0), ("plateau", 1.0, 2.0)):
        betas = torch.tensor([each[3] for each in drawn if each[0].startswith(family)])
        assert least <= betas.min() < least + 0.03
        assert top - 0.05 < betas.max() <= top
        below = (betas < 1).float().mean().item()
        assert below == pytest.approx(0.5 if family == "generalised" else 0.0, abs=0.05)
    angles = torch.tensor([each[4] for each in drawn])
    assert angles.mean().item() == pytest.approx(0, abs=0.08)
    assert angles.std().item() == pytest.approx(2 * math.pi / 12**0.5, abs=0.05)
    for low, cutoffs in (
        (math.pi / 3, [cutoff for size, cutoff in rings if size < 13]),
        (math.pi / 5, [cutoff for size, cutoff in rings if size >= 13]),
    ):
        assert low <= min(cutoffs) < low + 0.1
        assert sum(cutoffs) / len(cutoffs) == pytest.approx((low + math.pi) / 2, abs=0.12)


@pytest.mark.parametrize("number", [0, 1])
def test_ten_thousand_sizes_are_drawn_as_published(number: int) -> None:
    recipe = Degradation().rounds[number].resize
    generator = seeded(6)
    factors = torch.tensor([degradation._draw_size((1000, 1000), recipe, generator)[0] / 1000 for _ in range(10_000)])
    up, down = ((0.2, 0.7), (0.3, 0.4))[number]
    least, most = ((0.15, 1.5), (0.3, 1.2))[number]
    assert (factors > 1).float().mean().item() == pytest.approx(up, abs=0.015)
    assert (factors < 1).float().mean().item() == pytest.approx(down, abs=0.015)
    assert least <= factors.min() < least + 0.01
    assert most - 0.01 < factors.max() <= most


@pytest.mark.parametrize("number", [0, 1])
def test_ten_thousand_noises_are_drawn_as_published(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Degradation().rounds[number].noise
    drawn: list[tuple[degradation.Range, float]] = []
    between = degradation._between

    def recorded(bounds: degradation.Range, generator: torch.Generator) -> float:
        drawn.append((bounds, between(bounds, generator)))
        return drawn[-1][1]

    monkeypatch.setattr(degradation, "_between", recorded)
    generator, grey = seeded(7), 0
    for _ in range(10_000):
        noisy = degradation.add_noise(torch.full((3, 4, 4), 0.5), recipe, generator)
        grey += bool((noisy == noisy[:1]).all())
    sigma, poisson = ((1.0, 30.0), (0.05, 3.0)), ((1.0, 25.0), (0.05, 2.5))
    for bounds in (sigma, poisson)[number]:
        values = torch.tensor([value for of, value in drawn if of == bounds])
        assert len(values) / 10_000 == pytest.approx(0.5, abs=0.015)
        assert bounds[0] <= values.min()
        assert values.max() <= bounds[1]
        assert values.mean().item() == pytest.approx(sum(bounds) / 2, rel=0.02)
    assert grey / 10_000 == pytest.approx(0.4, abs=0.015)


def test_ten_thousand_endings_are_drawn_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEG qualities, the order of the last JPEG and the last filter, and the way of every resize."""
    told: list[str | int] = []

    def jpeg(picture: torch.Tensor, quality: int) -> torch.Tensor:
        told.append(quality)
        return picture

    def interpolate(picture: torch.Tensor, size: tuple[int, int], mode: str, **more: bool) -> torch.Tensor:
        told.append(mode)
        return picture

    for name in ("make", "sinc"):
        monkeypatch.setattr(kernels, name, lambda *each: None)
    monkeypatch.setattr(degradation, "add_noise", lambda picture, recipe, generator: picture)
    monkeypatch.setattr(degradation, "jpeg", jpeg)
    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)
    generator, clean = seeded(8), torch.zeros(3, 64, 64)
    before = modes = 0
    qualities: list[list[int]] = [[], []]
    for _ in range(10_000):
        told.clear()
        degradation.degrade(clean, replace(Degradation(), sharpen=False), generator)
        first, second = (place for place, each in enumerate(told) if isinstance(each, int))
        qualities[0].append(int(told[first]))
        qualities[1].append(int(told[second]))
        before += second < len(told) - 1  # the picture is resized and filtered after it
        modes += told[0] == "area" and first == 1
    for each in qualities:
        values = torch.tensor(each, dtype=torch.float32)
        assert (values.min().item(), values.max().item()) == (30, 95)
        assert values.mean().item() == pytest.approx(62.5, abs=0.8)
        assert values.std().item() == pytest.approx(65 / 12**0.5, abs=0.5)
    assert before / 10_000 == pytest.approx(0.5, abs=0.015)
    assert modes / 10_000 == pytest.approx(0.9 / 3, abs=0.015)  # one in ten keeps its size
