"""The metrics that need no weights: against recorded values, and against plain formulas."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seesr_cli.errors import PictureError
from seesr_cli.evaluate.consistency import consistency, departure
from seesr_cli.evaluate.fidelity import psnr, ssim
from seesr_cli.evaluate.measure import measure
from seesr_cli.evaluate.niqe import halved, niqe
from seesr_cli.evaluate.pairs import Pair
from seesr_cli.evaluate.pixels import Pixels, read


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    """A picture of soft blobs with a little noise, as photographs have."""
    blobs = enlarged(noise(height // 8 + 2, width // 8 + 2, seed), height, width)
    grain = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    return np.clip(blobs * 0.6 + 50 + grain, 0, 255).astype(np.uint8)


def enlarged(picture: Pixels, height: int, width: int) -> Pixels:
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def recorded(golden: Path) -> list[dict[str, Any]]:
    folder = golden / "metrics"
    return json.loads((folder / "metrics.json").read_text())["rows"] if folder.is_dir() else []


def test_psnr_and_ssim_are_those_that_were_recorded_of_the_published_calls(golden: Path) -> None:
    rows = recorded(golden)
    if not rows:
        pytest.skip("this recording has no metrics")
    for row in rows:
        result, reference = (
            read(golden / "metrics" / f"{row['pair']}_{kind}.png")[0] for kind in ("result", "reference")
        )
        wanted = math.inf if row["psnr_y"] is None else row["psnr_y"]
        assert psnr(result, reference) == pytest.approx(wanted, abs=1e-3), row
        assert ssim(result, reference) == pytest.approx(row["ssim_y"], abs=1e-5), row


def test_niqe_is_the_one_that_was_recorded_of_the_published_call(golden: Path) -> None:
    values = [
        (golden / "metrics" / f"{row['pair']}_{kind}.png", row[f"niqe_{kind}"])
        for row in recorded(golden)
        for kind in ("result", "reference")
        if row.get(f"niqe_{kind}") is not None
    ]
    if not values:
        pytest.skip("this recording has no NIQE")
    for path, wanted in values:
        assert niqe(read(path)[0]) == pytest.approx(wanted, rel=1e-3), path


def test_pictures_that_are_measured_at_once_come_in_order_and_few_are_begun_ahead(tmp_path: Path) -> None:
    begun: list[str] = []

    def pairs() -> Iterator[Pair]:
        for number in range(12):
            path = tmp_path / f"{number}.png"
            Image.fromarray(noise(96 * (2 if number % 3 else 8), 192, number)).save(path)
            begun.append(path.stem)
            yield Pair(path.stem, path)

    found = []
    for one in measure(pairs(), ["niqe"], at_once=3):
        found.append(one.pair.name)
        assert len(begun) <= len(found) + 3
    assert found == [str(number) for number in range(12)]


def test_psnr_of_one_grey_level_is_the_closed_form() -> None:
    first = np.full((16, 16, 3), 100, np.uint8)
    error = (219 / 255) ** 2  # Y spans 219 of the 255 levels
    assert psnr(first + 1, first) == pytest.approx(10 * math.log10(255**2 / error), abs=0.02)
    assert psnr(first, first) == math.inf


def test_ssim_is_the_sum_over_windows_that_its_paper_writes() -> None:
    first, second = smooth(24, 30), smooth(24, 30, seed=1)
    luma = [np.rint(picture @ np.array([65.481, 128.553, 24.966]) / 255 + 16) for picture in (first, second)]
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for top in range(24 - 10):
        for left in range(30 - 10):
            x, y = (plane[top : top + 11, left : left + 11] for plane in luma)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy, cov = (
                (window * (x - mx) ** 2).sum(),
                (window * (y - my) ** 2).sum(),
                (window * (x - mx) * (y - my)).sum(),
            )
            structure = max((2 * cov + 58.5225) / (vx + vy + 58.5225), 0)
            found.append((2 * mx * my + 6.5025) / (mx * mx + my * my + 6.5025) * structure)
    assert ssim(first, second) == pytest.approx(np.mean(found), abs=1e-6)


def test_what_is_measured_in_bands_is_what_is_measured_at_once() -> None:
    first, second = smooth(700, 40), smooth(700, 40, seed=1)
    parts = [ssim(first[top : top + 266], second[top : top + 266]) for top in (0, 256)]
    last = ssim(first[512:], second[512:])
    rows = [256, 256, 700 - 512 - 10]
    assert ssim(first, second) == pytest.approx(np.average([*parts, last], weights=rows), abs=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (10, 40), (40, 10)])
def test_ssim_says_that_it_needs_eleven_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="needs 11 pixels a side"):
        ssim(noise(*size), noise(*size))


def test_pictures_of_different_sizes_are_refused() -> None:
    for metric in (psnr, ssim):
        with pytest.raises(PictureError, match="The result has 20 x 12 pixels and its reference 12 x 20"):
            metric(noise(12, 20), noise(20, 12))


@pytest.mark.parametrize("picture", [noise(96, 100), np.zeros((200, 200, 3), np.uint8)])
def test_niqe_has_no_value_for_pictures_too_small_or_without_texture(picture: Pixels) -> None:
    assert niqe(picture) is None


def test_niqe_tells_a_photograph_from_noise_and_from_blur() -> None:
    picture = read(Path(__file__).parents[1] / "golden/metrics/0_reference.png")[0]
    blurred = enlarged(enlarged(picture, 64, 64), 256, 256)
    values = [niqe(each) for each in (picture, blurred, noise(256, 256))]
    assert None not in values
    assert min(values, key=lambda value: value or 0.0) == values[0]


def test_half_the_size_is_the_bicubic_reduction_of_pillow_within_its_rounding() -> None:
    plane = smooth(64, 48)[:, :, 0]
    wanted = np.asarray(Image.fromarray(plane).resize((24, 32), Image.Resampling.BICUBIC), np.float64)
    assert np.abs(halved(plane.astype(np.float64)) - wanted)[4:-4, 4:-4].max() < 1.01


@pytest.mark.parametrize(("height", "width"), [(192, 256), (96, 128), (70, 93), (48, 64), (31, 41), (1000, 1333)])
def test_a_picture_enlarged_or_reduced_by_bicubic_alone_is_consistent(height: int, width: int) -> None:
    source = smooth(48, 64)
    assert consistency(enlarged(source, height, width), source).psnr > 38


def test_a_result_of_another_picture_is_below_fifteen_decibels() -> None:
    assert consistency(enlarged(noise(48, 64, seed=1), 192, 256), noise(48, 64)).psnr < 15


def test_a_planted_invention_is_found_where_it_is() -> None:
    source = smooth(48, 64)
    result = enlarged(source, 192, 256)
    faithful = consistency(result, source)
    result[64:96, 128:160] = 255 - result[64:96, 128:160]  # one block of 8 x 8 of the input
    planted = consistency(result, source)
    assert planted.box == (16, 32, 24, 40)
    assert planted.worst > 10 * faithful.worst
    assert planted.psnr < faithful.psnr - 5


def test_what_is_invented_below_the_input_s_resolution_is_not_seen() -> None:
    source = smooth(48, 64)
    result = enlarged(source, 192, 256).astype(int)
    checks = 20 * ((np.indices((192, 256)).sum(0) % 2) * 2 - 1)
    assert consistency(np.clip(result + checks[:, :, None], 0, 255).astype(np.uint8), source).psnr > 38


@pytest.mark.parametrize(("height", "width"), [(192, 128), (96, 256), (200, 300), (20, 64), (48, 30)])
def test_a_result_cut_to_another_shape_meets_the_middle_of_its_input(height: int, width: int) -> None:
    source = smooth(48, 64)
    scale = max(height / 48, width / 64)
    whole = max(height, round(48 * scale)), max(width, round(64 * scale))
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    result = enlarged(source, *whole)[top : top + height, left : left + width]
    assert consistency(result, source).psnr > 38
    moved = np.roll(result, (5, 5), axis=(0, 1))
    assert consistency(moved, source).psnr < consistency(result, source).psnr - 6


def test_sides_that_were_rounded_are_no_cut() -> None:
    source = smooth(5, 1000)
    difference, corner = departure(enlarged(source, 8, 1500), source)
    assert difference.shape == (5, 1000, 3)
    assert corner == (0, 0)


def test_a_shift_of_colour_is_told_in_grey_levels() -> None:
    source = np.full((16, 16, 3), 100, np.uint8)
    result = np.full((64, 64, 3), 100, np.uint8)
    result[:, :, 2] = 107
    assert consistency(result, source).drift == pytest.approx(7, abs=1e-3)
    assert consistency(source, source).psnr == math.inf


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_consistency_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    import torch

    source, before = smooth(48, 64), torch.get_num_threads()
    result = enlarged(smooth(48, 64, seed=2), 192, 256)
    wanted = consistency(result, source)
    torch.set_num_threads(threads)
    try:
        assert consistency(result, source) == wanted
    finally:
        torch.set_num_threads(before)
