"""One picture through all stages, with a tiny network of the published structure."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seesr_cli.catalogue import SEESR, TURBO
from seesr_cli.errors import PictureError
from seesr_cli.restore.sampled import Sampled, Wanted
from seesr_cli.restore.tag import load_reader
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import Settings

QUICK = Settings(scale=2, steps=2, process_size=64)


@pytest.fixture(scope="module")
def upscaler(tiny_weights: Path) -> Upscaler:
    return Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def sampled_of(upscaler: Upscaler, pixels: Tensor, settings: Settings, tags: tuple[str, ...] | None = None) -> Sampled:
    return upscaler.sample(upscaler.prepare(pixels, settings), settings, tags)


@pytest.mark.parametrize(("size", "scale"), [((33, 45), 2.0), ((40, 36), 1.5), ((5, 90), 2.0), ((1, 1), 4.0)])
def test_the_result_is_exactly_scale_times_the_input(upscaler: Upscaler, size: tuple[int, int], scale: float) -> None:
    restored = upscaler.upscale(picture(*size), replace(QUICK, scale=scale, steps=1))
    assert restored.pixels.shape == (3, round(size[0] * scale), round(size[1] * scale))
    assert restored.pixels.dtype == torch.float32
    assert restored.pixels.min() >= 0
    assert restored.pixels.max() <= 1


def test_a_seed_gives_the_same_picture_in_any_order(upscaler: Upscaler) -> None:
    first = upscaler.upscale(picture(32, 32), QUICK).pixels
    upscaler.upscale(picture(36, 40, seed=1), QUICK)
    assert torch.equal(upscaler.upscale(picture(32, 32), QUICK).pixels, first)
    assert not torch.equal(upscaler.upscale(picture(32, 32), replace(QUICK, seed=1)).pixels, first)


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": 1.0},
        {"guidance_within": (0.5, 20.0)},
        {"control": 0.0},
        {"prompt": "frog"},
        {"negative": "frog"},
        {"start": "noise"},
        {"colour": "wavelet"},
        {"steps": 3},
        {"tile": 8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_reaches_the_picture(upscaler: Upscaler, change: dict[str, float | str]) -> None:
    usual = upscaler.upscale(picture(40, 40), QUICK).pixels
    changed = upscaler.upscale(picture(40, 40), replace(QUICK, **change)).pixels  # type: ignore[arg-type]
    assert float((usual - changed).abs().max()) > 1 / 255


def test_guidance_within_all_noise_is_guidance_and_within_none_is_none(upscaler: Upscaler) -> None:
    guided = upscaler.upscale(picture(40, 40), QUICK).pixels
    alone = upscaler.upscale(picture(40, 40), replace(QUICK, guidance=1.0)).pixels
    everywhere, nowhere = (
        upscaler.upscale(picture(40, 40), replace(QUICK, guidance_within=within)).pixels
        for within in ((0.0, 100.0), (90.0, 100.0))
    )
    assert torch.equal(everywhere, guided)
    torch.testing.assert_close(nowhere, alone, atol=1e-4, rtol=0)
    assert float((guided - alone).abs().max()) > 1 / 255


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize(
    ("change", "tile"),
    [
        ({}, 96),
        ({}, 8),
        ({"guidance": 1.0}, 96),
        ({"guidance_within": (0.5, 20.0)}, 8),
        ({"start": "noise"}, 96),
        ({"solver": "dpm++"}, 8),
    ],
    ids=lambda each: "-".join(map(str, each.values())) or "usual" if isinstance(each, dict) else str(each),
)
def test_pictures_sampled_together_become_what_each_becomes_alone(
    upscaler: Upscaler, change: dict[str, object], tile: int
) -> None:
    settings = replace(QUICK, prompt="frog " * 80, tile=tile, **change)  # type: ignore[arg-type]
    given = [None, ("a", "b"), ()]
    wanted = [Wanted(upscaler.prepare(picture(40, 40, seed), settings), tags) for seed, tags in enumerate(given)]
    together = upscaler.sample_together(wanted, settings)
    for each, own in zip(wanted, together, strict=True):
        alone = upscaler.sample(each.picture, settings, each.tags)
        close(own.latent, alone.latent)
        assert own.fitted == alone.fitted
        assert [tag.name for tag in own.reading.tags] == [tag.name for tag in alone.reading.tags]
        assert own.notes == alone.notes != ()
        assert own.tiling == alone.tiling
    assert [own.call.tiles for own in together] == [3 if tile == 96 else 12] * 3


def test_no_grouping_and_no_batch_changes_a_picture_beyond_rounding(upscaler: Upscaler) -> None:
    settings = replace(QUICK, tile=8)
    wanted = [Wanted(upscaler.prepare(picture(40, 40, seed), settings)) for seed in range(3)]
    alone = [upscaler.sample(each.picture, settings) for each in wanted]
    for most, taken in ((3, [3] * 3), (8, [4, 8, 8]), (64, [12] * 3)):  # of four tiles each
        sampled = upscaler.sample_together(wanted, settings, batch_size=most)
        for own, other in zip(sampled, alone, strict=True):
            close(own.latent, other.latent)
        assert [own.call.tiles for own in sampled] == taken


def test_as_many_pictures_go_together_as_have_all_their_tiles_in_one_call(upscaler: Upscaler) -> None:
    settings = replace(QUICK, tile=8)
    for most, pictures in ((None, 1), (1, 1), (3, 1), (4, 1), (8, 2), (15, 3), (64, 16)):
        assert upscaler.pictures_a_call((80, 80), settings, most) == pictures
    assert upscaler.pictures_a_call((80, 80), QUICK, 5) == 5


def test_chosen_tiles_are_the_least_work_for_the_size(tiny_weights: Path) -> None:
    upscaler = Upscaler.load(replace(SEESR, tilings=((8, 4),)), tiny_weights, "cpu", "fp32")
    auto = replace(QUICK, tile="auto")
    assert upscaler.sampler.limits.tiling(auto, (300, 80)) == (8, 4)
    sampled = sampled_of(upscaler, picture(40, 40), auto)
    assert sampled.tiling == upscaler.sampler.limits.tiling(auto, (10, 10)) == (10, 4)
    assert torch.equal(sampled.latent, sampled_of(upscaler, picture(40, 40), replace(QUICK, tile=10)).latent)
    assert not torch.equal(sampled.latent, sampled_of(upscaler, picture(40, 40), replace(QUICK, tile=8)).latent)


def test_progress_is_told_before_the_first_step_and_after_each(upscaler: Upscaler) -> None:
    told: list[tuple[int, int]] = []
    upscaler.upscale(picture(32, 32), QUICK, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    wanted = [Wanted(upscaler.prepare(picture(32, 32, seed), QUICK)) for seed in range(2)]
    upscaler.sample_together(wanted, QUICK, lambda done, total: told.append((done, total)))
    assert told == 2 * [(0, 2), (1, 2), (2, 2)]


def test_the_quality_words_stay_and_what_is_left_out_is_told(upscaler: Upscaler) -> None:
    restored = upscaler.upscale(picture(32, 32), replace(QUICK, prompt="frog " * 80))
    assert restored.sampled.fitted.prompt.positive.endswith("clean, high-resolution, 8k")
    assert any("no room for all of --prompt" in note for note in restored.notes)


def test_tags_are_as_a_person_wants_them(upscaler: Upscaler) -> None:
    seen = [tag.name for tag in upscaler.upscale(picture(32, 32), QUICK).sampled.reading.tags]
    settings = replace(QUICK, add_tags=("unicorn",), drop_tags=tuple(seen[:1]))
    assert [tag.name for tag in sampled_of(upscaler, picture(32, 32), settings).reading.tags] == [*seen[1:], "unicorn"]
    given = sampled_of(upscaler, picture(32, 32), QUICK, ("a", "b"))
    assert given.fitted.prompt.positive.startswith("a, b, ,")
    assert len(sampled_of(upscaler, picture(32, 32), replace(QUICK, tag_threshold=1.0)).reading.tags) == 0


def test_a_latent_remembered_is_developed_into_the_same_picture(upscaler: Upscaler) -> None:
    sampled = sampled_of(upscaler, picture(32, 32), QUICK)
    about = json.loads(json.dumps(sampled.about()))
    recalled = Sampled.recalled(sampled.latent, about)
    assert recalled.fitted == sampled.fitted
    assert recalled.reading.tags == sampled.reading.tags
    assert recalled.reading.near == sampled.reading.near
    assert json.loads(json.dumps(recalled.about())) == about


def test_what_16_bits_cannot_hold_is_decoded_again_and_told(tiny_weights: Path) -> None:
    upscaler = Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    upscaler.vae.network.half()
    upscaler.vae.network.decoder.conv_out.bias.data.fill_(float(torch.finfo(torch.float16).max))
    upscaler.vae.network.decoder.conv_out.weight.data.mul_(1e4)
    restored = upscaler.upscale(picture(32, 32), replace(QUICK, steps=1))
    assert restored.pixels.isfinite().all()
    assert any("fp32" in note for note in restored.notes)


def test_numbers_that_are_not_finite_are_a_failed_picture_and_never_a_black_one(tiny_weights: Path) -> None:
    upscaler = Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    upscaler.sampler.unet.conv_out.bias.data.fill_(torch.nan)
    with pytest.raises(PictureError, match="--dtype fp32"):
        upscaler.upscale(picture(32, 32), replace(QUICK, steps=1))


@pytest.mark.parametrize(("part", "done"), [("encoder", []), ("unet", [0])])
def test_numbers_that_are_not_finite_cost_one_step_at_most(tiny_weights: Path, part: str, done: list[int]) -> None:
    upscaler = Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    layer = upscaler.sampler.unet.conv_out if part == "unet" else upscaler.vae.network.encoder.conv_out
    layer.bias.data.fill_(torch.nan)
    steps: list[int] = []
    with pytest.raises(PictureError, match="--dtype fp32"):
        upscaler.upscale(picture(32, 32), replace(QUICK, steps=3), lambda step, total: steps.append(step))
    assert steps == done


def test_turbo_runs_without_guidance_in_two_steps(tiny_weights: Path) -> None:
    upscaler = Upscaler.load(TURBO, tiny_weights, "cpu", "fp32")
    settings = replace(TURBO.defaults, scale=2, process_size=64)
    assert [step.timestep for step in upscaler.sampler.schedule(settings).steps] == [999, 499]
    assert upscaler.upscale(picture(32, 32), settings).pixels.shape == (3, 64, 64)


def test_the_tagger_alone_reads_what_the_whole_reads(upscaler: Upscaler, tiny_weights: Path) -> None:
    alone = load_reader(SEESR, tiny_weights, "cpu", "fp32").read(picture(30, 40))
    assert alone.tags == upscaler.reader.read(picture(30, 40)).tags
