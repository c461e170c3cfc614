"""Numbers and names in words."""

import pytest

from seesr_cli.wording import bytes_in_words, counted, duration, printable, shortened


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (613, "613 B"),
        (1000, "1 kB"),
        (41904, "41.9 kB"),
        (999_700, "1 MB"),
        (680821096, "681 MB"),
        (4507181640, "4.51 GB"),
        (13794096892, "13.8 GB"),
        (123456789012, "123 GB"),
    ],
)
def test_bytes_are_told_as_the_hub_tells_them(count: int, words: str) -> None:
    assert bytes_in_words(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (61, "1 min"), (3599, "1 h 0 min"), (11100, "3 h 5 min")],
)
def test_times_are_told_as_people_read_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_one_has_no_plural() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


@pytest.mark.parametrize(
    ("text", "expected"), [("plain é", "plain é"), ("a\nb", "a\\nb"), ("\x1b]0;", "\\x1b]0;"), ("\udcff", "\\udcff")]
)
def test_what_acts_on_a_terminal_is_shown_and_not_sent(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    name = "a" * 30 + "b" * 30 + ".png"
    assert shortened(name, 40) == f"{'a' * 18}...{'b' * 15}.png"
    assert shortened("a.png", 40) == "a.png"
