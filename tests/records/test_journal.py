"""A folder of results survives whatever happens to those who work on it, and is shared by several."""

import errno
import inspect
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seesr_cli import __version__
from seesr_cli.files import replacing
from seesr_cli.records import journal as journal_module
from seesr_cli.records import lines
from seesr_cli.records.journal import Journal
from seesr_cli.records.lines import Key
from seesr_cli.records.locks import LOCK, _holders
from seesr_cli.records.writer import JOURNAL, WRITERS

OLD, NEW = Key("0" * 64, "1" * 64, "2" * 64), Key("3" * 64, "1" * 64, "2" * 64)


def contents(target: Path, key: Key) -> bytes:
    """What the tests and their processes make: it says what it was made from."""
    return (target.name + " " + key.input + "\n").encode("utf-8", "surrogateescape") * 200


def state_of(journal: Journal, target: Path, key: Key) -> str:
    """What is at `target`, to somebody who makes it from the picture that `make` names."""
    return journal.find(target, key, Path("/photos/a.jpg")).state


def make(journal: Journal, target: Path, key: Key, overwrite: bool = False) -> None:
    """Put the result of `key` at `target`, in several writes, and tell the journal."""
    with replacing(target, overwrite) as file:
        half = len(contents(target, key)) // 2
        file.write(contents(target, key)[:half])
        file.flush()
        file.write(contents(target, key)[half:])
        journal.record(target, key, file, 0.5, Path("/photos/a.jpg"))


def make_and_close(folder: Path, target: Path, key: Key) -> Path:
    """Put the result of `key` at `target` as a run does that ends well; return the journal's path."""
    journal = Journal.open(folder)
    make(journal, target, key)
    journal.close()
    return journal.path


PROGRAM = f"""
import os, random, signal, sys, time
from pathlib import Path
from seesr_cli.files import replacing
from seesr_cli.records.journal import Journal
from seesr_cli.records.lines import Key
OLD, NEW = Key(*{tuple(OLD)}), Key(*{tuple(NEW)})
{inspect.getsource(contents)}
{inspect.getsource(state_of)}
{inspect.getsource(make)}
"""


def child(code: str, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(code), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ended(process: "subprocess.Popen[str]") -> str:
    """Return what a child that ended well has printed."""
    shown, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return shown


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix == ".part"]


# --- what is at a target -----------------------------------------------------------------------------------------


def test_a_result_is_done_under_its_key_stale_under_others_and_absent_without_its_file(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    assert state_of(journal, target, NEW) == "absent"
    make(journal, target, NEW)
    for seen in (journal, Journal.open(tmp_path)):
        assert state_of(seen, target, NEW) == "done"
        for field in Key._fields:
            assert state_of(seen, target, NEW._replace(**{field: "f" * 64})) == "stale"
    target.unlink()
    assert state_of(journal, target, NEW) == "absent"
    assert journal.notes == []


def test_who_does_not_have_the_weights_is_told_of_results_of_any(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    make(journal, target, NEW)
    assert state_of(journal, target, NEW._replace(weights="")) == "done"
    assert state_of(journal, target, OLD._replace(weights="")) == "stale"


def test_a_line_says_what_was_made_from_what_in_ascii(tmp_path: Path) -> None:
    target = tmp_path / "inner" / "é.png"
    target.parent.mkdir()
    (line,) = make_and_close(tmp_path, target, NEW).read_bytes().decode("ascii").splitlines()
    assert json.loads(line) == {
        "v": 1,
        "output": "inner/é.png",
        "input": NEW.input,
        "settings": NEW.settings,
        "weights": NEW.weights,
        "sha256": subprocess.run(["sha256sum", target], capture_output=True, text=True).stdout.lstrip("\\").split()[0],
        "bytes": target.stat().st_size,
        "mtime_ns": target.stat().st_mtime_ns,
        "seconds": 0.5,
        "seesr": __version__,
        "source": "/photos/a.jpg",
        "source_from_here": os.path.relpath("/photos/a.jpg", tmp_path),
    }


def test_what_is_somebody_elses_is_foreign(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    target.write_text("mine")
    assert state_of(journal, target, NEW) == "foreign"
    target.unlink()
    make(journal, tmp_path / "b.png", NEW)
    (tmp_path / "b.png").rename(target)
    assert state_of(journal, target, NEW) == "foreign"  # known by its name, too
    target.unlink()
    make(journal, target, NEW)
    target.unlink()
    for elsewhere in ("nowhere", "b.png"):
        target.symlink_to(elsewhere)
        assert state_of(journal, target, NEW) == "foreign"
        target.unlink()
    target.mkdir()
    assert state_of(journal, target, NEW) == "foreign"


def test_a_result_that_was_changed_is_left_alone_whatever_its_size_and_the_clock(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    make(journal, target, NEW)
    whole, times = target.read_bytes(), target.stat()
    for edited in (whole + b"!", whole[:-1], b"!" + whole[1:]):
        target.write_bytes(edited)
        os.utime(target, ns=(0, 0))  # the clock went backwards
        assert state_of(journal, target, NEW) == "edited"
        assert state_of(Journal.open(tmp_path), target, OLD) == "foreign"
    target.write_bytes(whole)
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert state_of(journal, target, NEW) == "done"


def test_a_copy_that_lost_its_time_is_known_by_its_bytes_which_are_read_once(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    make(journal, target, NEW)
    os.utime(target, ns=(1, 1))
    assert state_of(journal, target, NEW) == "done"
    assert state_of(journal, target, OLD) == "stale"
    changed = target.read_bytes()[::-1]
    with target.open("r+b") as file:
        file.write(changed)
    os.utime(target, ns=(1, 1))
    assert state_of(journal, target, NEW) == "done"  # remembered: size and time are the same
    assert state_of(Journal.open(tmp_path), target, NEW) == "edited"


def test_results_that_share_size_and_time_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    """A coarse clock, and a run that was ended before the rename: the old file is no result of the new key."""
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    make(journal, target, OLD)
    time_of_both = target.stat().st_mtime_ns
    with replacing(tmp_path / "part that stays") as file:
        file.write(contents(target, NEW))
        file.flush()
        os.utime(file.fileno(), ns=(time_of_both, time_of_both))
        journal.record(target, NEW, file, 1, Path("/photos/a.jpg"))
    assert state_of(journal, target, OLD) == "done"
    assert state_of(journal, target, NEW) == "stale"
    assert state_of(Journal.open(tmp_path), target, NEW) == "stale"


def test_a_result_that_two_keys_give_is_done_under_both(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    make(journal, target, OLD)
    with replacing(target, overwrite=True) as file:
        file.write(contents(target, OLD))
        journal.record(target, NEW, file, 1, Path("/photos/a.jpg"))
    assert [state_of(journal, target, key) for key in (OLD, NEW)] == ["done", "done"]


def test_a_name_without_contents_that_a_cut_off_move_left_may_be_replaced(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    target.touch()
    assert state_of(journal, target, NEW) == "foreign"
    target.unlink()
    make(journal, target, NEW)
    target.write_bytes(b"")
    assert state_of(journal, target, NEW) == "stale"


def test_results_are_found_again_when_the_folder_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "inner").mkdir(parents=True)
    make(Journal.open(tmp_path / "here"), tmp_path / "here" / "inner" / "a.png", NEW)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    for folder in (Path(), tmp_path / "there", Path("../there/inner/..")):
        for target in (Path("inner/a.png"), tmp_path / "there" / "inner" / "a.png"):
            assert state_of(Journal.open(folder), target, NEW) == "done"


@given(st.binary(min_size=1, max_size=251).filter(lambda name: not {0, ord("/")} & set(name)))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_name_that_a_file_can_have_is_remembered(tmp_path: Path, name: bytes) -> None:
    target = tmp_path / os.fsdecode(name + b".png")
    journal = Journal.open(tmp_path)
    if state_of(journal, target, NEW) == "absent":
        make(journal, target, NEW)
    assert state_of(Journal.open(tmp_path), target, NEW) == "done"


def test_names_are_the_same_in_every_locale(tmp_path: Path) -> None:
    folder, names = tmp_path / "ö", [b"\xc3\xa9\n.png", b"\xff'\".png", b"plain.png"]
    folder.mkdir()
    code = """
        journal = Journal.open(Path(sys.argv[1]))
        for name in sys.argv[2:]:
            print(ascii(name), state_of(journal, journal.folder / name, NEW))
            if state_of(journal, journal.folder / name, NEW) == "absent":
                make(journal, journal.folder / name, NEW)
    """
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    utf8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    first = ended(child(code, folder, os.fsdecode(names[0]), os.fsdecode(names[1]), **plain))
    assert first.splitlines() == [r"'\udcc3\udca9\n.png' absent", r"""'\udcff\'".png' absent"""]
    second = ended(child(code, folder, *map(os.fsdecode, names), **utf8))
    assert [line.split()[-1] for line in second.splitlines()] == ["done", "done", "absent"]
    third = ended(child(code, folder, *map(os.fsdecode, names), **plain))
    assert [line.split()[-1] for line in third.splitlines()] == ["done", "done", "done"]


# --- whose result it is ------------------------------------------------------------------------------------------


def origins(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two pictures of one name in two folders, and a folder for results."""
    for folder in ("one", "two", "out"):
        (tmp_path / folder).mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder / "a.jpg").write_text(folder)
    return tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg", tmp_path / "out" / "a.png"


def record(target: Path, key: Key, source: Path | None) -> None:
    journal = Journal.open(target.parent)
    with replacing(target, overwrite=True) as file:
        file.write(contents(target, key))
        journal.record(target, key, file, 1, source)
    journal.close()


def test_the_result_of_another_picture_is_told_apart_from_that_of_a_changed_one(tmp_path: Path) -> None:
    one, two, target = origins(tmp_path)
    record(target, OLD, one)
    journal = Journal.open(target.parent)
    found = journal.find(target, NEW, two)
    assert (found.state, found.line and found.line.made.path) == ("other", str(one))
    assert journal.find(target, NEW, one).state == "stale"
    assert journal.find(target, OLD, two).state == "done"  # the same contents and settings: the same result
    assert journal.find(target, OLD._replace(settings="f" * 64), two).state == "other"


def test_a_picture_is_the_same_by_whatever_path_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _, target = origins(tmp_path)
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "hard.jpg").hardlink_to(one)
    record(target, OLD, one)
    monkeypatch.chdir(tmp_path / "two")
    for path in ("../one/a.jpg", "../link/a.jpg", "../one/../two/../one/a.jpg", "../hard.jpg"):
        for folder in (target.parent, Path("../out")):
            assert Journal.open(folder).find(folder / "a.png", NEW, Path(path)).state == "stale", path


def test_a_picture_that_was_moved_is_known_by_its_contents(tmp_path: Path) -> None:
    one, two, target = origins(tmp_path)
    record(target, OLD, one)
    moved = one.parent.rename(tmp_path / "renamed") / "a.jpg"
    journal = Journal.open(target.parent)
    assert journal.find(target, OLD._replace(settings="f" * 64), moved).state == "stale"
    assert journal.find(target, NEW, moved).state == "other"  # that it is the same one cannot be known
    assert journal.find(target, NEW, two).state == "other"


def test_pictures_and_results_that_were_moved_together_belong_together(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    one, two, target = origins(tmp_path / "here")
    record(target, OLD, one)
    (tmp_path / "here").rename(tmp_path / "there")
    one, two, target = (tmp_path / "there" / path.relative_to(tmp_path / "here") for path in (one, two, target))
    assert Journal.open(target.parent).find(target, NEW, one).state == "stale"
    assert Journal.open(target.parent).find(target, NEW, two).state == "other"


def test_a_name_that_a_copy_spelled_anew_is_the_same_name(tmp_path: Path) -> None:
    one, _, target = origins(tmp_path)
    composed, decomposed = one.with_name("\u00e9.jpg"), one.with_name("e\u0301.jpg")
    record(target, OLD, composed)
    decomposed.write_text("as some file systems spell it")
    assert Journal.open(target.parent).find(target, NEW, decomposed).state == "stale"
    composed.write_text("another one")
    if not composed.samefile(decomposed):
        assert Journal.open(target.parent).find(target, NEW, decomposed).state == "other"


def test_a_result_that_a_copy_spelled_anew_is_the_same_result(tmp_path: Path) -> None:
    one, _, target = origins(tmp_path)
    composed, decomposed = target.with_name("\u00e9_x4.png"), target.with_name("e\u0301_x4.png")
    record(composed, OLD, one)
    composed.rename(decomposed)
    journal = Journal.open(target.parent)
    assert journal.find(decomposed, OLD, one).state == "done"
    assert journal.find(decomposed, NEW, one).state == "stale"
    decomposed.write_bytes(b"edited")
    assert journal.find(decomposed, OLD, one).state == "edited"


def test_what_came_on_stdin_is_known_by_its_contents(tmp_path: Path) -> None:
    one, _, target = origins(tmp_path)
    other = OLD._replace(settings="f" * 64)
    for source, next_source in ((None, None), (one, None), (None, one)):
        record(target, OLD, source)
        journal = Journal.open(target.parent)
        assert journal.find(target, NEW, next_source).state == "other"
        assert journal.find(target, other, next_source).state == "stale"


def test_a_journal_that_does_not_tell_of_paths_is_taken_as_ever(tmp_path: Path) -> None:
    one, two, target = origins(tmp_path)
    record(target, OLD, one)
    journal = target.parent / JOURNAL
    line = json.loads(journal.read_text())
    del line["source"], line["source_from_here"]
    journal.write_text(json.dumps(line) + "\n")
    assert Journal.open(target.parent).find(target, NEW, two).state == "stale"


# --- a journal that something happened to ------------------------------------------------------------------------


def test_a_journal_is_opened_without_a_trace(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "none" / "yet")
    assert state_of(journal, tmp_path / "none" / "yet" / "a.png", NEW) == "absent"
    assert not list(tmp_path.iterdir())


def test_a_line_cut_short_at_any_byte_costs_itself_alone(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    journal = Journal.open(tmp_path)
    make(journal, a, NEW)
    make(journal, b, NEW)
    journal.close()
    whole = journal.path.read_bytes()
    begin = whole.index(b"\n") + 1
    for end in range(begin, len(whole)):
        for tail in (b"", b"\0" * (len(whole) - end), b"\xff\xfe{")[: 3 if end % 50 == 0 else 1]:
            journal.path.write_bytes(whole[:end] + tail)
            seen = Journal.open(tmp_path)
            complete = end == len(whole) - 1 and not tail
            assert state_of(seen, a, NEW) == "done"
            assert state_of(seen, b, NEW) == ("done" if complete else "foreign")
            assert bool(seen.notes) == (not complete and (end > begin or bool(tail)))
            c.unlink(missing_ok=True)
            with c.open("x+b") as file:
                file.write(b"c")
                seen.record(c, NEW, file, 1, Path("/photos/a.jpg"))
            before = Journal.open(tmp_path)
            seen.close()
            for again in (seen, before, Journal.open(tmp_path)):
                states = ["done", "done" if complete else "foreign", "done"]
                assert [state_of(again, path, NEW) for path in (a, b, c)] == states


@pytest.mark.parametrize("end", [1, 6, 30, 300, -2])
@pytest.mark.parametrize("nuls", [0, 700])
def test_a_line_that_a_killed_run_left_is_told_apart_from_damage(tmp_path: Path, end: int, nuls: int) -> None:
    path = make_and_close(tmp_path, tmp_path / "a.png", NEW)
    line = path.read_bytes()
    path.write_bytes(line + line[:end] + b"\0" * nuls)
    (note,) = Journal.open(tmp_path).notes
    assert note == f"{path}: the last line was cut short, as by a run that was killed: nothing else is lost by it."
    make_and_close(tmp_path, tmp_path / "b.png", NEW)
    assert Journal.open(tmp_path).notes == []  # it is not the last one any more, and nobody's loss
    path.write_bytes(path.read_bytes().replace(b'"output": "b.png"', b'"output": b.png"'))
    (note,) = Journal.open(tmp_path).notes
    assert "1 line cannot be read" in note


@pytest.mark.parametrize(
    "text",
    [
        b"\0" * 5000,
        b"\xff\xfe" + "ü".encode("utf-16") * 50,
        b"[" * 100_000,
        b"9" * 10_000,
        b"{}\n[]\n7\nnull\n\n",
        b'{"v": 1}\n{"v": "1"}\n{"v": 1, "output": "a.png", "input": 1}',
        b'{"v":1,"output":"a.png","input":"i","settings":[],"weights":"w","sha256":"s","bytes":1,"mtime_ns":1}',
        b'{"v":1,"output":"a.png","input":"i","settings":"s","weights":"w","sha256":"s","bytes":NaN,"mtime_ns":1}',
        b'{"v":0,"output":"a.png","input":"i","settings":"s","weights":"w","sha256":"s","bytes":1,"mtime_ns":1}',
    ],
)
def test_a_journal_of_garbage_is_told_of_and_goes_on(tmp_path: Path, text: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(text)
    (tmp_path / "a.png").write_bytes(b"!")
    journal = Journal.open(tmp_path)
    assert len(journal.notes) == 1
    assert "cannot be read" in journal.notes[0]
    assert state_of(journal, tmp_path / "a.png", NEW) == "foreign"
    make(journal, tmp_path / "b.png", NEW)
    assert state_of(Journal.open(tmp_path), tmp_path / "b.png", NEW) == "done"


def test_lines_of_a_later_version_are_told_of_and_fields_that_it_added_are_not_minded(tmp_path: Path) -> None:
    journal, a, b = Journal.open(tmp_path), tmp_path / "a.png", tmp_path / "b.png"
    make(journal, a, NEW)
    make(journal, b, NEW)
    journal.close()
    first, second = (json.loads(line) for line in journal.path.read_text().splitlines())
    journal.path.write_text("".join(json.dumps(line) + "\n" for line in (first | {"v": 2}, second | {"mood": "good"})))
    journal = Journal.open(tmp_path)
    assert journal.notes == [
        f"{journal.path}: 1 line of a later version of seesr; results told of there are left alone."
    ]
    assert (state_of(journal, a, NEW), state_of(journal, b, NEW)) == ("foreign", "done")


def test_lines_that_are_there_twice_count_once(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    path = make_and_close(tmp_path, target, NEW)
    path.write_bytes(path.read_bytes() * 3)
    journal = Journal.open(tmp_path)
    assert state_of(journal, target, NEW) == "done"
    assert journal.notes == []


def test_a_journal_that_was_begun_anew_is_read_anew(tmp_path: Path) -> None:
    journal, other = Journal.open(tmp_path), Journal.open(tmp_path)
    make(journal, tmp_path / "a.png", NEW)
    make(journal, tmp_path / "b.png", NEW)
    journal.close()
    journal.path.unlink()
    assert state_of(journal, tmp_path / "a.png", NEW) == "done"
    make(other, tmp_path / "c.png", NEW)
    other.close()
    assert state_of(journal, tmp_path / "c.png", NEW) == "done"


def test_a_journal_that_cannot_be_kept_costs_no_picture(tmp_path: Path) -> None:
    (tmp_path / WRITERS).touch()
    journal = Journal.open(tmp_path)
    make(journal, tmp_path / "a.png", NEW)
    journal.close()
    assert (tmp_path / "a.png").read_bytes() == contents(tmp_path / "a.png", NEW)
    assert state_of(journal, tmp_path / "a.png", NEW) == "foreign"
    (note,) = journal.notes
    assert "cannot be written" in note


def test_lines_stay_where_they_are_when_they_cannot_be_put_together(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    make_and_close(tmp_path, tmp_path / "a.png", NEW)
    journal = Journal.open(tmp_path)
    assert state_of(journal, tmp_path / "a.png", NEW) == "done"
    assert ["cannot be read" in note for note in journal.notes] == [True]
    (tmp_path / JOURNAL).rmdir()
    journal.close()
    assert (tmp_path / JOURNAL).read_bytes().count(b"a.png") == 1
    assert list((tmp_path / WRITERS).iterdir()) == []


def test_a_full_disk_leaves_a_note_and_a_journal_that_heals(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: it too cuts a write short."""
    code = """
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = Journal.open(Path(sys.argv[1]))
        make(journal, journal.folder / "a.png", NEW)
        (own,) = (journal.folder / ".seesr-journal").iterdir()
        size = own.stat().st_size + 50
        with (journal.folder / "b.png").open("x+b") as file:
            file.write(b"b")
            file.flush()
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            journal.record(journal.folder / "b.png", NEW, file, 1, Path("/photos/a.jpg"))
        print(*journal.notes)
    """
    shown = ended(child(code, tmp_path))
    assert ".jsonl cannot be written (File too large)" in shown
    (left,) = (tmp_path / WRITERS).iterdir()
    assert not left.read_bytes().endswith(b"\n")
    assert "the last line was cut short" in Journal.open(tmp_path).notes[0]
    journal = Journal.open(tmp_path)
    journal.close()
    assert (tmp_path / JOURNAL).read_bytes().count(b"\n") == 1
    make(journal, tmp_path / "c.png", NEW)
    found = [state_of(Journal.open(tmp_path), tmp_path / name, NEW) for name in ("a.png", "b.png", "c.png")]
    assert found == ["done", "foreign", "done"]


# --- ended at any moment -----------------------------------------------------------------------------------------


def kill_at_lines(folder: Path, step: int) -> None:
    """Kill a process at every `step`-th line of files.py and the journal that the making of a result executes."""
    code = """
        from seesr_cli import files
        from seesr_cli.records import journal, lines, locks, writer
        watched = [module.__file__ for module in (files, journal, lines, locks, writer)]

        def killed_at(number):
            left = number
            def trace(frame, event, argument):
                nonlocal left
                if frame.f_code.co_filename not in watched:
                    return None
                left -= event == "line"
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace
            return trace

        root = Path(sys.argv[1])
        for before in (False, True):
            for number in range(0, 10_000, int(sys.argv[2])):
                folder = root / f"{before}-{number}"
                folder.mkdir()
                target = folder / "a.png"
                if before:
                    journal = Journal.open(folder)
                    make(journal, target, OLD)
                    journal.close()
                child = os.fork()
                if not child:
                    sys.settrace(killed_at(number))
                    journal = Journal.open(folder)
                    with journal.claim(target) as mine:
                        assert mine
                        make(journal, target, NEW, overwrite=state_of(journal, target, NEW) == "stale")
                    journal.close()
                    os._exit(0)
                status = os.waitpid(child, 0)[1]
                journal = Journal.open(folder)
                state = state_of(journal, target, NEW)
                now = target.read_bytes() if target.exists() else None
                expected = {None: "absent", contents(target, OLD): "stale", contents(target, NEW): "done"}
                assert state == expected[now], (before, number, state)
                assert now or not before
                with journal.claim(target) as mine:
                    assert mine
                    if state != "done":
                        make(journal, target, NEW, overwrite=state == "stale")
                assert state_of(Journal.open(folder), target, NEW) == "done"
                journal.close()
                assert state_of(Journal.open(folder), target, NEW) == "done"
                texts = journal.path.read_bytes().splitlines()
                assert len(texts) == len(set(texts)) <= 3
                assert not os.listdir(folder / ".seesr-journal")
                assert target.read_bytes() == contents(target, NEW)
                assert not Journal.open(folder).notes
                if status == 0:
                    break
            print(number)
    """
    counts = [int(line) for line in ended(child(code, folder, str(step))).splitlines()]
    assert len(counts) == 2
    assert min(counts) > 60


def test_killed_at_every_seventh_line_nothing_is_lost_or_taken_for_something_else(tmp_path: Path) -> None:
    kill_at_lines(tmp_path, 7)


@pytest.mark.slow
def test_killed_at_every_line_nothing_is_lost_or_taken_for_something_else(tmp_path: Path) -> None:
    kill_at_lines(tmp_path, 1)


def kill_at_random(folder: Path, rounds: int, targets: int) -> int:
    """Kill a process that makes `targets` results over and over, `rounds` times; return how many it made at least."""
    code = """
        journal = Journal.open(Path(sys.argv[1]))
        print("ready", flush=True)
        for target in (journal.folder / f"{number}.png" for number in range(int(sys.argv[2]))):
            key = NEW if sys.argv[3] == "new" else OLD
            with journal.claim(target) as mine:
                state = state_of(journal, target, key)
                assert mine and state != "foreign"
                if state != "done":
                    make(journal, target, key, overwrite=state == "stale")
                    print(target.name, flush=True)
    """
    chance = random.Random(4)
    made = 0
    for number in range(rounds):
        key, name = (NEW, "new") if number // 5 % 2 else (OLD, "old")
        process = child(code, folder, str(targets), name)
        assert line_of(process) == "ready"
        made += sum(line_of(process) != "" for _ in range(chance.randrange(4)))
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        journal = Journal.open(folder)
        for target in (folder / f"{index}.png" for index in range(targets)):
            now = target.read_bytes() if target.exists() else None
            expected = {None: "absent", contents(target, key): "done"}
            assert state_of(journal, target, key) == expected.get(now, "stale")
            assert now in (None, contents(target, OLD), contents(target, NEW))
        assert all("cut short" in note for note in journal.notes)
        assert len(parts(folder)) <= 2 * (number + 1)  # of the picture and, the first time, of the journal
    return made


def test_killed_at_random_moments_it_goes_on_from_what_is_there(tmp_path: Path) -> None:
    assert kill_at_random(tmp_path, 20, 30) > 15


@pytest.mark.slow
def test_killed_at_hundreds_of_random_moments_it_goes_on_from_what_is_there(tmp_path: Path) -> None:
    assert kill_at_random(tmp_path, 300, 50) > 300


# --- several at work ---------------------------------------------------------------------------------------------

SHARING = """
    journal = Journal.open(Path(sys.argv[1]))
    targets = [journal.folder / f"inner {number % 3}" / f"{number}.png" for number in range(200)]
    random.Random(sys.argv[2]).shuffle(targets)
    print("ready", flush=True)
    sys.stdin.readline()
    for target in targets:
        with journal.claim(target) as mine:
            state = state_of(journal, target, NEW) if mine else "done"
            assert state in ("absent", "done"), state  # what the others wrote meanwhile is known
            if state == "absent":
                target.parent.mkdir(exist_ok=True)
                make(journal, target, NEW)
                print(target.name, flush=True)
    journal.close()
    assert not journal.notes, journal.notes
"""


@pytest.mark.parametrize("orders", [[1, 1], [1, 2, 3, 4]])
def test_processes_that_share_a_folder_make_each_result_once(tmp_path: Path, orders: list[int]) -> None:
    folder = tmp_path / "out"
    processes = [child(SHARING, folder, str(order)) for order in orders]
    for process in processes:
        assert line_of(process) == "ready"
    for process in processes:
        go_on(process)
    made = [ended(process).split() for process in processes]
    assert sorted(itertools.chain(*made)) == sorted(f"{number}.png" for number in range(200))
    assert all(made)
    told = [json.loads(line)["output"] for line in (folder / JOURNAL).read_text().splitlines() if line]
    assert len(told) == len(set(told)) == 200  # empty lines are allowed: a line of another half visible at one's turn
    journal = Journal.open(folder)
    states = {state_of(journal, path, NEW) for path in folder.glob("*/*.png")}
    assert states == {"done"}
    assert not parts(folder)


def test_lines_of_processes_that_write_at_once_are_all_readable(tmp_path: Path) -> None:
    code = """
        journal = Journal.open(Path(sys.argv[1]))
        for number in range(100):
            make(journal, journal.folder / f"{sys.argv[2]}-{number}.png", NEW)
        journal.close()
        assert not journal.notes, journal.notes
    """
    for process in [child(code, tmp_path, str(number)) for number in range(4)]:
        ended(process)
    journal = Journal.open(tmp_path)
    assert journal.notes == []
    assert [state_of(journal, path, NEW) for path in tmp_path.glob("*.png")] == ["done"] * 400


@pytest.mark.parametrize("half", [1, 100, -1])
def test_a_line_that_is_finished_while_its_half_is_read_is_known(
    tmp_path: Path, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.png"
    line = make_and_close(tmp_path, target, NEW).read_bytes()
    (tmp_path / JOURNAL).write_bytes(line[:half])
    real = lines.parsed

    def finished_meanwhile(text: bytes) -> object:
        if text == line[:half] and (tmp_path / JOURNAL).stat().st_size < len(line):
            (tmp_path / JOURNAL).write_bytes(line)
        return real(text)

    monkeypatch.setattr(journal_module, "parsed", finished_meanwhile)
    journal = Journal.open(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == line
    assert state_of(journal, target, NEW) == "done"
    make(journal, tmp_path / "b.png", NEW)
    assert state_of(journal, tmp_path / "b.png", NEW) == "done"


HOLDING = """
    journal = Journal.open(Path(sys.argv[1]))
    with journal.claim(journal.folder / "a.png") as mine:
        print(mine, flush=True)
        sys.stdin.readline()
    print("given back", flush=True)
    sys.stdin.readline()
"""


def test_a_claim_holds_against_other_processes_until_its_block_ends(tmp_path: Path) -> None:
    journal, a, b = Journal.open(tmp_path), tmp_path / "a.png", tmp_path / "b.png"
    process = child(HOLDING, tmp_path)
    assert line_of(process) == "True"
    with journal.claim(a) as mine, journal.claim(b) as other:
        assert (mine, other) == (False, True)
    go_on(process)
    assert line_of(process) == "given back"
    with journal.claim(a) as mine:
        assert mine
        second = child(HOLDING, tmp_path)
        assert line_of(second) == "False"
        second.communicate("\n\n")
    ended(process)
    assert journal.notes == []


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    process = child(HOLDING, tmp_path)
    assert line_of(process) == "True"
    process.kill()
    process.communicate()
    with Journal.open(tmp_path).claim(tmp_path / "a.png") as mine:
        assert mine


def test_a_claim_is_given_once_to_this_process_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    target = tmp_path / "a.png"
    first, second, third = Journal.open(tmp_path), Journal.open(tmp_path), Journal.open(tmp_path / "link")
    with first.claim(target) as mine:
        assert mine
        for journal, name in ((first, target), (second, target), (third, tmp_path / "link" / "a.png")):
            with journal.claim(name) as again:
                assert not again
            with journal.claim(name.with_name("b.png")) as other:
                assert other
        # What the others did has not let go of it.
        process = child(HOLDING, tmp_path)
        assert line_of(process) == "False"
        process.communicate("\n\n")
    with second.claim(target) as mine:
        assert mine


def test_a_claim_ends_when_its_block_fails_and_leaves_no_descriptor(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(50):
        a, b = tmp_path / f"{number}.png", tmp_path / "b.png"
        with suppress(KeyboardInterrupt), journal.claim(a) as mine, journal.claim(b) as other:
            assert mine
            assert other
            raise KeyboardInterrupt
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert not _holders
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert (tmp_path / LOCK).stat().st_size == 0


@pytest.mark.parametrize("obstacle", ["a folder at the lock's name", "a file at the folder's name"])
def test_where_there_are_no_locks_every_claim_is_granted_and_a_note_says_so(tmp_path: Path, obstacle: str) -> None:
    folder = tmp_path / "out"
    (folder / LOCK).mkdir(parents=True) if obstacle.startswith("a folder") else folder.touch()
    journal = Journal.open(folder)
    assert journal.notes == []
    for _ in range(2):
        with journal.claim(folder / "a.png") as mine, journal.claim(folder / "a.png") as again:
            assert mine
            assert again
    assert len(journal.notes) == 1
    assert f"{folder} has no locks" in journal.notes[0]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_refuses_locks_refuses_no_claim(tmp_path: Path, number: int) -> None:
    """The system call itself answers so: no file system here does."""
    code = """
        import fcntl
        def refused(*_):
            raise OSError(int(sys.argv[2]), "no locks")
        fcntl.lockf = refused
        journal = Journal.open(Path(sys.argv[1]))
        with journal.claim(journal.folder / "a.png") as mine:
            print(mine, *journal.notes)
    """
    shown = ended(child(code, tmp_path, str(number)))
    assert shown == f"True {tmp_path} has no locks (no locks): two runs there would not know of each other.\n"


@pytest.mark.slow
def test_a_journal_of_a_hundred_thousand_lines_opens_in_two_seconds_and_100_megabytes(tmp_path: Path) -> None:
    journal, target = Journal.open(tmp_path), tmp_path / "a.png"
    make(journal, target, NEW)
    journal.close()
    line = json.loads(journal.path.read_text())
    with journal.path.open("a") as file:
        for number in range(100_000):
            name = f"holidays/2019/august/IMG_{number:06}_x4.png"
            hashes = dict.fromkeys(("input", "sha256"), f"{number:064x}")
            file.write(json.dumps(line | hashes | {"output": name}) + "\n")
    code = """
        import resource

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

        before, start = resident(), time.process_time()
        journal = Journal.open(Path(sys.argv[1]))
        took, more = time.process_time() - start, resident() - before
        assert state_of(journal, journal.folder / "a.png", NEW) == "done"
        print(took, more / 2**20)
    """
    seconds, megabytes = map(float, ended(child(code, tmp_path)).split())
    print(f"{seconds:.2f} s, {megabytes:.0f} MB")
    assert seconds < 2
    assert megabytes < 100
