"""Flags win over the environment, and that over seesr.toml; what neither can mean is one sentence."""

import os
from pathlib import Path

import pytest
import typer

from seesr_cli.cli import app
from seesr_cli.cli.config import _with_values, defaults
from seesr_cli.errors import UsageError

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(typer, "get_app_dir", lambda name: str(tmp_path / "own" / name))
    monkeypatch.delenv("SEESR_WEIGHTS", raising=False)


def parsed(*arguments: str) -> dict[str, object]:
    """What `seesr upscale` would be called with."""
    group = typer.main.get_command(app)
    context = group.make_context("seesr", ["upscale", "a.png", *arguments])
    command = COMMANDS["upscale"]
    return command.make_context("upscale", ["a.png", *arguments], parent=context).params


def scale_of(*arguments: str) -> object:
    return parsed(*arguments)["scale"]


def test_flags_win_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scale_of() is None
    Path("seesr.toml").write_text("scale = 2\n")
    assert scale_of() == 2
    monkeypatch.setenv("SEESR_SCALE", "3")
    assert scale_of() == 3
    assert scale_of("-s", "5") == 5


def test_a_table_is_for_its_command_and_the_top_for_all() -> None:
    Path("seesr.toml").write_text(
        'model = "miniature"\ntolerant = true\n[upscale]\nadd-tag = ["a", "b"]\nlong_edge = 900\n'
    )
    found = defaults(COMMANDS)
    assert found["tags"] == {"model": "miniature", "tolerant": True}
    assert found["upscale"] == {"model": "miniature", "tolerant": True, "add_tag": ["a", "b"], "long_edge": "900"}


def test_options_have_the_names_they_are_typed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("seesr.toml").write_text('format = "tiff"\njson = true\n')
    assert defaults(COMMANDS)["upscale"] == {"kind": "tiff", "as_json": True}
    Path("seesr.toml").unlink()
    monkeypatch.setenv("SEESR_FORMAT", "webp")
    monkeypatch.setenv("SEESR_WEIGHTS", "somewhere")
    assert parsed()["kind"] == "webp"
    assert parsed()["weights"] is None  # the miniature's are in the package, whatever the variable says


def test_a_preset_and_an_interval_stand_there_as_they_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("seesr.toml").write_text('preset = "balanced"\nguidance-within = "0.3,5"\ntile = "auto"\n')
    assert [parsed()[name] for name in ("preset_name", "guidance_within", "tile")] == ["balanced", "0.3,5", "auto"]
    monkeypatch.setenv("SEESR_PRESET", "fast")
    assert parsed()["preset_name"] == "fast"
    assert parsed("--preset", "published")["preset_name"] == "published"


def test_the_current_folder_s_file_stands_before_the_person_s_own(tmp_path: Path) -> None:
    own = tmp_path / "own" / "seesr" / "seesr.toml"
    own.parent.mkdir(parents=True)
    own.write_text("seed = 1\nscale = 2\n")
    assert defaults(COMMANDS)["upscale"] == {"seed": ["1"], "scale": "2"}
    Path("seesr.toml").write_text("seed = 2\n")
    assert defaults(COMMANDS)["upscale"] == {"seed": ["2"]}


def test_a_weights_folder_named_there_stands_in_for_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEESR_WEIGHTS", "")
    monkeypatch.delenv("SEESR_WEIGHTS")
    Path("seesr.toml").write_text('weights = "/a/folder"\n')
    assert "weights" not in defaults(COMMANDS)["upscale"]
    assert os.environ["SEESR_WEIGHTS"] == "/a/folder"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("scale = ", "seesr.toml cannot be read \\(Invalid value"),
        ("scales = 2", "seesr.toml: 'scales' is no option of seesr upscale or seesr tags"),
        ("[tags]\nscale = 2", "seesr.toml: 'scale' under \\[tags\\] is no option of seesr tags"),
        ("scale = 2024-01-01", "seesr.toml: 'scale' is neither a word, a number"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(text: str, sentence: str) -> None:
    Path("seesr.toml").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        defaults(COMMANDS)


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        (["a.png", "--tags"], ["a.png", "--tags", "json"]),
        (["--tags", "a.png"], ["--tags", "json", "a.png"]),
        (["--tags", "txt", "a.png"], ["--tags", "txt", "a.png"]),
        (["--tags", "-q", "--", "--tags"], ["--tags", "json", "-q", "--", "--tags"]),
    ],
)
def test_tags_may_stand_without_its_value(typed: list[str], taken: list[str]) -> None:
    assert _with_values(typed) == taken
