"""The command as a whole: it answers at once, and every error is a sentence and an exit code."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import seesr_cli
from seesr_cli.cli import main
from seesr_cli.records.locks import LOCK

HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL")
COMMAND = [sys.executable, "-m", "seesr_cli"]


def seesr(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_version_is_the_packages() -> None:
    done = seesr("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"seesr {seesr_cli.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["weights"]])
def test_without_arguments_there_is_help(arguments: list[str]) -> None:
    done = seesr(*arguments)
    assert done.returncode == 2
    assert "Usage: seesr" in done.stdout + done.stderr


def test_help_names_the_defaults_and_where_models_differ() -> None:
    text = re.sub(r"[\s│]+", " ", seesr("upscale", "--help-all", COLUMNS="200").stdout)
    assert "[default: 50; turbo 2; miniature 1]" in text
    assert "[default: 5.5; turbo 1; miniature 1]" in text
    assert "[default: adain; miniature wavelet]" in text
    assert "miniature: a small stand-in for offline use, demonstration and tests; not the published model" in text


def test_completion_is_offered() -> None:
    assert "--install-completion" in seesr("--help", COLUMNS="200").stdout


def test_completion_completes_models() -> None:
    done = seesr(
        _SEESR_COMPLETE="complete_bash", COMP_WORDS="seesr upscale --model mini", COMP_CWORD="3"
    )  # what bash sets when the tab key is pressed
    assert done.stdout.split() == ["miniature"]


@pytest.mark.parametrize("command", ["upscale", "tags"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.jpg"], "Error: missing.jpg is not there: check the name.\n"),
        (["empty"], "Error: empty holds no pictures: name others.\n"),
        ([""], "Error: An input is empty: give the name of a picture or a folder.\n"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["seesr", command, *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capfd.readouterr() == ("", sentence)


@pytest.mark.parametrize("command", ["upscale", "tags"])
@pytest.mark.parametrize("weights", [[], ["--weights", "nowhere"]])
def test_missing_weights_are_one_sentence_with_a_way_out_and_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str, weights: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEESR_WEIGHTS", raising=False)
    Image.new("RGB", (8, 8)).save("a.png")
    monkeypatch.setattr(sys, "argv", ["seesr", command, "a.png", *weights])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    assert caught.value.code == 3
    assert out == ""
    assert err.startswith("Error: The weights")
    assert err.count("\n") == (1 if weights else 3)  # with what can be done, a line each
    if not weights:
        assert "--weights DIR" in err
        assert "--model miniature" in err


def test_debug_shows_the_traceback_and_without_there_is_none(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.jpg")
    assert "Traceback" not in seesr("upscale", missing).stderr
    done = seesr("upscale", missing, "--debug")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("is not there: check the name.\n")


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [
                *COMMAND,
                "upscale",
                "-q",
                "--dry-run",
                "--model",
                "miniature",
                str(tmp_path / "a.png"),
                str(tmp_path / "b.png"),
            ],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode != 0
    assert done.stderr == b""


def test_an_interrupted_run_ends_with_130_and_no_half_file(tmp_path: Path, tiny_weights: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    options = ["--weights", str(tiny_weights), "--process-size", "64", "--steps", "900", "--device", "cpu"]
    process = subprocess.Popen(
        [*COMMAND, "upscale", str(tmp_path / "a.png"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / LOCK).exists():  # the picture is being made
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "a.png"]


INTERRUPTED_AT = """
import os, signal, sys
from seesr_cli.cli import main
from seesr_cli.records.locks import LOCK

class Interruption:
    def find_spec(self, name, path, target=None):
        if name == WHERE:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise BECOMES

sys.meta_path.insert(0, Interruption())
main()
"""


@pytest.mark.parametrize("where", ["seesr_cli.run.inputs", "numpy", "torch"])
@pytest.mark.parametrize("becomes", ["", "ImportError('numpy failed to import')"], ids=["itself", "another error"])
def test_an_interruption_while_libraries_are_loaded_is_one_whatever_they_make_of_it(
    tmp_path: Path, where: str, becomes: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code = INTERRUPTED_AT.replace("WHERE", repr(where)).replace("BECOMES", becomes)
    command = [sys.executable, "-c", code, "upscale", str(tmp_path / "a.png"), "--model", "miniature"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
