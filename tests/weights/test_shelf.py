"""What was verified is remembered by size and time, and only as long as they hold."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seesr_cli.errors import WeightsError, WeightsInvalid
from seesr_cli.weights import lock, pull
from seesr_cli.weights.lock import File, FileSource
from seesr_cli.weights.shelf import Pin, Shelf, default, link, sha256

SOURCE = FileSource("a/b", "model", "x", revision="0" * 40)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "x").write_bytes(b"content")
    return Shelf(tmp_path)


def entry(shelf: Shelf, name: str = "x") -> File:
    return File(name, "unet", ("seesr",), (SOURCE,), 7, "Apache-2.0", sha256=sha256(shelf.path("x")))


def test_a_file_is_verified_only_after_its_bytes_were_hashed(shelf: Shelf) -> None:
    file = entry(shelf)
    assert shelf.state(file) == "unverified"
    assert shelf.settle(file)
    assert shelf.state(file) == "verified"
    assert shelf.state(entry(shelf, "y")) == "missing"


def test_a_touched_file_is_unverified_until_it_is_hashed_again(shelf: Shelf) -> None:
    file = entry(shelf)
    shelf.settle(file)
    os.utime(shelf.path("x"))
    assert shelf.state(file) == "unverified"
    shelf.hold()
    assert shelf.state(file) == "verified"
    shelf.path("x").write_bytes(b"another")
    assert not shelf.settle(file)
    with pytest.raises(WeightsInvalid, match="not what was verified"):
        shelf.hold()


def test_a_file_without_a_checksum_is_never_verified_before_it_is_pinned(shelf: Shelf) -> None:
    file = File("x", "unet", ("seesr",), (SOURCE,), 7, "Apache-2.0", unpinned="none is published")
    shelf.record("x", sha256(shelf.path("x")))
    assert not shelf.settle(file)
    with shelf.changing() as memory:
        memory.pins["x"] = Pin("a/b", "0" * 40, "x", 7, sha256(shelf.path("x")))
    assert shelf.settle(file)


def test_a_copy_stands_for_its_source_while_both_checksums_hold(shelf: Shelf) -> None:
    file = entry(shelf)
    shelf.path("copy").write_bytes(b"small")
    shelf.record("copy", sha256(shelf.path("copy")), made_of={"x": file.sha256}, maker=1)
    shelf.path("x").unlink()
    assert shelf.state(file) == "replaced"
    shelf.path("copy").write_bytes(b"wrong")
    os.utime(shelf.path("copy"))
    assert shelf.state(file) == "missing"
    shelf.hold()
    assert not shelf.path("copy").exists(), "a copy that changed is made anew"


def test_what_several_write_at_once_is_all_remembered(shelf: Shelf) -> None:
    names = [f"file{number}" for number in range(8)]
    for name in names:
        shelf.path(name).write_text(name)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: shelf.record(name, "0" * 64), names))
    assert set(shelf.memory().files) == set(names)


def test_a_memory_that_cannot_be_read_says_what_to_do(shelf: Shelf) -> None:
    shelf.settle(entry(shelf))
    (shelf.root / ".seesr/state.json").write_text('{"files": 7')
    with pytest.raises(WeightsInvalid, match="delete it"):
        shelf.memory()


def test_a_place_that_is_no_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written"), Shelf(tmp_path / "file").changing():
        pass


def test_a_link_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("new")
    (tmp_path / "place").write_text("old")
    link(tmp_path / "target", tmp_path / "place")
    assert (tmp_path / "place").read_text() == "new"
    assert not list(tmp_path.glob("*.part"))


def test_without_a_home_the_shelf_is_empty_and_a_pull_says_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", "~/.cache/huggingface/assets")  # where `~` has no meaning
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert default().root.is_absolute()
    assert default().memory().files == {}
    wanted = pull.plan(lock.read(), "seesr")
    with pytest.raises(WeightsError, match="no home folder to keep the weights in: set HF_HOME"):
        pull.fetch_all(wanted)
    assert list(tmp_path.iterdir()) == []
