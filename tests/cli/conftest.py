"""`seesr upscale` in this process, from arguments to exit code."""

import sys
from pathlib import Path

import pytest

from commands import Ran, Seesr
from seesr_cli.cli import main


@pytest.fixture
def seesr(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tiny_weights: Path,
    loaded_once: None,
) -> Seesr:
    """Run `seesr upscale` in an empty folder, with a tiny model in one quick step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEESR_WEIGHTS", str(tiny_weights))

    def run(*arguments: str) -> Ran:
        quick = ["--steps", "1", "--process-size", "64", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["seesr", "upscale", *quick, *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return Ran(caught.value.code, *capfd.readouterr())

    return run
