"""A forecast says what a picture takes."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import peak
from seesr_cli.catalogue import MINIATURE, SEESR, Model
from seesr_cli.errors import ResourcesError
from seesr_cli.forecast.check import check
from seesr_cli.forecast.estimate import Forecast, forecast, remember
from seesr_cli.forecast.rates import Phases
from seesr_cli.machine.available import Room
from seesr_cli.machine.device import choose
from seesr_cli.models.configs import networks
from seesr_cli.settings import Format
from seesr_cli.sizes import sizes

ENDLESS = Room(None, None, None)
PHOTO = Path("photo.jpg")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def of(
    picture: tuple[int, int],
    model: Model = MINIATURE,
    room: Room = ENDLESS,
    kind: Format = "png",
    bits: int = 8,
    dtype: str = "fp32",
    batch_size: int = 1,
    **changed: Any,
) -> Forecast:
    settings = replace(model.defaults, **changed)
    stations = sizes(picture, settings, networks(model).multiple)
    return forecast(stations, settings, model, choose("cpu", dtype), room, None, kind, bits, batch_size=batch_size)


def test_the_published_model_at_its_own_size_takes_what_was_counted() -> None:
    found = of((128, 128), SEESR)
    assert (found.tiles, found.side, found.calls) == (1, (64, 64), 50)
    assert found.work.denoise == pytest.approx(50 * 3.27e12, rel=0.01)
    assert found.operations == pytest.approx(50 * 3.27e12 + 3.63e12 + 0.33e12 + 0.09e12, rel=0.01)
    assert 9e9 < found.least.host < 11e9  # 2.2 billion numbers of four bytes, and what they work on


def test_without_guidance_a_step_is_half_the_work_and_one_prompt_is_read() -> None:
    guided, plain = of((128, 128), SEESR), of((128, 128), SEESR, guidance=1.0)
    assert plain.work.denoise == guided.work.denoise / 2
    assert plain.work.text == guided.work.text / 2


def test_a_step_without_guidance_between_others_is_half_a_step() -> None:
    plain, some = of((128, 128), SEESR), of((128, 128), SEESR, guidance_within=(0.28, 5.42))
    assert some.work.denoise == plain.work.denoise * (50 + 37) / 100  # timesteps 81 to 801
    assert some.calls == plain.calls
    assert some.refined(2.0).seconds.denoise == pytest.approx(2.0 * (50 + 37))  # the first is one of the others
    assert (
        of((128, 128), SEESR, guidance=1.0, guidance_within=(0.28, 5.42)).work
        == of((128, 128), SEESR, guidance=1.0).work
    )


def test_chosen_tiles_are_the_least_work_that_there_is_the_memory_for() -> None:
    whole, fixed = of((256, 256), SEESR, tile="auto"), of((256, 256), SEESR, tile=64, overlap=8)
    assert (whole.tiles, whole.side, whole.case.settings.tile) == (1, (128, 128), 128)
    assert whole.least.host > fixed.least.host
    room = Room(None, int((whole.least.host + fixed.least.host) / 2 / 0.95), None)
    tight = of((256, 256), SEESR, room=room, tile="auto")
    assert tight == of((256, 256), SEESR, room=room, tile=64, overlap=8)
    check([(PHOTO, tight)], room)
    with pytest.raises(ResourcesError):
        check([(PHOTO, of((256, 256), SEESR, room=room, tile=128))], room)


def test_a_start_from_noise_encodes_nothing() -> None:
    assert of((64, 64), start="noise").work.encode == 0


def test_more_pixels_never_take_less() -> None:
    found = [of((side, side), SEESR) for side in (128, 192, 256, 512, 1024, 3000)]
    for smaller, larger in pairwise(found):
        assert larger.tiles >= smaller.tiles
        assert larger.operations > smaller.operations
        assert larger.total_seconds > smaller.total_seconds
        assert larger.least.host >= smaller.least.host
        assert larger.expected.host >= smaller.expected.host
        assert larger.disk > smaller.disk


def test_half_the_precision_is_half_the_weights() -> None:
    full, half = of((64, 64), SEESR), of((64, 64), SEESR, dtype="bf16")
    assert full.least.host - half.least.host > 4e9


def test_sixteen_bits_take_twice_the_disk_where_the_format_has_them() -> None:
    latent = 4 * networks(MINIATURE).latent_channels * 512**2  # kept beside the result, of any format
    for kind, times in (("png", 2), ("tiff", 2), ("jpeg", 1)):
        eight, sixteen = (
            of((512, 512), kind=kind, bits=bits).disk - latent  # type: ignore[arg-type]
            for bits in (8, 16)
        )
        assert sixteen == pytest.approx(times * eight, rel=0.01)


def test_a_measured_first_step_corrects_the_time_of_all_steps() -> None:
    found = of((64, 64), steps=10).refined(3.0)
    assert found.seconds.denoise == pytest.approx(30)
    assert found.rates.source == "measured in this run"


def test_before_any_picture_the_first_step_tells_the_rate_of_all_networks() -> None:
    found = of((64, 64), steps=10)
    assert not found.timed
    first = found.refined(3.0)
    assert first.timed
    rates = first.rates.parts
    assert rates.tagger == rates.text == rates.encode == rates.denoise == rates.decode


def test_a_picture_s_time_is_the_next_one_s_forecast() -> None:
    taken = Phases(3.0, 20.0, 5.0)
    remember(of((64, 64)), taken)
    found = of((64, 64))
    assert found.rates.source == "measured here in earlier runs"
    assert found.phases == pytest.approx(taken)


def test_a_tiny_picture_teaches_nothing() -> None:
    before = of((64, 64))
    remember(of((16, 16), process_size=64), Phases(10.0, 100.0, 10.0))
    assert of((64, 64)).rates == before.rates


@pytest.mark.skipif(not peak.THERE, reason="memory is read from /proc")
def test_the_miniature_s_peak_in_memory_is_as_forecast() -> None:
    """Within a quarter of what a process really had at most, loading and all."""
    found = of((128, 128))
    code = f"""{peak.CODE}
import torch
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.catalogue import MINIATURE
Upscaler.load(MINIATURE, None, "cpu", "fp32").upscale(torch.rand(3, 128, 128), MINIATURE.defaults)
print(peak())
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.expected.host == pytest.approx(int(shown.stdout), rel=0.25)
