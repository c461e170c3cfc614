"""The controls' recipe: textures that only a tag can tell, a judge of spectra, and every stage once."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from seesr_cli.training.pairs import enlarge
from seesr_cli.training.photographs import unit

RECIPE = Path(__file__).parents[2] / "recipes" / "controls"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(RECIPE))
    return {name: importlib.import_module(name) for name in ("squares", "spectrum", "controls", "words")}


def test_the_judge_knows_all_six_textures_on_pictures_that_nobody_has_seen(recipe: dict[str, ModuleType]) -> None:
    squares, spectrum = recipe["squares"], recipe["spectrum"]
    fresh = squares.squares(72, seed=11)
    assert {each.texture for each in fresh} == set(range(6))
    for each in fresh:
        assert spectrum.texture(unit(each.clean)) == squares.TEXTURES[each.texture]


def test_the_judge_sees_nothing_on_a_field_and_does_not_guess_on_noise(recipe: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    texture = recipe["spectrum"].texture
    assert texture(torch.full((3, 64, 64), 0.5)) is None
    for _ in range(10):
        assert texture(0.5 + 0.2 * torch.randn(3, 64, 64, generator=generator)) is None


def test_mirroring_swaps_the_diagonals_and_a_quarter_turn_rows_and_columns(recipe: dict[str, ModuleType]) -> None:
    squares, spectrum = recipe["squares"], recipe["spectrum"]
    made = {squares.TEXTURES[each.texture]: unit(each.clean) for each in squares.squares(6, seed=3)}
    assert spectrum.texture(made["rising"].flip(-1)) == "falling"
    assert spectrum.texture(made["rows"].rot90(1, (-2, -1))) == "columns"


def test_the_small_picture_has_lost_the_texture_and_a_weak_hint_is_a_few_grey_levels(
    recipe: dict[str, ModuleType],
) -> None:
    squares, spectrum = recipe["squares"], recipe["spectrum"]
    for each in squares.squares(12, seed=5):
        assert each.bare.shape == each.hinted.shape == (3, 16, 16)
        clean = sum(spectrum.energy(unit(each.clean)))
        for small in (each.bare, each.hinted):
            frame = enlarge(unit(small), squares.SCALE)
            assert spectrum.texture(frame) is None
            assert sum(spectrum.energy(frame)) < 0.02 * clean
        hint = (each.hinted.float() - each.bare.float()).square().mean().sqrt().item()
        assert 1 < hint < 10


def test_without_a_hint_a_small_picture_is_the_same_under_every_texture(recipe: dict[str, ModuleType]) -> None:
    squares = recipe["squares"]

    def made(texture: int, seed: int) -> Any:
        return squares.square(texture, torch.Generator().manual_seed(seed))

    for seed in range(12):
        same = [made(texture, seed) for texture in range(6)]
        bare, hinted = (torch.stack([getattr(each, kind) for each in same]).float() for kind in ("bare", "hinted"))
        # brightest peaks are cut off, which moves some pixel's mean across a rounding
        assert (bare - bare[0]).abs().max() <= 1
        assert (bare - bare[0]).abs().mean() < 0.1
        assert (hinted - hinted[0]).abs().max() > 4


def test_each_texture_is_a_word_of_one_piece_that_no_other_has(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    names = recipe["squares"].TEXTURES
    recipe["words"].write_tokenizer(tmp_path, names)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert [tokenizer.tokenize(name) for name in names] == [[f"{name}</w>"] for name in names]


def test_a_smoke_run_makes_a_table_a_sheet_and_a_folder(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    controls = recipe["controls"]
    out, work = tmp_path / "controls", tmp_path / "work"
    controls.main(out, work, 0, None, 1, True)
    numbers = json.loads((out / "numbers.json").read_text(encoding="utf-8"))
    assert set(numbers["tags"]) == {"1", "3", "5.5"}
    assert len(numbers["tokens"]) == 5
    table = (out / "table.md").read_text(encoding="utf-8")
    assert all(name in table for name in ("wrong tag, guidance 5.5 (10)", "clean tokens", "control 0", "checker"))
    with Image.open(out / "sheet.png") as page:
        assert page.width > 12 * 64

    # what is there is not made again
    before = (work / "restorer.pt").read_bytes()
    controls.main(out, work, 0, [controls.Stage.RESTORER, controls.Stage.EXPORT], 1, True)
    assert (work / "restorer.pt").read_bytes() == before


def test_pairs_have_clean_and_own_tokens_and_two_prompts_without_tags(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    controls = recipe["controls"]
    making = controls.Making(controls.SMOKE, 0, tmp_path, tmp_path)
    making.train_tagger()
    making.train_student()
    pairs = making._pairs()
    assert len(pairs) == 2 * len(making.squares)
    assert not torch.equal(pairs[0].tokens, pairs[1].tokens)
    assert len({tuple(pair.tags.tolist()) for pair in pairs}) == 6
    assert len({tuple(pair.untagged.tolist()) for pair in pairs}) == 2
    assert torch.equal(pairs[0].degraded, making.squares[0].bare)
    second = len(recipe["squares"].LEARNT)
    assert torch.equal(pairs[2 * second].degraded, making.squares[second].hinted)
