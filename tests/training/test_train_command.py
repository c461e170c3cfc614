"""`seesr train` as it is typed: what is told before anything heavy is done, and events."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from seesr_cli.cli import app
from seesr_cli.errors import UsageError
from seesr_cli.training import checkpoint

RUNNER = CliRunner()
DAPE = ["train", "dape", "finetune", "--devices", "cpu"]
SETS = ["precision=fp32", "steps=1", "batch=1", "size=64", "least_side=0", "workers=0", "validate=1", "save_every=1"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.effect_noise((80, 72), 60 + number).convert("RGB").save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "stepz=4"], "no key stepz. Did you mean steps"),
        (["--set", "model=tiny"], "model is tiny: give seesr, turbo, miniature"),
        (["--data", "nowhere"], "--data nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: list[str], told: str, tmp_path: Path) -> None:
    data = [] if "--data" in words else ["--data", str(tmp_path)]
    done = RUNNER.invoke(app, [*DAPE, *data, "--out", str(tmp_path / "run"), *words])
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)


def test_a_run_is_told_in_json_and_exported(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    out, to = tmp_path / "run", tmp_path / "to"
    sets = [word for each in SETS for word in ("--set", each)]
    command = [*DAPE, "--data", str(pictures), "--out", str(out), "--weights", str(tiny_weights), "--json", *sets]
    done = RUNNER.invoke(app, command)
    assert done.exit_code == 0, done.exception
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["begun", "step", "saved", "validated", "ended"]
    step = events[1]
    assert step["step"] == step["steps"] == step["next_checkpoint"] == 1
    assert step["samples_per_second"] > 0
    assert checkpoint.whole(out)
    done = RUNNER.invoke(app, ["train", "export", str(out), "--to", str(to)])
    assert done.exit_code == 0, done.exception
    assert (to / "DAPE.pth").is_file()
    assert (to / "seesr" / "unet" / "config.json").is_file()


def test_a_dry_run_says_memory_and_hours_and_writes_nothing(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    sets = [word for each in SETS for word in ("--set", each)]
    command = [*DAPE, "--data", str(pictures), "--out", str(tmp_path / "run"), "--weights", str(tiny_weights), *sets]
    done = RUNNER.invoke(app, [*command, "--dry-run"])
    assert done.exit_code == 0, done.exception
    assert "hours for 1 steps" in done.stdout
    assert not (tmp_path / "run").exists()


def test_pictures_are_packed_into_shards(pictures: Path, tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["train", "shards", str(pictures), "--to", str(tmp_path / "s"), "--size", "20KB"])
    assert done.exit_code == 0, done.exception
    assert len(list((tmp_path / "s").glob("*.tar"))) == 3
    done = RUNNER.invoke(app, ["train", "shards", str(pictures), "--to", str(tmp_path / "s"), "--size", "much"])
    assert "--size much" in str(done.exception)


@pytest.mark.parametrize("stage", ["dape", "seesr"])
def test_an_option_that_is_lacking_is_named(stage: str) -> None:
    done = RUNNER.invoke(app, ["train", stage])
    assert str(done.exception) == f"--data is missing. More: seesr train {stage} --help"
