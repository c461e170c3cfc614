"""Files, folders, patterns and lists become the pictures that a person means."""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seesr_cli.errors import UsageError
from seesr_cli.run.inputs import InputFile, find, left_alone
from seesr_cli.run.outputs import plan_results


def touch(*names: str) -> None:
    """Put empty files there; nobody here looks into them."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*inputs: str, lists: tuple[str, ...] = (), output: str | None = None, name: str | None = None) -> list[str]:
    return [str(source.path) for source in find(inputs, lists, output=output, name=name).pictures]


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_is_all_its_pictures_in_natural_order_its_own_first(here: Path) -> None:
    touch("in/b10.png", "in/b9.JPG", "in/A.webp", "in/a/z.png", "in/folder.png/2/c.tif", "in/folder.png/10/c.tif")
    assert found("in") == [
        "in/A.webp",
        "in/b9.JPG",
        "in/b10.png",
        "in/a/z.png",
        "in/folder.png/2/c.tif",
        "in/folder.png/10/c.tif",
    ]
    places = [str(source.relative) for source in find(["in"]).pictures]
    assert places == ["A.webp", "b9.JPG", "b10.png", "a/z.png", "folder.png/2/c.tif", "folder.png/10/c.tif"]


def test_hidden_and_system_files_are_ignored_and_what_else_is_no_picture_is_named(here: Path) -> None:
    touch("in/a.jpg", "in/.b.jpg", "in/._a.jpg", "in/.git/c.jpg", "in/__MACOSX/c.jpg", "in/@eaDir/c.jpg")
    touch("in/$RECYCLE.BIN/c.jpg", "in/lost+found/c.jpg", "in/Thumbs.db", "in/desktop.ini", "in/.DS_Store", "in/Icon\r")
    touch("in/b.mov", "in/sub/a.txt", "in/notes")
    sources = find(["in"])
    assert [str(source.path) for source in sources.pictures] == ["in/a.jpg"]
    assert [str(path) for path in sources.strangers] == ["in/b.mov", "in/notes", "in/sub/a.txt"]
    assert sources.notes == ()


def test_what_a_run_leaves_is_no_stranger(here: Path) -> None:
    touch("in/a.jpg", "in/a_x4.png", "in/a_x4.json", "in/a_x4.txt", "in/a.txt", "in/compare.html")
    touch("in/.seesr-journal.jsonl", "in/.seesr-0123.part", "in/a_x4.latent.safetensors")
    assert find(["in"]).strangers == ()


def test_strangers_are_counted_and_the_first_ones_named() -> None:
    assert left_alone([Path("a.txt")]) == "1 file is no picture: a.txt."
    many = [Path(f"{number}.mov") for number in range(5)]
    assert left_alone(many) == "5 files are no pictures: 0.mov, 1.mov, 2.mov, and 2 more."


def test_earlier_results_are_passed_over_and_named_in_every_folder(here: Path) -> None:
    touch("in/a.jpg", "in/a_x4.png", "in/a_x2.5.webp", "in/alone_x4.png", "in/a_xy.png", "in/sub/b.png")
    touch("in/sub/b_xw3000h2000.jpg", "in/sub/a_x4.png")
    sources = find(["in"])
    names = [str(source.path) for source in sources.pictures]
    assert names == ["in/a.jpg", "in/a_xy.png", "in/alone_x4.png", "in/sub/a_x4.png", "in/sub/b.png"]
    assert sources.notes == (
        "in/a_x2.5.webp and 2 more: passed over as earlier results; name them to restore them too",
    )
    assert found("in/a_x4.png") == ["in/a_x4.png"]


@pytest.mark.parametrize("name", ["{stem}_big{suffix}", "x{scale} {name}{suffix}", "{stem}-{stem}.png"])
def test_the_results_of_a_pattern_are_no_inputs_of_its_second_run(here: Path, name: str) -> None:
    touch("in/a.jpg", "in/sub/b c.png")
    first = plan_results(find(["in"], name=name).pictures, None, name, "2.5")
    touch(*(str(job.target) for job in first))
    assert plan_results(find(["in"], name=name).pictures, None, name, "2.5") == first


def test_a_pattern_that_keeps_the_stem_makes_no_picture_a_result(here: Path) -> None:
    touch("in/a.jpg", "in/a.webp", "in/a.png")
    assert len(found("in", name="{stem}{suffix}")) == 3
    assert len(found("in", name="{stem}{suffix}", output="out")) == 3


@pytest.mark.parametrize("output", ["in/out", "in/out/", "./in/sub/../out", "in"])
def test_a_second_run_finds_what_the_first_one_found(here: Path, output: str) -> None:
    touch("in/a.jpg", "in/sub/b.jpg")
    first = plan_results(find(["in"], output=output).pictures, output, "{stem}_big{suffix}")
    touch(*(str(job.target) for job in first))
    second = find(["in"], output=output, name="{stem}_big{suffix}")
    assert plan_results(second.pictures, output, "{stem}_big{suffix}") == first
    if output != "in":
        assert second.notes == ("in/out: not searched, the results go there",)


def test_the_folder_of_the_results_is_no_input_among_others(here: Path) -> None:
    touch("a.jpg", "b/c.jpg", "out/d_x4.png")
    assert found("a.jpg", "b", "out", output="out") == ["a.jpg", "b/c.jpg"]
    assert found("*", output="out") == ["a.jpg", "b/c.jpg"]
    assert found("out", output="out") == ["out/d_x4.png"]


def test_the_one_result_is_no_input_of_the_second_run(here: Path) -> None:
    touch("in/a.jpg", "in/best.png")
    assert found("in", output="in/best.png") == ["in/a.jpg"]


def test_links_to_folders_are_not_followed_and_links_to_pictures_are_pictures(here: Path) -> None:
    touch("in/a.jpg", "else/b.jpg")
    Path("in/loop").symlink_to(here / "in")
    Path("in/else").symlink_to(here / "else")
    Path("in/itself").symlink_to("itself")
    Path("in/c.jpg").symlink_to(here / "else" / "b.jpg")
    Path("in/gone.jpg").symlink_to("nowhere")
    sources = find(["in"])
    assert [str(source.path) for source in sources.pictures] == ["in/a.jpg", "in/c.jpg", "in/gone.jpg"]
    assert sources.notes == tuple(
        f"in/{name}: a link to a folder, not followed; name it to search it" for name in ("else", "loop")
    )
    assert found("in/else") == ["in/else/b.jpg"]


@contextmanager
def not_the_superuser() -> Iterator[None]:
    """Nothing is closed to the superuser: be nobody inside, in a current folder that anybody may read."""
    if os.geteuid() != 0:
        yield
        return
    Path().chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_folder_in_it_that_cannot_be_read_is_a_note(here: Path) -> None:
    touch("in/a.jpg", "in/closed/b.jpg")
    Path("in/closed").chmod(0)
    try:
        with not_the_superuser():
            sources = find(["in"])
            with pytest.raises(UsageError, match="The folder in/closed cannot be read"):
                find(["in/closed"])
    finally:
        Path("in/closed").chmod(0o700)
    assert len(sources.pictures) == 1
    assert sources.notes == ("in/closed: not searched, it cannot be read (Permission denied)",)


def test_a_tree_deeper_than_a_name_may_be_is_searched_as_far_as_it_can_be(here: Path) -> None:
    touch("in/a.jpg")
    descriptor = os.open("in", os.O_RDONLY)
    for _ in range(20):  # 20 times 250 bytes are more than a path's 4096
        os.mkdir("d" * 250, dir_fd=descriptor)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    sources = find(["in"])
    assert len(sources.pictures) == 1
    assert "not searched, it cannot be read (File name too long)" in sources.notes[0]


def test_a_picture_named_twice_is_there_once_at_its_first_place(here: Path) -> None:
    touch("a.png", "b.png", "inner/c.png")
    Path("link").symlink_to(here)
    again = ["./b.png", "inner/../b.png", "link/b.png", "inner"]
    assert found("b.png", ".", *again) == ["b.png", "a.png", "inner/c.png"]


def test_a_file_is_an_input_whatever_its_name(here: Path) -> None:
    touch("no suffix", ".hidden", "a.txt", "a[1].jpg", "a1.jpg")
    assert found("no suffix", ".hidden", "a.txt", "a[1].jpg") == ["no suffix", ".hidden", "a.txt", "a[1].jpg"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.jpg", "missing.jpg is not there: check the name."),
        ("n" * 300, "is not there: check the name."),
        ("empty", "empty holds no pictures: name others."),
        ("hidden", "hidden holds no pictures: name others."),
        ("other", "other holds no pictures; 2 files are no pictures: other/a.txt, other/b.mov."),
        ("linked", "linked/in: a link to a folder, not followed"),
        ("*.jpg", r"*.jpg matches nothing: check the pattern."),
        ("oth**r/a", "oth**r/a is no pattern: ** stands for folders, as in photos/**/*.jpg."),
    ],
)
def test_an_input_without_a_picture_has_its_sentence(here: Path, name: str, sentence: str) -> None:
    Path("empty/inner").mkdir(parents=True)
    touch("hidden/.a.png", "other/b.mov", "other/a.txt")
    Path("linked").mkdir()
    Path("linked/in").symlink_to(here)
    with pytest.raises(UsageError) as caught:
        find([name])
    assert sentence in str(caught.value)


def test_an_empty_folder_among_others_is_a_note(here: Path) -> None:
    touch("a.jpg")
    Path("empty").mkdir()
    assert find(["empty", "a.jpg"]).notes == ("empty holds no pictures",)


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(UsageError, match="An input is empty"):
        find([""])
    with pytest.raises(UsageError, match="--output is empty"):
        plan_results([InputFile(Path("a.png"), Path("a.png"))], "")
    with pytest.raises(UsageError, match="There is no input"):
        find([])


# --- patterns ----------------------------------------------------------------------------------------------------


def test_a_pattern_that_the_shell_left_is_expanded(here: Path) -> None:
    touch("in/2/a.jpg", "in/10/b.jpg", "in/10/b_x4.png", "in/10/.c.jpg", "in/10/deep/d.jpg", "in/10/e.mov")
    assert found("in/*/*.jpg") == ["in/2/a.jpg", "in/10/b.jpg"]
    assert found("in/**/*.jpg") == ["in/2/a.jpg", "in/10/b.jpg", "in/10/deep/d.jpg"]
    assert found("in/1?") == ["in/10/b.jpg", "in/10/deep/d.jpg"]
    assert found("in/[0-9]/?.jp*") == ["in/2/a.jpg"]
    assert found(f"{here}/in/**") == [f"{here}/in/{name}" for name in ("2/a.jpg", "10/b.jpg", "10/deep/d.jpg")]
    assert [str(source.relative) for source in find(["in/*/*.jpg"]).pictures] == ["2/a.jpg", "10/b.jpg"]
    assert [str(path) for path in find(["in/10/*"]).strangers] == ["in/10/e.mov"]
    assert found("in/10/*_x4.png") == ["in/10/b_x4.png"]


def test_a_name_with_brackets_wins_over_the_pattern(here: Path) -> None:
    touch("a[1].jpg", "a1.jpg", "dir[1]/b.jpg")
    assert found("a[1].jpg", "dir[1]") == ["a[1].jpg", "dir[1]/b.jpg"]
    Path("a[1].jpg").unlink()
    assert found("a[1].jpg") == ["a1.jpg"]


def test_a_pattern_does_not_run_in_circles(here: Path) -> None:
    touch("in/a.jpg")
    for name in ("one", "other"):
        Path("in", name).symlink_to(here / "in")
    begun = time.process_time()
    assert found("in/**/*.jpg")[0] == "in/a.jpg"
    assert time.process_time() - begun < 5


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        (b"a\n.jpg\0 b.jpg\r\0", ["a\n.jpg", " b.jpg\r"]),
        (b"#1.jpg\n*.jpg\n-\n", ["#1.jpg", "*.jpg", "-"]),
        (b"\xff\xfe.png\n", [os.fsdecode(b"\xff\xfe.png")]),
        (b"gone.jpg\n", ["gone.jpg"]),
        (b"../a.jpg\n/x/b.jpg\n", ["../a.jpg", "/x/b.jpg"]),
        (b"a.jpg\n" * 3, ["a.jpg"]),
        (b"n" * 5000, ["n" * 5000]),
    ],
)
def test_a_list_names_its_pictures_as_the_bytes_they_are(here: Path, content: bytes, names: list[str]) -> None:
    Path("list").write_bytes(content)
    assert found(lists=("list",)) == names
    assert [str(source.path) for source in find([], ["-"], stdin=io.BytesIO(content)).pictures] == names
    assert not any(source.stdin for source in find([], ["list"]).pictures)


def test_a_list_may_name_folders_and_its_relative_names_keep_theirs_below_the_output(here: Path) -> None:
    touch("2019/a.jpg", "2020/b/c.jpg", "2021/d.jpg")
    Path("list").write_text(f"2019/a.jpg\n2020\n{here}/2021\n{here}/2021/e.jpg\n../{here.name}/2019/f.jpg\n")
    sources = find([], ["list"])
    assert [str(source.relative) for source in sources.pictures] == [
        "2019/a.jpg",
        "2020/b/c.jpg",
        "d.jpg",
        "e.jpg",
        "f.jpg",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "The list list cannot be read (No such file or directory): check the name."),
        (b"\n\n", "The list list names nothing: name others."),
        ("a.jpg\r\n".encode("utf-16"), "The list list is UTF-16: save it as UTF-8."),
    ],
)
def test_a_list_that_is_none_has_its_sentence(here: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        Path("list").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        find([], ["list"])
    assert str(caught.value) == sentence
