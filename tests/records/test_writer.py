"""Many hosts write one journal: no line is lost or doubled, whoever is killed, and folders without locks are told."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from seesr_cli.errors import UsageError
from seesr_cli.records import writer as writer_module
from seesr_cli.records.journal import Journal
from seesr_cli.records.lines import Key
from seesr_cli.records.writer import JOURNAL, WRITERS

KEY = Key("3" * 64, "1" * 64, "2" * 64)
SOURCE = Path("/photos/a.jpg")

PROGRAM = f"""
import itertools, os, random, signal, socket, sys, time
from pathlib import Path
from seesr_cli.errors import UsageError
from seesr_cli.files import replacing
from seesr_cli.records.journal import Journal
from seesr_cli.records.lines import Key
KEY, SOURCE = Key(*{tuple(KEY)}), Path("{SOURCE}")

def make(journal, target):
    with replacing(target) as file:
        file.write(target.name.encode() * 50)
        journal.record(target, KEY, file, 0.5, SOURCE)
"""

HOSTS = """
folder, told, hosts, until = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), time.time() + float(sys.argv[4])

def host(number, life):
    # Make results of its own and some that all want, until killed; or end well after some.
    chance = random.Random(f"{number} {life}")
    socket.gethostname = lambda: f"host-{number}"
    journal = Journal.open(folder)
    with (told / f"{number}-{life}").open("wb", buffering=0) as made:
        for count in range(chance.choice((1, 5, 10**9))):
            name = chance.choice((f"{number}-{life}-{count}", f"all-{chance.randrange(300)}"))
            target = folder / f"{name}.png"
            with journal.claim(target) as mine:
                state = journal.find(target, KEY, SOURCE).state if mine else "done"
                assert state in ("absent", "done"), state
                if state == "absent":
                    make(journal, target)
                    made.write(target.name.encode() + b"\\n")
    journal.close()
    assert not [note for note in journal.notes if "cut short" not in note], journal.notes

def begin(number, life):
    if not (pid := os.fork()):
        try:
            host(number, life)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return pid

chance, lives = random.Random(7), itertools.count()
alive = {begin(number, next(lives)): number for number in range(hosts)}
while time.time() < until:
    time.sleep(chance.uniform(0, 0.1))
    all_at_once = chance.random() < 0.1  # so that one begins alone and puts together what the others left
    for pid in list(alive) if all_at_once else [chance.choice(list(alive))]:
        os.kill(pid, signal.SIGKILL)
    while alive:
        pid, status = os.waitpid(-1, 0 if all_at_once else os.WNOHANG)
        if not pid:
            break
        assert status in (0, signal.SIGKILL), status
        number = alive.pop(pid)
        if not all_at_once:
            alive[begin(number, next(lives))] = number
    for number in set(range(hosts)) - set(alive.values()):
        alive[begin(number, next(lives))] = number
for pid in alive:
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] in (0, signal.SIGKILL)
print(next(lives))
"""


def child(code: str, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, text=True, capture_output=True, check=False)


def line(folder: Path, name: str) -> bytes:
    """Return the line of a result that is made at `name`."""
    journal, target = Journal.open(folder), folder / name
    target.write_bytes(name.encode())
    with target.open("r+b") as file:
        journal.record(target, KEY, file, 0.5, SOURCE)
    return journal._writer.path.read_bytes()


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_twenty_hosts_that_are_killed_at_random_lose_and_double_no_line(tmp_path: Path, seconds: int) -> None:
    folder, told = tmp_path / "out", tmp_path / "told"
    folder.mkdir()
    told.mkdir()
    done = child(HOSTS, folder, told, 20, seconds)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20 + 2 * seconds

    made = [name for path in told.iterdir() for name in path.read_text().splitlines()]
    assert len(made) == len(set(made)) > 5 * seconds  # nothing was made twice
    for _ in range(2):  # in the files of all writers, and in one
        journal = Journal.open(folder)
        assert {journal.find(path, KEY, SOURCE).state for path in folder.glob("*.png")} == {"done"}
        assert {*made} <= {path.name for path in folder.glob("*.png")}
        assert [note for note in journal.notes if "cut short" not in note] == []
        journal.close()
    assert list((folder / WRITERS).iterdir()) == []
    lines = Counter((folder / JOURNAL).read_bytes().splitlines())
    assert lines.total() == len(lines)
    outputs = Counter(json.loads(text)["output"] for text in lines if text.endswith(b"}"))
    # A result that its maker was killed just before it had its name was made again by others who want it.
    assert {name: count for name, count in outputs.items() if count > 1 and not name.startswith("all-")} == {}
    assert {*made} <= {*outputs}
    print(f"{done.stdout.strip()} lives, {len(made)} results")


def test_files_of_writers_become_one_when_nobody_else_is_at_work(tmp_path: Path) -> None:
    first, second = Journal.open(tmp_path), Journal.open(tmp_path)
    lines = []
    for journal, name in ((first, "a.png"), (second, "b.png")):
        target = tmp_path / name
        target.write_bytes(name.encode())
        with target.open("r+b") as file:
            journal.record(target, KEY, file, 0.5, SOURCE)
        lines.append(journal._writer.path.read_bytes())
    first.close()
    assert len(list((tmp_path / WRITERS).iterdir())) == 2  # the second is at work
    assert not (tmp_path / JOURNAL).exists()
    second.close()
    assert (tmp_path / JOURNAL).read_bytes() == b"".join(lines)
    assert list((tmp_path / WRITERS).iterdir()) == []
    for journal in (first, second, Journal.open(tmp_path)):
        assert [journal.find(tmp_path / name, KEY, SOURCE).state for name in ("a.png", "b.png")] == ["done", "done"]
        assert journal.notes == []


def test_a_writers_name_tells_who_it_is_and_is_never_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "näs/../1")
    names = {Journal.open(tmp_path)._writer.path.name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(f"n-s-1-{os.getpid()}-") for name in names)


def test_what_was_put_together_in_part_is_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a run that was killed after it had written the journal, in part or in full."""
    a, b = line(tmp_path, "a.png"), line(tmp_path, "b.png")
    for begun in (a, a + b, a + b[:-1], a + b[:100], b + a):
        (tmp_path / JOURNAL).write_bytes(begun)
        left = tmp_path / WRITERS / "host-1-1.jsonl"
        left.write_bytes(a + b + b[:50])
        assert Journal.open(tmp_path).notes
        Journal.open(tmp_path).close()
        told = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
        assert [told.count(a), told.count(b)] == [1, 1]
        assert Journal.open(tmp_path).notes == []
        assert not left.exists()


def test_a_file_that_is_put_together_while_it_is_read_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line(tmp_path, "a.png")
    line(tmp_path, "b.png")
    real = Journal._read_file

    def put_together_meanwhile(self: Journal, path: Path) -> tuple[int, int]:
        counts = real(self, path) if path.exists() or path.parent.name == WRITERS else (0, 0)
        if path.name == JOURNAL:
            Journal(tmp_path, alone=False).close()
        return counts

    monkeypatch.setattr(Journal, "_read_file", put_together_meanwhile)
    journal = Journal.open(tmp_path)
    assert [journal.find(tmp_path / name, KEY, SOURCE).state for name in ("a.png", "b.png")] == ["done", "done"]


def test_a_line_is_kept_though_others_take_its_writer_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network folder whose locks hold on each host alone, though it says otherwise."""
    journal = Journal.open(tmp_path)
    real = writer_module.Writer.append

    def put_together_meanwhile(self: writer_module.Writer, text: bytes) -> None:
        real(self, text)
        monkeypatch.setattr(writer_module.Writer, "append", real)
        self.path.unlink()  # somebody read it just before the line was there

    for name in ("a.png", "b.png"):
        target = tmp_path / name
        target.write_bytes(name.encode())
        with target.open("r+b") as file:
            journal.record(target, KEY, file, 0.5, SOURCE)
        monkeypatch.setattr(writer_module.Writer, "append", put_together_meanwhile)
    assert b"b.png" in journal._writer.path.read_bytes()
    assert journal.notes == []


# --- folders without locks ---------------------------------------------------------------------------------------


def refused(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_the_first_run_is_told_and_the_second_refused_unless_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "lockf", refused)
    target = tmp_path / "a.png"
    first, second, alone = Journal.open(tmp_path), Journal.open(tmp_path), Journal.open(tmp_path, alone=True)
    with first.claim(target) as mine:
        assert mine
    assert first.notes == [
        f"{tmp_path} has no locks (No locks available): two runs there would not know of each other."
    ]
    with pytest.raises(UsageError, match=r"has no locks .* is of another run, .* say --alone\."), second.claim(target):
        pass
    second.close()
    assert [path.name for path in (tmp_path / WRITERS).iterdir()] == [first._writer.path.name]
    with first.claim(target) as mine:  # it goes on
        assert mine
    with alone.claim(target) as mine:
        assert mine
    assert alone.notes == []
    first.close()
    third = Journal.open(tmp_path)
    with third.claim(target) as mine:
        assert mine


SHIM = """
#define _GNU_SOURCE
#include <errno.h>
int flock(int file, int operation) { errno = ENOLCK; return -1; }
int fcntl64(int file, int command, ...) __attribute__((alias("fcntl")));
#include <dlfcn.h>
#include <stdarg.h>
int fcntl(int file, int command, ...) {
    va_list rest; va_start(rest, command); void *what = va_arg(rest, void *); va_end(rest);
    if (command == 5 || command == 6 || command == 7) { errno = ENOLCK; return -1; }  /* F_GETLK, F_SETLK, F_SETLKW */
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl"))(file, command, what);
}
"""

CLAIMING = """
    journal = Journal.open(Path(sys.argv[1]), alone=sys.argv[2] == "alone")
    try:
        with journal.claim(journal.folder / "a.png") as mine:
            make(journal, journal.folder / f"{sys.argv[3]}.png")
    except UsageError:
        print("refused")
    print(*journal.notes)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    journal.close()
"""


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("cc")), reason="needs a C compiler on Linux")
def test_a_file_system_without_locks_is_told_and_refused_to_a_second_run(tmp_path: Path) -> None:
    """The system's own calls answer so."""
    shim = tmp_path / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(shim), "-x", "c", "-", "-ldl"]
    subprocess.run(command, input=SHIM, text=True, check=True)
    out = tmp_path / "out"
    out.mkdir()

    def shown(how: str, name: str) -> str:
        return child(CLAIMING, out, how, name, LD_PRELOAD=str(shim)).stdout

    note = f"{out} has no locks (No locks available): two runs there would not know of each other.\n"
    assert shown("well", "first") == note
    assert shown("well", "second") == note  # the first one has ended well
    assert shown("killed", "third") == note
    assert shown("well", "fourth") == "refused\n\n"
    assert shown("alone", "fifth") == "\n"
    assert shown("well", "sixth") == note
    outputs = Counter(json.loads(text)["output"] for text in (out / JOURNAL).read_text().splitlines())
    assert outputs == dict.fromkeys(["first.png", "second.png", "third.png", "fifth.png", "sixth.png"], 1)
