"""Results on stdout, everything else on stderr, and no name of a file can break either."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from seesr_cli.errors import PictureUnreadable
from seesr_cli.machine.share import Share
from seesr_cli.report.screen import Report, complain
from seesr_cli.restore.tag import Tag
from seesr_cli.run.outcome import Outcome

ODD = Path("[red]a\nb\x1b[31m" + os.fsdecode(b"\xff") + "é" * 90 + ".png")
DONE = Outcome(
    Path("a.jpg"), "done", 1.25, Path("a_x4.png"), size_in=(16, 20), size_out=(64, 80), tags=(Tag("frog", 0.9, 0.5),),
    prompt="frog, ,clean", notes=("A note.",), record={"seesr": "1.0"},
)  # fmt: skip
SKIPPED = Outcome(Path("b.jpg"), "skipped", 0, Path("b_x4.png"), "b_x4.png is already there: left alone.")
FAILED = Outcome(
    Path("c.jpg"), "failed", 0.1, message="c.jpg is empty (zero bytes): copy it again.", error=PictureUnreadable("why")
)

Captured = pytest.CaptureFixture[bytes]


def test_stdout_has_the_paths_and_stderr_the_rest(capfdbinary: Captured) -> None:
    with Report(3) as report:
        for outcome in (DONE, SKIPPED, FAILED):
            report.upscaled(outcome)
    out, err = capfdbinary.readouterr()
    assert out == b"a_x4.png\nb_x4.png\n"
    assert err.decode().splitlines() == [
        "a.jpg: 20 x 16 -> 80 x 64 in 1.2 s.",
        "a.jpg: A note.",
        "b_x4.png is already there: left alone.",
        "Error: c.jpg is empty (zero bytes): copy it again.",
        "1 done, 1 skipped, 1 failed of 3 in 0.0 s.",
    ]
    assert report.failed


def test_quiet_leaves_results_and_errors(capfdbinary: Captured) -> None:
    with Report(3, quiet=True) as report:
        report.note("something")
        for outcome in (DONE, SKIPPED, FAILED):
            report.upscaled(outcome)
    out, err = capfdbinary.readouterr()
    assert out == b"a_x4.png\nb_x4.png\n"
    assert err == b"Error: c.jpg is empty (zero bytes): copy it again.\n"


def test_json_is_one_object_for_each_event(capfdbinary: Captured) -> None:
    with Report(3, events=True) as report:
        report.started(Path("a.jpg"), Path("a_x4.png"))
        report.stepped(Path("a.jpg"), 1, 2)
        for outcome in (DONE, SKIPPED, FAILED):
            report.upscaled(outcome)
    started, step, done, skipped, failed = map(json.loads, capfdbinary.readouterr().out.splitlines())
    names = {"v": 1, "input": "a.jpg", "output": "a_x4.png"}
    assert started == names | {"event": "started"}
    assert step == names | {"event": "step", "step": 1, "steps": 2}
    assert done == names | {
        "event": "finished",
        "seconds": 1.25,
        "input_size": {"width": 20, "height": 16},
        "output_size": {"width": 80, "height": 64},
        "tags": [{"name": "frog", "score": 0.9, "threshold": 0.5}],
        "prompt": "frog, ,clean",
        "notes": ["A note."],
        "consistency": None,
        "record": {"seesr": "1.0"},
    }
    assert (skipped["event"], skipped["message"]) == ("skipped", "b_x4.png is already there: left alone.")
    assert (failed["event"], failed["output"]) == ("failed", None)
    assert failed["message"] == "c.jpg is empty (zero bytes): copy it again."


def test_events_of_pictures_that_are_made_together_name_their_own(capfdbinary: Captured) -> None:
    with Report(3, events=True) as report:
        for name in "ac":
            report.started(Path(f"{name}.jpg"), Path(f"{name}_x4.png"))
        for name in "ac":
            report.stepped(Path(f"{name}.jpg"), 1, 2)
        for outcome in (DONE, FAILED):
            report.upscaled(outcome)
    events = list(map(json.loads, capfdbinary.readouterr().out.splitlines()))
    assert [(event["event"], event["input"]) for event in events[2:]] == [
        ("step", "a.jpg"),
        ("step", "c.jpg"),
        ("finished", "a.jpg"),
        ("failed", "c.jpg"),
    ]
    assert [event["output"] for event in events[2:4]] == ["a_x4.png", "c_x4.png"]


def test_a_path_is_printed_as_the_bytes_it_is(capfdbinary: Captured) -> None:
    with Report(1) as report:
        report.upscaled(Outcome(ODD, "done", 1, ODD, size_in=(1, 1), size_out=(4, 4)))
    out, err = capfdbinary.readouterr()
    assert out == os.fsencode(ODD) + b"\n"
    assert len(err.splitlines()) == 1
    assert b"\x1b" not in err
    assert err.startswith(b"[red]a\\nb\\x1b[31m\\udcff")


def test_json_is_ascii_and_gives_the_path_back(capfdbinary: Captured) -> None:
    with Report(1, events=True) as report:
        report.upscaled(Outcome(ODD, "done", 1, ODD))
    line = capfdbinary.readouterr().out
    assert Path(json.loads(line.decode("ascii"))["output"]) == ODD
    assert line.count(b"\n") == 1


def test_an_error_is_one_line_whatever_the_name(capfdbinary: Captured) -> None:
    complain(f"{ODD} is not a picture.")
    err = capfdbinary.readouterr().err
    assert err.startswith(b"Error: [red]a\\nb")
    assert err.count(b"\n") == 1


def test_debug_shows_where_an_error_arose(capfdbinary: Captured) -> None:
    with Report(1, debug=True) as report:
        report.upscaled(FAILED)
    err = capfdbinary.readouterr().err
    assert b"seesr_cli.errors.PictureUnreadable: why" in err
    assert err.endswith(b"Error: c.jpg is empty (zero bytes): copy it again.\n")


def test_tags_in_a_pipe_are_lines_of_four_columns(capfdbinary: Captured) -> None:
    tags = (Tag("frog", 0.91, 0.5), Tag("green stone", 0.6, 0.55))
    with Report(1) as report:
        report.tagged(Outcome(Path("a b.jpg"), "done", 1, tags=tags))
    assert capfdbinary.readouterr().out == b"a b.jpg\tfrog\t0.9100\t0.5000\na b.jpg\tgreen stone\t0.6000\t0.5500\n"


def test_tags_as_json_name_picture_and_tags(capfdbinary: Captured) -> None:
    with Report(1, as_json=True) as report:
        report.tagged(Outcome(Path("a.jpg"), "done", 1, tags=(Tag("frog", 0.9, 0.5),)))
    assert json.loads(capfdbinary.readouterr().out) == {
        "input": "a.jpg",
        "state": "done",
        "message": "",
        "tags": [{"name": "frog", "score": 0.9, "threshold": 0.5}],
    }


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal and keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def sent(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode()


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put stderr on a terminal; not a fixture, as pytest puts its own stream back between set-up and test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def work(report: Report) -> None:
    with report:
        report.started(Path("a.jpg"), Path("a_x4.png"))
        report.loading("seesr")
        report.stepped(Path("a.jpg"), 0, 2)
        report.advanced(Path("a.jpg"), "denoise", 1, 2)
        report.stepped(Path("a.jpg"), 1, 2)
        report.upscaled(DONE)


def test_a_terminal_sees_steps_and_gets_its_cursor_back(monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured) -> None:
    terminal = on_terminal(monkeypatch)
    work(Report(2))
    assert "denoising step 2/2" in terminal.sent
    assert "0/2 pictures" in terminal.sent
    assert terminal.sent.count("\x1b[?25l") == terminal.sent.count("\x1b[?25h") > 0
    assert capfdbinary.readouterr().out == b"a_x4.png\n"


def test_of_several_pictures_at_a_time_one_line_tells(monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured) -> None:
    terminal = on_terminal(monkeypatch)
    with Report(5, share=Share(2, 1)) as report:
        report.upscaled(DONE)
        report.started(Path("b.jpg"), Path("b_x4.png"))
        report.started(Path("c.jpg"), Path("c_x4.png"))
        report.stepped(Path("c.jpg"), 1, 2)
        report.stepped(Path("b.jpg"), 2, 2)
    assert "1/5 pictures, 2 at work" in terminal.sent
    assert "step " not in terminal.sent
    assert capfdbinary.readouterr().out == b"a_x4.png\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_moves_on_a_dumb_terminal_or_when_quiet(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    terminal = on_terminal(monkeypatch)
    if not quiet:
        monkeypatch.setenv("TERM", "dumb")
    work(Report(2, quiet=quiet))
    assert "\x1b" not in terminal.sent
    assert "step" not in terminal.sent


def test_force_color_does_not_animate_a_pipe(capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    work(Report(2))
    assert b"step" not in capfdbinary.readouterr().err


def test_an_interrupted_run_says_how_far_it_came(capfdbinary: Captured) -> None:
    def interrupted() -> None:
        with Report(5) as report:
            report.upscaled(DONE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert b"Interrupted. 1 done, 0 failed of 5" in capfdbinary.readouterr().err
