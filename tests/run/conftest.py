"""What the tests of runs share: the tiny model, a listener, an empty folder."""

from pathlib import Path

import pytest

from seesr_cli.catalogue import SEESR
from seesr_cli.restore.upscaler import Upscaler
from watching import Log


@pytest.fixture(scope="module")
def upscaler(tiny_weights: Path) -> Upscaler:
    """The tiny checkpoint's upscaler, in fp32."""
    return Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")


@pytest.fixture
def log() -> Log:
    """A listener that keeps what it is told."""
    return Log()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
