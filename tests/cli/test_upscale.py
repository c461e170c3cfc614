"""`seesr upscale`, from arguments to files, exit code, stdout and stderr."""

import io
import json
import os
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from commands import Seesr
from seesr_cli.catalogue import MODELS
from seesr_cli.cli import main
from seesr_cli.machine import available
from seesr_cli.settings import ModelName, Settings


def draw(name: str, mode: str = "RGB", size: tuple[int, int] = (20, 16)) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert(mode).save(name)


def names(folder: str) -> list[str]:
    """What a person sees in a folder."""
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))


def test_a_picture_becomes_one_four_times_as_large_beside_it(seesr: Seesr) -> None:
    draw("photo.jpg")
    ran = seesr("photo.jpg")
    assert (ran.code, ran.out) == (0, "photo_x4.png\n")
    assert ran.err.startswith("photo.jpg: 20 x 16 -> 80 x 64 in ")
    with Image.open("photo_x4.png") as result:
        assert result.size == (80, 64)


def test_the_same_command_again_does_nothing_even_without_weights(
    seesr: Seesr, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("photo.jpg")
    seesr("photo.jpg")
    made = Path("photo_x4.png").stat()
    monkeypatch.delenv("SEESR_WEIGHTS")
    ran = seesr("photo.jpg")
    assert (ran.code, ran.out) == (0, "photo_x4.png\n")
    assert ran.err == "photo_x4.png is already there: left alone, --overwrite makes it again.\n"
    assert Path("photo_x4.png").stat() == made
    assert seesr("photo.jpg", "--overwrite").code == 3


def test_a_folder_goes_into_a_folder_and_bad_pictures_are_counted(seesr: Seesr) -> None:
    draw("in/a.png")
    draw("in/b.gif")
    Path("in/c.jpg").write_text("Dear diary")
    ran = seesr("in", "-o", "out", "-s", "2")
    assert (ran.code, ran.out) == (1, "out/a_x2.png\nout/b_x2.png\n")
    assert "Error: in/c.jpg is not a picture that can be read: give a JPEG" in ran.err
    assert "2 done, 1 failed of 3" in ran.err
    assert names("out") == ["a_x2.png", "b_x2.png"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"a.jpg is empty \(zero bytes\): copy or download it again\."),
        (b"Dear diary", r"a.jpg is not a picture that can be read: give a JPEG, .* file\."),
        (
            None,
            r"a.jpg is damaged or incomplete \(.*\): copy or export it again, or take what is there with --tolerant\.",
        ),
    ],
)
def test_a_bad_picture_is_one_sentence_and_code_1(seesr: Seesr, content: bytes | None, sentence: str) -> None:
    draw("a.jpg", size=(200, 200))
    Path("a.jpg").write_bytes(Path("a.jpg").read_bytes()[:3000] if content is None else content)
    ran = seesr("a.jpg")
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(f"Error: {sentence}\n", ran.err)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-s", "0"], "--scale 0.0 is out of range: give 1 to 16."),
        (["-s", "1000"], "--scale 1000.0 is out of range: give 1 to 16."),
        (["-s", "nan"], "--scale nan is out of range: give 1 to 16."),
        (["--steps", "0"], "--steps 0 is out of range: give 1 to 1000."),
        (["--variants", "0"], "--variants 0 is out of range: give 1 to 99."),
        (["--variants", "2", "--seed", "1", "--seed", "2"], "--variants and several --seed both say which variants"),
        (["--seed", "1", "--seed", "1"], "--seed gives the same seed twice, which makes the same picture"),
        (["--variants", "2", "--name", "a{suffix}"], "--name a{suffix} gives all variants of a picture one name"),
        (["--variants", "2", "-o", "x.png"], "x.png names one file, but there are several"),
        (["--variants", "2", "-o", "-"], "stdout (-) takes one picture, but there are several variants"),
        (["--colour-strength", "2"], "--colour-strength 2.0 is out of range: give 0 to 1."),
        (["--colour", "none", "--colour-strength", "0.5"], "--colour-strength has no meaning with --colour none"),
        (["--seed", "-1"], "--seed -1 is out of range: give 0 to 9223372036854775807."),
        (["--overlap", "200"], "--overlap 200 is out of range: give 0 to 95."),
        (["--batch-size", "many"], "--batch-size many is not known: give auto, or 1 to 64."),
        (["--batch-size", "0"], "--batch-size 0 is out of range: give 1 to 64."),
        (["--tile", "large"], "--tile large is not known: give auto, or 8 to 512."),
        (
            ["--tile", "auto", "--overlap", "8"],
            "--overlap has no meaning with --tile auto, which chooses it too: give a",
        ),
        (["--guidance-within", "3"], "--guidance-within 3 is no interval: give two numbers with a comma between"),
        (["--guidance-within", "3,1"], "--guidance-within 3,1 is no interval: give two numbers from 0 on, the smaller"),
        (["--guidance-within", "1,3", "--guidance", "1"], "--guidance-within has no meaning at --guidance 1, which is"),
        (
            ["--guidance-within", "1,3", "--model", "turbo"],
            "--guidance-within has no meaning at --guidance 1, which is",
        ),
        (
            ["--preset", "fast", "--model", "turbo"],
            "--preset fast has 15 steps, and the model turbo takes 2 steps as it",
        ),
        (
            ["--preset", "balanced", "--model", "miniature"],
            "--preset balanced has 25 steps, and the model miniature take",
        ),
        (["--device", "toaster"], "The device 'toaster' is not known: choose auto, cpu, cuda, cuda:N or mps."),
        (["-o", "a.png"], "a.png is to be the result of a.png, but a.png is an input"),
        (["-o", "x.bmp"], "x.bmp has no suffix that is written: end it with one of .png"),
        (["-o", "new/x.png"], "new/x.png cannot be written, there is no folder new: make it first."),
        (["b.png", "-o", "x.png"], "x.png names one file, but there are several pictures: name a folder, as x/."),
        (["b.png", "-o", "file"], "file is a file: name a folder with -o for several pictures."),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(seesr: Seesr, arguments: list[str], sentence: str) -> None:
    draw("a.png")
    draw("b.png")
    Path("file").touch()
    ran = seesr("a.png", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"Error: {sentence}")
    assert ran.err.count("\n") == 1
    assert names(".") == ["a.png", "b.png", "file"]


@pytest.mark.parametrize("arguments", [["--model", "other"], ["--steps", "many"], ["--start", "end"], ["--what"], []])
def test_what_typer_refuses_has_code_2_too(seesr: Seesr, arguments: list[str]) -> None:
    ran = seesr(*arguments)
    assert ran.code == 2
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("output", ["file/", "/proc/out/", "/proc/x.png"])
def test_a_place_that_takes_no_files_has_its_sentence(seesr: Seesr, output: str) -> None:
    draw("a.png")
    Path("file").touch()
    ran = seesr("a.png", "-o", output)
    assert ran.code in (1, 2)
    assert ran.err.startswith("Error: ")
    assert ran.err.count("\n") == 1
    assert "-o" in ran.err


def test_json_tells_every_event_in_a_line(seesr: Seesr) -> None:
    draw("a.png")
    Path("b.png").touch()
    draw("c.png")
    draw("c_x4.png")
    ran = seesr("a.png", "b.png", "c.png", "--json", "-q")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    kinds = ["started", "step", "step", "finished", "started", "failed", "started", "failed"]
    assert [line["event"] for line in lines if line["event"] != "planned"] == kinds
    assert {line["v"] for line in lines} == {1}
    done, failed, foreign = (line for line in lines if line["event"] in ("finished", "failed"))
    assert (done["input"], done["output"]) == ("a.png", "a_x4.png")
    assert done["output_size"] == {"width": 80, "height": 64}
    assert "clean, high-resolution, 8k" in done["prompt"]
    assert failed["message"].startswith("b.png is empty")
    assert foreign["message"].startswith("c.png: c_x4.png is already there")
    assert ran.err == f"Error: {failed['message']}\nError: {foreign['message']}\n"


def test_tags_writes_a_sidecar_with_the_settings_given(seesr: Seesr) -> None:
    draw("a.png")
    arguments = ["--seed", "7", "--guidance", "2", "--control", "0.5", "--prompt", "a frog", "--negative", "fog"]
    more = ["--start", "noise", "--colour", "wavelet", "--tile", "64", "--overlap", "8", "-s", "3", "--tags"]
    assert seesr("a.png", *arguments, *more).code == 0
    told = json.loads(Path("a_x3.json").read_text())
    assert told["model"]["name"] == "seesr"
    assert told["settings"] == asdict(Settings()) | {
        "scale": 3.0,
        "steps": 1,
        "guidance": 2.0,
        "control": 0.5,
        "prompt": "a frog",
        "negative": "fog",
        "start": "noise",
        "colour": "wavelet",
        "process_size": 64,
        "tile": 64,
        "overlap": 8,
        "seed": 7,
    } | {"add_tags": [], "drop_tags": []}


def test_a_setting_not_given_is_the_models_own(seesr: Seesr) -> None:
    draw("a.png")
    assert seesr("a.png", "--model", "turbo", "--tags").code == 0
    told = json.loads(Path("a_x4.json").read_text())
    assert told["model"]["name"] == "turbo"
    assert told["settings"]["overlap"] == MODELS["turbo"].defaults.overlap
    assert told["settings"]["guidance"] == MODELS["turbo"].defaults.guidance


@pytest.mark.parametrize("name", ["b.jpg", "b.webp", "b.tif"])
def test_the_suffix_of_the_output_is_its_format(seesr: Seesr, name: str) -> None:
    draw("a.png")
    assert seesr("a.png", "-o", name).out == f"{name}\n"
    with Image.open(name) as result:
        assert result.format == {"b.jpg": "JPEG", "b.webp": "WEBP", "b.tif": "TIFF"}[name]


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (64, 2)])
def test_very_small_and_narrow_pictures_have_the_exact_size(seesr: Seesr, size: tuple[int, int]) -> None:
    draw("a.png", size=size)
    ran = seesr("a.png", "-s", "2")
    assert (ran.code, ran.out) == (0, "a_x2.png\n")
    with Image.open("a_x2.png") as result:
        assert result.size == (2 * size[0], 2 * size[1])
        assert np.asarray(result).dtype == np.uint8


def test_names_that_are_no_text_come_out_as_they_went_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"[red]\xff\n.png")
    draw(name)
    monkeypatch.setattr(sys, "argv", ["seesr", "upscale", "-q", "--dry-run", "--model", "miniature", name])
    with pytest.raises(SystemExit):
        main()
    out = capfdbinary.readouterr().out
    assert out.startswith(b"[red]\xff\n.png\t")
    assert out.endswith(b"\tnew\t[red]\xff\n_x4.png\n")


# --- a batch -----------------------------------------------------------------------------------------------------


def test_a_tree_is_mirrored_and_strangers_are_named(seesr: Seesr) -> None:
    draw("in/a.png")
    draw("in/deep/er/b.jpg")
    Path("in/film.mov").touch()
    Path("in/.hidden").touch()
    ran = seesr("in", "-o", "out")
    assert (ran.code, ran.out) == (0, "out/a_x4.png\nout/deep/er/b_x4.png\n")
    assert "1 file is no picture: in/film.mov." in ran.err


def test_a_list_on_stdin_names_the_pictures(seesr: Seesr, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("a.png")
    draw("b.png")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.png\0gone.png\0a.png\0")))
    ran = seesr("--from-list", "-", "-o", "out")
    assert (ran.code, ran.out) == (1, "out/b_x4.png\nout/a_x4.png\n")
    assert "Error: gone.png is not there: check the name." in ran.err


def test_a_picture_goes_from_stdin_to_stdout(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEESR_WEIGHTS", str(tiny_weights))
    draw("a.png")
    data = Path("a.png").read_bytes()
    Path("a.png").unlink()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    monkeypatch.setattr(
        sys,
        "argv",
        ["seesr", "upscale", "-", "-o", "-", "--steps", "1", "--process-size", "64", "--format", "webp", "-q"],
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    out, err = capfdbinary.readouterr()
    assert err == b""
    with Image.open(io.BytesIO(out)) as result:
        assert (result.format, result.size) == ("WEBP", (80, 64))
    assert list(Path().iterdir()) == []


def test_json_and_a_picture_cannot_both_have_stdout(seesr: Seesr) -> None:
    draw("a.png")
    ran = seesr("a.png", "-o", "-", "--json")
    assert (ran.code, ran.err) == (2, "Error: --json and -o - both want stdout: write the picture to a file.\n")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(seesr: Seesr, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("in/a.png")
    draw("in/b.png")
    Path("in/c.png").touch()
    ran = seesr("in", "-o", "out", "--dry-run", "--width", "60")
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert [row[:4] for row in rows] == [
        ["in/a.png", "20 x 16", "60 x 48", "1"],
        ["in/b.png", "20 x 16", "60 x 48", "1"],
    ]
    assert ran.code == 1
    assert "Error: in/c.png is empty" in ran.err
    assert re.search(r"2 to do: (about|time known) .* at most \d+ kB of disk\.", ran.err)
    assert not Path("out").exists()
    monkeypatch.delenv("SEESR_WEIGHTS")
    monkeypatch.setattr(available, "unclaimed", lambda: 64 * 10**9)
    ran = seesr("in/a.png", "--dry-run", "--json", "--dtype", "fp32")
    (plan,) = map(json.loads, ran.out.splitlines())
    assert (ran.code, plan["event"], plan["output"]) == (0, "planned", "in/a_x4.png")
    assert plan["memory"]["host"] > 6e9  # the published networks


def test_what_cannot_fit_is_refused_with_4_before_it_starts(seesr: Seesr) -> None:
    draw("a.png", size=(3000, 3000))
    ran = seesr("a.png", "-s", "16", "--max-pixels", "10000000000", "--process-size", "512")
    assert (ran.code, ran.out) == (4, "")
    assert re.fullmatch(
        r"Error: a\.png needs [\d.]+ GB of memory, and [\d.]+ GB are free: use --.*, which fits\.\n", ran.err
    )
    assert names(".") == ["a.png"]


def test_what_is_larger_than_allowed_by_accident_fails(seesr: Seesr) -> None:
    draw("a.png")
    ran = seesr("a.png", "--max-pixels", "5000")
    assert (ran.code, ran.out) == (1, "")
    assert "would become 80 x 64 pixels, more than the 5,000 that --max-pixels allows" in ran.err


def test_like_repeats_a_result_to_the_byte(seesr: Seesr) -> None:
    draw("a.png")
    seesr("a.png", "-o", "first.jpg", "--seed", "3", "--add-tag", "frog", "--quality", "80", "-s", "2")
    first = Path("first.jpg").read_bytes()
    Path("first.jpg").rename("kept.jpg")
    assert seesr("a.png", "--like", "kept.jpg", "-o", "again.jpg").code == 0
    assert Path("again.jpg").read_bytes() == first
    assert seesr("a.png", "--like", "kept.jpg").out == "a_x2.jpg\n"
    Path("a.png").rename("b.png")
    assert seesr("b.png", "--like", "kept.jpg", "-o", "renamed.jpg").code == 0
    assert Path("renamed.jpg").read_bytes() == Path("kept.jpg").read_bytes()
    Path("b.png").rename("a.png")
    ran = seesr("a.png", "--like", "a.png")
    assert (ran.code, ran.err) == (
        2,
        "Error: a.png does not say how it was made: --like takes a result of seesr, unchanged.\n",
    )


def told_of(sidecar: str) -> dict[str, Any]:
    """The settings that a result says it was made with."""
    return json.loads(Path(sidecar).read_text())["settings"]


def test_like_repeats_to_the_byte_what_was_made_with_others(seesr: Seesr) -> None:
    for name in "abc":
        draw(f"in/{name}.png")
    ran = seesr("in", "-o", "out", "--batch-size", "2", "--json")
    events = list(map(json.loads, ran.out.splitlines()))
    told = [(event["event"], Path(event["input"]).stem) for event in events if event["event"] != "planned"]
    assert told == [
        *(("started", name) for name in "ab"),
        *(("step", name) for name in "abab"),
        *(("finished", name) for name in "ab"),
        *((event, "c") for event in ("started", "step", "step", "finished")),
    ]
    sizes = [event["record"]["batch_size"] for event in events if event["event"] == "finished"]
    assert sizes == [2, 2, 1]
    for name in "abc":
        assert seesr(f"in/{name}.png", "--like", f"out/{name}_x4.png", "-o", f"{name}.png").code == 0
        assert Path(f"{name}.png").read_bytes() == Path(f"out/{name}_x4.png").read_bytes()


def test_tiles_that_were_chosen_are_what_the_result_says_and_repeats(
    seesr: Seesr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "seesr", replace(MODELS["seesr"], tilings=((8, 2),)))
    draw("a.png")
    assert seesr("a.png", "-o", "kept.png", "--tile", "auto", "--tags").code == 0
    assert [told_of("kept.json")[name] for name in ("tile", "overlap")] == [9, 2]  # 10 x 8 latent pixels in one
    assert seesr("a.png", "-o", "again.png", "--like", "kept.png").code == 0
    assert Path("again.png").read_bytes() == Path("kept.png").read_bytes()
    assert seesr("a.png", "-o", "other.png", "--tile", "8", "--overlap", "2", "--tags").code == 0
    assert Path("other.png").read_bytes() != Path("kept.png").read_bytes()


def test_options_win_over_a_preset_and_that_over_an_earlier_result(seesr: Seesr) -> None:
    draw("a.png")
    assert seesr("a.png", "-o", "fast.png", "--preset", "fast", "--seed", "3", "--tags").code == 0
    fast = asdict(Settings(steps=1, process_size=64, solver="dpm++", guidance_within=(0.28, 5.42), seed=3))
    assert told_of("fast.json") == json.loads(json.dumps(fast))
    assert seesr("a.png", "-o", "again.png", "--like", "fast.png").code == 0
    assert Path("again.png").read_bytes() == Path("fast.png").read_bytes()
    like = ["--like", "fast.png", "--guidance-within", "1,2", "--preset", "published", "--tags"]
    assert seesr("a.png", "-o", "usual.png", *like).code == 0
    assert told_of("usual.json") == told_of("fast.json") | {"solver": "ddpm", "guidance_within": [1, 2]}


def test_the_page_of_a_run_shows_what_became_of_the_pictures(seesr: Seesr) -> None:
    draw("in/a.png")
    Path("in/b.png").touch()
    ran = seesr("in", "-o", "out", "--compare", "page.html")
    assert ran.code == 1
    assert "page.html shows the pictures before and after." in ran.err
    page = Path("page.html").read_text()
    assert "in/a.png" in page
    assert "is empty (zero bytes)" in page
    assert seesr("in", "-o", "out", "--compare", "page.html", "-q").code == 1
    again = Path("page.html").read_text()
    for told in ('"state": "done"', '"sizeOut": [64, 80]', '"colour": "adain"', "clean, high-resolution, 8k"):
        assert told in again


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(seesr: Seesr) -> None:
    draw("in/a.png")
    Path("mine.html").write_text("<p>mine")
    ran = seesr("in", "-o", "out", "--compare", "mine.html")
    assert (ran.code, ran.err.startswith("Error: mine.html is already there and no page of seesr")) == (2, True)
    assert Path("mine.html").read_text() == "<p>mine"
    ran = seesr("in", "-o", "out", "--compare", "page.png")
    assert (ran.code, ran.err) == (2, "Error: --compare page.png is no name of a page: end it with .html.\n")
    assert not Path("out").exists()


def test_a_page_has_its_folder_where_no_picture_made_it(seesr: Seesr) -> None:
    Path("in").mkdir()
    Path("in/a.png").touch()
    assert seesr("in", "-o", "out", "--compare", "out/run.html").code == 1
    assert names("out") == ["run.html"]


def test_no_picture_is_written_on_a_terminal(seesr: Seesr, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("a.png")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    ran = seesr("a.png", "-o", "-")
    assert (ran.code, ran.out) == (2, "")
    assert "on the terminal: send it on with | or >" in ran.err


def test_quality_is_for_formats_that_have_one(seesr: Seesr) -> None:
    draw("a.png")
    ran = seesr("a.png", "--quality", "80")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: --quality has no meaning for png")


def test_tags_alone_is_json_and_may_be_txt(seesr: Seesr) -> None:
    draw("a.png")
    assert seesr("--tags", "a.png").code == 0
    assert json.loads(Path("a_x4.json").read_text())["seesr"]
    assert seesr("a.png", "--tags", "txt", "-s", "2").code == 0
    assert Path("a_x2.txt").read_text().startswith("# seesr ")
    assert seesr("a.png", "-s", "3", "--tags").code == 0
    assert Path("a_x3.json").exists()


def test_the_models_offered_are_those_there_are() -> None:
    assert get_args(ModelName) == tuple(MODELS)


def test_two_sizes_in_one_place_contradict_each_other_and_a_flag_wins_over_the_environment(
    seesr: Seesr, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("photo.jpg")
    ran = seesr("photo.jpg", "--scale", "2", "--long-edge", "30")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "Error: --scale and --long-edge both say how large the result is: give one of them.\n"
    monkeypatch.setenv("SEESR_LONG_EDGE", "30")
    monkeypatch.setenv("SEESR_SCALE", "2")
    assert seesr("photo.jpg").code == 2
    monkeypatch.delenv("SEESR_SCALE")
    ran = seesr("photo.jpg", "--scale", "2", "--dry-run", "--json")
    assert json.loads(ran.out)["output_size"] == {"width": 40, "height": 32}
    Path("seesr.toml").write_text("scale = 3\n")
    assert json.loads(seesr("photo.jpg", "--dry-run", "--json").out)["output_size"] == {"width": 30, "height": 24}


def test_a_run_of_the_miniature_ends_with_what_it_is(seesr: Seesr) -> None:
    draw("photo.jpg")
    told = (
        "Made with the miniature: a small stand-in for offline use, demonstration and tests; not the published model."
    )
    assert seesr("photo.jpg", "--model", "miniature", "--dtype", "fp32").err.splitlines()[-1] == told
    assert told not in seesr("photo.jpg", "--model", "miniature", "--dtype", "fp32").err


def test_missing_weights_are_three_lines(seesr: Seesr, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("photo.jpg")
    monkeypatch.delenv("SEESR_WEIGHTS")
    ran = seesr("photo.jpg")
    assert ran.code == 3
    first, *remedies = ran.err.splitlines()
    assert first.startswith("Error: The weights of model 'seesr' are not on this machine (")
    assert [line.split(":")[0] for line in remedies] == ["  seesr weights pull seesr", "  --model miniature"]


def test_a_dry_run_says_what_would_be_done_about_each_picture(seesr: Seesr) -> None:
    for name in "abc":
        draw(f"in/{name}.png")
    seesr("in/a.png", "in/b.png", "-o", "out")
    with Path("out/b_x4.png").open("ab") as file:
        file.write(b"retouched")
    draw("other/c.png")
    seesr("other/c.png", "-o", "out")

    def actions(*options: str) -> dict[str, str]:
        ran = seesr("in", "-o", "out", "--dry-run", *options)
        rows = [line.split("\t") for line in ran.out.splitlines()]
        assert [row[7] for row in rows] == [f"out/{name}_x4.png" for name in "abc"]
        return {row[0]: row[6] for row in rows}

    kept = {"in/b.png": "edited, kept", "in/c.png": "another picture's, kept"}
    assert actions() == {"in/a.png": "kept"} | kept
    assert actions("--seed", "3") == {"in/a.png": "again: seed changed"} | kept
    assert actions("--steps", "2", "--seed", "3") == {"in/a.png": "again: steps, seed changed"} | kept
    assert actions("--overwrite") == dict.fromkeys(("in/a.png", "in/b.png", "in/c.png"), "again: --overwrite")
    draw("in/a.png", size=(21, 16))
    assert actions() == {"in/a.png": "again: picture changed"} | kept
    events = [json.loads(line) for line in seesr("in", "-o", "out", "--dry-run", "--json").out.splitlines()]
    assert {event["input"]: event["action"] for event in events} == {"in/a.png": "again: picture changed"} | kept
    assert {event["event"] for event in events} == {"planned"}


def test_a_resumed_run_counts_what_is_kept_and_its_page_shows_it_as_done(seesr: Seesr) -> None:
    for name in "abc":
        draw(f"in/{name}.png")
    seesr("in/a.png", "in/b.png", "-o", "out")
    ran = seesr("in", "-o", "out", "--compare", "run.html")
    assert ran.out.splitlines() == [f"out/{name}_x4.png" for name in "abc"]
    assert "already there" not in ran.err
    assert re.search(r"^1 done, 2 kept, 0 failed of 3 in ", ran.err, re.MULTILINE)
    page = Path("run.html").read_text()
    entries = [json.loads(text) for text in re.findall(r'id="entry-\d+">(.*?)</script>', page)]
    assert [entry["state"] for entry in entries] == ["done"] * 3
    assert [entry["sizeOut"] for entry in entries] == [[64, 80]] * 3
    assert all(entry["seconds"] > 0 for entry in entries)


def test_variants_are_results_with_a_sheet_and_are_resumed(seesr: Seesr) -> None:
    draw("in/photo.jpg")
    ran = seesr("in", "--variants", "3", "--seed", "7")
    assert (ran.code, ran.out) == (0, "".join(f"in/photo_x4_seed{seed}.png\n" for seed in (7, 8, 9)))
    assert "in/photo_x4_seeds.png shows the 3 variants." in ran.err
    made = [Path(f"in/photo_x4_seed{seed}.png").read_bytes() for seed in (7, 8, 9)]
    Path("in/photo_x4_seed8.png").unlink()
    again = seesr("in", "--seed", "7", "--seed", "8", "--seed", "9")
    assert again.err.count("photo.jpg: 20 x 16 -> 80 x 64 in ") == 1
    assert [Path(f"in/photo_x4_seed{seed}.png").read_bytes() for seed in (7, 8, 9)] == made
    alone = seesr("in/photo.jpg", "-o", "alone.png", "--seed", "8")
    assert alone.code == 0
    assert Image.open("alone.png").tobytes() == Image.open("in/photo_x4_seed8.png").tobytes()
    assert Image.open("alone.png").tobytes() != Image.open("in/photo_x4_seed9.png").tobytes()
    planned = seesr("in", "--dry-run")
    assert planned.out.count("\n") == 1  # variants and sheet are no pictures of the folder


def test_a_sheet_leaves_what_is_no_sheet_alone(seesr: Seesr) -> None:
    draw("photo.jpg")
    draw("photo-seeds.png")
    kept = Path("photo-seeds.png").read_bytes()
    ran = seesr("photo.jpg", "--variants", "2", "--name", "{stem}-{seed}{suffix}")
    assert (ran.code, ran.out) == (0, "photo-0.png\nphoto-1.png\n")
    assert "photo-seeds.png is already there and no sheet of seesr" in ran.err
    assert Path("photo-seeds.png").read_bytes() == kept


def test_variants_of_a_picture_on_stdin(seesr: Seesr, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("photo.jpg")
    data = Path("photo.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert seesr("-", "-o", "out/", "--variants", "2").out == "out/stdin_x4_seed0.png\nout/stdin_x4_seed1.png\n"


def test_colour_strength_is_told_and_repeated(seesr: Seesr) -> None:
    draw("photo.jpg")
    seesr("photo.jpg", "-o", "half.png", "--colour-strength", "0.5")
    seesr("photo.jpg", "-o", "full.png")
    assert Image.open("half.png").tobytes() != Image.open("full.png").tobytes()
    seesr("photo.jpg", "-o", "again.png", "--like", "half.png")
    assert Path("again.png").read_bytes() == Path("half.png").read_bytes()
    assert "again: colour-strength changed" in seesr("photo.jpg", "-o", "half.png", "--dry-run").out
