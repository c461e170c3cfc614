"""A forecast says what a picture takes, and what is refused comes with an option that makes it fit."""

import re
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
from seesr_cli.machine.share import Share
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
    for kind, times in (("png", 2), ("tiff", 2), ("jpeg", 1)):
        eight, sixteen = (of((512, 512), kind=kind, bits=bits).disk for bits in (8, 16))  # type: ignore[arg-type]
        assert sixteen == pytest.approx(times * eight, rel=0.3)


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


def test_what_fits_is_not_refused_and_what_is_not_known_neither() -> None:
    found = of((128, 128))
    check([(PHOTO, found)], ENDLESS)
    check([(PHOTO, found)], Room(None, int(1.1 * found.least.host), 2 * found.disk))


def test_a_tiny_picture_teaches_nothing() -> None:
    before = of((64, 64))
    remember(of((16, 16), process_size=64), Phases(10.0, 100.0, 10.0))
    assert of((64, 64)).rates == before.rates


@pytest.mark.parametrize(
    ("model", "picture", "changed", "share", "option"),
    [
        (SEESR, (256, 256), {"batch_size": 8}, 0.8, "batch-size"),
        (SEESR, (512, 512), {"tile": 256}, 0.99, "tile"),
        (SEESR, (512, 512), {}, 0.7, "dtype"),
        (MINIATURE, (1024, 1024), {}, 0.8, "scale"),
        (MINIATURE, (1024, 1024), {"long_edge": 4096}, 0.8, "scale"),
    ],
)
def test_the_option_a_refusal_names_makes_it_fit(
    model: Model, picture: tuple[int, int], changed: dict[str, Any], share: float, option: str
) -> None:
    for dtype in ("fp32", "bf16"):
        remember(of(picture, model, dtype=dtype, **changed), Phases(1.0, 9.0, 1.0))
    found = of(picture, model, **changed)
    room = Room(None, int(share * found.least.host / 0.95), None)
    with pytest.raises(ResourcesError) as refusal:
        check([(PHOTO, found)], room)
    sentence = str(refusal.value)
    named = re.search(r"use --([\w-]+) ([\w.]+)", sentence)
    assert named, sentence
    assert named[1] == option
    assert ("in the place of the size" in sentence) == ("long_edge" in changed)
    value: dict[str, Any]
    if option == "scale":
        value = {"scale": float(named[2]), "long_edge": None}
    else:
        value = {option.replace("-", "_"): named[2] if option == "dtype" else int(named[2])}
    check([(PHOTO, of(picture, model, **(changed | value)))], room)


def test_of_a_plan_that_fits_by_itself_fewer_at_a_time_are_advised() -> None:
    needed = int(of((256, 256)).least.host / 0.95) + 1
    half = Room(None, needed // 2, None, Share(host=2))
    with pytest.raises(ResourcesError, match="use fewer --jobs or --devices"):
        check([(PHOTO, of((256, 256), room=half))], half)
    check([(PHOTO, of((256, 256), room=half.whole()))], half.whole())


def test_a_precision_that_this_cpu_is_slow_in_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def advice() -> str:
        found = of((512, 512), SEESR)
        with pytest.raises(ResourcesError) as refusal:
            check([(PHOTO, found)], Room(None, int(0.7 * found.least.host), None))
        return str(refusal.value)

    # Before both were measured, the CPU's instructions tell.
    for instructions, proposed in (({"avx2": True, "amx_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=instructions: found)
        assert ("bf16" in advice()) == proposed
    remember(of((512, 512), SEESR), Phases(1.0, 9.0, 1.0))
    remember(of((512, 512), SEESR, dtype="bf16"), Phases(1.0, 9.0, 1.0))
    assert "bf16" in advice()
    for _ in range(9):
        remember(of((512, 512), SEESR, dtype="bf16"), Phases(1e6, 1e9, 1e6))
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    assert "bf16" not in advice()


def test_what_nothing_makes_fit_is_refused_all_the_same() -> None:
    with pytest.raises(ResourcesError, match=r"photo\.jpg needs 10\.\d GB of memory, and 95 MB are free: cut it"):
        check([(PHOTO, of((64, 64), SEESR))], Room(None, 10**8, None))


def test_all_results_together_must_fit_the_disk() -> None:
    found = of((128, 128))
    check([(PHOTO, found)], Room(None, None, int(1.5 * found.disk)))
    with pytest.raises(ResourcesError, match=r"The 2 results take up to .* another disk with -o"):
        check([(PHOTO, found), (PHOTO, found)], Room(None, None, int(1.5 * found.disk)))


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
