"""Every picture has a place for its result, and nothing is replaced."""

import io
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run.test_inputs import touch
from seesr_cli.errors import OutputUnwritable, UsageError
from seesr_cli.run import outputs
from seesr_cli.run.inputs import InputFile, find
from seesr_cli.run.outputs import Job, plan_results
from seesr_cli.settings import Format

# --- stdin and stdout --------------------------------------------------------------------------------------------


def test_stdin_has_other_names_and_may_be_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (piped,) = find(["/dev/stdin"]).pictures
    assert piped.stdin
    with pytest.raises(UsageError, match="The picture on stdin has no folder for its result"):
        plan_results([piped], None)
    with pytest.raises(UsageError, match="used once only"):
        find(["/dev/stdin", "-"])
    os.mkfifo("pipe")
    assert find(["pipe"]).pictures == (InputFile(Path("pipe"), Path("pipe"), pipe=True),)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="there is none"):
        find(["-"])


def test_a_dash_is_the_picture_on_stdin(here: Path) -> None:
    touch("-")
    (piped,) = find(["-"]).pictures
    assert piped == InputFile(Path("-"), Path("stdin"), stdin=True)
    assert len(find(["-", "./-"]).pictures) == 2
    assert plan_results([piped], "-") == (Job(piped, None, "png"),)
    assert plan_results([piped], "-", kind="webp")[0].kind == "webp"
    assert plan_results([piped], "out/")[0].target == Path("out/stdin_x4.png")
    assert plan_results([piped], "b.jpg")[0] == Job(piped, Path("b.jpg"), "jpeg")
    assert plan_results([piped], "-")[0].sidecar is None
    assert not outputs.is_there(plan_results([piped], "-")[0])
    with pytest.raises(UsageError, match="The picture on stdin has no folder for its result"):
        plan_results([piped], None)


@pytest.mark.parametrize(("inputs", "lists"), [(["-", "-"], []), (["-"], ["-"]), ([], ["-", "-"])])
def test_stdin_is_read_once(inputs: list[str], lists: list[str]) -> None:
    with pytest.raises(UsageError, match="can be used once only"):
        find(inputs, lists)


def test_stdout_takes_one_picture() -> None:
    with pytest.raises(UsageError, match="takes one picture, but there are 2"):
        plan_results([InputFile(Path(name), Path(name)) for name in ("a.jpg", "b.jpg")], "-")


# --- where results go --------------------------------------------------------------------------------------------


def targets(
    names: list[str], output: str | None, name: str | None = None, label: str = "4", kind: Format | None = None
) -> list[str]:
    """Where the results of pictures go that were named directly."""
    return [str(job.target) for job in plan_results(named(names), output, name, label, kind)]


def named(names: list[str]) -> list[InputFile]:
    return [InputFile(Path(name), Path(Path(name).name)) for name in names]


@pytest.mark.parametrize(
    ("name", "label", "kind", "result"),
    [
        (None, "4", None, "some/photo.v1_x4.png"),
        (None, "2.5", "jpeg", "some/photo.v1_x2.5.jpg"),
        (None, "w3000", "tiff", "some/photo.v1_xw3000.tif"),
        ("{stem}{suffix}", "4", None, "some/photo.v1.png"),
        ("{name} {scale}{suffix}", "4", "webp", "some/photo.v1.jpg 4.webp"),
        ("best of {stem}.jpeg", "4", None, "some/best of photo.v1.jpeg"),
        ("{stem}.jpg", "4", "jpeg", "some/photo.v1.jpg_"),
    ],
)
def test_the_result_is_beside_its_picture_and_named_by_the_pattern(
    name: str | None, label: str, kind: Format | None, result: str
) -> None:
    source = "some/photo.v1.jpg" if not result.endswith("_") else "some/photo.v1.png"
    assert targets([source], None, name, label, kind) == [result.removesuffix("_")]


def test_the_tree_is_mirrored_below_the_output(here: Path) -> None:
    touch("in/a.jpg", "in/2019/a.jpg", "in/2019/b/a.jpg")
    planned = plan_results(find(["in"]).pictures, "out")
    assert [str(job.target) for job in planned] == ["out/a_x4.png", "out/2019/a_x4.png", "out/2019/b/a_x4.png"]
    assert not Path("out").exists()
    beside = plan_results(find(["in"]).pictures, None)
    assert [str(job.target) for job in beside] == ["in/a_x4.png", "in/2019/a_x4.png", "in/2019/b/a_x4.png"]


def test_pictures_named_directly_go_straight_into_the_folder(here: Path) -> None:
    there = str(here)
    assert targets(["x/a.jpg"], there) == [f"{there}/a_x4.png"]
    assert targets(["x/a.jpg", "y/b.jpg"], there) == [f"{there}/a_x4.png", f"{there}/b_x4.png"]
    assert targets(["x/a.jpg"], f"{there}/new/") == [f"{there}/new/a_x4.png"]
    assert targets(["x/a.jpg"], f"{there}/new") == [f"{there}/new/a_x4.png"]
    assert targets(["x/a.jpg", "y/b.jpg"], f"{there}/v1.2") == [f"{there}/v1.2/a_x4.png", f"{there}/v1.2/b_x4.png"]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "png"), ("a.JPG", "jpeg"), ("a.webp", "webp"), ("a.tiff", "tiff")]
)
def test_one_picture_goes_into_the_file_named_in_the_format_of_its_suffix(here: Path, name: str, kind: Format) -> None:
    for asked in (None, kind):
        (job,) = plan_results(named(["x/b.jpg"]), name, None, "4", asked)
        assert (job.target, job.kind) == (Path(name), kind)


def test_the_sidecar_is_beside_the_result() -> None:
    assert plan_results(named(["x/a.jpg"]), None, None, "2.5")[0].sidecar == Path("x/a_x2.5.json")


@pytest.mark.parametrize(
    ("names", "output", "sentence"),
    [
        (["a.jpg", "b.jpg"], "file.txt", "file.txt is a file: name a folder with -o for several pictures."),
        (
            ["a.jpg", "b.jpg"],
            "new.png",
            "new.png names one file, but there are several pictures: name a folder, as new/",
        ),
        (["a.jpg"], "file.txt/", "file.txt/ is a file: name a folder"),
        (["a.jpg"], "new.xyz", "no suffix that is written: end it with one of .png .jpg"),
        (["a.jpg"], "new/a.png", "cannot be written, there is no folder new: make it first."),
        (["x/a.jpg", "y/a.png"], "out/", "x/a.jpg and y/a.png would both become out/a_x4.png: tell them apart"),
        (["x/a.jpg", "y/a.jpg"], "out/", "x/a.jpg and y/a.jpg would both become out/a_x4.png: name one folder that"),
        (["a.jpg", "a.png"], None, 'would both become a_x4.png: tell them apart with --name "{name}_x{scale}{suffix}"'),
    ],
)
def test_a_place_that_cannot_be_meant_has_its_sentence(
    here: Path, names: list[str], output: str | None, sentence: str
) -> None:
    touch("file.txt")
    with pytest.raises(UsageError) as caught:
        targets(names, output)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("{stem}_{size}{suffix}", None, "has a field {size}: there are {stem} {name} {scale} {seed} {suffix}."),
        ("{stem{suffix}", None, "has a field {stem: there are"),
        ("{stem!r}{suffix}", None, "has a field {stem!r}: there are"),
        ("{}{suffix}", None, "has a field {}: there are"),
        ("stem}{suffix}", None, "has a field }: there are"),
        ("done/{stem}{suffix}", None, "holds more than a file's name: choose the folder with -o."),
        ("{stem}\0{suffix}", None, "holds more than a file's name"),
        (".{stem}{suffix}", None, "makes names that are empty or hidden: begin it with {stem}."),
        ("{suffix}", None, "makes names that are empty or hidden"),
        ("", None, "makes names that are empty or hidden"),
        ("{stem}_big", None, "has no suffix: end it with {suffix}, as {stem}_big{suffix}."),
        ("{stem}_x{scale}", None, "has no suffix"),
        ("{stem}.jpg", "png", "does not go with --format png: end it with {suffix}."),
    ],
)
def test_a_pattern_that_makes_no_names_has_its_sentence(name: str, kind: Format | None, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        targets(["a.jpg"], None, name, "4", kind)
    assert str(caught.value).startswith(f"--name {name} ")
    assert sentence in str(caught.value)


def test_a_name_that_contradicts_the_format_has_its_sentence(here: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.jpg does not go with --format png: change its suffix, or leave"):
        targets(["a.jpg"], "out.jpg", kind="png")


def test_two_names_in_one_folder_are_kept_apart_by_the_pattern_that_is_proposed(here: Path) -> None:
    assert targets(["a.jpg", "a.png"], None, "{name}_x{scale}{suffix}") == ["a.jpg_x4.png", "a.png_x4.png"]


def test_all_collisions_are_told_together(here: Path) -> None:
    touch("z.png", "z_x4.png", *(f"{number}.{suffix}" for number in range(5) for suffix in ("jpg", "png")))
    with pytest.raises(UsageError) as caught:
        plan_results(find([".", "z_x4.png"]).pictures, None)
    assert str(caught.value) == (
        "z_x4.png is to be the result of z.png, but z_x4.png is an input, and inputs are never overwritten: "
        "leave it out, or choose another place with -o. "
        "0.jpg and 0.png would both become 0_x4.png; 1.jpg and 1.png would both become 1_x4.png; "
        '2.jpg and 2.png would both become 2_x4.png; and 2 more: tell them apart with --name "{name}_x{scale}'
        '{suffix}", or restore one of them separately, with its own -o.'
    )


def test_an_input_is_never_a_result_nor_its_tags(here: Path) -> None:
    touch("a.png", "a_x4.png", "a_x4.json", "b.json", "sub/c.png")
    Path("soft.png").symlink_to("a.png")
    Path("hard.png").hardlink_to("a.png")
    Path("same").symlink_to("sub")
    for names, output in (
        (["a.png"], "a.png"),
        (["a.png"], "./a.png"),
        (["a.png"], "soft.png"),
        (["a.png"], "hard.png"),
        (["sub/c.png"], "same/c.png"),
        (["a.png", "a_x4.png"], None),
        (["a_x4.png", "a.png"], None),
        (["a.png", "a_x4.json"], None),
        (["b.json"], "b.png"),
    ):
        with pytest.raises(UsageError, match="inputs are never overwritten"):
            targets(names, output)


def test_names_are_one_where_the_file_system_says_so(here: Path) -> None:
    """Capitals and accents: whether two such files can stand side by side is tried out here, not taken from a table."""
    for one, other in (("a.jpg", "A.jpg"), ("é.jpg", unicodedata.normalize("NFD", "é.jpg")), ("ß.jpg", "ss.jpg")):
        Path("try").mkdir()
        touch(f"try/{one}", f"try/{other}")
        apart = len(list(Path("try").iterdir())) == 2
        for path in Path("try").iterdir():
            path.unlink()
        Path("try").rmdir()
        if apart:
            assert len(targets([f"x/{one}", f"y/{other}"], "out/deep")) == 2
        else:
            with pytest.raises(UsageError, match="would both become"):
                targets([f"x/{one}", f"y/{other}"], "out/deep")
    assert list(here.iterdir()) == []


def test_a_folder_from_a_mac_has_one_result_and_no_twin(here: Path) -> None:
    composed, apart = "\u00e9", "e\u0301"
    touch(f"{apart}.jpg", f"{composed}_x4.png", f"{composed}_x4.txt")
    found = find(["."])
    assert [source.path.name for source in found.pictures] == [f"{apart}.jpg"]
    assert found.strangers == ()
    assert [job.target for job in plan_results(found.pictures, None)] == [Path(f"{composed}_x4.png")]
    assert find([f"{composed}.jpg"]).pictures[0].path.samefile(f"{apart}.jpg")
    touch(f"{composed}.jpg")
    if len(list(here.glob("*.jpg"))) == 2:  # they are two: none becomes the other's result
        jobs = plan_results(find(["."]).pictures, None)
        assert {job.target and job.target.name for job in jobs} == {f"{composed}_x4.png", f"{apart}_x4.png"}


def test_a_result_s_name_that_is_too_long_is_a_sentence_before_the_work(here: Path) -> None:
    touch("a" * 251 + ".jpg")
    (job,) = plan_results(find(["."]).pictures, None)
    assert not outputs.is_there(job)
    with pytest.raises(OutputUnwritable, match="the name is too long: choose shorter ones with --name"):
        outputs.check_name(job)
    (job,) = plan_results(find(["."]).pictures, None, "{stem}.png")
    with pytest.raises(OutputUnwritable, match=r"\.json cannot be written"):
        outputs.check_name(job)
    outputs.check_name(plan_results(find(["."]).pictures, "b.png")[0])
    outputs.check_name(plan_results(find(["."]).pictures, "-")[0])


def test_what_is_there_is_a_file_not_a_folder(here: Path) -> None:
    touch("a_x4.png")
    Path("b_x4.png").mkdir()
    Path("c_x4.png").symlink_to("nowhere")
    assert [outputs.is_there(job) for job in plan_results(named(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]), None)] == [
        True,
        False,
        True,
        False,
    ]


# --- any name ----------------------------------------------------------------------------------------------------


def is_name(name: bytes) -> bool:
    return name not in (b"", b".", b"..") and len(name) < 200


NAMES = (
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.lists(
            st.sampled_from(
                [
                    b"a",
                    b"A",
                    b"\n",
                    b"\r",
                    b"'",
                    b'"',
                    b"[",
                    b"]",
                    b"*",
                    b"?",
                    b"{stem}",
                    b"\\",
                    b"%",
                    b"#",
                    b" ",
                    b"-",
                    b"~",
                    b"_x4",
                    b".",
                    "é".encode(),
                    b"\xff",
                    b"9",
                    b"10",
                ]
            ),
            min_size=1,
            max_size=8,
        ).map(b"".join),
    )
    .map(lambda name: name.replace(b"\0", b"").replace(b"/", b""))
    .filter(is_name)
)


@settings(max_examples=150)
@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True), folder=NAMES)
def test_every_picture_is_found_and_has_its_own_result_inside_the_output(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], folder: bytes
) -> None:
    root = tmp_path_factory.mktemp("any")
    inner = root / "in" / os.fsdecode(b"d" + folder)
    inner.mkdir(parents=True)
    there = {inner / os.fsdecode(b"n" + name + b".jpg") for name in names}
    for path in there:
        path.touch()
    listed = b"\0".join(os.fsencode(path) for path in sorted(there)) + b"\0"
    searched = find([str(root / "in")])
    assert {source.path for source in searched.pictures} == there
    assert {source.path for source in find([str(path) for path in there]).pictures} == there
    assert {source.path for source in find([], ["-"], stdin=io.BytesIO(listed)).pictures} == there
    planned = plan_results(searched.pictures, str(root / "out"))
    assert len({job.target for job in planned}) == len(there)
    for job in planned:
        assert job.target is not None
        assert job.target.parent == root / "out" / inner.name
        assert job.target.name == f"{job.source.path.name.removesuffix('.jpg')}_x4.png"
        assert plan_results([job.source], None)[0].target == inner / job.target.name


# No names of folders, which would be searched: all end in a picture that is not there.
PARTS = st.sampled_from([b"..", b".", b"/", b"a", b"\xff", b"\r", b"C:", b"\\", b"~", b" ", b".jpg"])
LISTED = st.lists(PARTS, max_size=6).map(lambda parts: b"".join(parts) + b"nowhere.jpg")


@settings(max_examples=100)
@given(names=st.lists(LISTED, min_size=1, max_size=4), end=st.sampled_from([b"\n", b"\r\n", b"\0"]))
def test_whatever_is_listed_leads_into_the_output_or_is_told_as_a_collision(names: list[bytes], end: bytes) -> None:
    sources = find([], ["-"], stdin=io.BytesIO(end.join([*names, b""])))
    for source in sources.pictures:
        (job,) = plan_results([source], "/nowhere/out/")
        assert job.target is not None
        assert ".." not in job.target.parts
        assert job.target.is_relative_to("/nowhere/out")
    try:
        assert len({job.target for job in plan_results(sources.pictures, "/nowhere/out/")}) == len(sources.pictures)
    except UsageError as error:
        if "would both become" not in str(error):
            raise
