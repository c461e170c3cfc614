"""Help fits the terminal and shows the options of every day first; what is typed wrongly is told in our own words."""

import re
from pathlib import Path

import pytest
import typer

from seesr_cli.cli import app, help
from seesr_cli.errors import SeesrError

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
LIBRARY = re.compile(r"Value error|Input should|Invalid value|No such|Possible options|<(bool|int|float|list)|pydantic")
"""Words of the libraries that no message of ours may show."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


def said(*arguments: str) -> str:
    """Return the sentence with which these arguments are refused."""
    with pytest.raises(SeesrError) as refused:
        app(list(arguments), prog_name="seesr", standalone_mode=False)
    assert refused.value.exit_code == 2
    assert not LIBRARY.search(str(refused.value)), refused.value
    return str(refused.value)


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    ("command", "asked"),
    [*((command, "--help") for command in (*COMMANDS, "weights pull", "")), ("upscale", help.ALL), ("tags", help.ALL)],
)
def test_help_fits_its_terminal_and_names_no_type(
    command: str, asked: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    app([*command.split(), asked], prog_name="seesr", standalone_mode=False)
    text = capsys.readouterr().out
    assert text.startswith("Usage: seesr")
    assert not LIBRARY.search(text)
    assert "…" not in text
    examples = text.find("Examples")
    assert all(len(line.rstrip()) <= columns for line in text[: examples if examples > 0 else None].splitlines())


def test_the_first_page_is_short_and_leads_to_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    app(["upscale", "--help"], prog_name="seesr", standalone_mode=False)
    first = capsys.readouterr().out
    app(["upscale", "--help-all"], prog_name="seesr", standalone_mode=False)
    whole = capsys.readouterr().out
    assert len(first.splitlines()) <= 66
    assert "seesr upscale --help-all" in first
    spelled = {max(option.opts, key=len) for option in COMMANDS["upscale"].params if option.opts[0].startswith("-")}
    assert {name for name in spelled if not re.search(rf"{name}\b", whole)} == set()
    assert set(help.EVERYDAY["upscale"]) <= spelled | {"--help"}


@pytest.mark.parametrize("command", ["upscale", "tags"])
def test_a_command_alone_says_what_is_missing_and_gives_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app([command], prog_name="seesr", standalone_mode=False) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"seesr {command} needs INPUT: ")
    assert err.count(f"\n  seesr {command} ") >= 2
    assert len(err.splitlines()) < 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upscale", "x.jpg", "--scale", "abc"], ["--scale is 'abc'", "a number"]),
        (["upscale", "x.jpg", "--steps", "2.5"], ["--steps is '2.5'", "a whole number"]),
        (["upscale", "x.jpg", "--quality", "300"], ["--quality is '300'", "from 1 to 100"]),
        (["upscale", "x.jpg", "--jobs", "0"], ["--jobs is '0'", "at least 1"]),
        (["upscale", "x.jpg", "--colour", "wavlet"], ["--colour is 'wavlet'", "Did you mean wavelet?"]),
        (["upscale", "x.jpg", "--tags-from", "nowhere"], ["--tags-from is 'nowhere'", "no such folder"]),
        (["upscale", "x.jpg", "--colr", "adain"], ["no option --colr", "--colour"]),
        (["upscale", "x.jpg", "--quality"], ["--quality needs a value"]),
        (["tags", "x.jpg", "--modl", "miniature"], ["no option --modl", "Did you mean --model?"]),
        (["weights", "pull", "turb"], ["MODEL is 'turb'", "Did you mean turbo?"]),
        (["weights", "pul"], ["no command pul", "Did you mean pull?"]),
        (["upscal", "x.jpg"], ["no command upscal", "Did you mean upscale?"]),
        (["--fast"], ["no option --fast"]),
        (["weights", "--fast"], ["no option --fast"]),
        (["photo.jpg"], ["To restore it: seesr upscale photo.jpg"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_is_typed_wrongly_is_told_in_our_words(arguments: list[str], words: list[str]) -> None:
    sentence = said(*arguments)
    assert [word for word in words if word not in sentence] == [], sentence


def test_a_folder_in_the_place_of_a_command_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    assert said("holiday").endswith("seesr upscale holiday")


def test_a_wrong_value_is_told_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seesr.toml").write_text("scale = 'abc'\n")
    assert said("upscale", "x.jpg").startswith("scale in seesr.toml is 'abc'")
    monkeypatch.setenv("SEESR_SCALE", "much")
    assert said("upscale", "x.jpg").startswith("SEESR_SCALE in the environment is 'much'")
    assert said("upscale", "x.jpg", "-s", "more").startswith("--scale is 'more'")
