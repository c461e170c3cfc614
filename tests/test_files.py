"""A file appears whole or not at all, and what a killed process leaves behind is swept away."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seesr_cli.errors import OutputUnwritable
from seesr_cli.files import as_spelled, cache_folder, home, replacing, sweep

WRITER = """
import sys
from pathlib import Path
from seesr_cli.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing `whole` in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "whole")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        1 / 0  # noqa: B018
    assert names(tmp_path) == []


def test_what_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputUnwritable, match="already there"), replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    with replacing(tmp_path / "a", overwrite=True) as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_file_being_written_is_not_swept_away(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    sweep(tmp_path)
    assert len(names(tmp_path)) == 1
    writer.communicate("")
    assert names(tmp_path) == ["whole"]
    assert (tmp_path / "whole").read_bytes() == b"half"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_process_left_is_swept_away_and_nothing_else(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    (tmp_path / ".seesr-journal.jsonl").touch()
    assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == [".seesr-journal.jsonl"]
    sweep(tmp_path / "missing")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO, errno.ENOSPC])
def test_a_drive_that_knows_no_fsync_takes_files_and_a_broken_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if number in (errno.EIO, errno.ENOSPC):
        with pytest.raises(OutputUnwritable), replacing(tmp_path / "a") as file:
            file.write(b"new")
        assert names(tmp_path) == []
    else:
        with replacing(tmp_path / "a") as file:
            file.write(b"new")
        assert (tmp_path / "a").read_bytes() == b"new"


def test_a_name_is_found_whatever_the_spelling_of_its_accents(tmp_path: Path) -> None:
    composed, apart = "\u00e9t\u00e9", "e\u0301te\u0301"
    (tmp_path / apart).mkdir()
    (tmp_path / apart / f"{apart}.txt").touch()
    wanted = tmp_path / composed / f"{composed}.txt"
    assert as_spelled(wanted).samefile(tmp_path / apart / f"{apart}.txt")
    assert as_spelled(tmp_path / apart / f"{composed}.png") == tmp_path / apart / f"{composed}.png"
    (tmp_path / composed).mkdir(exist_ok=True)
    assert as_spelled(tmp_path / composed) == tmp_path / composed  # what has the very name goes first
    assert as_spelled(Path("\udcff\u00e9")) == Path("\udcff\u00e9")


def test_without_a_home_there_is_a_folder_of_the_process_and_none_called_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert home() is None
    assert cache_folder().is_absolute()
    assert cache_folder() == cache_folder()
    assert names(tmp_path) == []


def no_home() -> Path:
    """As pathlib does for a user without an entry."""
    raise RuntimeError("Could not determine home directory.")
