"""What is lacking, in files and in words."""

from pathlib import Path

from seesr_cli.weights import lock, status
from seesr_cli.weights.shelf import Shelf

PINNED = lock.read()


def test_on_an_empty_shelf_one_file_of_each_choice_is_lacking(tmp_path: Path) -> None:
    full = status.lacking(PINNED, Shelf(tmp_path), "seesr")
    half = status.lacking(PINNED, Shelf(tmp_path), "seesr", half=True)
    assert len(full) == len(half) == 17
    assert not any(file.instead_of for file in full)
    assert sum(file.bytes for file in half) < sum(file.bytes for file in full)
    assert status.in_words(full) == "17 files, 13.8 GB"


def test_a_file_in_16_bits_stands_for_the_full_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    half = next(file for file in PINNED.files if file.instead_of and "vae" in file.file)
    shelf.path(half.file).parent.mkdir(parents=True)
    shelf.path(half.file).touch()
    shelf.record(half.file, half.sha256)
    assert half.instead_of not in {file.file for file in status.lacking(PINNED, shelf, "seesr")}


def test_every_item_says_what_it_is_held_to(tmp_path: Path) -> None:
    items = status.items(PINNED, Shelf(tmp_path))
    assert {item.state for item in items} == {"missing"}
    assert {item.pinned for item in items} == {"sha256", "not yet"}
