"""Every picture becomes an outcome, none is done twice, and nothing that was worked for is lost."""

import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from seesr_cli import __version__, image
from seesr_cli.catalogue import MODELS
from seesr_cli.errors import OutputUnwritable, ResourcesError, UsageError, WeightsMissing
from seesr_cli.records import latents, provenance
from seesr_cli.records.journal import Journal
from seesr_cli.records.writer import JOURNAL
from seesr_cli.restore.sampled import Sampled, Wanted
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.run import batch
from seesr_cli.run.inputs import InputFile, find
from seesr_cli.run.outcome import Outcome
from seesr_cli.run.outputs import Job, plan_results
from seesr_cli.run.request import Request
from seesr_cli.run.tags import read_tags
from seesr_cli.settings import Settings
from watching import Log

SEESR = MODELS["seesr"]
QUICK = Settings(steps=1, process_size=64)
WEIGHTS = "5ee5" * 16


def draw(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 16)) -> Path:
    """Put a small picture at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert(mode).save(path)
    return path


# --- the run -----------------------------------------------------------------------------------------------------


def job(source: Path, target: Path | None = None) -> Job:
    target = target or source.with_name(f"{source.stem}_x4.png")
    return Job(InputFile(source, Path(source.name)), target, image.kind_of(target) or "png")


def restore(upscaler: Upscaler, log: Log, *jobs: Job, settings: Settings = QUICK, **options: Any) -> list[Outcome]:
    return list(batch.run(jobs, Request(SEESR, settings, **options), lambda: upscaler, lambda: WEIGHTS, log))


def refused(log: Log, *jobs: Job, settings: Settings = QUICK, **options: Any) -> list[Outcome]:
    """What becomes of jobs that need no model."""
    return list(batch.run(jobs, Request(SEESR, settings, **options), never, lambda: WEIGHTS, log))


def names(folder: Path) -> list[str]:
    """What a person sees in a folder."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def never() -> Upscaler:
    raise WeightsMissing("the model was loaded")


def test_each_picture_becomes_an_outcome_and_a_file(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [
        job(draw(tmp_path / "a.png"), tmp_path / "out" / "a_x2.png"),
        job(draw(tmp_path / "b.png", size=(7, 30)), tmp_path / "out" / "b_x2.png"),
    ]
    outcomes = restore(upscaler, log, *jobs, settings=replace(QUICK, scale=2, steps=2))
    assert [outcome.state for outcome in outcomes] == ["done", "done"], outcomes
    assert [outcome.size_in for outcome in outcomes] == [(16, 20), (30, 7)]
    assert [outcome.size_out for outcome in outcomes] == [(32, 40), (60, 14)]
    for each, outcome in zip(jobs, outcomes, strict=True):
        assert outcome.target is not None
        assert outcome.target == each.target
        assert outcome.seconds > 0
        assert image.read(outcome.target).pixels.shape[-2:] == outcome.size_out
    assert log.told == [
        ("started", "a.png"),
        ("loading", "seesr"),
        *(("stepped", "a.png", done, 2) for done in range(3)),
        ("started", "b.png"),
        *(("stepped", "b.png", done, 2) for done in range(3)),
    ]


def test_a_bad_picture_does_not_stop_the_others(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    (tmp_path / "a.png").write_text("Dear diary")
    (tmp_path / "b.png").touch()
    draw(tmp_path / "c.png")
    outcomes = restore(upscaler, log, *plan_results(find([str(tmp_path)]).pictures, None), job(tmp_path / "gone.png"))
    assert [outcome.state for outcome in outcomes] == ["failed", "failed", "done", "failed"]
    assert outcomes[0].message.startswith(f"{tmp_path / 'a.png'} is not a picture that can be read: ")
    assert "zero bytes" in outcomes[1].message
    assert outcomes[3].message == f"{tmp_path / 'gone.png'} is not there: check the name."
    assert names(tmp_path) == ["a.png", "b.png", "c.png", "c_x4.png"]


def test_what_somebody_else_put_there_is_left_alone_without_loading_the_model(tmp_path: Path, log: Log) -> None:
    each = job(draw(tmp_path / "a.png"))
    (tmp_path / "a_x4.png").write_text("precious")
    (outcome,) = refused(log, each)
    assert (outcome.state, outcome.target) == ("failed", None)
    assert "a_x4.png is already there and is not what this tool left there: left alone" in outcome.message
    assert (tmp_path / "a_x4.png").read_text() == "precious"


def test_overwrite_makes_it_again(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    each = job(draw(tmp_path / "a.png"))
    (tmp_path / "a_x4.png").write_text("old")
    (outcome,) = restore(upscaler, log, each, overwrite=True)
    assert outcome.state == "done"
    assert image.read(tmp_path / "a_x4.png").pixels.shape == (3, 64, 80)


def test_the_model_is_not_loaded_for_pictures_that_cannot_be_restored(tmp_path: Path, log: Log) -> None:
    draw(tmp_path / "large.png", mode="1", size=(4000, 4000))
    draw(tmp_path / "long.png", mode="1", size=(16000, 1))
    (tmp_path / "folder_x4.png").mkdir()
    (tmp_path / "file").touch()
    source = draw(tmp_path / "a.png")
    outcomes = refused(log, job(tmp_path / "long.png", tmp_path / "long.jpg"), settings=replace(QUICK, scale=8))
    outcomes += refused(
        log,
        job(tmp_path / "large.png", tmp_path / "large_x4.png"),
        job(tmp_path / "long.png", tmp_path / "long.webp"),
        job(source, tmp_path / "folder_x4.png"),
        job(source, tmp_path / "file" / "a_x4.png"),
        job(source, Path("/proc/out/a_x4.png")),
        job(source, Path("/proc/a_x4.png")),
    )
    sentences = [
        "and JPEG ends at 65500 a side: choose a .png file",
        "would become 16000 x 16000 pixels, more than the 100,000,000 that --max-pixels allows",
        "and WEBP ends at 16383 a side: choose a .png file",
        "is a folder: name another file with -o",
        "cannot be made (File exists): choose another place with -o",
        "The folder /proc/out cannot be made",
        "/proc is not a folder that takes files: choose another with -o",
    ]
    assert [outcome.state for outcome in outcomes] == ["failed"] * 7
    for outcome, sentence in zip(outcomes, sentences, strict=True):
        assert sentence in outcome.message
        assert str(outcome.source) in outcome.message


def test_an_error_that_concerns_every_picture_ends_the_run(tmp_path: Path, log: Log) -> None:
    with pytest.raises(WeightsMissing):
        refused(log, job(draw(tmp_path / "a.png")), job(draw(tmp_path / "b.png")))
    assert log.told == [("started", "a.png"), ("loading", "seesr")]


# --- resume ------------------------------------------------------------------------------------------------------


def test_the_same_run_again_does_nothing_and_needs_no_model(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "ab"]
    restore(upscaler, log, *jobs)
    outcomes = refused(log, *jobs)
    assert [outcome.state for outcome in outcomes] == ["skipped", "skipped"]
    assert outcomes[0].message.startswith(f"{tmp_path / 'a_x4.png'} is already there: left alone")


@pytest.mark.parametrize("change", ["input", "settings", "weights", "quality"])
def test_what_has_changed_is_made_again_and_nothing_else(
    tmp_path: Path, upscaler: Upscaler, log: Log, change: str
) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png"), tmp_path / f"{name}.jpg") for name in "ab"]
    restore(upscaler, log, *jobs)
    before = [path.read_bytes() for path in (tmp_path / "a.jpg", tmp_path / "b.jpg")]
    settings, weights, options = QUICK, WEIGHTS, {}
    match change:
        case "input":
            draw(tmp_path / "a.png", size=(21, 16))
        case "settings":
            settings = replace(QUICK, seed=3)
        case "weights":
            weights = "0" * 64
        case "quality":
            options = {"quality": 50}
    request = Request(SEESR, settings, **options)  # type: ignore[arg-type]
    outcomes = list(batch.run(jobs, request, lambda: upscaler, lambda: weights, log))
    expected = ["done", "skipped"] if change == "input" else ["done", "done"]
    assert [outcome.state for outcome in outcomes] == expected
    assert (tmp_path / "a.jpg").read_bytes() != before[0]


def test_a_result_that_was_edited_since_is_left_alone(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    each = job(draw(tmp_path / "a.png"))
    restore(upscaler, log, each)
    with (tmp_path / "a_x4.png").open("ab") as file:
        file.write(b"retouched for hours")
    edited = (tmp_path / "a_x4.png").read_bytes()
    (outcome,) = refused(log, each)
    assert (outcome.state, outcome.target) == ("skipped", each.target)  # what was asked for was made
    assert "a_x4.png is already there and was edited since: left alone" in outcome.message
    (outcome,) = refused(log, each, settings=replace(QUICK, seed=1))
    assert (outcome.state, outcome.target) == ("failed", None)
    assert "is not what this tool left there" in outcome.message
    assert (tmp_path / "a_x4.png").read_bytes() == edited
    draw(tmp_path / "a_x4.png")
    (outcome,) = refused(log, each)
    assert (outcome.state, outcome.target) == ("failed", None)  # another picture, and not an edited result
    assert "is not what this tool left there" in outcome.message


def test_the_result_of_another_picture_is_kept_unless_told(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / name / "a.png"), tmp_path / "out" / "a_x4.png") for name in ("one", "two")]
    restore(upscaler, log, jobs[0])
    made = (tmp_path / "out" / "a_x4.png").read_bytes()
    (outcome,) = refused(log, jobs[1])
    assert (outcome.state, outcome.target) == ("failed", None)
    assert f"is already there, and was made from {tmp_path / 'one' / 'a.png'}: left alone." in outcome.message
    assert (tmp_path / "out" / "a_x4.png").read_bytes() == made
    (outcome,) = restore(upscaler, log, jobs[1], overwrite=True)
    assert outcome.state == "done"
    assert [outcome.state for outcome in refused(log, *jobs)] == ["failed", "skipped"]


def test_runs_that_name_a_tree_and_a_folder_of_it_know_of_each_other(
    tmp_path: Path, upscaler: Upscaler, log: Log
) -> None:
    source = draw(tmp_path / "in" / "card" / "a.png")
    for first, then in (("in", "in/card"), ("in/card", "in")):
        out = tmp_path / "out" / first.replace("/", "-")
        for place, state in ((first, "done"), (then, "skipped")):
            target = str(out / place)
            (outcome,) = restore(upscaler, log, *plan_results(find([str(tmp_path / place)]).pictures, target))
            assert (outcome.source, outcome.state) == (source, state)


def test_a_journal_is_in_the_folder_of_a_result_that_was_named(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    source = InputFile(draw(tmp_path / "in" / "a.png"), Path("in", "a.png"))
    (tmp_path / "out" / "deep").mkdir(parents=True)
    restore(upscaler, log, Job(source, tmp_path / "out" / "deep" / "b.png", "png"))
    assert [path.parent for path in tmp_path.rglob(JOURNAL)] == [tmp_path / "out" / "deep"]


def test_what_a_person_put_there_while_it_was_made_is_left_alone(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    class Busy(Log):
        def stepped(self, source: Path, done: int, total: int) -> None:
            (tmp_path / "a_x4.png").write_text("precious")

    (outcome,) = restore(upscaler, Busy(), job(draw(tmp_path / "a.png")))
    assert outcome.state == "failed"
    assert "is already there and was left alone" in outcome.message
    assert (tmp_path / "a_x4.png").read_text() == "precious"


def test_without_weights_what_is_done_is_still_skipped(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    def missing() -> str:
        raise WeightsMissing("none here")

    each = job(draw(tmp_path / "a.png"))
    restore(upscaler, log, each)
    (outcome,) = batch.run([each], Request(SEESR, QUICK), never, missing, log)
    assert outcome.state == "skipped"
    with pytest.raises(WeightsMissing, match="the model was loaded"):
        list(batch.run([each], Request(SEESR, replace(QUICK, seed=1)), never, missing, log))


def test_what_another_process_is_at_is_taken_up_last(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "ab"]
    with Journal.open(tmp_path).claim(tmp_path / "a_x4.png") as mine:
        assert mine
        outcomes = restore(upscaler, log, *jobs)
    assert [(outcome.source.name, outcome.state) for outcome in outcomes] == [("b.png", "done"), ("a.png", "failed")]
    assert outcomes[1].message.endswith(
        "a_x4.png is being made by another run, and left to it: run the same again to see it done."
    )
    assert outcomes[1].target is None
    assert [outcome.state for outcome in restore(upscaler, log, *jobs)] == ["done", "skipped"]


def test_a_second_run_in_a_folder_without_locks_is_refused_unless_it_is_alone(
    tmp_path: Path, upscaler: Upscaler, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    other, jobs = Journal.open(tmp_path), [job(draw(tmp_path / f"{name}.png")) for name in "ab"]
    with other.claim(tmp_path / "c.png"), pytest.raises(UsageError, match="which may be at work there"):
        restore(upscaler, log, *jobs)
    assert names(tmp_path) == ["a.png", "b.png"]
    assert [outcome.state for outcome in restore(upscaler, log, *jobs, alone=True)] == ["done", "done"]
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 2


def test_a_result_that_a_lost_node_made_after_all_is_kept(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    each = job(draw(tmp_path / "a.png"))

    class Lost(Journal):
        """The journal of a node whose claim was given to another."""

        @contextmanager
        def claim(self, target: Path) -> Iterator[bool]:
            yield True

    class Slower(Log):
        def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
            if phase == "decode" and not done:
                lost = batch.run([each], Request(SEESR, QUICK), lambda: upscaler, lambda: WEIGHTS, log, None, Lost.open)
                assert [outcome.state for outcome in lost] == ["done"]

    (outcome,) = restore(upscaler, Slower(), each)
    assert outcome.state == "skipped", outcome.message
    assert outcome.kept_seconds
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 1


def test_overwriting_shares_its_work_with_another_process_too(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "ab"]
    restore(upscaler, log, *jobs)

    class Other(Log):
        def started(self, source: Path, target: Path | None, node: str = "") -> None:
            if source.name == "b.png":
                restore(upscaler, Log(), jobs[1], overwrite=True)

    outcomes = restore(upscaler, Other(), *jobs, overwrite=True)
    assert [outcome.state for outcome in outcomes] == ["done", "skipped"]


def test_one_journal_tells_of_a_whole_tree(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "in" / "deep" / "er" / "b.png")
    restore(upscaler, log, *plan_results(find([str(tmp_path / "in")]).pictures, str(tmp_path / "out")))
    journals = [path.relative_to(tmp_path) for path in tmp_path.rglob(JOURNAL)]
    assert journals == [Path("out", JOURNAL)]
    lines = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()]
    assert [line["output"] for line in lines] == ["a_x4.png", "deep/er/b_x4.png"]


def test_a_damaged_journal_is_told_once_and_harms_nothing(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "ab"]
    restore(upscaler, log, jobs[0])
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b"\0\0\0 what power cuts leave")
    log.told.clear()
    assert [outcome.state for outcome in restore(upscaler, log, *jobs)] == ["skipped", "done"]
    assert [told for told in log.told if told[0] == "note"] == [
        ("note", f"{tmp_path / JOURNAL}: 1 line cannot be read; results told of there are left alone.")
    ]
    assert [outcome.state for outcome in refused(log, *jobs)] == ["skipped", "skipped"]


# --- several at once ---------------------------------------------------------------------------------------------


def groups(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that grows with the number of pictures that are sampled together."""
    counts: list[int] = []
    sample = upscaler.sample_together

    def counted(wanted: Sequence[Wanted], *others: Any) -> list[Sampled]:
        counts.append(len(wanted))
        return sample(wanted, *others)

    monkeypatch.setattr(upscaler, "sample_together", counted)
    return counts


def pixels(path: Path) -> Tensor:
    return image.read(path).pixels


def test_pictures_of_one_size_are_made_together_whatever_is_between_them(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    small, large = (20, 16), (24, 16)
    sizes = {"a": small, "c": small, "d": small, "e": small, "f": small, "g": large, "h": large, "i": small, "j": small}
    for name, size in sizes.items():
        draw(tmp_path / f"{name}.png", size=size)
    (tmp_path / "b.png").write_text("Dear diary")
    jobs = plan_results(find([str(tmp_path)]).pictures, None)
    alone = plan_results(find([str(tmp_path)]).pictures, str(tmp_path / "alone"))
    restore(upscaler, log, *alone, settings=replace(QUICK, steps=2))
    counts = groups(upscaler, monkeypatch)
    settings = replace(QUICK, steps=2)
    restore(upscaler, log, jobs[2], settings=settings)  # c is done
    log.told.clear()
    with Journal.open(tmp_path).claim(tmp_path / "d_x4.png") as mine:
        assert mine
        outcomes = restore(upscaler, log, *jobs, settings=settings, batch_size=3, sidecar="json")
    states = {"a": "done", "b": "failed", "c": "skipped", **dict.fromkeys("efghij", "done"), "d": "failed"}
    assert [(outcome.source.stem, outcome.state) for outcome in outcomes] == list(states.items())
    assert counts == [1, 3, 2, 2]
    starts = [told[1] for told in log.told if told[0] == "started"]
    assert starts == [f"{name}.png" for name in "abcdefghijd"]
    for name in "aefghij":
        assert [told for told in log.told if told[:2] == ("stepped", f"{name}.png")] == [
            ("stepped", f"{name}.png", done, 2) for done in range(3)
        ]
        torch.testing.assert_close(
            pixels(tmp_path / f"{name}_x4.png"), pixels(tmp_path / "alone" / f"{name}_x4.png"), atol=1.01 / 255, rtol=0
        )
        told = json.loads((tmp_path / f"{name}_x4.json").read_text())
        assert told["input"]["name"] == f"{name}.png"
        assert told["batch_size"] == (3 if name in "aef" else 2)
    assert [outcome.state for outcome in restore(upscaler, log, *jobs, settings=settings, batch_size=3)] == [
        "skipped", "failed", "skipped", "done", *["skipped"] * 6,
    ]  # fmt: skip


def test_no_more_jobs_are_asked_for_than_are_made_together(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    asked: list[str] = []

    def ask() -> Iterator[Job]:
        for name in "abcde":
            asked.append(name)
            yield job(draw(tmp_path / f"{name}.png"), tmp_path / f"{most}" / f"{name}.png")

    for most, taken in ((1, [1, 2, 3, 4, 5]), (3, [3, 3, 3, 5, 5])):
        asked.clear()
        request = Request(SEESR, QUICK, batch_size=most)
        assert [len(asked) for _ in batch.run(ask(), request, lambda: upscaler, lambda: WEIGHTS, log)] == taken


def test_what_was_sampled_together_is_on_disk_before_the_first_is_developed(
    tmp_path: Path, upscaler: Upscaler, log: Log
) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "abc"]

    class Killed(Breaking):
        def develop(self, *arguments: Any) -> Any:
            raise KeyboardInterrupt

    breaking: Any = Killed(upscaler, RuntimeError())
    with pytest.raises(KeyboardInterrupt):
        restore(breaking, log, *jobs, batch_size=3)
    assert all(latents.place(tmp_path / f"{name}_x4.png").exists() for name in "abc")
    again: Any = Breaking(upscaler, RuntimeError())
    again.error = None
    assert [outcome.state for outcome in restore(again, log, *jobs, batch_size=3)] == ["done"] * 3
    assert again.sampled == 0
    assert list(tmp_path.glob(".*.latent")) == []


def test_a_picture_that_cannot_be_sampled_fails_alone(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "abc"]
    bad = pixels(tmp_path / "b.png")

    class Picky(Breaking):
        def sample_together(self, wanted: list[Any], *arguments: Any) -> Any:
            if any(torch.equal(each.picture.pixels, bad) for each in wanted):
                raise RuntimeError("not this one")
            return super().sample_together(wanted, *arguments)

    picky: Any = Picky(upscaler, RuntimeError())
    picky.error = None
    outcomes = restore(picky, log, *jobs, batch_size=3)
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "done"]
    assert "RuntimeError: not this one" in outcomes[1].message


def test_an_interruption_leaves_no_claim(tmp_path: Path, upscaler: Upscaler) -> None:
    jobs = [
        job(draw(tmp_path / f"{name}.png", size=(20, side))) for name, side in zip("abc", (16, 16, 17), strict=True)
    ]

    class Impatient(Log):
        def stepped(self, source: Path, done: int, total: int) -> None:
            with Journal.open(tmp_path).claim(tmp_path / "c_x4.png") as mine:
                assert not mine  # begun to see its size
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(upscaler, Impatient(), *jobs, batch_size=3)
    for name in "abc":
        with Journal.open(tmp_path).claim(tmp_path / f"{name}_x4.png") as mine:
            assert mine
    assert names(tmp_path) == ["a.png", "b.png", "c.png"]


def test_memory_that_runs_out_for_several_is_told_of_each(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    upscaler = Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    entry, counts = upscaler.sampler.unet.conv_in, groups(upscaler, monkeypatch)
    forward = entry.forward

    def full(crops: Tensor) -> Tensor:
        if len(crops) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(crops)

    monkeypatch.setattr(entry, "forward", full)
    outcomes = restore(upscaler, log, *(job(draw(tmp_path / f"{name}.png")) for name in "abcd"), batch_size=3)
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    said = "Memory ran out: pictures are computed 1 at a time from now on."
    assert [said in outcome.notes for outcome in outcomes] == [True, True, True, False]
    assert [outcome.record["batch_size"] for outcome in outcomes] == [1] * 4
    assert counts == [3, 1]


def test_pictures_are_grouped_by_the_frames_that_their_own_networks_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    miniature = Upscaler.load(MODELS["miniature"], None, "cpu", "fp32")  # pads frames to multiples of 4, not of 8
    settings = replace(MODELS["miniature"].defaults, process_size=64)
    counts = groups(miniature, monkeypatch)
    jobs = [job(draw(tmp_path / f"{side}{name}.png", size=(side, side))) for side in (17, 18) for name in "ab"]
    request = Request(MODELS["miniature"], settings, batch_size=4)
    outcomes = list(batch.run(jobs, request, lambda: miniature, lambda: WEIGHTS, log))
    assert [outcome.size_out for outcome in outcomes] == [(68, 68), (68, 68), (72, 72), (72, 72)]
    assert [outcome.record["batch_size"] for outcome in outcomes] == [2] * 4
    assert counts == [2, 2]


def test_the_place_in_a_call_is_recorded_as_it_was_when_memory_had_run_out(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    upscaler = Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    entry, calls = upscaler.sampler.unet.conv_in, list[int]()
    forward = entry.forward

    def full(crops: Tensor) -> Tensor:
        if len(crops) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        calls.append(len(crops))
        return forward(crops)

    monkeypatch.setattr(entry, "forward", full)
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "abcde"]
    made = restore(upscaler, log, *jobs, batch_size=5)
    assert calls == [1, 2, 2]
    places = [(outcome.record["batch_size"], outcome.record["batch_place"]) for outcome in made]
    assert places == [(1, 0), (2, 0), (2, 1), (2, 0), (2, 1)]
    calls.clear()
    for outcome, call in zip(made, (1, 2, 2, 2, 2), strict=True):
        recipe = provenance.settings_of(json.loads(json.dumps(outcome.record)), "a result")
        again = job(outcome.source, tmp_path / "again" / f"{outcome.source.stem}_x4.png")
        restore(upscaler, log, again, settings=recipe.settings, like=recipe)
        assert calls.pop() == call
        assert again.target is not None
        assert again.target.read_bytes() == (tmp_path / again.target.name).read_bytes()


def test_pictures_share_the_time_that_they_take_together(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "abc"]
    start = time.monotonic()
    outcomes = restore(upscaler, log, *jobs, settings=replace(QUICK, steps=4), batch_size=3)
    took = time.monotonic() - start
    assert 0.5 * took < sum(outcome.seconds for outcome in outcomes) <= took
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert sum(line["seconds"] for line in lines) <= took


def test_what_was_made_with_others_is_repeated_to_the_byte_without_them(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    settings = replace(QUICK, steps=3)
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "abc"]
    made = restore(upscaler, log, *jobs, settings=settings, batch_size=3)
    recipe = provenance.settings_of(json.loads(json.dumps(made[1].record)), "b_x4.png")
    assert recipe.batch_size == 3
    counts = groups(upscaler, monkeypatch)
    again = [job(each.source.path, tmp_path / "again" / f"{each.source.path.stem}_x4.png") for each in jobs]
    outcomes = restore(upscaler, log, *again, settings=recipe.settings, like=recipe)
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert counts == [1, 3, 1]  # b has two copies beside it, a and c are others' pictures
    assert (tmp_path / "again" / "b_x4.png").read_bytes() == (tmp_path / "b_x4.png").read_bytes()
    alone = job(tmp_path / "b.png", tmp_path / "alone.png")
    (outcome,) = restore(upscaler, log, alone, settings=recipe.settings, like=recipe, batch_size=1)
    assert outcome.record["batch_size"] == 1
    assert counts[3:] == [1]


# --- what was worked for is not lost -----------------------------------------------------------------------------


class Breaking:
    """An upscaler that fails to develop until it is mended."""

    def __init__(self, upscaler: Upscaler, error: Exception) -> None:
        self.upscaler = upscaler
        self.error: Exception | None = error
        self.sampled = 0

    @property
    def place(self) -> tuple[str, str]:
        return self.upscaler.place

    @property
    def threads(self) -> int | None:
        return self.upscaler.threads

    def prepare(self, *arguments: Any) -> Any:
        return self.upscaler.prepare(*arguments)

    def pictures_a_call(self, *arguments: Any) -> int:
        return self.upscaler.pictures_a_call(*arguments)

    def sample_together(self, wanted: list[Any], *arguments: Any) -> Any:
        self.sampled += len(wanted)
        return self.upscaler.sample_together(wanted, *arguments)

    def develop(self, *arguments: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self.upscaler.develop(*arguments)


def test_a_failure_behind_the_sampling_costs_no_second_sampling(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    each = job(draw(tmp_path / "a.png"))
    whole = job(tmp_path / "a.png", tmp_path / "whole.png")
    restore(upscaler, log, whole)
    breaking: Any = Breaking(upscaler, RuntimeError("the power failed"))
    (outcome,) = restore(breaking, log, each)
    assert outcome.state == "failed"
    assert latents.place(tmp_path / "a_x4.png").exists()
    breaking.error = None
    (outcome,) = restore(breaking, log, each, sidecar="json")
    assert (outcome.state, breaking.sampled) == ("done", 1)
    assert (tmp_path / "a_x4.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert json.loads((tmp_path / "a_x4.json").read_text())["near_misses"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".latent"] == []


def test_a_kept_latent_spares_the_sampling_for_other_colours_and_formats(
    tmp_path: Path, upscaler: Upscaler, log: Log
) -> None:
    draw(tmp_path / "a.png")
    breaking: Any = Breaking(upscaler, RuntimeError())
    breaking.error = None
    restore(breaking, log, job(tmp_path / "a.png"), keep_latents=True)
    assert names(tmp_path) == ["a.png", "a_x4.latent.safetensors", "a_x4.png"]
    before = (tmp_path / "a_x4.png").read_bytes()
    restore(breaking, log, job(tmp_path / "a.png"), settings=replace(QUICK, colour="wavelet"), keep_latents=True)
    assert breaking.sampled == 1
    assert (tmp_path / "a_x4.png").read_bytes() != before
    restore(breaking, log, job(tmp_path / "a.png"), settings=replace(QUICK, seed=1))
    assert breaking.sampled == 2


def test_a_full_disk_ends_the_run_with_its_own_error(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    full = OutputUnwritable("a_x4.png cannot be written (No space left on device): make room.")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    breaking: Any = Breaking(upscaler, full)
    jobs = [job(draw(tmp_path / f"{name}.png")) for name in "ab"]
    outcomes: Iterator[Outcome] = batch.run(jobs, Request(SEESR, QUICK), lambda: breaking, lambda: WEIGHTS, log)
    assert next(outcomes).state == "failed"
    with pytest.raises(ResourcesError, match="The disk is full: make room, and the same command again"):
        next(outcomes)


# --- what travels along ------------------------------------------------------------------------------------------


def test_the_result_says_how_it_was_made_and_can_be_repeated(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    draw(tmp_path / "a.png")
    settings = replace(QUICK, seed=7, add_tags=("frog",), scale=2)
    (outcome,) = restore(upscaler, log, job(tmp_path / "a.png"), settings=settings)
    xmp = image.read(tmp_path / "a_x4.png").xmp
    assert xmp is not None
    record = provenance.extract(xmp)
    assert record is not None
    assert record == json.loads(json.dumps(outcome.record))
    assert record["model"]["weights"] == WEIGHTS
    recipe = provenance.settings_of(record, "a_x4.png")
    assert recipe.settings == settings
    again = job(tmp_path / "a.png", tmp_path / "again.png")
    (outcome,) = restore(upscaler, log, again, settings=recipe.settings, like=recipe)
    assert not any("repeat" in note for note in outcome.notes)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "a_x4.png").read_bytes()
    draw(tmp_path / "other.png")
    (outcome,) = restore(upscaler, log, job(tmp_path / "other.png"), settings=recipe.settings, like=recipe)
    assert any("was made of another file" in note for note in outcome.notes)


def test_alpha_profile_and_exif_go_with_the_picture(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    picture = Image.effect_noise((20, 16), 60).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((20, 16)))
    picture.save(tmp_path / "a.png", exif=exif)
    (outcome,) = restore(upscaler, log, job(tmp_path / "a.png", tmp_path / "b.png"))
    result = image.read(tmp_path / "b.png")
    assert outcome.size_out == (80, 64)
    assert result.alpha is not None
    assert result.alpha.shape == (1, 80, 64)
    rising = result.alpha[0].mean(dim=0)
    assert torch.all(rising[1:] <= rising[:-1] + 0.01)  # top to bottom became right to left
    assert result.exif is not None
    assert b"A camera" in result.exif


def test_grey_in_grey_out(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    restore(upscaler, log, job(draw(tmp_path / "a.png", mode="L"), tmp_path / "b.png"))
    with Image.open(tmp_path / "b.png") as result:
        assert result.mode == "L"
        assert np.asarray(result).std() > 0


def test_transparency_lost_to_the_format_is_a_note(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    (outcome,) = restore(upscaler, log, job(draw(tmp_path / "a.png", mode="RGBA"), tmp_path / "b.jpg"))
    assert "JPEG holds no transparency: the picture was laid on white." in outcome.notes


def test_the_seed_alone_decides_the_picture(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    one, two = tmp_path / "one", tmp_path / "two"
    restore(upscaler, log, job(a, one / "a.png"), job(b, one / "b.png"))
    restore(upscaler, log, job(b, two / "b.png"), job(a, two / "a.png"))
    restore(upscaler, log, job(a, tmp_path / "three" / "a.png"), settings=replace(QUICK, seed=1))
    assert (one / "a.png").read_bytes() == (two / "a.png").read_bytes()
    assert (one / "a.png").read_bytes() != (tmp_path / "three" / "a.png").read_bytes()


def test_exact_sizes_are_met_with_their_alpha(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    draw(tmp_path / "a.png", mode="RGBA")
    for settings, size in ((replace(QUICK, width=33, height=40), (40, 33)), (replace(QUICK, long_edge=9), (7, 9))):
        (outcome,) = restore(upscaler, log, job(tmp_path / "a.png"), settings=settings)
        result = image.read(tmp_path / "a_x4.png")
        assert outcome.size_out == result.pixels.shape[-2:] == size
        assert result.alpha is not None
        assert result.alpha.shape[-2:] == size


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 36 bytes")])
def test_memory_that_runs_out_is_said_and_is_no_fault_to_report(
    tmp_path: Path, upscaler: Upscaler, log: Log, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Upscaler, "sample_together", fail)
    (outcome,) = restore(upscaler, log, job(draw(tmp_path / "a.png")))
    assert outcome.message.endswith("needs more memory than there is: use a smaller --scale, or cut it into parts.")


# --- sidecars ----------------------------------------------------------------------------------------------------


def test_the_sidecar_tells_how_the_picture_was_made(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    settings = replace(QUICK, seed=5, prompt="a frog")
    (outcome,) = restore(upscaler, log, job(draw(tmp_path / "a.png")), settings=settings, sidecar="json")
    told = json.loads((tmp_path / "a_x4.json").read_text())
    assert told["seesr"] == __version__
    assert told["model"] == {"name": "seesr", "about": SEESR.about, "weights": WEIGHTS}
    assert told["input"] | {"sha256": ""} == {"name": "a.png", "width": 20, "height": 16, "sha256": ""}
    assert told["output"] | {"kind": "png", "name": "a_x4.png", "width": 80, "height": 64} == told["output"]
    assert told["settings"]["seed"] == 5
    assert told["prompt"] == outcome.prompt
    assert "a frog" in told["prompt"]
    assert told["negative_prompt"] == settings.negative
    assert told["tags"] == [tag._asdict() for tag in outcome.tags]


def test_edited_tags_are_used_and_stale_ones_are_named(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    draw(tmp_path / "a.png")
    restore(upscaler, log, job(tmp_path / "a.png"), sidecar="txt")
    text = tmp_path / "a_x4.txt"
    text.write_text(text.read_text() + "a unicorn\n")
    (outcome,) = restore(upscaler, log, job(tmp_path / "a.png"), tags_from=tmp_path)
    assert outcome.state == "done"
    assert [tag.name for tag in outcome.tags][-1] == "a unicorn"
    assert "a unicorn" in outcome.prompt
    draw(tmp_path / "a.png", size=(20, 17))
    (outcome,) = restore(upscaler, log, job(tmp_path / "a.png"), tags_from=tmp_path)
    assert "a unicorn" not in outcome.prompt
    assert f"{text} is stale, the picture has changed since: it was read anew." in outcome.notes


def test_tags_written_by_hand_in_the_place_of_the_sidecar_are_used_and_left(
    tmp_path: Path, upscaler: Upscaler, log: Log
) -> None:
    each, text = job(draw(tmp_path / "a.png")), tmp_path / "a_x4.txt"
    restore(upscaler, log, each, sidecar="txt")
    text.write_text("a unicorn, a meadow\n")
    for state in ("done", "skipped"):
        (outcome,) = restore(upscaler, log, each, sidecar="txt", tags_from=tmp_path)
        assert outcome.state == state
    assert text.read_text() == "a unicorn, a meadow\n"
    draw(tmp_path / "a.png", size=(20, 17))
    (outcome,) = restore(upscaler, log, each, sidecar="txt")
    assert "is already there and not of this tool" in outcome.message


def test_tags_that_were_edited_are_not_written_over(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    each, text = job(draw(tmp_path / "a.png")), tmp_path / "a_x4.txt"
    restore(upscaler, log, each, sidecar="txt")
    written = text.read_text()
    restore(upscaler, log, each, settings=replace(QUICK, seed=1), sidecar="txt")
    assert text.read_text() == written
    text.write_text(f"{written}a unicorn\n")
    for settings in (replace(QUICK, seed=1), replace(QUICK, seed=2)):
        (outcome,) = restore(upscaler, log, each, settings=settings, sidecar="txt")
        assert outcome.state == "done"
        assert [tag.name for tag in outcome.tags][-1] == "a unicorn"
        assert f"{text} was edited and is left as it is: --overwrite writes it anew." in outcome.notes
        assert f"{text} was edited, so its tags are used: move it away to have the picture read again." in outcome.notes
    assert "a unicorn" in text.read_text()
    restore(upscaler, log, each, sidecar="txt", overwrite=True)
    assert text.read_text() == written


def test_a_json_sidecar_that_was_edited_is_used_and_not_written_over(
    tmp_path: Path, upscaler: Upscaler, log: Log
) -> None:
    each, beside = job(draw(tmp_path / "a.png")), tmp_path / "a_x4.json"
    restore(upscaler, log, each, sidecar="json")
    beside.write_text(json.dumps(json.loads(beside.read_text())))  # spaces alone are nobody's work
    (outcome,) = refused(log, each, sidecar="json")
    assert (outcome.state, outcome.notes) == ("skipped", ())
    content = json.loads(beside.read_text())
    content["tags"] = [{"name": "a unicorn"}]
    beside.write_text(json.dumps(content))
    (outcome,) = restore(upscaler, log, each, sidecar="json")
    assert [tag.name for tag in outcome.tags] == ["a unicorn"]
    assert json.loads(beside.read_text()) == content
    restore(upscaler, log, each, sidecar="json", overwrite=True)
    assert "a unicorn" not in beside.read_text()


@pytest.mark.parametrize("where", ["results", "elsewhere"])
def test_tags_given_by_hand_outlive_the_ordinary_run(tmp_path: Path, upscaler: Upscaler, log: Log, where: str) -> None:
    """The tags came from a folder that the ordinary command does not name."""
    each, out = job(draw(tmp_path / "in" / "a.png"), tmp_path / "results" / "a_x4.png"), tmp_path / "results"
    restore(upscaler, log, each, sidecar="txt")
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / "a_x4.txt").write_text((out / "a_x4.txt").read_text() + "a unicorn\n")
    (outcome,) = restore(upscaler, log, each, tags_from=tmp_path / where)
    assert "a unicorn" in outcome.prompt
    made = (out / "a_x4.png").read_bytes()
    for sidecar in ("none", "txt"):
        (outcome,) = refused(log, each, sidecar=sidecar)
        assert outcome.state == "skipped"
        (note,) = outcome.notes
        assert ("was edited, so its tags are used" in note) == (where == "results")
        assert ("was made with tags given by hand, which are used again" in note) == (where == "elsewhere")
    assert (out / "a_x4.png").read_bytes() == made
    (outcome,) = restore(upscaler, log, each, settings=replace(QUICK, seed=1))
    assert "a unicorn" in outcome.prompt
    (outcome,) = restore(upscaler, log, each, sidecar="txt", overwrite=True)
    assert "a unicorn" not in outcome.prompt


def test_tags_given_by_hand_are_not_those_of_a_picture_that_changed(
    tmp_path: Path, upscaler: Upscaler, log: Log
) -> None:
    each = job(draw(tmp_path / "a.png"))
    restore(upscaler, log, each, sidecar="txt")
    text = tmp_path / "a_x4.txt"
    text.write_text(text.read_text() + "a unicorn\n")
    restore(upscaler, log, each)
    draw(tmp_path / "a.png", size=(20, 17))
    (outcome,) = restore(upscaler, log, each)
    assert "a unicorn" not in outcome.prompt
    assert f"{text} was edited, but is stale, the picture has changed since: it was read anew." in outcome.notes


def test_without_tags_there_is_no_sidecar(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    restore(upscaler, log, job(draw(tmp_path / "a.png")))
    assert names(tmp_path) == ["a.png", "a_x4.png"]


@pytest.mark.parametrize("kind", ["json", "txt"])
def test_a_sidecar_of_somebody_else_is_left_alone(tmp_path: Path, upscaler: Upscaler, log: Log, kind: str) -> None:
    each, beside = job(draw(tmp_path / "a.png")), tmp_path / f"a_x4.{kind}"
    beside.write_text('{"precious": true}')
    (outcome,) = refused(log, each, sidecar=kind)
    assert outcome.state == "failed"
    assert "is already there and not of this tool: move it, or use --overwrite." in outcome.message
    assert beside.read_text() == '{"precious": true}'
    beside.unlink()
    (outcome,) = restore(upscaler, log, each, sidecar=kind)
    assert outcome.state == "done"
    assert __version__ in beside.read_text()


# --- tags --------------------------------------------------------------------------------------------------------


def test_tags_are_read_and_failures_go_beside_them(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    (tmp_path / "a.png").touch()
    b = draw(tmp_path / "b.png")
    sources = [InputFile(path, Path(path.name)) for path in (tmp_path / "a.png", b)]
    outcomes = list(read_tags(sources, "seesr", lambda: upscaler.reader, log))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[1].tags == upscaler.reader.read(image.read(b).pixels).tags


def test_names_that_are_no_text_and_names_of_several_lines_work(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    odd = [tmp_path / "new\nline [red].png", tmp_path / os.fsdecode(b"\xff\xfe.png")]
    for path in odd:
        draw(path)
    jobs = plan_results(find([str(tmp_path)]).pictures, None)
    outcomes = restore(upscaler, log, *jobs, sidecar="json")
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert all(outcome.target is not None and outcome.target.exists() for outcome in outcomes)
    assert [outcome.state for outcome in refused(log, *jobs)] == ["skipped", "skipped"]
