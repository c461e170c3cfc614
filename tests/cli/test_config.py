"""Flags win over the environment, and that over seesr.toml; what neither can mean is one sentence."""

import os
from pathlib import Path

import pytest
import typer

from seesr_cli.cli import app, main
from seesr_cli.cli.config import _with_values, from_file
from seesr_cli.errors import UsageError
from seesr_cli.files import from_home

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


def defaults(command: str = "upscale") -> dict[str, object]:
    """What seesr.toml says for a command."""
    return from_file(COMMANDS)[1][command]


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
    assert defaults("tags") == {"model": "miniature", "tolerant": True}
    assert defaults() == {"model": "miniature", "tolerant": True, "add_tag": ["a", "b"], "long_edge": "900"}


def test_options_have_the_names_they_are_typed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("seesr.toml").write_text('format = "tiff"\njson = true\n')
    assert defaults() == {"kind": "tiff", "as_json": True}
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
    assert defaults() == {"seed": ["1"], "scale": "2"}
    Path("seesr.toml").write_text("seed = 2\n")
    assert defaults() == {"seed": ["2"]}


def test_a_weights_folder_named_there_stands_in_for_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEESR_WEIGHTS", "")
    monkeypatch.delenv("SEESR_WEIGHTS")
    Path("seesr.toml").write_text('weights = "/a/folder"\n')
    assert parsed()["weights"] is None
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
        defaults()


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


def test_a_file_that_an_editor_of_windows_saved_is_read() -> None:
    Path("seesr.toml").write_bytes(b"\xef\xbb\xbfscale = 2\r\n")
    assert scale_of() == 2


def paths_of_commands() -> list[tuple[str, str]]:
    """The options and arguments of all commands whose help says that they name files or folders."""
    commands = dict(COMMANDS)
    for name in ("weights", "train"):
        commands |= {f"{name} {inner}": command for inner, command in COMMANDS[name].commands.items()}
    words = {"INPUT", "OUT", "FILE", "DIR", "PATH", "PAGE", "RESULT", "RESULTS", "RESULTS2", "RUN", "HR", "LR"}
    words |= {"SHARDS", "FOLDER", "[RECIPE]"}
    return [
        (name, parameter.name)
        for name, command in commands.items()
        for parameter in getattr(command, "params", ())
        if parameter.metavar in words
    ]


@pytest.mark.parametrize(("command", "parameter"), paths_of_commands())
def test_home_is_meant_by_its_sign_in_every_path_of_every_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, parameter: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "x").mkdir(parents=True)
    context = typer.main.get_command(app).make_context("seesr", command.split())
    found = COMMANDS[command.split()[0]]
    for inner in command.split()[1:]:
        context, found = found.make_context(command.split()[0], [inner], parent=context), found.commands[inner]
    arguments = []
    for each in found.params:
        if each.name == parameter or each.required:
            arguments += [each.opts[0], "~/x"] if each.param_type_name == "option" else ["~/x"]
    if parameter == "file":
        (tmp_path / "home" / "x").rmdir()
        (tmp_path / "home" / "x").touch()
    values = found.make_context(command.split()[-1], arguments, parent=context).params[parameter]
    for value in values if isinstance(values, (list, tuple)) else [values]:
        assert str(value) == str(tmp_path / "home" / "x")


def test_home_is_meant_by_its_sign_in_the_environment_and_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SEESR_OUTPUT", "~/results/")
    Path("seesr.toml").write_text('compare = "~/page.html"\nfrom-list = ["~/list", "-"]\n')
    assert parsed()["output"] == f"{tmp_path}/results/"
    assert parsed()["compare"] == tmp_path / "page.html"
    assert parsed()["from_list"] == [f"{tmp_path}/list", "-"]
    assert parsed("-o~")["output"] == str(tmp_path)
    assert parsed("-o", "./~/x")["output"] == "./~/x"


def test_a_file_of_the_very_name_is_that_file_and_no_home_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("~").touch()
    assert from_home("~", exact=True) == "~"
    assert from_home("~") == str(tmp_path)
    assert from_home("~$letter.png") == "~$letter.png"  # nobody's home
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(UsageError, match=r"^~/x begins with your home folder, and this user has none: set HOME"):
        from_home("~/x")


@pytest.mark.parametrize("place", ["command line", "environment", "file"])
def test_debug_is_obeyed_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    arguments = ["seesr", "tags", "missing.png"]
    if place == "command line":
        arguments.append("--debug")
    elif place == "environment":
        monkeypatch.setenv("SEESR_DEBUG", "1")
    else:
        Path("seesr.toml").write_text("debug = true\n")
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit):
        main()
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_file_in_the_current_folder_is_named_when_it_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def told(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["seesr", "tags", "missing.png", *arguments])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().err.partition("Error:")[0]

    Path("seesr.toml").write_text('tolerant = true\nmodel = "turbo"\nweights = "here"\n[upscale]\nscale = 2\n')
    assert told() == "seesr.toml in this folder sets tolerant, model, weights.\n"
    assert told("--model", "miniature", "--weights", "there") == "seesr.toml in this folder sets tolerant.\n"
    assert told("-q") == ""
    own = tmp_path / "own" / "seesr"
    own.mkdir(parents=True)
    Path("seesr.toml").rename(own / "seesr.toml")
    assert told() == ""
