"""Every default stands in one place, and what cannot work is refused there."""

import re
from dataclasses import replace

import pytest

from seesr_cli.errors import UsageError
from seesr_cli.settings import MINIATURE, MODELS, SEESR, TURBO, Settings


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
        ("overlap", 96),
        ("overlap", -1),
        ("seed", -1),
    ],
)
def test_a_setting_that_cannot_work_is_named(name: str, value: float | str) -> None:
    with pytest.raises(UsageError, match=re.escape(name.replace("_", "-"))):
        replace(Settings(), **{name: value})  # type: ignore[arg-type]
