"""Tiles cover the latent, and their shares sum to one everywhere."""

from itertools import product
from math import ceil, exp

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seesr_cli.catalogue import MODELS, SEESR, TURBO, Model
from seesr_cli.sampling.tiles import cover, gaussian, grid, portions, tilings, work


@settings(max_examples=80)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(8, 24), st.integers(0, 7))
def test_shares_sum_to_one_at_every_pixel(height: int, width: int, tile: int, overlap: int) -> None:
    total = torch.zeros(height, width)
    for part in cover((height, width), tile, overlap):
        assert part.share.shape == (part.bottom - part.top, part.right - part.left)
        total[part.top : part.bottom, part.left : part.right] += part.share
    torch.testing.assert_close(total, torch.ones(height, width))


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 24), st.integers(0, 7))
def test_the_grid_is_where_the_tiles_lie(height: int, width: int, tile: int, overlap: int) -> None:
    laid, tiles = grid((height, width), tile, overlap), cover((height, width), tile, overlap)
    assert (laid.count, laid.tile) == (len(tiles), tuple(tiles[0].share.shape))
    assert [(part.top, part.left) for part in tiles] == list(product(laid.tops, laid.lefts))


@given(st.integers(1, 100), st.integers(1, 20))
def test_portions_are_few_full_and_equal(count: int, most: int) -> None:
    found = portions(count, most)
    lengths = [portion.stop - portion.start for portion in found]
    assert [place for portion in found for place in range(count)[portion]] == list(range(count))
    assert len(found) == ceil(count / most)
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1
    assert lengths[-1] == max(lengths)


def test_a_latent_that_fits_is_one_tile_of_share_exactly_one() -> None:
    (tile,) = cover((48, 192), 96, 4)  # as many pixels as 96 × 96, whatever the shape
    assert tile[:4] == (0, 0, 48, 192)
    assert torch.equal(tile.share, torch.ones(48, 192))


def test_tiles_start_every_stride_and_the_last_ends_at_the_border() -> None:
    tiles = cover((128, 200), 96, 4)
    assert sorted({tile.top for tile in tiles}) == [0, 32]
    assert sorted({tile.left for tile in tiles}) == [0, 92, 104]
    assert {tile.bottom - tile.top for tile in tiles} == {tile.right - tile.left for tile in tiles} == {96}


def test_a_narrow_latent_is_covered_by_squares_of_its_width() -> None:
    tiles = cover((400, 30), 96, 4)
    assert {(tile.bottom - tile.top, tile.right - tile.left) for tile in tiles} == {(30, 30)}
    assert len(tiles) == 1 + ceil((400 - 30) / 26)


def test_weights_are_the_published_gaussian_half_a_pixel_off_down_the_rows() -> None:
    weights = gaussian(16)
    row, column = 3, 11
    expected = exp(-(((row - 8) / 16) ** 2) / 0.02) * exp(-(((column - 7.5) / 16) ** 2) / 0.02)
    assert abs(float(weights[row, column]) - expected) < 1e-7
    torch.testing.assert_close(weights, weights.flip(1))
    assert not torch.allclose(weights, weights.flip(0))


def test_a_crop_of_a_larger_picture_is_the_same_place() -> None:
    tile = cover((20, 30), 16, 4)[1]
    latent = torch.arange(600.0).view(1, 1, 20, 30)
    picture = latent.repeat_interleave(8, -1).repeat_interleave(8, -2)
    assert torch.equal(tile.crop(picture, 8)[..., ::8, ::8], tile.crop(latent))


@settings(max_examples=60)
@given(st.integers(8, 600), st.integers(8, 600), st.sampled_from([*MODELS.values()]), st.integers(8, 512))
def test_the_first_way_to_tile_is_the_least_work(height: int, width: int, model: Model, most: int) -> None:
    ways = tilings((height, width), model.tilings, most)
    assert all(0 <= overlap < side <= most for side, overlap in ways)
    assert sorted(ways, key=lambda way: work((height, width), *way)) == ways
    side, overlap = model.tilings[0]
    assert most < side or work((height, width), *ways[0]) <= work((height, width), side, overlap)


def test_work_is_that_of_the_tiles_that_cover() -> None:
    for size in ((64, 64), (128, 128), (256, 256), (40, 300)):
        for tile, overlap in SEESR.tilings:
            tiles = cover(size, tile, overlap)
            area = tiles[0].share.numel()
            assert work(size, tile, overlap) == len(tiles) * work((area, 1), area, 0)


def test_a_megapixel_is_one_pass_and_more_is_not() -> None:
    assert tilings((128, 128), SEESR.tilings) == [(128, 4), (64, 8), (96, 4)]
    assert tilings((128, 128), SEESR.tilings, most=96) == [(64, 8), (96, 4)]
    assert tilings((256, 256), SEESR.tilings) == [(64, 8), (96, 4)]
    assert tilings((128, 128), TURBO.tilings) == [(128, 32), (96, 32)]


def test_a_small_picture_is_one_tile_and_little_memory_means_the_safest_overlap() -> None:
    assert tilings((64, 64), SEESR.tilings)[0] == (96, 4)
    assert tilings((128, 128), SEESR.tilings, most=48) == [(48, 8)]
    assert tilings((128, 128), TURBO.tilings, most=48) == [(48, 24)]


def test_a_model_s_own_tiles_are_the_first_of_those_without_seams() -> None:
    for model in MODELS.values():
        assert model.tilings[0] == (model.defaults.tile, model.defaults.overlap)
