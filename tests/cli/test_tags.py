"""`seesr tags`, from arguments to what is printed."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from seesr_cli import image
from seesr_cli.catalogue import MODELS
from seesr_cli.cli import main
from seesr_cli.restore.tag import Tag, load_reader


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path) -> dict[str, tuple[Tag, ...]]:
    """Some pictures in the current folder, of which one at least has tags; and what the tagger sees in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEESR_WEIGHTS", str(tiny_weights))
    reader = load_reader(MODELS["seesr"], tiny_weights, "cpu", "fp32")
    seen = {}
    for number, colour in enumerate(("red", "white", "green", "black")):
        name = f"{number}.png"
        Image.effect_noise((40, 30), 90 + number).convert("RGB").save(name)
        if number % 2:
            Image.new("RGB", (40, 30), colour).save(name)
        seen[name] = reader.read(image.read(Path(name)).pixels).tags
    return seen


def tags(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["seesr", "tags", "--device", "cpu", "--dtype", "fp32", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_json_has_every_tag_with_score_and_threshold(
    pictures: dict[str, tuple[Tag, ...]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tags(monkeypatch, ".", "--json") == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {line["input"]: line["tags"] for line in lines} == {
        name: [tag._asdict() for tag in seen] for name, seen in pictures.items()
    }
    assert any(pictures.values())


def test_a_pipe_gets_a_line_for_each_tag(
    pictures: dict[str, tuple[Tag, ...]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tags(monkeypatch, *pictures, "-q") == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        f"{name}\t{tag.name}\t{tag.score:.4f}\t{tag.threshold:.4f}" for name, seen in pictures.items() for tag in seen
    ]
    assert err == ""


def test_a_bad_picture_is_a_sentence_and_code_1(
    pictures: dict[str, tuple[Tag, ...]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("bad.png").touch()
    assert tags(monkeypatch, "bad.png", "0.png", "--json", "-q") == 1
    out, err = capfd.readouterr()
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["failed", "done"]
    assert err == "Error: bad.png is empty (zero bytes): copy or download it again.\n"
