"""An installed pyiqa is called as the published protocol calls it. pyiqa itself is not run here: a recorder is."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seesr_cli.cli import main


class Recorder(ModuleType):
    """In the place of pyiqa: it remembers with what metrics are made, and with what they are called."""

    def __init__(self) -> None:
        super().__init__("pyiqa")
        self.made: dict[str, dict[str, Any]] = {}
        self.called: dict[str, list[Any]] = {}

    def create_metric(self, name: str, **options: Any) -> Any:
        print("loading")  # as pyiqa does, on stdout
        self.made[name] = options

        def metric(*arguments: Any) -> torch.Tensor:
            kept = (
                [[path.name for path in sorted(Path(each).iterdir())] for each in arguments]
                if name == "fid"
                else arguments
            )
            self.called.setdefault(name, []).append(kept)
            if name == "niqe" and arguments[0].shape[-1] == 8:
                raise AssertionError("too small")
            return torch.tensor(0.25)

        return metric


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    pyiqa = Recorder()
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa)
    monkeypatch.setattr("seesr_cli.evaluate.published.version", lambda name: "0.1.10")
    return pyiqa


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["seesr", "evaluate", *map(str, arguments), "--engine", "pyiqa"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_calls_are_the_published_ones(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder, level in (("r", 51), ("h", 102)):
        (tmp_path / folder).mkdir()
        for number in range(50):
            Image.new("RGB", (16, 12), (level, 0, 255)).save(tmp_path / folder / f"{number}.png")
    both = (tmp_path / "r", "--reference", tmp_path / "h", "--device", "cpu", "--json")
    assert evaluate(monkeypatch, *both, "--metrics", "fast,paper") == 0
    shown = capfd.readouterr()
    content = json.loads(shown.out)
    luma = {"test_y_channel": True, "color_space": "ycbcr", "device": torch.device("cpu")}
    plain = {"device": torch.device("cpu")}
    names = ("niqe", "lpips", "dists", "fid", "musiq", "maniqa-pipal", "clipiqa")
    assert recorder.made == {"psnr": luma, "ssim": luma} | dict.fromkeys(names, plain)
    for name, pictures in (("psnr", 2), ("ssim", 2), ("lpips", 2), ("dists", 2), ("niqe", 1), ("maniqa-pipal", 1)):
        assert len(recorder.called[name]) == 50
        first = recorder.called[name][0]
        assert [list(each.shape) for each in first] == [[1, 3, 12, 16]] * pictures
        assert first[0][0, :, 0, 0].tolist() == pytest.approx([0.2, 0, 1])
        assert pictures == 1 or first[1][0, 0, 0, 0].item() == pytest.approx(0.4)
    assert recorder.called["fid"] == [[[f"{number:06}.png" for number in range(50)]] * 2]
    assert content["mean"]["psnr"] == content["mean"]["fid"] == 0.25
    assert content["versions"]["pyiqa"] == "0.1.10"
    assert shown.err.count("PolyForm Noncommercial") == 1


def test_what_pyiqa_cannot_measure_fails_alone(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, side in (("a", 8), ("b", 16)):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / f"{name}.png")
    assert evaluate(monkeypatch, tmp_path, "--metrics", "niqe", "--json", "--device", "cpu") == 1
    shown = capfd.readouterr()
    assert [one["niqe"] for one in json.loads(shown.out)["pictures"]] == [None, 0.25]
    assert "a.png: niqe: pyiqa: too small" in " ".join(shown.err.split())


def test_without_pyiqa_it_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert evaluate(monkeypatch, tmp_path, "--metrics", "niqe") == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "--engine pyiqa needs pyiqa, which is not installed: pip install pyiqa, or leave --engine out." in told
