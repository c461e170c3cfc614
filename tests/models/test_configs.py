"""The configurations of the networks are the published ones, unless files at hand have others."""

import json
from pathlib import Path
from typing import Any

import pytest

import real
from seesr_cli.catalogue import SEESR, TURBO
from seesr_cli.errors import WeightsInvalid
from seesr_cli.models import configs

REAL = Path(__file__).parents[1] / "golden" / "real"


def published(part: str) -> dict[str, Any]:
    return json.loads((REAL / f"{part}_config.json").read_text())


def test_the_sizes_that_are_written_down_are_those_of_the_published_files() -> None:
    for part, config in (("unet", configs.PUBLISHED_UNET), ("controlnet", configs.PUBLISHED_CONTROLNET)):
        assert config.items() <= published(part).items()
    assert configs.PUBLISHED_VAE.items() <= real.VAE_CONFIG.items()
    assert configs.PUBLISHED_TEXT.items() <= real.TEXT_CONFIG.items()
    head = configs.TAGGER["tagging_head"]
    assert head.items() <= configs.PUBLISHED_TAGGER["tagging_head"].items()
    assert {**configs.TAGGER, "tagging_head": None, "labels": None}.items() <= {
        **configs.PUBLISHED_TAGGER,
        "tagging_head": None,
        "labels": None,
    }.items()
    assert configs.networks(TURBO).unet == configs.networks(SEESR).unet


def test_configurations_of_a_folder_count_before_the_published_ones(tmp_path: Path) -> None:
    (tmp_path / "seesr" / "unet").mkdir(parents=True)
    config = tmp_path / "seesr" / "unet" / "config.json"
    config.write_text(json.dumps(published("unet") | {"block_out_channels": [32, 32, 64, 64]}))
    found = configs.networks(SEESR, tmp_path)
    assert found.unet["block_out_channels"] == [32, 32, 64, 64]
    assert found.controlnet == configs.PUBLISHED_CONTROLNET


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: str) -> None:
    config = tmp_path / "seesr" / "unet" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(content)
    with pytest.raises(WeightsInvalid, match=str(config)):
        configs.networks(SEESR, tmp_path)
