"""Two lines say how far the picture and the run are, in any width, and are gone when something else is printed."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from seesr_cli.forecast.rates import Parts
from seesr_cli.report import progress
from seesr_cli.report.progress import Progress
from seesr_cli.wording import duration, shortened

NAME = "IMG_20261126_101500_a_long_name.jpg"
SOURCE = Path(NAME)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def forecast(**seconds: float) -> Any:
    parts = Parts(tagger=5, text=5, encode=10, denoise=60, decode=15, pixels=5)._replace(**seconds)
    return SimpleNamespace(seconds=parts, total_seconds=sum(parts))


def lines(shown: Progress, width: int = 80) -> list[str]:
    console = Console(width=width, file=StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(shown._lines())
    return captured.get().splitlines()


def begun(total: int = 1, at_once: int = 1, width: int = 80, **seconds: float) -> Progress:
    shown = Progress(Console(width=width, quiet=True), total, at_once)
    shown.planned(SOURCE, forecast(**seconds))
    shown.started(SOURCE, NAME, forecast(**seconds))
    shown.hide()
    return shown


def test_each_phase_has_its_words_and_its_place_on_the_bar() -> None:
    shown, seen, full = begun(), [], []
    shown.stepped(SOURCE, 0, 2)
    for phase, done, total in (
        ("read", 0, 1),
        ("encode", 0, 1),
        ("encode", 3, 6),
        ("denoise", 0, 2),
        ("denoise", 11, 98),
        ("decode", 14, 28),
        ("write", 0, 1),
    ):
        shown.advanced(SOURCE, phase, done, total)
        (line,) = lines(shown)
        seen.append(line.partition("╌")[2].strip("╌ ").partition(" ·")[0] if "╌" in line else line)
        full.append(line.count("━"))
    assert seen[:2] == ["reading", "encoding"]
    assert seen[2:6] == ["encoding 50 %", "denoising step 1/2", "denoising step 1/2, tile 12/49", "decoding 50 %"]
    assert seen[6] == "writing"
    assert full == sorted(full)
    assert full[0] == 0
    assert full[-1] >= 18


def test_one_step_of_many_tiles_is_told_in_tiles() -> None:
    shown = begun()
    shown.stepped(SOURCE, 0, 1)
    shown.advanced(SOURCE, "denoise", 11, 49)
    assert "denoising tile 12/49 ·" in lines(shown)[0]


def test_a_model_that_is_loaded_is_told_until_the_picture_goes_on() -> None:
    shown = begun()
    shown.loading("seesr")
    assert "loading seesr" in lines(shown)[0]
    shown.advanced(SOURCE, "read", 0, 1)
    assert "loading" not in lines(shown)[0]


def test_the_time_left_follows_the_phase_s_own_pace_and_then_the_forecast(clock: Clock) -> None:
    shown = begun()
    picture = shown._pictures[SOURCE]
    picture.began = picture.phase_began = 0.0
    assert picture.left() == pytest.approx(100)
    shown.stepped(SOURCE, 0, 1)
    clock.now = 40.0  # twice as long as the 20 s that reading and encoding were forecast to take
    shown.advanced(SOURCE, "denoise", 0, 100)
    assert picture.left() == pytest.approx(160)
    clock.now = 70.0
    shown.advanced(SOURCE, "denoise", 50, 100)
    assert picture.left() == pytest.approx(30 + 20 * 70 / 50)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    shown = begun(total=1000, width=width, denoise=500_000)
    shown.stepped(SOURCE, 0, 50)
    shown.advanced(SOURCE, "denoise", 1234, 2450)
    of_picture, of_run = lines(shown, width)
    assert len(of_picture.rstrip()) <= width
    assert "tile 10/49" in of_picture or width == 40
    assert of_run.startswith("0/1000 pictures · ")


def test_the_run_s_line_counts_what_has_ended_and_several_at_work() -> None:
    shown = begun(total=3, at_once=2)
    other = Path("b.jpg")
    shown.started(other, "b.jpg", None)
    shown.hide()
    assert lines(shown)[0].startswith("0/3 pictures, 2 at work · ")
    shown.ended(other)
    assert lines(shown)[0].startswith("1/3 pictures, 1 at work · ")


def test_every_node_of_a_cluster_has_its_line_and_the_run_its_pace(clock: Clock) -> None:
    shown = Progress(Console(width=80, height=24, quiet=True), 9, 1)
    for number, node in enumerate(("big-node", "small", "big-node")):
        shown.started(Path(f"{number}.jpg"), f"{number}.jpg", None, node)
    shown.hide()
    shown.advanced(Path("1.jpg"), "decode", 1, 4)
    clock.now = 30.0
    shown.ended(Path("0.jpg"))
    assert lines(shown) == [
        "big-node  1 ended, 1 at work · 2.jpg: reading",
        "small  0 ended, 1 at work · 1.jpg: decoding 25 %",
        "1/9 pictures, 2 at work · 2 a minute",
    ]
    shown.ended(Path("1.jpg"))
    assert lines(shown, width=40)[1] == "small  1 ended, 0 at work"


def test_without_a_forecast_no_time_is_told() -> None:
    shown = Progress(Console(width=80, quiet=True), 1, 1)
    shown.started(SOURCE, NAME, None)
    shown.hide()
    shown.advanced(SOURCE, "decode", 1, 4)
    (line,) = lines(shown)
    assert "decoding 25 %" in line
    assert "left" not in line


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "60 min"), (7260, "2 h 1 min")]
)
def test_times_are_words(seconds: float, words: str) -> None:
    assert duration(seconds, tenths=False) == words.replace("60 min", "1 h 0 min")


@pytest.mark.parametrize("most", [12, 13, 20, 34, 35, 50])
def test_a_name_is_shortened_in_its_middle(most: int) -> None:
    short = shortened(NAME, most)
    assert len(short) <= most
    assert (short[0], short[-1]) == (NAME[0], NAME[-1])
