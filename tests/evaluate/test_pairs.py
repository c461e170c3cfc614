"""Which pictures belong together."""

from pathlib import Path

import pytest

from seesr_cli.errors import UsageError
from seesr_cli.evaluate.pairs import pair


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    return path


@pytest.mark.parametrize(
    "result", ["a.png", "a_x4.png", "a_x2.5.png", "a_xw3000h2000.png", "a_result.png", "a_x4_x2.webp"]
)
@pytest.mark.parametrize("reference", ["a.png", "a.JPG", "a_reference.png", "a_x4.png"])
def test_names_pair_by_stem_with_and_without_marks(tmp_path: Path, result: str, reference: str) -> None:
    results, references = folder(tmp_path / "r", result), folder(tmp_path / "h", reference)
    (one,) = pair(results, references, None, None)
    assert (one.name, one.result, one.reference) == ("a", results / result, references / reference)


def test_results_and_their_originals_may_share_a_folder(tmp_path: Path) -> None:
    both = folder(tmp_path, "a.jpg", "a_x4.png", "b.jpg", "b_x4.png", "b_x4.txt")
    found = pair(both, None, both, None)
    assert [(one.result.name, one.input and one.input.name) for one in found] == [
        ("a_x4.png", "a.jpg"),
        ("b_x4.png", "b.jpg"),
    ]


def test_the_recording_s_own_layout_is_understood(tmp_path: Path) -> None:
    both = folder(tmp_path, "0_result.png", "0_reference.png")
    (one,) = pair(both, both, None, None)
    assert (one.name, one.result.name, one.reference and one.reference.name) == ("0", "0_result.png", "0_reference.png")


def test_folders_in_folders_pair_by_their_place(tmp_path: Path) -> None:
    results = folder(tmp_path / "r", "x/a_x4.png", "y/a_x4.png", ".hidden/a.png", ".a.png", "notes.txt")
    inputs = folder(tmp_path / "i", "x/a.jpg", "y/a.jpg")
    assert [one.name for one in pair(results, None, inputs, None)] == ["x/a", "y/a"]


def test_two_single_pictures_pair_whatever_their_names(tmp_path: Path) -> None:
    both = folder(tmp_path, "one.png", "other.png")
    (found,) = pair(both / "one.png", both / "other.png", None, None)
    assert found.reference == both / "other.png"


@pytest.mark.parametrize(
    ("results", "others", "sentence"),
    [
        (["a.png", "b.png"], ["a.png"], r"holds nothing for .*b\.png: names must be equal"),
        (["a.png"], ["a.png", "c.png"], r"holds no result for .*c\.png"),
        (["a_x4.png", "a_x2.png"], ["a.png"], r"a_x2\.png, .*a_x4\.png are both 'a'"),
        (["a.png"], ["a.png", "a.jpg"], r"a\.jpg, .*a\.png are both 'a'"),
        ([f"{n}.png" for n in range(9)], ["10.png"], r"and 4 more: names must be equal"),
        (["a.txt"], ["a.png"], "holds no pictures"),
    ],
)
def test_what_does_not_pair_is_told_by_name(
    tmp_path: Path, results: list[str], others: list[str], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        pair(folder(tmp_path / "r", *results), folder(tmp_path / "h", *others), None, None)


def test_a_folder_that_is_not_there_and_an_empty_one_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, sentence in (("gone", "is not there"), ("empty", "holds no pictures")):
        with pytest.raises(UsageError, match=sentence):
            pair(tmp_path / name, None, None, None)


def test_a_picture_is_not_measured_against_itself(tmp_path: Path) -> None:
    both = folder(tmp_path, "a.png")
    with pytest.raises(UsageError, match="cannot be measured against itself"):
        pair(both, both, None, None)


def test_accents_that_a_copy_spelled_anew_pair(tmp_path: Path) -> None:
    results, inputs = folder(tmp_path / "r", "\u00e9/\u00e9_x4.png"), folder(tmp_path / "i", "e\u0301/e\u0301.jpg")
    (one,) = pair(results, None, inputs, None)
    assert one.input == inputs / "e\u0301" / "e\u0301.jpg"
