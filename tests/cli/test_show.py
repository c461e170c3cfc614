"""`seesr show`: how results were made, from their metadata alone."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seesr_cli import image
from seesr_cli.catalogue import MINIATURE
from seesr_cli.cli import main
from seesr_cli.image import Picture
from seesr_cli.records import provenance
from seesr_cli.restore.prompt import Prompt
from seesr_cli.restore.tag import Tag

Shown = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shown:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seesr", "show", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


def make(name: str, **changed: object) -> dict[str, object]:
    """Put a result there whose record says what is asked for; return the record."""
    import torch

    settings = replace(MINIATURE.defaults, seed=7, steps=3, guidance_within=(0.28, 5.42), add_tags=("sky",))
    kind = image.kind_of(Path(name))
    assert kind is not None
    recipe = provenance.Recipe(
        "miniature", settings, ("cat",), "fötö.jpg", "5e" * 32, "ab" * 32, "cpu", "fp32", 2, 1, 0, kind, None, 8, "keep"
    )
    record = provenance.record(recipe, (Tag("cat", 0.876, 0.6),), Prompt("a cat, sharp", "blurry")) | changed
    image.write(Path(name), Picture(torch.zeros(3, 8, 8), xmp=provenance.embed(None, record)))
    return record


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif"])
def test_a_result_tells_how_it_was_made(shown: Shown, name: str) -> None:
    record = make(name, consistency={"psnr": 33.214, "drift": 0.5})
    code, out, err = shown(name)
    assert (code, err) == (0, "")
    lines = {line[:15].strip(): line[15:].strip() for line in out.splitlines()[1:]}
    assert out.splitlines()[0] == name
    assert lines["picture"] == "fötö.jpg, sha256 5e5e5e5e5e5e"
    assert lines["model"].startswith("miniature of seesr 0.")
    assert lines["settings"] == "scale 4, steps 3, guidance-within 0.28,5.42, add-tags sky"
    assert (lines["seed"], lines["tags"], lines["prompt"]) == ("7", "cat 0.88", "a cat, sharp")
    assert lines["consistency"] == "33.21 dB, colours drift by 0.5/255"
    assert lines["again"] == f"seesr upscale fötö.jpg --like {name}"
    _, out, _ = shown(name, "--json")
    assert json.loads(out) == json.loads(json.dumps({"result": name, **record}))


def test_several_are_told_and_what_tells_nothing_has_its_sentence(shown: Shown) -> None:
    make("a.png")
    make("later.png", format=99, seesr="9.0")
    make("damaged.png", settings={"steps": "many"})
    Image.new("RGB", (8, 8)).save("foreign.png")
    Path("text.png").write_text("Dear diary")
    code, out, err = shown("a.png", "foreign.png", "missing.png", "text.png", "later.png", "damaged.png", "a.png")
    assert code == 1
    assert out.count("sha256 5e5e") == 2
    told = err.splitlines()
    assert len(told) == 5
    assert told[0].startswith(
        "Error: foreign.png does not say how it was made: it is no result of seesr, was made with"
    )
    assert "missing.png is not there" in told[1]
    assert "text.png" in told[2]
    assert 'was made by seesr "9.0"' in told[3]
    assert "damaged (steps is" in told[4]


def test_what_a_stranger_wrote_into_a_record_does_not_reach_the_terminal(shown: Shown) -> None:
    make("a.png", prompt="\x1b[2Jgone", consistency={"psnr": "many"}, tags=[{"name": "cat", "score": "high"}])
    code, out, _ = shown("a.png")
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[2Jgone" in out
    assert "cat" in out
