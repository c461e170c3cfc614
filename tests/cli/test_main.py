"""The process of the command ends early, and nothing is lost by it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import seesr_cli

EARLY = [sys.executable, "-m", "seesr_cli"]
USUAL = [sys.executable, "-c", "from seesr_cli.cli import main; main()"]

WATCHED = """
import atexit, os, sys, threading
from seesr_cli.__main__ import run

class Kept:
    def __del__(self):
        os.write(2, b"taken apart")

def last_words():
    threading.main_thread().join()  # it counts as ended when it has begun to wait for the others
    print("a thread")

class Libraries:
    "Does what a library may do when it is imported."
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            sys.meta_path.remove(self)
            atexit.register(print, "an exit function")
            threading.Thread(target=last_words).start()

kept = Kept()
sys.meta_path.insert(0, Libraries())
sys.argv = ["seesr", *sys.argv[1:]]
"""


def watched(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WATCHED + code, *arguments], capture_output=True, text=True, check=False
    )


def test_threads_and_exit_functions_have_their_say_and_nothing_is_taken_apart() -> None:
    done = watched("run()", "--version")
    version = f"seesr {seesr_cli.__version__}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version}a thread\nan exit function\n", "")


def test_an_error_that_nobody_caught_ends_as_ever() -> None:
    done = watched("import seesr_cli.cli\nseesr_cli.cli.app = None\nrun()")
    assert done.returncode == 1
    assert "TypeError: 'NoneType' object is not callable" in done.stderr
    assert done.stderr.endswith("taken apart")


@pytest.mark.parametrize(
    ("arguments", "stream", "code"),
    [
        (["--version"], "pipe", 0),
        (["--version"], "closed pipe", None),
        (["--version"], "full disk", None),
        (["--version"], "none", 0),
        (["--help"], "closed pipe", None),
        (["tags", "nowhere.png"], "pipe", 2),
        (["tags", "--nonsense"], "none", 2),
    ],
)
def test_exit_code_and_output_are_those_of_the_usual_end(
    tmp_path: Path, arguments: list[str], stream: str, code: int | None
) -> None:
    ends = []
    for command in (EARLY, USUAL):
        reading, writing = os.pipe()
        if stream == "closed pipe":
            os.close(reading)
        elif stream == "full disk":
            os.close(writing)
            writing = os.open("/dev/full", os.O_WRONLY)
        shell = ["sh", "-c", 'exec "$@" >&-', "sh"] if stream == "none" else []
        done = subprocess.run(
            [*shell, *command, *arguments],
            cwd=tmp_path,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
        os.close(writing)
        out = b""
        if stream in ("pipe", "none"):
            out = os.read(reading, 2**16)
        if stream != "closed pipe":
            os.close(reading)
        ends.append((done.returncode, out, done.stderr))
    assert ends[0] == ends[1]
    assert code in (None, ends[0][0])


def test_all_that_is_told_of_pictures_leaves_through_a_pipe(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "broken.png"]
    for name in names[:2]:
        Image.effect_noise((24, 16), 60).convert("RGB").save(tmp_path / name)
    (tmp_path / names[2]).write_bytes((tmp_path / names[0]).read_bytes()[:60])
    command = [*EARLY, "tags", "--json", "--model", "miniature", "--device", "cpu", *names]
    read = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    told = [json.loads(line) for line in read.stdout.splitlines()]
    assert read.returncode == 1
    assert [(each["input"], each["state"]) for each in told] == [
        ("a.png", "done"),
        ("b.png", "done"),
        ("broken.png", "failed"),
    ]


POLICY = """
import os, sys
from seesr_cli.__main__ import run
sys.argv = ["seesr", "--version"]
try:
    run()
except SystemExit:
    print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("given", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, "None")],
)
def test_threads_wait_without_computing_unless_the_person_says_otherwise(given: dict[str, str], policy: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "GOMP_", "KMP_"))}
    ended = subprocess.run(
        [sys.executable, "-c", POLICY], env=clean | given, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split()[-1] == policy


ENDING_AT_TORCH = """
import os, sys
def heard(event, args):
    if event == "import" and args[0] == "torch":
        os.write(2, b"torch is imported")
        os._exit(0)
sys.addaudithook(heard)
from seesr_cli.cli import main
sys.argv = ["seesr", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of its own is made by pty")
@pytest.mark.parametrize("command", ["upscale", "tags"])
def test_on_a_terminal_the_first_line_comes_before_torch_is_imported(tmp_path: Path, command: str) -> None:
    import pty

    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    ours, theirs = pty.openpty()
    arguments = [command, str(tmp_path), "--model", "miniature"]
    subprocess.run([sys.executable, "-c", ENDING_AT_TORCH, *arguments], stderr=theirs, check=True)
    assert os.read(ours, 2**16).split(b"torch is imported")[0].strip() == b"Reading 2 pictures..."


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix closes the streams")
@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [
        *((["weights", "list"], closed, 0) for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")),
        *((["tags", "-"], closed, 2) for closed in ("<&-", "<&- >&-", "<&- >&- 2>&-")),
    ],
)
def test_missing_streams_are_nobody_s_files(tmp_path: Path, arguments: list[str], closed: str, code: int) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *EARLY, *arguments]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert ("there is none" in done.stderr) == (code == 2 and "2>&-" not in closed)


@pytest.mark.parametrize("asked", [{"PYTHONOPTIMIZE": "2"}, {}])
def test_help_and_libraries_have_their_docstrings_whatever_python_was_told(asked: dict[str, str]) -> None:
    options = [] if asked else ["-OO"]
    command = [sys.executable, *options, "-m", "seesr_cli", "upscale", "--help"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "photo.jpg becomes photo_x4.png" in done.stdout


INTERRUPTED_BEFORE_MAIN = """
import os, signal, sys
from seesr_cli.__main__ import run

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == "seesr_cli.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interruption())
run()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_an_interruption_before_the_command_line_is_there_ends_with_130_and_no_word() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_BEFORE_MAIN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
