"""Rates are learnt from runs, not known before one, and a broken memory of them is no error."""

import json
from pathlib import Path

import pytest

from seesr_cli.forecast import rates
from seesr_cli.forecast.rates import Parts, Phases, Rates
from seesr_cli.machine.device import choose

CPU = choose("cpu", "fp32")
USED = Rates(Parts(1e9, 1e9, 2e9, 4e9, 2e9, 1e6), "known after the first step")
EXPECTED = Parts(1.0, 1.0, 2.0, 10.0, 3.0, 1.0)
TOOK = Phases(8.0, 5.0, 4.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder of one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def known() -> Rates:
    return rates.rates(CPU, "miniature")


def test_nothing_is_said_of_a_device_that_no_picture_was_made_on() -> None:
    assert known() == Rates(rates.ASSUMED, "known after the first step")


def test_what_a_picture_took_is_remembered() -> None:
    rates.remember(CPU, "miniature", USED, EXPECTED, TOOK)
    found = known()
    assert found.source == "measured here in earlier runs"
    # Twice as slow before the steps, twice as fast in them, as fast as was thought after them.
    assert found.parts == pytest.approx((0.5e9, 0.5e9, 1e9, 8e9, 2e9, 1e6))


def remember_again(took: Phases) -> None:
    """Remember a picture whose forecast was made with what is known."""
    found = known()
    expected = Parts(*(part * then / now for part, then, now in zip(EXPECTED, USED.parts, found.parts, strict=True)))
    rates.remember(CPU, "miniature", found, expected, took)


def test_later_pictures_move_the_rates_and_do_not_replace_them() -> None:
    rates.remember(CPU, "miniature", USED, EXPECTED, Phases(4.0, 10.0, 4.0))
    begun = known().parts.denoise
    remember_again(TOOK)
    assert begun < known().parts.denoise < 8e9
    for _ in range(30):
        remember_again(TOOK)
    assert known().parts.denoise == pytest.approx(8e9, rel=1e-3)


def test_a_run_that_others_slowed_moves_the_rates_less_than_a_faster_one() -> None:
    rates.remember(CPU, "miniature", USED, EXPECTED, TOOK)
    usual = known().parts.denoise
    remember_again(TOOK._replace(steps=10 * TOOK.steps))
    slowed = known().parts.denoise
    assert usual / 10 < usual / 4 < slowed < usual
    remember_again(TOOK)
    assert slowed < (slowed * usual) ** 0.5 < known().parts.denoise < usual


def test_models_and_precisions_have_rates_of_their_own() -> None:
    rates.remember(CPU, "seesr", USED, EXPECTED, TOOK)
    rates.remember(choose("cpu", "bf16"), "miniature", USED, EXPECTED, TOOK)
    assert known().source == "known after the first step"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"KEY": 1}', '{"KEY": {"denoise": 1}}', '{"KEY": PARTS}', "\x00"])
def test_a_damaged_memory_counts_as_none_and_is_made_anew(cache: Path, content: str) -> None:
    rates.remember(CPU, "miniature", USED, EXPECTED, TOOK)
    (file,) = cache.rglob("*.json")
    (key,) = json.loads(file.read_text())
    bad = json.dumps(dict.fromkeys(Parts._fields, "fast"))
    file.write_text(content.replace('"KEY"', json.dumps(key)).replace("PARTS", bad))
    assert known().source == "known after the first step"
    rates.remember(CPU, "miniature", USED, EXPECTED, TOOK)
    assert known().source == "measured here in earlier runs"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    rates.remember(CPU, "miniature", USED, EXPECTED, TOOK)
    assert known().source == "known after the first step"
