"""Recipes: the published numbers, and sentences for what a recipe cannot have."""

from pathlib import Path

import pytest

from seesr_cli.errors import UsageError
from seesr_cli.training import recipe


def test_the_published_recipes_have_the_published_numbers() -> None:
    seesr = recipe.load("seesr", "published")
    assert (seesr.steps, seesr.batch, seesr.lr, seesr.betas, seesr.decay) == (150_000, 192, 5e-5, (0.9, 0.999), 1e-2)
    assert (seesr.clip, seesr.warmup, seesr.halvings, seesr.tag_dropout, seesr.precision) == (1.0, 0, (), 0.5, "fp16")
    assert (seesr.size, seesr.flip, seesr.turns, seesr.least_side, seesr.least_bytes) == (512, True, False, 384, 10**5)
    assert (seesr.sharpened, seesr.posterior, seesr.enlargement, seesr.quality_words) == (
        True,
        True,
        "published",
        False,
    )
    first = recipe.load("seesr", "published-v1")
    assert (first.steps, first.batch) == (100_000, 32)
    dape = recipe.load("dape", "published")
    assert (dape.steps, dape.lr, dape.betas, dape.decay, dape.warmup) == (300_000, 1e-4, (0.9, 0.999), 0.0, 50)
    assert (dape.halvings, dape.drop_path, dape.dropout, dape.whole) == ((20_000, 30_000), 0.1, 0.1, True)


@pytest.mark.parametrize("stage", recipe.STAGES)
def test_every_recipe_that_comes_with_the_program_can_be_read(stage: recipe.Stage) -> None:
    assert recipe.names(stage) == ("finetune", "published", "published-v1")
    for name in recipe.names(stage):
        assert recipe.load(stage, name).stage == stage


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("tag_dropuot=0.3", "no key tag_dropuot. Did you mean tag_dropout"),
        ("steps=many", "steps is 'many': give a whole number"),
        ("steps=0", "steps is 0: give 1 or more"),
        ("steps", "write key=value"),
        ("precision=fp61", "precision is 'fp61': give fp32, bf16, fp16. Did you mean fp16"),
        ("learns=lora", "learns is lora: seesr train seesr has published, networks or all"),
        ("flip=1", "flip is 1: give true or false"),
        ("betas=[0.9]", "betas are two numbers"),
    ],
)
def test_what_a_recipe_cannot_have_is_told(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=told.replace(".", r"\.").replace("[", r"\[")):
        recipe.load("seesr", "published", [word])


def test_a_recipe_of_ones_own_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('stage = "seesr"\nsteps = 5\nlr = 1e-4\n')
    assert recipe.load("seesr", str(file), ["batch=3", "betas=[0.8, 0.9]"]).betas == (0.8, 0.9)
    with pytest.raises(UsageError, match="is a recipe of seesr train seesr"):
        recipe.load("dape", str(file))
    with pytest.raises(UsageError, match="no recipe publised"):
        recipe.load("seesr", "publised")


def test_a_run_may_go_on_with_more_steps_but_not_with_another_rate() -> None:
    plain = recipe.load("seesr", "published")
    assert recipe.load("seesr", "published", ["steps=9", "workers=1"]).digest() == plain.digest()
    assert recipe.load("seesr", "published", ["lr=1e-3"]).digest() != plain.digest()
