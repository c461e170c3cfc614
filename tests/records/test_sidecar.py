"""Tags go to files and come back, from our hands, from people's and from other tools."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesr_cli.errors import PictureError
from seesr_cli.records import sidecar
from seesr_cli.records.sidecar import Given, as_json, as_text, find, is_ours, read
from seesr_cli.restore.tag import Tag, words

SHA = "5e" * 32
NEAR = (Tag("dog", 0.5, 0.6), Tag("fog", 0.4, 0.6))


def record(*tags: str, name: str = "photo.jpg") -> dict[str, Any]:
    return {
        "seesr": "0.1",
        "model": {"name": "seesr", "weights": None},
        "input": {"name": name, "sha256": SHA},
        "output": {"kind": "png", "quality": None, "bits": 8},
        "tags": [Tag(tag, 0.9, 0.6)._asdict() for tag in tags],
    }


def json_of(*tags: str) -> bytes:
    return as_json(
        record(*tags, name="fötö\n.jpg"),
        about="the model",
        size_in=(30, 40),
        target="fötö_x4.png",
        size_out=(120, 160),
        near=NEAR,
        left_out=("bird",),
        cut="the end",
        notes=("A note.",),
    )


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tags_in(path: Path, content: bytes | str) -> tuple[str, ...]:
    found = read(put(path, content))
    assert found is not None
    return found.tags


# --- there and back ----------------------------------------------------------------------------------------------


def test_json_says_all_that_is_known_in_ascii() -> None:
    content = json.loads(json_of("cat", "sea").decode("ascii"))
    assert content["input"] == {"name": "fötö\n.jpg", "sha256": SHA, "width": 40, "height": 30}
    assert content["output"]["name"] == "fötö_x4.png"
    assert (content["output"]["width"], content["output"]["height"]) == (160, 120)
    assert content["model"] == {"name": "seesr", "weights": None, "about": "the model"}
    assert content["tags"][0] == {"name": "cat", "score": 0.9, "threshold": 0.6}
    assert content["near_misses"][0] == {"name": "dog", "score": 0.5, "threshold": 0.6}
    assert (content["left_out"], content["cut"], content["notes"]) == (["bird"], "the end", ["A note."])


def test_text_is_a_tag_a_line_for_people_to_edit() -> None:
    lines = as_text(record("cat", "wet stone"), NEAR, ("bird",)).decode().splitlines()
    assert lines[:2] == ['# seesr 0.1: tags of "photo.jpg"', f"# sha256 {SHA}"]
    assert "cat                       # 0.900, threshold 0.600" in lines
    assert "# dog                       # 0.500, threshold 0.600" in lines
    assert "# No room in the prompt was left for: bird" in lines


@pytest.mark.parametrize("name", ["a\nb.jpg", "\udce4.jpg", 'a"#,.jpg', "x" * 255])
def test_odd_names_of_pictures_leave_the_tags_as_they_are(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / "a.txt", as_text(record("cat", name=name), NEAR))
    assert read(path) == Given(("cat",), SHA, path)


tag_text = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=","), max_size=12)


@given(texts=st.lists(tag_text | st.sampled_from(["#1 fan", "a # b", "a\\#", "\\", "C#"]), max_size=6))
def test_what_was_written_is_read_back_from_text_and_from_json(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tags = tuple(tag for text in texts for tag in words(text))
    folder = tmp_path_factory.mktemp("there-and-back")
    text, whole = folder / "a.txt", folder / "a.json"
    text.write_bytes(as_text(record(*tags), NEAR, tags))
    whole.write_bytes(json_of(*tags))
    assert read(text) == Given(tags, SHA, text)
    assert read(whole) == Given(tags, SHA, whole)


def test_tags_of_a_picture_that_changed_are_stale_and_those_without_a_picture_never(tmp_path: Path) -> None:
    assert Given((), SHA, tmp_path).stale("00" * 32)
    assert not Given((), SHA, tmp_path).stale(SHA)
    assert not Given((), None, tmp_path).stale(SHA)


# --- edited by people, and written by others ---------------------------------------------------------------------


def test_a_near_miss_is_a_tag_once_its_mark_is_away(tmp_path: Path) -> None:
    text = as_text(record("cat", "sea"), NEAR).decode()
    edited = text.replace("# dog", "dog").replace("sea ", "# sea ") + "harbour at night\n\n"
    assert tags_in(tmp_path / "a.txt", edited) == ("cat", "dog", "harbour at night")


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_editors_may_change_line_ends_and_encoding(tmp_path: Path, ending: str, encoding: str) -> None:
    text = as_text(record("cat", "Bär"), NEAR).decode().replace("\n", ending)
    path = put(tmp_path / "a.txt", text.encode(encoding))
    assert read(path) == Given(("cat", "Bär"), SHA, path)
    assert is_ours(path) or encoding == "utf-16"


def test_without_any_tag_left_the_picture_has_none(tmp_path: Path) -> None:
    assert tags_in(tmp_path / "a.txt", as_text(record(), NEAR)) == ()
    assert tags_in(tmp_path / "b.txt", "") == ()


@pytest.mark.parametrize("content", ["cat, wet stone,sea", "cat\nwet  stone\n\nsea\n", "cat,\r\nwet stone , sea,"])
def test_captions_of_other_tools_are_read(tmp_path: Path, content: str) -> None:
    path = put(tmp_path / "a.txt", content)
    assert read(path) == Given(("cat", "wet stone", "sea"), None, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cat\r\nsea\r\nB\xe4r\r\n", "line 3, is not written in UTF-8"),
        (b"cat\nPNG\0\0\0", "line 2, holds control characters"),
        (b"\xff\xfea", "line 1, is not written in UTF-8"),
        (b"#cat #sea\n#sky", "holds remarks only"),
        (b"a," * sidecar.LARGEST, "more than 4 MiB"),
    ],
)
def test_what_is_no_list_of_words_is_told_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = put(tmp_path / "a.txt", content)
    with pytest.raises(PictureError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"seesr": "0.1",\n"tags": [}', "line 2, is not JSON"),
        (b'{"seesr": "\xff"}', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"seesr": "0.1"}', 'no list "tags"'),
        ('{"seesr": "0.1", "tags": [{"nome": "cat"}]}', 'no list "tags"'),
        ('{"seesr": "0.1", "tags": ["\\ud800"]}', 'no list "tags"'),
    ],
)
def test_json_that_was_damaged_is_told(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        read(put(tmp_path / "a.json", content))


def test_json_may_list_plain_words(tmp_path: Path) -> None:
    assert tags_in(tmp_path / "a.json", '{"seesr": "0.1", "tags": ["cat", {"name": "wet stone"}]}') == (
        "cat",
        "wet stone",
    )


@settings(max_examples=50)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_words_or_one_sentence(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("a.txt", "a.json"):
        path = put(folder / name, content)
        is_ours(path)
        with suppress(PictureError):
            found = read(path)
            assert found is None or all(tag.strip() and tag.encode() for tag in found.tags)


# --- in a folder -------------------------------------------------------------------------------------------------


def test_tags_are_found_in_the_mirrored_tree_text_before_json_and_the_result_s_name_first(tmp_path: Path) -> None:
    source, target = Path("year/photo.v2.jpg"), "photo.v2_x4.png"
    assert find(tmp_path, source, target) is None
    names = ["photo.v2.json", "photo.v2_x4.json", "photo.v2.jpg.txt", "photo.v2.txt", "photo.v2_x4.txt"]
    for name in names:
        path = put(tmp_path / "year" / name, json_of(name) if name.endswith("json") else name)
        assert find(tmp_path, source, target) == Given((name,), SHA if name.endswith("json") else None, path)
    assert find(tmp_path, Path("photo.v2.jpg"), target) is None


def test_json_of_other_tools_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "a.json", '{"title": "a.jpg"}')
    assert find(tmp_path, Path("a.jpg"), "a_x4.png") is None


def test_names_as_long_as_names_get_have_no_sidecar(tmp_path: Path) -> None:
    assert find(tmp_path, Path("x" * 251 + ".jpg"), "x" * 251 + ".png") is None


def test_only_what_this_tool_wrote_is_its_own(tmp_path: Path) -> None:
    assert is_ours(put(tmp_path / "a.txt", as_text(record("cat"), NEAR)))
    assert is_ours(put(tmp_path / "a.json", json_of("cat")))
    assert not is_ours(put(tmp_path / "b.txt", "cat, sea"))
    assert not is_ours(put(tmp_path / "b.json", '{"precious": true}'))
    assert not is_ours(put(tmp_path / "c.json", "[" * 100_000))
    assert not is_ours(tmp_path / "not-there.txt")
    assert not is_ours(tmp_path)


def test_lists_from_a_folder_that_spells_accents_otherwise_are_found(tmp_path: Path) -> None:
    put(tmp_path / "e\u0301te\u0301" / "fo\u0308to\u0308_x4.txt", as_text(record("cat"), ()))
    found = find(tmp_path, Path("\u00e9t\u00e9", "f\u00f6t\u00f6.jpg"), "f\u00f6t\u00f6_x4.png")
    assert found is not None
    assert found.tags == ("cat",)
    listed = tmp_path / "e\u0301te\u0301" / "fo\u0308to\u0308_x4.txt"
    listed.write_bytes(listed.read_bytes().replace(b"cat", b"dog"))
    beside = sidecar.edited_beside(tmp_path / "\u00e9t\u00e9" / "f\u00f6t\u00f6_x4.png")
    assert beside is not None
    assert beside.tags == ("dog",)
