"""What is given out is done once, whoever is lost: without processes, by the messages alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from seesr_cli.catalogue import MINIATURE
from seesr_cli.records.journal import Journal
from seesr_cli.records.lines import Key, Line, as_text
from seesr_cli.records.writer import JOURNAL
from seesr_cli.run.dispatch import Dispatch, Hand
from seesr_cli.run.inputs import find
from seesr_cli.run.outcome import Outcome
from seesr_cli.run.outputs import plan_results
from seesr_cli.run.request import Request
from watching import Log

Begin = Callable[[int, int], Dispatch]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def begin(tmp_path: Path, log: Log) -> Begin:
    """Return a function that begins a run of so many pictures with so many retries."""

    def begin(count: int, retries: int) -> Dispatch:
        (tmp_path / "in").mkdir()
        for number in range(count):
            Image.new("RGB", (16, 16)).save(tmp_path / "in" / f"{number}.png")
        jobs = plan_results(find([str(tmp_path / "in")]).pictures, str(tmp_path / "out"))
        return Dispatch(jobs, Request(MINIATURE, MINIATURE.defaults), log, {}, retries)

    return begin


class Far(Hand):
    """A hand that keeps what it is sent."""

    def __init__(self, node: str = "") -> None:
        self.sent: list[object] = []
        super().__init__(self.sent.append, node)

    def take(self, dispatch: Dispatch) -> str | None:
        """Ask for a picture, begin it, and return its name."""
        assert list(dispatch.hear(self, ("next",))) == []
        given = self.sent.pop()
        if given is None:
            return None
        assert isinstance(given, tuple)
        list(dispatch.hear(self, ("started", given[0].source.path, given[0].target)))
        return given[0].source.path.name


def done(dispatch: Dispatch, hand: Far) -> None:
    """Finish the hand's picture: its line is kept, and then it is told."""
    job = hand.jobs[0]
    assert job.target is not None
    line = as_text(job.target.name, Line(Key("1" * 64, "2" * 64, "3" * 64), "4" * 64, 5, 6))
    list(dispatch.hear(hand, ("line", job.folder, line)))
    assert hand.sent.pop() == "go"
    assert json.loads(line) in told(job.target.parent)
    assert list(dispatch.hear(hand, ("outcome", Outcome(job.source.path, "done", 1.0, job.target))))


def told(folder: Path) -> list[object]:
    files = [*folder.glob(".seesr-journal/*.jsonl"), *folder.glob(JOURNAL)]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_what_a_lost_hand_had_is_given_out_first_and_its_claim_is_kept(tmp_path: Path, begin: Begin) -> None:
    dispatch, lost, other = begin(3, 2), Far("a"), Far("b")
    assert lost.take(dispatch) == "0.png"
    assert list(dispatch.lost(lost, "the node a was lost.")) == []
    with Journal.open(tmp_path / "out").claim(tmp_path / "out" / "0_x4.png") as mine:
        assert not mine
    for name in ("0.png", "1.png", "2.png"):
        assert other.take(dispatch) == name
        done(dispatch, other)
    assert other.take(dispatch) is None
    dispatch.close([])
    assert len(told(tmp_path / "out")) == 3
    assert len((tmp_path / "out" / JOURNAL).read_text().splitlines()) == 3


def test_a_picture_that_took_two_nodes_with_it_is_not_tried_again(begin: Begin) -> None:
    dispatch, hands = begin(2, 5), [Far("a"), Far("b"), Far("c")]
    assert hands[0].take(dispatch) == "0.png"
    assert list(dispatch.lost(hands[0], "the node a was lost.")) == []
    assert hands[1].take(dispatch) == "0.png"
    (outcome,) = dispatch.lost(hands[1], "the node b was lost.")
    assert outcome.state == "failed"
    assert outcome.message.endswith("0.png: the node b was lost. It was tried 2 times.")
    assert hands[2].take(dispatch) == "1.png"
    dispatch.close([])


def test_pictures_that_only_waited_on_a_lost_node_are_tried_as_often_as_asked(begin: Begin) -> None:
    dispatch = begin(2, 2)
    for tries in range(3):
        hand = Far(str(tries))
        assert [hand.take(dispatch), hand.take(dispatch)] == ["0.png", "1.png"]
        hand.at = None
        outcomes = list(dispatch.lost(hand, f"the node {tries} was lost."))
    assert sorted(outcome.source.name for outcome in outcomes) == ["0.png", "1.png"]
    assert dispatch.left == 0
    dispatch.close([])


def test_who_tells_of_a_picture_is_told(begin: Begin, log: Log) -> None:
    dispatch, hand = begin(1, 0), Far("node-7")
    hand.take(dispatch)
    assert log.told == [("started", "0.png")]
    assert log.nodes == ["node-7"]
    list(dispatch.lost(hand, "it was lost."))
    dispatch.close([])


def test_what_another_run_is_at_is_asked_for_last_and_left_to_it(tmp_path: Path, begin: Begin) -> None:
    dispatch, hand = begin(2, 0), Far()
    with Journal.open(tmp_path / "out").claim(tmp_path / "out" / "0_x4.png") as mine:
        assert mine
        assert hand.take(dispatch) == "1.png"
        done(dispatch, hand)
        (outcome,) = dispatch.hear(hand, ("next",))
    assert "is being made by another run" in outcome.message
    assert hand.sent == [None]
    dispatch.close([])
