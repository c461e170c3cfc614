"""Real processes killed, run side by side, or without a disk: nothing is lost, and nothing done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from seesr_cli.records.writer import JOURNAL
from warm import Kiln, Process

pytestmark = pytest.mark.xdist_group("kiln")  # which one process then needs alone

QUICK = ("--model", "miniature", "--process-size", "64", "--device", "cpu", "-q")


Start = Callable[..., Process]


@pytest.fixture
def start(kiln: Kiln) -> Start:
    """Start `seesr upscale` with the miniature in a process of its own."""
    return partial(kiln.start, "upscale", *QUICK)


def draw(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.effect_noise((16, 16), 60).convert("RGB").save(folder / f"{number}.png")


def results(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.png") if not path.name.startswith(".")]


def check_whole(folder: Path) -> None:
    """Every result there is a whole picture of the right size."""
    for path in results(folder):
        with Image.open(path) as picture:
            picture.load()
            assert picture.size == (64, 64)


def lines(folder: Path) -> Counter[str]:
    """How often the journal tells of each result."""
    return Counter(json.loads(line)["output"] for line in (folder / JOURNAL).read_text().splitlines() if line)


def killed_until_done(
    start: Start, tmp_path: Path, count: int, pauses: random.Random, most: float, *options: str
) -> int:
    """Restore `count` pictures with processes that are killed at random times; return how many were."""
    draw(tmp_path / "in", count)
    out = tmp_path / "out"
    kills = 0
    while True:
        process = start(tmp_path / "in", "-o", out, *options)
        made = len(results(out))
        limit = time.monotonic() + 120
        while process.poll() is None and len(results(out)) == made and time.monotonic() < limit:
            time.sleep(0.01)  # killed before its first result, a run gets nowhere
        try:
            process.wait(pauses.uniform(0, most))
        except subprocess.TimeoutExpired:
            process.send_signal(pauses.choice((signal.SIGKILL, signal.SIGTERM)))
        process.communicate()
        check_whole(out)
        if process.returncode == 0:
            break
        assert process.returncode in (130, -signal.SIGKILL, -signal.SIGTERM)  # the last while Python is ending
        kills += 1
    assert len(results(out)) == count
    # Besides the pictures in progress when a process died, none was made twice.
    assert sum(lines(out).values()) <= count + kills
    assert [path.name for path in out.iterdir() if path.suffix in (".part", ".latent")] == []
    return kills


@pytest.mark.parametrize(("together", "count"), [("1", 3), ("3", 4)])
def test_a_run_killed_at_any_moment_goes_on_where_it_was(
    start: Start, tmp_path: Path, together: str, count: int
) -> None:
    assert killed_until_done(start, tmp_path, count, random.Random(3), 0.2, "--batch-size", together) > 0


@pytest.mark.slow
def test_two_hundred_pictures_survive_any_number_of_kills(start: Start, tmp_path: Path) -> None:
    assert killed_until_done(start, tmp_path, 200, random.Random(5), 4.0) > 3


@pytest.mark.parametrize("together", ["1", "3"])
def test_two_processes_share_a_folder_and_make_no_picture_twice(start: Start, tmp_path: Path, together: str) -> None:
    draw(tmp_path / "in", 6)
    both = [start(tmp_path / "in", "-o", tmp_path / "out", "--batch-size", together) for _ in range(2)]
    for process, (_, err) in [(process, process.communicate(timeout=300)) for process in both]:
        told = [line for line in err.splitlines() if line.startswith(b"Error:")]
        # A picture that the other run is still at when this one ends was asked for, and is not there yet.
        assert all(b"is being made by another run" in line for line in told), err
        assert process.returncode == (1 if told else 0), err
    assert set(lines(tmp_path / "out").values()) == {1}
    assert len(results(tmp_path / "out")) == 6


def test_sigterm_is_reported_as_an_interruption(start: Start, tmp_path: Path) -> None:
    draw(tmp_path / "in", 40)
    process = start(tmp_path / "in", "-o", tmp_path / "out")
    limit = time.monotonic() + 120
    while not results(tmp_path / "out") and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_names_of_any_alphabet_work_in_the_c_locale(start: Start, tmp_path: Path) -> None:
    draw(tmp_path / "in", 1)
    (tmp_path / "in" / "0.png").rename(tmp_path / "in" / "Łódź 写真.png")
    options = ("upscale", *QUICK, str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--tags")
    locale = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # read when Python begins
    done = subprocess.run([sys.executable, "-m", "seesr_cli", *options], capture_output=True, env=locale)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "Łódź 写真_x4.png").exists()
    again = start(tmp_path / "in", "-o", tmp_path / "out")
    again.communicate(timeout=120)
    assert set(lines(tmp_path / "out").values()) == {1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A disk of 20 MB; only root may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    return place


def test_a_full_disk_ends_the_run_with_4_and_whole_results(start: Start, tmp_path: Path, small_disk: Path) -> None:
    draw(tmp_path / "in", 20)
    out, ballast = small_disk / "out", small_disk / "ballast"
    try:
        process = start(tmp_path / "in", "-o", out)
        limit = time.monotonic() + 120
        while not results(out) and time.monotonic() < limit:
            time.sleep(0.02)
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(b"0" * 4096):
                pass
        printed, err = process.communicate(timeout=120)
        assert process.returncode == 4, err
        assert b"The disk is full: make room, and the same command again does what is left." in err
        assert 0 < printed.count(b"\n") == len(results(out)) < 20
        check_whole(out)

        process = start(tmp_path / "in", "-o", out)  # now there is a plan that does not fit
        assert process.communicate(timeout=120)[0].count(b"\n") == 0
        assert process.returncode == 4
        ballast.unlink()
        process = start(tmp_path / "in", "-o", out)
        process.communicate(timeout=300)
        assert process.returncode == 0
        check_whole(out)
        assert len(results(out)) == 20
        assert set(lines(out).values()) == {1}
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)
