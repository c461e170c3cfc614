"""A run on a cluster is the run of one process, with more hands, and leaves nothing behind however it ends."""

import hashlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from seesr_cli.catalogue import MINIATURE
from seesr_cli.cli import main
from seesr_cli.records.writer import JOURNAL
from seesr_cli.run import cluster
from seesr_cli.run.dispatch import Dispatch, Hand
from seesr_cli.run.node import About
from seesr_cli.run.request import Request
from watching import Log

QUICK = ("--model", "miniature", "--process-size", "64", "--device", "cpu")
SLOW_STEPS = ("--steps", "40", "--guidance", "2")
STARTING = 300
"""Seconds in which a cluster must have begun, on a busy machine too."""

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra cluster")


def draw(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.effect_noise((16, 12 + number % 8), 60).convert("RGB").save(folder / f"{number}.png")
    return folder


def refusal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """Return what the command says that refuses these options."""
    monkeypatch.setattr(sys, "argv", ["seesr", "upscale", "in", *options, "--model", "miniature"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return " ".join(capfd.readouterr().err.replace("│", " ").split())


def test_without_the_extra_a_sentence_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(draw(tmp_path / "in", 1).parent)
    monkeypatch.setattr("seesr_cli.run.cluster.find_spec", lambda name: None)
    shown = refusal(capfd, monkeypatch, "-o", "out", "--cluster", "local:2")
    assert shown == "Error: --cluster needs Ray, which is not installed: pip install 'seesr-cli[cluster]'."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("-o", "out", "--cluster", "local:none"), "--cluster local:none is not known: give local:2"),
        (("-o", "out", "--cluster", "here"), "--cluster here is not known: give auto, HOST:PORT"),
        (("-o", "out", "--cluster", "ray://head:10001"), "--cluster ray://head:10001 is not known"),
        (("-o", "out", "--cluster", "local:2", "--jobs", "2"), "without --jobs"),
        (("-o", "out", "--cluster", "auto", "--devices", "0,1"), "leave out --devices"),
        (("--cluster", "auto"), "name it with -o"),
    ],
)
def test_a_cluster_that_cannot_be_meant_is_refused(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(draw(tmp_path / "in", 1).parent)
    monkeypatch.setattr("seesr_cli.run.cluster.find_spec", lambda name: True)
    assert sentence in refusal(capfd, monkeypatch, *options)


class NodeLost(Exception):
    """Stands for what Ray raises."""


class NodeFailed(NodeLost):
    """Stands for what Ray raises of an error on the node."""


HERE = About("seesr 1 and torch 2", "f00d", "", True)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (HERE, ""),
        (HERE._replace(versions="seesr 1 and torch 3"), "The node far has seesr 1 and torch 3, and this machine"),
        (HERE._replace(fingerprint="beef"), "The node far has other weights than this machine"),
        (HERE._replace(fingerprint="", missing="They are missing."), "They are missing."),
        (HERE._replace(sees=False), "The node far does not see /shared/in and /shared/out: pictures and results"),
        (NodeLost("gone"), r"The node far was lost before it began \(NodeLost\)."),
        (
            NodeFailed("x\nNo module named 'seesr_cli'"),
            r"far cannot run seesr \(No module named 'seesr_cli'\)",
        ),
    ],
)
def test_what_a_node_lacks_is_told_with_its_name(about: About | Exception, sentence: str) -> None:
    def get(answer: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    ray = SimpleNamespace(
        get=get, remote=lambda actor: actor, exceptions=SimpleNamespace(RayError=NodeLost, RayTaskError=NodeFailed)
    )
    jobs = Dispatch([], Request(MINIATURE, MINIATURE.defaults), Log(), {})
    places = {Path("/shared/in"): Path("/shared/in"), Path("/shared/out/.seesr-1"): Path("/shared/out")}
    crew = cluster._Crew(ray, cluster.Asked("auto", 1), jobs._request, None, HERE.fingerprint, jobs, places)
    crew._own = HERE
    node = cluster._Node("1", "far", 1, 1, 0.0)
    _, trouble = crew._about(cluster._Actor(node, None, Hand(print, "far"), about))
    assert re.search(sentence, trouble)
    assert node.checked is not bool(trouble)


# --- with Ray, a process of its own for each run -----------------------------------------------------------------


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a command in a session of its own, as a terminal would; none outlives its test."""
    started = []

    def start(*arguments: str | Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "seesr_cli", "upscale", *QUICK, *map(str, arguments)]
        pipe, settled = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, env=settled, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def living(session: int) -> dict[int, str]:
    """Return the commands of a session's processes that have not ended, by process."""
    listed = subprocess.run(["ps", "-eo", "sid=,pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return {int(row[1]): row[3] for row in rows if row[0] == str(session) and row[2][0] != "Z" and row[3][0] != "["}


def check_gone(session: int, seconds: float, kind: str = "") -> None:
    """Check that no process of a session lives after so many seconds whose command begins with `kind`."""
    limit = time.monotonic() + seconds
    while left := [command for command in living(session).values() if command.startswith(kind)]:
        assert time.monotonic() < limit, left
        time.sleep(0.1)


def events(process: "subprocess.Popen[bytes]", kind: str) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if (event := json.loads(line))["event"] == kind:
            yield event


def lines(folder: Path) -> Counter[str]:
    return Counter(json.loads(line)["output"] for line in (folder / JOURNAL).read_text().splitlines() if line)


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.suffix == ".part"]


@with_ray
@pytest.mark.slow
def test_results_are_those_of_one_process_and_told_once_with_their_node(tmp_path: Path, start: Start) -> None:
    folder = draw(tmp_path / "in", 5)
    (folder / "9.png").write_text("Dear diary")
    one = start(folder, "-o", tmp_path / "one")
    assert one.communicate(timeout=STARTING)[0]
    process = start(folder, "-o", tmp_path / "out", "--cluster", "local:2", "--json")
    out, err = process.communicate(timeout=STARTING)
    assert process.returncode == 1, err
    check_gone(process.pid, 15)
    told = [json.loads(line) for line in out.splitlines()]
    assert Counter(event["event"] for event in told if event["event"] in ("finished", "failed")) == {
        "finished": 5,
        "failed": 1,
    }
    assert all(event["node"] for event in told if event["event"] in ("started", "step", "finished"))
    for number in range(5):
        name = f"{number}_x4.png"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert lines(tmp_path / "out") == {f"{number}_x4.png": 1 for number in range(5)}
    assert parts(tmp_path / "out") == []
    assert b"Ray" not in err.replace(b"ray::", b"")


@with_ray
@pytest.mark.slow
def test_an_actor_that_is_killed_in_the_middle_of_a_picture_costs_nothing(tmp_path: Path, start: Start) -> None:
    process = start(draw(tmp_path / "in", 6), "-o", tmp_path / "out", "--cluster", "local:2", "--json", *SLOW_STEPS)
    steps = events(process, "step")
    first = next(event for event in steps if event["step"] == 3)
    time.sleep(random.Random(1).uniform(0, 0.2))
    victim = next(pid for pid, command in living(process.pid).items() if command.startswith("ray::Restorer"))
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=STARTING)
    assert process.returncode == 0, err
    assert b"was lost (ActorDiedError): its pictures are given out again" in err, err
    check_gone(process.pid, 15)
    assert first["node"]
    assert lines(tmp_path / "out") == {f"{number}_x4.png": 1 for number in range(6)}
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert parts(tmp_path / "out") == []


@with_ray
@pytest.mark.slow
def test_actors_that_are_killed_at_twenty_random_moments_cost_nothing(tmp_path: Path, start: Start) -> None:
    folder, chance = draw(tmp_path / "in", 3), random.Random(2)
    for number in range(20):
        out = tmp_path / str(number)
        process = start(folder, "-o", out, "--cluster", "local:2", "--json", *SLOW_STEPS)
        next(events(process, "started"))
        time.sleep(chance.uniform(0, 6))
        if victims := [pid for pid, command in living(process.pid).items() if command.startswith("ray::Restorer")]:
            os.kill(chance.choice(victims), signal.SIGKILL)
        _, err = process.communicate(timeout=STARTING)
        assert process.returncode == 0, (number, err)
        check_gone(process.pid, 15)
        told = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
        assert len(told) <= 4  # one killed between its line and the name of the result has told for nothing
        assert {line["output"]: line["sha256"] for line in told} == {
            f"{each}_x4.png": hashlib.sha256((out / f"{each}_x4.png").read_bytes()).hexdigest() for each in range(3)
        }
        assert parts(out) == []


@with_ray
@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["from the terminal", "to the run alone"])
def test_an_interrupted_run_reports_and_leaves_no_process(tmp_path: Path, start: Start, whole_group: bool) -> None:
    process = start(draw(tmp_path / "in", 20), "-o", tmp_path / "out", "--cluster", "local:2", "--json", *SLOW_STEPS)
    next(events(process, "finished"))
    began = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    took = time.monotonic() - began
    assert process.returncode == 130, err
    assert b"Interrupted." in err
    assert b"Traceback" not in err
    check_gone(process.pid, 15)
    assert parts(tmp_path / "out") == []
    assert set(lines(tmp_path / "out").values()) == {1}
    print(f"{took:.1f} s")


@with_ray
@pytest.mark.slow
def test_nothing_outlives_a_run_that_is_killed_and_the_next_one_does_what_is_left(tmp_path: Path, start: Start) -> None:
    folder = draw(tmp_path / "in", 4)
    process = start(folder, "-o", tmp_path / "out", "--cluster", "local:2", "--json", *SLOW_STEPS)
    next(events(process, "finished"))
    process.kill()
    process.communicate()
    check_gone(process.pid, 15, "ray::Restorer")
    check_gone(process.pid, 60)  # Ray's own look now and then whether anybody needs them
    again = start(folder, "-o", tmp_path / "out", *SLOW_STEPS)
    _, err = again.communicate(timeout=STARTING)
    assert again.returncode == 0, err
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    assert lines(tmp_path / "out").keys() == {f"{number}_x4.png" for number in range(4)}
    assert parts(tmp_path / "out") == []
