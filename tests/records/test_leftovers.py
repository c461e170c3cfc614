"""What killed runs left is found and deleted, and nothing else is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seesr_cli.files import replacing
from seesr_cli.records import latents, locks
from seesr_cli.records.leftovers import leftovers
from seesr_cli.records.lines import Key
from seesr_cli.records.locks import LOCK, held
from seesr_cli.records.writer import JOURNAL, WRITERS

HOLDING = """
import sys
from pathlib import Path
from seesr_cli.files import replacing
from seesr_cli.records.journal import Journal
folder = Path(sys.argv[1])
with Journal.open(folder).claim(folder / "x_x4.png") as mine, replacing(folder / "x_x4.png") as file:
    file.write(b"half")
    print("holding", mine, flush=True)
    sys.stdin.read()
"""
PART = ".seesr-0123456789abcdef.part"


def latent(target: Path) -> Path:
    path = latents.place(target)
    latents.save(path, torch.zeros(1, 4, 8, 8), {}, Key("0" * 64, "1" * 64, "2" * 64))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of results, with what a killed run left in it and below it, and with what must stay."""
    below = tmp_path / "out" / "below"
    below.mkdir(parents=True)
    for path in (tmp_path / "out", below):
        (path / PART).write_bytes(b"half")
        latent(path / "a_x4.png")
        for stays in ("a_x4.png", "a_x4.txt", "a_x4.latent.safetensors", JOURNAL, ".seesr-notes.part", "film.part"):
            (path / stays).write_text(stays)
    (below / ".seesr-fedcba9876543210.latent").write_text("somebody's")
    (tmp_path / "out" / LOCK).touch()
    (tmp_path / "out" / WRITERS).mkdir()
    (tmp_path / "out" / WRITERS / "host-1-00000000.jsonl").touch()
    (below / ".seesr-aaaaaaaaaaaaaaaa.part").symlink_to(tmp_path / "out" / "a_x4.png")
    (tmp_path / "out" / "link").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path / "out"


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_leftovers_are_deleted_and_everything_else_stays(folder: Path) -> None:
    before = everything(folder)
    planned = list(leftovers(folder, delete=False))
    assert everything(folder) == before
    gone = list(leftovers(folder, delete=True))
    assert gone == planned
    hidden = latents.place(Path("a_x4.png")).name
    expected = {PART, hidden, LOCK, f"below/{PART}", f"below/{hidden}"}
    assert {one.path.relative_to(folder).as_posix() for one in gone} == expected
    assert everything(folder) == before - expected
    assert [one.bytes for one in gone if one.path.name == PART] == [4, 4]
    assert list(leftovers(folder, delete=True)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="locks of Windows are another matter")
def test_what_a_running_process_holds_stays(folder: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding True\n"
        found = list(leftovers(folder, delete=True))
        kept = {one.path.name: one.kept for one in found if one.kept}
        (held,) = {name for name, why in kept.items() if why == "it is being written"}
        hidden = latents.place(Path("a_x4.png")).name
        assert {name for name, why in kept.items() if why == "a run is at work there"} == {LOCK, hidden}
        assert [one.path.name for one in found if not one.kept] == [PART, PART]
        below = list(leftovers(folder / "below", delete=True))
        assert [(one.path.name, one.kept) for one in below] == [(hidden, "a run is at work there")]
        process.communicate("")
    assert held
    assert (folder / "x_x4.png").read_bytes() == b"half"
    assert {one.path.name for one in leftovers(folder, delete=True)} == {LOCK, hidden}


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file is not deleted")
def test_a_lock_that_is_deleted_between_opening_and_locking_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[int] = []

    def lock(descriptor: int, offset: int, count: int = 1) -> None:
        if not locked:
            (tmp_path / LOCK).unlink()
        locked.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(locks, "_lock", lock)
    with held(tmp_path, "a_x4.png") as mine:
        assert mine
        assert len(locked) == 2
        assert locked[-1] == (tmp_path / LOCK).stat().st_ino


def test_a_file_that_cannot_be_deleted_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    found = list(leftovers(folder, delete=True))
    assert {one.kept for one in found} == {"it cannot be deleted (Permission denied)"}
    assert all(one.failed for one in found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert [one.kept for one in leftovers(folder, delete=True)] == ["it cannot be read (Permission denied)"]


def test_the_parts_of_this_process_are_held_too(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as file:
        file.write(b"half")
        assert [one.kept for one in leftovers(tmp_path, delete=True)] == ["it is being written"]
    assert (tmp_path / "a").read_bytes() == b"half"
