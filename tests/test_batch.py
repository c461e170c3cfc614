"""What the person named becomes jobs, and every picture an outcome."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seesr_cli import __version__, batch, image
from seesr_cli.batch import Outcome
from seesr_cli.errors import UsageError, WeightsMissing
from seesr_cli.jobs import Job, find, plan
from seesr_cli.pipeline import Upscaler
from seesr_cli.settings import MODELS, Settings

SEESR = MODELS["seesr"]
QUICK = Settings(steps=1, process_size=64)


def draw(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 16)) -> Path:
    """Put a small picture at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert(mode).save(path)
    return path


# --- what is an input --------------------------------------------------------------------------------------------


def test_a_folder_is_its_own_pictures_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.png", "b9.JPG", "A.webp", ".hidden.png", "notes.txt", "inner/c.png"):
        draw(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("")
    (tmp_path / "folder.png").mkdir()
    sources = find([str(tmp_path)])
    assert [path.name for path in sources.pictures] == ["A.webp", "b9.JPG", "b10.png"]
    assert sources.notes == ()


def test_earlier_results_in_a_folder_are_passed_over_and_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "a_x4.png", "a_x2.5.png", "alone_x4.png", "a_x4.jpg", "a_xy.png"):
        draw(tmp_path / name)
    sources = find([str(tmp_path)])
    assert [path.name for path in sources.pictures] == ["a.jpg", "a_x4.jpg", "a_xy.png", "alone_x4.png"]
    assert sources.notes == (
        f"{tmp_path / 'a_x2.5.png'} and 1 more: passed over as earlier results; name them to restore them too",
    )
    assert find([str(tmp_path / "a_x4.png")]).pictures == (tmp_path / "a_x4.png",)


def test_a_picture_named_twice_is_there_once(tmp_path: Path) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    again = [f"{tmp_path}/./b.png", f"{tmp_path}/inner/../b.png", f"{tmp_path}/link/b.png"]
    assert find([str(b), str(tmp_path), *again]).pictures == (b, a)


def test_a_file_is_an_input_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "no suffix").touch()
    assert find([str(tmp_path / "no suffix")]).pictures == (tmp_path / "no suffix",)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.jpg", "missing.jpg is not there: check the name."),
        ("n" * 300, "is not there: check the name."),
        ("empty", "holds no pictures: folders in it are not searched, name them too."),
        ("hidden", "holds no pictures"),
    ],
)
def test_an_input_without_a_picture_has_its_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    draw(tmp_path / "hidden" / ".a.png")
    with pytest.raises(UsageError, match=sentence):
        find([str(tmp_path / name)])


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(UsageError, match="An input is empty"):
        find([""])
    with pytest.raises(UsageError, match="--output is empty"):
        plan([Path("a.png")], "", 4)


# --- where results go --------------------------------------------------------------------------------------------


def targets(names: list[str], output: str | None, scale: float = 4) -> list[str]:
    return [str(job.target) for job in plan([Path(name) for name in names], output, scale)]


@pytest.mark.parametrize(
    ("scale", "name"), [(4, "photo_x4.png"), (2.0, "photo_x2.png"), (2.5, "photo_x2.5.png"), (1, "photo_x1.png")]
)
def test_the_result_is_beside_its_picture_and_named_for_its_scale(scale: float, name: str) -> None:
    assert targets(["some/photo.jpg"], None, scale) == [f"some/{name}"]


def test_into_a_folder_go_the_same_names(tmp_path: Path) -> None:
    there = str(tmp_path)
    assert targets(["x/a.jpg"], there) == [f"{there}/a_x4.png"]
    assert targets(["x/a.jpg", "y/b.jpg"], there) == [f"{there}/a_x4.png", f"{there}/b_x4.png"]
    assert targets(["x/a.jpg"], f"{there}/new/") == [f"{there}/new/a_x4.png"]
    assert targets(["x/a.jpg"], f"{there}/new") == [f"{there}/new/a_x4.png"]
    assert targets(["x/a.jpg", "y/b.jpg"], f"{there}/v1.2") == [f"{there}/v1.2/a_x4.png", f"{there}/v1.2/b_x4.png"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.webp", "a.tiff"])
def test_one_picture_goes_into_the_file_named(tmp_path: Path, name: str) -> None:
    assert targets(["x/a.jpg"], str(tmp_path / name)) == [str(tmp_path / name)]


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
        (["x/a.jpg", "y/a.png"], "out/", "x/a.jpg and y/a.png would both become out/a_x4.png"),
        (["a.jpg", "a.png"], None, "a.jpg and a.png would both become a_x4.png"),
    ],
)
def test_a_place_that_cannot_be_meant_has_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], output: str | None, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("")
    with pytest.raises(UsageError) as caught:
        targets(names, output)
    assert sentence in str(caught.value)


def test_an_input_is_never_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(Path("a.png"))
    draw(Path("a_x4.png"))
    Path("soft.png").symlink_to("a.png")
    Path("hard.png").hardlink_to("a.png")
    for names, output in (
        (["a.png"], "a.png"),
        (["a.png"], "./a.png"),
        (["a.png"], "soft.png"),
        (["a.png"], "hard.png"),
        (["a.png", "a_x4.png"], None),
        (["a_x4.png", "a.png"], None),
    ):
        with pytest.raises(UsageError, match="inputs are never overwritten"):
            targets(names, output)


# --- the run -----------------------------------------------------------------------------------------------------


class Log:
    """Keeps what a run tells (batch.Watch)."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def started(self, source: Path) -> None:
        self.told.append(("started", source.name))

    def loading(self, what: str) -> None:
        self.told.append(("loading", what))

    def stepped(self, done: int, total: int) -> None:
        self.told.append(("stepped", done, total))


@pytest.fixture(scope="module")
def upscaler(tiny_weights: Path) -> Upscaler:
    return Upscaler.load(SEESR, tiny_weights, "cpu")


@pytest.fixture
def log() -> Log:
    return Log()


def restore(
    upscaler: Upscaler, log: Log, *jobs: Job, settings: Settings = QUICK, overwrite: bool = False, sidecar: bool = False
) -> list[Outcome]:
    run = batch.run(jobs, SEESR, settings, lambda: upscaler, log, overwrite=overwrite, sidecar=sidecar)
    return list(run)


def never() -> Upscaler:
    raise WeightsMissing("the model was loaded")


def test_each_picture_becomes_an_outcome_and_a_file(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = plan([draw(tmp_path / "a.png"), draw(tmp_path / "b.png", size=(7, 30))], f"{tmp_path}/out/", 2)
    outcomes = restore(upscaler, log, *jobs, settings=replace(QUICK, scale=2, steps=2))
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert [outcome.size_in for outcome in outcomes] == [(16, 20), (30, 7)]
    assert [outcome.size_out for outcome in outcomes] == [(32, 40), (60, 14)]
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert outcome.target == job.target
        assert outcome.seconds > 0
        assert image.read(job.target).pixels.shape[-2:] == outcome.size_out
    assert log.told == [
        ("started", "a.png"),
        ("loading", "seesr"),
        *(("stepped", done, 2) for done in range(3)),
        ("started", "b.png"),
        *(("stepped", done, 2) for done in range(3)),
    ]


def test_a_bad_picture_does_not_stop_the_others(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    (tmp_path / "a.png").write_text("Dear diary")
    (tmp_path / "b.png").touch()
    draw(tmp_path / "c.png")
    outcomes = restore(upscaler, log, *plan(find([str(tmp_path)]).pictures, None, 4))
    assert [outcome.state for outcome in outcomes] == ["failed", "failed", "done"]
    assert outcomes[0].message == (
        f"{tmp_path / 'a.png'} is not a picture that can be read: "
        "give a JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF, JPEG 2000 or PPM file."
    )
    assert "zero bytes" in outcomes[1].message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "c_x4.png"]


def test_what_is_there_is_skipped_without_loading_the_model(tmp_path: Path, log: Log) -> None:
    jobs = plan([draw(tmp_path / "a.png")], None, 4)
    jobs[0].target.write_text("precious")
    (outcome,) = batch.run(jobs, SEESR, QUICK, never, log)
    assert (outcome.state, outcome.target) == ("skipped", jobs[0].target)
    assert jobs[0].target.read_text() == "precious"


def test_overwrite_makes_it_again(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = plan([draw(tmp_path / "a.png")], None, 4)
    jobs[0].target.write_text("old")
    (outcome,) = restore(upscaler, log, *jobs, overwrite=True)
    assert outcome.state == "done"
    assert image.read(jobs[0].target).pixels.shape == (3, 64, 80)


def test_the_model_is_not_loaded_for_pictures_that_cannot_be_restored(tmp_path: Path, log: Log) -> None:
    draw(tmp_path / "large.png", mode="1", size=(4000, 4000))
    draw(tmp_path / "long.png", mode="1", size=(16000, 1))
    (tmp_path / "folder_x4.png").mkdir()
    (tmp_path / "file").touch()
    source = draw(tmp_path / "a.png")
    jobs = [
        Job(tmp_path / "large.png", tmp_path / "large_x4.png"),
        Job(tmp_path / "long.png", tmp_path / "long.jpg"),
        Job(tmp_path / "long.png", tmp_path / "long.webp"),
        Job(source, tmp_path / "folder_x4.png"),
        Job(source, tmp_path / "file" / "a_x4.png"),
        Job(source, Path("/proc/out/a_x4.png")),
        Job(source, Path("/proc/a_x4.png")),
    ]
    outcomes = list(batch.run(jobs[1:2], SEESR, replace(QUICK, scale=8), never, log))
    outcomes += batch.run([jobs[0], *jobs[2:]], SEESR, QUICK, never, log)
    sentences = [
        "and JPEG ends at 65500 a side: choose a .png file",
        "would become 16000 x 16000 pixels, more than the",
        "and WEBP ends at 16383 a side: choose a .png file",
        "is a folder: name another file with -o",
        "cannot be made (File exists): choose another place with -o",
        "The folder /proc/out cannot be made",
        "/proc is not a folder that takes files: choose another with -o",
    ]
    assert [outcome.state for outcome in outcomes] == ["failed"] * 7
    for outcome, sentence in zip(outcomes, sentences, strict=True):
        assert sentence in outcome.message
        assert str(outcome.source) in outcome.message


def test_an_error_that_concerns_every_picture_ends_the_run(tmp_path: Path, log: Log) -> None:
    jobs = plan([draw(tmp_path / "a.png"), draw(tmp_path / "b.png")], None, 4)
    with pytest.raises(WeightsMissing):
        list(batch.run(jobs, SEESR, QUICK, never, log))
    assert log.told == [("started", "a.png"), ("loading", "seesr")]


def test_alpha_profile_and_exif_go_with_the_picture(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    picture = Image.effect_noise((20, 16), 60).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((20, 16)))
    picture.save(tmp_path / "a.png", exif=exif)
    (outcome,) = restore(upscaler, log, Job(tmp_path / "a.png", tmp_path / "b.png"))
    result = image.read(tmp_path / "b.png")
    assert outcome.size_out == (80, 64)
    assert result.alpha is not None
    assert result.alpha.shape == (1, 80, 64)
    rising = result.alpha[0].mean(dim=0)
    assert torch.all(rising[1:] <= rising[:-1] + 0.01)  # top to bottom became right to left
    assert result.exif is not None
    assert b"A camera" in result.exif


def test_grey_in_grey_out(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    restore(upscaler, log, Job(draw(tmp_path / "a.png", mode="L"), tmp_path / "b.png"))
    with Image.open(tmp_path / "b.png") as result:
        assert result.mode == "L"
        assert np.asarray(result).std() > 0


def test_transparency_lost_to_the_format_is_a_note(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    (outcome,) = restore(upscaler, log, Job(draw(tmp_path / "a.png", mode="RGBA"), tmp_path / "b.jpg"))
    assert "JPEG holds no transparency: the picture was laid on white." in outcome.notes


def test_the_seed_alone_decides_the_picture(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    restore(upscaler, log, *plan([a, b], f"{tmp_path}/one/", 4))
    restore(upscaler, log, *plan([b, a], f"{tmp_path}/two/", 4))
    restore(upscaler, log, *plan([a], f"{tmp_path}/three/", 4), settings=replace(QUICK, seed=1))
    assert (tmp_path / "one" / "a_x4.png").read_bytes() == (tmp_path / "two" / "a_x4.png").read_bytes()
    assert (tmp_path / "one" / "a_x4.png").read_bytes() != (tmp_path / "three" / "a_x4.png").read_bytes()


# --- the sidecar -------------------------------------------------------------------------------------------------


def test_the_sidecar_tells_how_the_picture_was_made(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    settings = replace(QUICK, seed=5, prompt="a frog")
    (outcome,) = restore(upscaler, log, *plan([draw(tmp_path / "a.png")], None, 4), settings=settings, sidecar=True)
    told = json.loads((tmp_path / "a_x4.json").read_text())
    assert told["seesr"] == __version__
    assert told["model"] == {"name": "seesr", "about": SEESR.about}
    assert told["input"] == {"name": "a.png", "width": 20, "height": 16}
    assert told["output"] == {"name": "a_x4.png", "width": 80, "height": 64}
    assert told["settings"]["seed"] == 5
    assert told["settings"]["steps"] == 1
    assert told["prompt"] == outcome.prompt
    assert "a frog" in told["prompt"]
    assert told["negative_prompt"] == settings.negative
    assert told["tags"] == [tag._asdict() for tag in outcome.tags]


def test_without_tags_there_is_no_sidecar(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    restore(upscaler, log, *plan([draw(tmp_path / "a.png")], None, 4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a_x4.png"]


def test_a_json_file_of_somebody_else_is_left_alone(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    jobs = plan([draw(tmp_path / "a.png")], None, 4)
    jobs[0].sidecar.write_text('{"precious": true}')
    (outcome,) = batch.run(jobs, SEESR, QUICK, never, log, sidecar=True)
    assert outcome.state == "failed"
    assert "is already there and not of this tool: move it, or use --overwrite." in outcome.message
    assert jobs[0].sidecar.read_text() == '{"precious": true}'
    jobs[0].sidecar.write_text('{"seesr": "0.0.1"}')
    (outcome,) = restore(upscaler, log, *jobs, sidecar=True)
    assert outcome.state == "done"
    assert json.loads(jobs[0].sidecar.read_text())["seesr"] == __version__


# --- tags --------------------------------------------------------------------------------------------------------


def test_tags_are_read_and_failures_go_beside_them(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    (tmp_path / "a.png").touch()
    b = draw(tmp_path / "b.png")
    outcomes = list(batch.read_tags([tmp_path / "a.png", b], SEESR, lambda: upscaler.reader, log))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[1].tags == upscaler.reader.read(image.read(b).pixels).tags


def test_names_that_are_no_text_and_names_of_several_lines_work(tmp_path: Path, upscaler: Upscaler, log: Log) -> None:
    odd = [tmp_path / "new\nline [red].png", tmp_path / os.fsdecode(b"\xff\xfe.png")]
    for path in odd:
        draw(path)
    outcomes = restore(upscaler, log, *plan(find([str(tmp_path)]).pictures, None, 4), sidecar=True)
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert find([str(tmp_path)]).pictures == tuple(outcome.source for outcome in outcomes)
    assert all(outcome.target is not None and outcome.target.exists() for outcome in outcomes)
