"""Several processes share a run: every picture once, whatever happens to one of them, and none is left at the end."""

import json
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from io import BytesIO, TextIOWrapper
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seesr_cli import image
from seesr_cli.catalogue import MINIATURE, SEESR
from seesr_cli.errors import WeightsMissing
from seesr_cli.machine.share import ALONE, Share, Worker, divide
from seesr_cli.records.writer import JOURNAL
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.run import batch, workers
from seesr_cli.run.dispatch import Dispatch, Hand
from seesr_cli.run.inputs import InputFile, find, read_bytes
from seesr_cli.run.outcome import Outcome
from seesr_cli.run.outputs import plan_results
from seesr_cli.run.request import Request
from seesr_cli.settings import Settings
from seesr_cli.weights import locate
from seesr_cli.weights.fingerprint import fingerprint
from warm import Kiln, Process
from watching import Log

SETTINGS = Settings(steps=1, guidance=1.0, process_size=64, colour="wavelet", tile=160, overlap=16)
pytestmark = pytest.mark.xdist_group("kiln")  # which one process then needs alone

QUICK = ("--model", "miniature", "--process-size", "64", "--devices", "cpu,cpu")


def draw(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.effect_noise((16, 12 + number), 60).convert("RGB").save(folder / f"{number}.png")
    return folder


def restore(folder: Path, out: Path, log: Log, crew: Sequence[Worker] = divide(["cpu"], 2, 9, 2)):  # type: ignore[no-untyped-def]
    jobs = plan_results(find([str(folder)]).pictures, str(out))
    return workers.run(
        jobs, Request(MINIATURE, SETTINGS), crew, None, lambda: fingerprint(MINIATURE, locate(MINIATURE, None)), log
    )


def test_workers_divide_devices_cores_and_memory() -> None:
    assert divide(["auto"], 1, 100, 8) == (Worker("auto", 8, ALONE),)
    assert divide(["cpu"], 3, 100, 8) == 3 * (Worker("cpu", 2, Share(3, 3)),)
    gpus = divide(["cuda:0", "cuda:1"], 2, 100, 16)
    assert [worker.device for worker in gpus] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert {worker.share for worker in gpus} == {Share(4, 2)}


def test_there_are_no_more_workers_than_pictures_and_every_device_has_one_first() -> None:
    assert [worker[:] for worker in divide(["cuda:0", "cuda:1"], 2, 2, 1)] == [
        ("cuda:0", 1, Share(2, 1)),
        ("cuda:1", 1, Share(2, 1)),
    ]
    assert len(divide(["cpu"], 4, 0, 4)) == 1


def test_every_picture_is_made_once_and_as_by_one_process(tmp_path: Path) -> None:
    folder, log = draw(tmp_path / "in", 5), Log()
    (folder / "2.png").write_text("Dear diary")
    outcomes = list(restore(folder, tmp_path / "out", log))
    assert Counter(outcome.state for outcome in outcomes) == {"done": 4, "failed": 1}
    assert sorted(outcome.source.name for outcome in outcomes) == [f"{number}.png" for number in range(5)]
    assert sorted(str(told[1]) for told in log.told if told[0] == "started") == [f"{number}.png" for number in range(5)]
    assert sum(told[0] == "stepped" for told in log.told) == 4 * 2
    lines = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines() if line]
    assert Counter(line["output"] for line in lines) == {f"{number}_x4.png": 1 for number in (0, 1, 3, 4)}
    assert multiprocessing.active_children() == []

    again = list(restore(folder, tmp_path / "out", Log()))
    assert Counter(outcome.state for outcome in again) == {"skipped": 4, "failed": 1}

    jobs = plan_results(find([str(folder)]).pictures, str(tmp_path / "one"))
    alone = partial(Upscaler.load, MINIATURE, None, "cpu")
    list(batch.run(jobs, Request(MINIATURE, SETTINGS), alone, lambda: "", Log()))
    for number in (0, 1, 3, 4):
        one, several = (image.read(tmp_path / where / f"{number}_x4.png").pixels for where in ("one", "out"))
        assert (one - several).abs().max() < 1.5 / 255  # other numbers of threads round otherwise


def test_a_worker_that_is_killed_costs_the_picture_it_was_at(tmp_path: Path) -> None:
    going = restore(draw(tmp_path / "in", 6), tmp_path / "out", Log())
    outcomes: list[Outcome] = [next(going)]
    first = multiprocessing.active_children()[0]
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    outcomes += going
    states = Counter(outcome.state for outcome in outcomes)
    assert states in ({"done": 5, "failed": 1}, {"done": 6})  # the last if it had told of one and asked for no other
    assert len({outcome.source for outcome in outcomes}) == 6
    for outcome in outcomes:
        if outcome.state == "failed":
            assert "was ended from outside (SIGKILL)" in outcome.message
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".part"] == []
    assert multiprocessing.active_children() == []


def dispatch(tmp_path: Path) -> Dispatch:
    """A run with a picture on stdin and one in a file, before anybody is at work."""
    sources = [InputFile(Path("-"), Path("stdin"), stdin=True), InputFile(tmp_path / "a.png", Path("a.png"))]
    return Dispatch(plan_results(sources, f"{tmp_path}/out/"), Request(MINIATURE, SETTINGS), Log(), {})


def test_a_worker_killed_in_the_middle_of_a_message_costs_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"a picture")))
    crew = workers._Crew(Request(MINIATURE, SETTINGS), None, "", dispatch(tmp_path))
    here, there = Pipe()
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(99,))
    process.start()
    crew.running[here] = workers._Process(Worker("cpu", 1, ALONE), process, Hand(here.send))
    there.send(("next",))
    assert list(crew.hear(here)) == []
    os.write(there.fileno(), struct.pack("!i", 1000) + pickle.dumps(("outcome", "the beginning"))[:9])
    there.close()
    process.kill()
    (outcome,) = crew.hear(here)
    assert (outcome.source, outcome.state) == (Path("-"), "failed")
    assert "was ended from outside (SIGKILL)" in outcome.message
    assert crew.running == {}
    crew.stop()


def test_a_picture_on_stdin_is_read_here_and_goes_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"a picture")))
    given: list[Any] = []
    run, hand = dispatch(tmp_path), Hand(given.append)
    for _ in range(2):
        assert list(run.hear(hand, ("next",))) == []
    run.close([])
    assert [job.source.content for job, _ in given] == [b"a picture", None]
    assert read_bytes(given[0][0].source) == b"a picture"


def test_what_ends_a_run_ends_every_worker(tmp_path: Path) -> None:
    jobs = plan_results(find([str(draw(tmp_path / "in", 3))]).pictures, str(tmp_path / "out"))
    request = Request(SEESR, SETTINGS)
    going = workers.run(jobs, request, divide(["cpu"], 2, 3, 2), tmp_path, lambda: "", Log())
    with pytest.raises(WeightsMissing, match=r"ram_tag_list\.txt is missing"):
        list(going)
    assert multiprocessing.active_children() == []


def begin(kiln: Kiln, folder: Path, out: Path) -> Process:
    """Start a run of two workers in a process group of its own, as a terminal would, and wait for its first result."""
    process = kiln.start("upscale", folder, "-o", out, *QUICK)
    while not list(out.glob("*_x4.png")):
        assert process.poll() is None
        time.sleep(0.05)
    return process


def living(group: int) -> list[str]:
    """Return the commands of the processes of a group that have not ended."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    # One in brackets has given its memory back: it is ending, which takes a moment on a busy machine.
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z") and row[2][0] != "["]


def left(group: int) -> list[str]:
    """Return what lives of a group after a minute at most: its processes end when they see that the run did."""
    limit = time.monotonic() + 60
    while (lives := living(group)) and time.monotonic() < limit:
        time.sleep(0.1)
    return lives


@pytest.mark.parametrize("whole_group", [True, False], ids=["from the terminal", "to the run alone"])
def test_an_interrupted_run_reports_and_leaves_no_process(kiln: Kiln, tmp_path: Path, whole_group: bool) -> None:
    process = begin(kiln, draw(tmp_path / "in", 40), tmp_path / "out")
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Interrupted." in err
    assert b"Traceback" not in err
    assert left(process.pid) == []
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".part"] == []


def test_workers_do_not_outlive_a_run_that_is_killed(kiln: Kiln, tmp_path: Path) -> None:
    process = begin(kiln, draw(tmp_path / "in", 40), tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left(process.pid) == []
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--device", "cpu", "--devices", "0,1"), "--device and --devices both say where to compute"),
        (("--devices", "0,,1"), "--devices 0,,1 is no list"),
        (("--devices", "cpu,tpu"), "The device 'tpu' is not known"),
        (("--jobs", "0"), "--jobs is '0': give a whole number of at least 1"),
    ],
)
def test_devices_that_cannot_be_had_are_told(
    kiln: Kiln, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    process = kiln.start("upscale", draw(tmp_path / "in", 2), "--model", "miniature", *options)
    _, err = process.communicate()
    assert process.returncode == 2
    assert sentence in " ".join(err.decode().replace("│", " ").split())
    assert list((tmp_path / "in").glob("*_x4.png")) == []


def test_a_result_is_repeated_with_the_threads_it_was_made_with(
    kiln: Kiln, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding depends on them."""
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 30), 60).convert("RGB").save("a.png")
    command = ["upscale", "a.png", "--model", "miniature", "--device", "cpu", "-q"]
    process = kiln.start(*command, "-o", "one.png")  # by one thread, as all tests
    process.communicate()
    assert process.returncode == 0
    more = ["-o", "again.png", "--like", "one.png"]
    two = {**os.environ, "OMP_NUM_THREADS": "2"}  # read when torch is imported
    subprocess.run([sys.executable, "-m", "seesr_cli", *command, *more], env=two, check=True)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "again.png").read_bytes()
