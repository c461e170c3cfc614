"""`seesr upscale --preview`, from arguments to the sheet."""

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from commands import Seesr
from seesr_cli.image.sheet import is_ours


@pytest.fixture
def seesr(seesr: Seesr) -> Seesr:
    """Run it in a folder with one picture."""
    Image.effect_noise((60, 40), 60).convert("RGB").save("photo.jpg")
    return seesr


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_a_preview_is_a_window_beside_the_enlarged_one_and_nothing_else(seesr: Seesr) -> None:
    ran = seesr("photo.jpg", "--preview", "--side", "96")
    assert (ran.code, ran.out) == (0, "photo_x4_preview.png\n")
    assert ran.err.startswith("photo.jpg: a window of 96 x 96 at 72,32 of the result in ")
    assert names() == ["photo.jpg", "photo_x4_preview.png"]  # no journal, no result
    with Image.open("photo_x4_preview.png") as made:
        assert made.width > 2 * 96
        assert made.height > 96


def test_a_preview_shows_the_place_of_the_whole_run(seesr: Seesr) -> None:
    """One tile: to the last grey level what the result has there, right of the left window."""
    seesr("photo.jpg", "--preview", "--side", "128", "--at", "20,20")
    seesr("photo.jpg")
    with Image.open("photo_x4_preview.png") as made, Image.open("photo_x4.png") as result:
        box = (18, 18, 18 + 128, 18 + 128)  # of (20.5, 20.5) * 4, the middle
        right = made.crop((made.width - 128, made.height - 128, made.width, made.height))
        if made.width > 2 * 128 + 6:  # a label was wider
            right = made.crop((made.width // 2, made.height - 128, made.width, made.height)).crop((0, 0, 128, 128))
        assert right.tobytes() == result.crop(box).tobytes()


def test_a_preview_is_replaced_and_what_is_none_is_left_alone(seesr: Seesr) -> None:
    assert [seesr("photo.jpg", "--preview", "--side", side).code for side in ("64", "96")] == [0, 0]
    Image.new("RGB", (8, 8)).save("photo_x4_preview.png")
    kept = Path("photo_x4_preview.png").read_bytes()
    ran = seesr("photo.jpg", "--preview", "--overwrite")
    assert (ran.code, ran.out) == (1, "")
    assert "photo_x4_preview.png is already there and no sheet of seesr" in ran.err
    assert Path("photo_x4_preview.png").read_bytes() == kept


def test_previews_are_no_pictures_of_a_folder(seesr: Seesr) -> None:
    seesr("photo.jpg", "--preview")
    assert is_ours(Path("photo_x4_preview.png"))
    ran = seesr(".", "--dry-run")
    assert "photo_x4_preview.png: passed over as earlier results" in ran.err
    assert ran.out.count("\n") == 1


def test_several_places_are_told_as_an_event(seesr: Seesr) -> None:
    ran = seesr("photo.jpg", "--preview", "--side", "64", "--at", "0,0", "--at", "59,39", "--json")
    event = json.loads(ran.out.splitlines()[-1])
    assert (event["event"], event["output"]) == ("previewed", "photo_x4_preview.png")
    assert event["record"]["windows"] == [
        {"top": 0, "left": 0, "bottom": 64, "right": 64},
        {"top": 96, "left": 176, "bottom": 160, "right": 240},
    ]
    assert event["record"]["seeds"] == [0]
    steps = [json.loads(line) for line in ran.out.splitlines() if '"step"' in line]
    assert steps[-1]["step"] == steps[-1]["steps"] == 2


def test_a_dry_run_forecasts_the_preview_and_writes_nothing(seesr: Seesr) -> None:
    whole = seesr("photo.jpg", "--dry-run", "--json", "--tile", "8")
    ran = seesr("photo.jpg", "--preview", "--at", "0,0", "--side", "32", "--dry-run", "--json", "--tile", "8")
    planned, of_all = json.loads(ran.out.splitlines()[0]), json.loads(whole.out.splitlines()[0])
    assert (planned["output"], planned["action"]) == ("photo_x4_preview.png", "preview")
    assert planned["tiles"] < of_all["tiles"]
    assert planned["operations"] < of_all["operations"]
    assert names() == ["photo.jpg"]


def test_a_picture_on_stdin_has_a_preview(seesr: Seesr, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path("photo.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert seesr("-", "-o", "out.jpg", "--preview").out == "out_preview.png\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preview", "--at", "60,0"], "--at 60,0 is beside the picture: photo.jpg has 60 x 40 pixels"),
        (["--preview", "--at", "3"], "--at 3 is no point: give two whole numbers with a comma between"),
        (["--preview", "--side", "3"], "--side 3 is out of range: give 32 to 4096."),
        (["--at", "3,4"], "--at says what a preview shows: add --preview."),
        (["--preview", "--compare", "a.html"], "--preview makes no result, and --compare is about results"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_code_2(seesr: Seesr, arguments: list[str], sentence: str) -> None:
    ran = seesr("photo.jpg", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"Error: {sentence}")


def test_several_pictures_have_no_preview(seesr: Seesr) -> None:
    Image.new("RGB", (8, 8)).save("other.png")
    ran = seesr(".", "--preview")
    assert (ran.code, ran.out) == (2, "")
    assert "--preview shows one picture, and 2 are named" in ran.err


def test_seeds_stand_side_by_side_in_a_preview(seesr: Seesr) -> None:
    one = seesr("photo.jpg", "--preview", "--side", "200")
    with Image.open("photo_x4_preview.png") as made:
        width, height = made.size
    several = seesr("photo.jpg", "--preview", "--side", "200", "--variants", "2", "--at", "5,5", "--at", "30,20")
    assert (one.code, several.code) == (0, 0)
    with Image.open("photo_x4_preview.png") as made:
        assert made.width == width + (width - 200)  # three windows in a row, in the place of two
        assert made.height == 2 * height + (made.height - 2 * height)
        assert 0 < made.height - 2 * height < 10
    assert names() == ["photo.jpg", "photo_x4_preview.png"]
