"""Every default stands in one place, and what cannot work is refused there."""

import re
from dataclasses import replace
from typing import get_args

import pytest

from seesr_cli.catalogue import MINIATURE, MODELS, PRESETS, SEESR, TURBO, Model, preset
from seesr_cli.errors import UsageError
from seesr_cli.settings import Preset, Settings


def test_the_published_defaults_are_the_paper_s() -> None:
    published = SEESR.defaults
    assert (published.steps, published.guidance, published.control) == (50, 5.5, 1.0)
    assert (published.scale, published.process_size, published.tile, published.overlap) == (4, 512, 96, 4)
    assert (published.start, published.colour) == ("lr", "adain")
    assert (TURBO.defaults.steps, TURBO.defaults.guidance, TURBO.defaults.overlap) == (2, 1.0, 32)


def test_only_the_miniature_is_bundled_and_says_what_it_is() -> None:
    assert [model.name for model in MODELS.values() if model.bundled] == ["miniature"]
    assert "not the published model" in MINIATURE.about


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 0.0),
        ("scale", 1000.0),
        ("scale", float("nan")),
        ("steps", 0),
        ("guidance", -1.0),
        ("control", float("inf")),
        ("start", "middle"),
        ("colour", "sepia"),
        ("process_size", 1),
        ("tile", 0),
        ("tile", "large"),
        ("guidance_within", (3.0, 3.0)),
        ("guidance_within", (-1.0, 3.0)),
        ("guidance_within", (0.0, float("inf"))),
        ("guidance_within", (float("nan"), 3.0)),
        ("overlap", 96),
        ("overlap", -1),
        ("seed", -1),
    ],
)
def test_a_setting_that_cannot_work_is_named(name: str, value: float | str | tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=re.escape(name.replace("_", "-"))):
        replace(Settings(), **{name: value})  # type: ignore[arg-type]


def test_presets_are_the_published_model_s_and_ever_fewer_steps() -> None:
    assert tuple(PRESETS) == get_args(Preset)
    balanced, fast = (replace(SEESR.defaults, **preset(name, SEESR)) for name in ("balanced", "fast"))
    assert SEESR.defaults.steps > balanced.steps > fast.steps
    assert balanced.guidance_within is None


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_preset_published_undoes_what_others_set(model: Model) -> None:
    changed = replace(model.defaults, **(preset("fast", SEESR) | {"seed": 5}))
    assert replace(changed, **preset("published", model)) == replace(model.defaults, seed=5)


def test_no_preset_raises_a_model_s_steps() -> None:
    for model in (TURBO, MINIATURE):
        with pytest.raises(UsageError, match=f"--preset fast has .* {model.name} takes .* leave --preset out"):
            preset("fast", model)
