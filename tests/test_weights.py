"""Where the files are, and what is said when they are not."""

from pathlib import Path

import pytest

from seesr_cli.errors import WeightsMissing
from seesr_cli.settings import MINIATURE, SEESR
from seesr_cli.weights import FOLDER_VARIABLE, find, locate


def test_without_any_folder_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(WeightsMissing, match=r"(?s)--weights DIR.*--model miniature"):
        locate(SEESR, None)


def test_the_option_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named, given = tmp_path / "named", tmp_path / "given"
    named.mkdir()
    given.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(named))
    assert locate(SEESR, None) == named
    assert locate(SEESR, given) == given


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="nowhere"):
        locate(SEESR, tmp_path / "nowhere")


def test_the_miniature_is_in_the_package_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert locate(MINIATURE, None).name == "miniature"


def test_the_first_of_several_names_is_found_and_all_are_named_when_none_is(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    assert find(tmp_path, "a", "b") == tmp_path / "b"
    with pytest.raises(WeightsMissing, match="c or d"):
        find(tmp_path, "c", "d")
