"""The result has exactly the size that was asked for, whatever the picture's."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesr_cli.errors import PictureError, UsageError
from seesr_cli.settings import Settings
from seesr_cli.sizes import LEAST_SIDE, MOST_ENLARGED, Size, sizes

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.floats(1, 16))
def test_a_scale_gives_scale_times_the_picture(height: int, width: int, scale: float) -> None:
    found = sizes((height, width), Settings(scale=scale))
    assert found.result == found.whole == (max(1, round(height * scale)), max(1, round(width * scale)))


def met(size: Size, settings: Settings) -> bool:
    """Whether a result of `size` is what exact settings ask for."""
    asked = {"height": size[0], "width": size[1], "long_edge": max(size)}
    return all(getattr(settings, name) in (None, side) for name, side in asked.items())


@given(SIDES, SIDES, st.integers(1, 20000), st.integers(1, 20000))
def test_exact_sizes_are_met_or_refused(height: int, width: int, wide: int, high: int) -> None:
    for settings in (
        Settings(width=wide),
        Settings(height=high),
        Settings(width=wide, height=high),
        Settings(long_edge=wide),
    ):
        with suppress(PictureError):
            found = sizes((height, width), settings)
            assert met(found.result, settings)
            assert found.whole[0] <= 16 * height or found.whole[1] <= 16 * width


def test_more_than_sixteen_times_as_large_is_refused() -> None:
    with pytest.raises(PictureError, match="16 times is the most"):
        sizes((10, 10), Settings(width=161))
    assert sizes((10, 10), Settings(width=160)).result == (160, 160)


@given(SIDES, SIDES, st.floats(0.001, 100))
def test_megapixels_are_met_to_the_rounding_of_the_sides(height: int, width: int, millions: float) -> None:
    try:
        high, wide = sizes((height, width), Settings(megapixels=millions)).result
    except PictureError:
        return
    assert (high - 0.5) * (wide - 0.5) <= millions * 1e6 <= (high + 0.5) * (wide + 0.5) or 1 in (high, wide)


@given(SIDES, SIDES, st.floats(1, 16))
def test_the_frame_is_padded_to_what_networks_divide_and_enlarged_within_bounds(
    height: int, width: int, scale: float
) -> None:
    found = sizes((height, width), Settings(scale=scale))
    for side, padded in zip(found.frame, found.padded, strict=True):
        assert padded % 8 == 0
        assert side <= padded < max(side + 8, LEAST_SIDE + 1)
    enlarged = found.frame[0] * found.frame[1]
    assert enlarged <= max(found.whole[0] * found.whole[1], 2 * MOST_ENLARGED)


def test_a_result_smaller_than_the_picture_is_made_at_its_size_and_reduced() -> None:
    found = sizes((1000, 2000), Settings(long_edge=500))
    assert found.frame == (1000, 2000)
    assert found.whole == found.result == (250, 500)


def test_width_and_height_cut_evenly_what_is_over() -> None:
    found = sizes((300, 400), Settings(width=800, height=800))
    assert found.whole == (800, 1067)
    assert found.box == (0, 133, 800, 933)
    assert found.cut == (0, 267)


def test_very_elongated_pictures_stay_within_bounds() -> None:
    found = sizes((3, 500), Settings())
    assert found.result == (12, 2000)
    assert found.frame[0] * found.frame[1] < 1.1 * MOST_ENLARGED
    assert sizes((1, 65000), Settings()).padded[0] == LEAST_SIDE


def test_two_sizes_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="--width and --long-edge"):
        Settings(width=100, long_edge=100)
    with pytest.raises(UsageError, match="--megapixels"):
        Settings(megapixels=0)
