"""`seesr evaluate`, from arguments to what is printed and written."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seesr_cli import image
from seesr_cli.cli import main
from seesr_cli.evaluate.paper import load
from seesr_cli.records import provenance

RECORDING = Path(__file__).parents[1] / "golden/metrics"


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["seesr", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def picture(path: Path, size: tuple[int, int] = (128, 96), seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)
    return path


def pairs(folder: Path, count: int = 3) -> tuple[Path, Path]:
    """Results and inputs, the results enlarged by bicubic."""
    for number in range(count):
        small = picture(folder / f"lr/{number}.png", seed=number)
        large = folder / f"hr/{number}_x4.png"
        large.parent.mkdir(exist_ok=True)
        with Image.open(small) as source:
            source.resize((512, 384), Image.Resampling.BICUBIC).save(large)
    return folder / "hr", folder / "lr"


def test_the_recording_is_measured_as_it_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "F.json"
    code = evaluate(monkeypatch, RECORDING, "--reference", RECORDING, "--metrics", "psnr,ssim,niqe", "--out", out)
    content = json.loads(out.read_text())
    rows = {str(row["pair"]): row for row in json.loads((RECORDING / "metrics.json").read_text())["rows"]}
    assert code == 0
    assert {one["name"] for one in content["pictures"]} == rows.keys()
    for one in content["pictures"]:
        row = rows[one["name"]]
        assert one["psnr"] == (None if row["psnr_y"] is None else pytest.approx(row["psnr_y"], abs=1e-3))
        assert one["ssim"] == pytest.approx(row["ssim_y"], abs=1e-5)
        if "niqe_result" in row:
            assert one["niqe"] == pytest.approx(row["niqe_result"], rel=1e-3)
        if one["psnr"] is None:
            assert any("PSNR is infinite" in note for note in one["notes"])
    finite = [row["psnr_y"] for row in rows.values() if row["psnr_y"] is not None]
    assert content["mean"]["psnr"] == pytest.approx(np.mean(finite), abs=1e-3)
    assert content["interval"]["ssim"][0] < content["mean"]["ssim"] < content["interval"]["ssim"][1]
    assert "YCbCr" in content["protocol"]


def test_one_run_is_compared_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, inputs = pairs(tmp_path, 5)
    others = shutil.copytree(results, tmp_path / "others")
    for path in others.iterdir():
        with Image.open(path) as source:
            worse = np.asarray(source) // 2 + 40
        Image.fromarray(worse.astype(np.uint8)).save(path)
    table = tmp_path / "table.csv"
    both = ("--input", inputs, "--against", others)
    code = evaluate(monkeypatch, results, *both, "--metrics", "consistency", "--csv", table, "--json")
    content = json.loads(capfd.readouterr().out)
    assert code == 0
    against = content["against"]["consistency"]
    assert (against["wins"], against["ties"], against["losses"]) == (5, 0, 0)
    assert against["p"] == pytest.approx(2 / 32)
    assert 0 < against["interval"][0] <= against["difference"] <= against["interval"][1]
    lines = list(csv.DictReader(table.read_text().splitlines()))
    values = [float(line["consistency"]) for line in lines]
    assert values == sorted(values)
    assert len(values) == 5


def test_lines_in_a_pipe_are_separated_by_tabs_and_say_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, inputs = pairs(tmp_path)
    assert evaluate(monkeypatch, results, "--input", inputs) == 0
    shown = capfd.readouterr()
    assert [line.split("\t")[:2] for line in shown.out.splitlines()] == [
        ["niqe", "3"],
        ["consistency", "3"],
        ["drift", "3"],
    ]
    assert "Not measured: psnr, ssim, which need the references: give --reference DIR." in shown.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hr", "--metrics", "psnr"], "psnr needs the references: give --reference DIR."),
        (["hr", "--metrics", "consistency"], "consistency needs the inputs: give --input DIR."),
        (["hr", "--metrics", "psmr"], "--metrics psmr is not known"),
        (["hr", "--metrics", ","], "--metrics names nothing"),
        (["gone"], "gone is not there"),
        (["empty"], "empty holds no pictures"),
        (["hr", "--input", "empty"], "empty holds no pictures"),
        (["hr", "--input", "one"], "one holds nothing for hr/1_x4.png, hr/2_x4.png"),
        (["one", "--input", "lr"], "one holds no result for lr/1.png, lr/2.png"),
        (["hr", "--out", "hr"], "hr is a folder"),
        (["hr", "--out", "no/F.json"], "is not there: make it"),
        (["hr", "--out", "hr/0_x4.png"], "is already there and may be something else"),
        (["hr", "--out", "F.json", "--csv", "F.json"], "both name F.json"),
    ],
)
def test_what_is_asked_wrongly_is_told_and_ends_with_two(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    pairs(tmp_path)
    picture(tmp_path / "one/0.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert evaluate(monkeypatch, *arguments) == 2
    shown = capfd.readouterr()
    assert sentence in " ".join(shown.err.split())
    assert shown.out == ""


def measured(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, dict[str, Any], str]:
    code = evaluate(monkeypatch, *arguments, "--json")
    shown = capfd.readouterr()
    return code, json.loads(shown.out)["pictures"][0], " ".join(shown.err.split())


def test_pictures_of_another_size_fail_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder, size in (("r", (128, 96)), ("h", (64, 48))):
        picture(tmp_path / folder / "a.png", size)
        picture(tmp_path / folder / "b.png")
    code = evaluate(monkeypatch, tmp_path / "r", "--reference", tmp_path / "h", "--metrics", "psnr,ssim", "--json")
    shown = capfd.readouterr()
    first, second = json.loads(shown.out)["pictures"]
    assert code == 1
    assert first["psnr"] is None
    assert second["ssim"] == 1
    assert "a.png: psnr: The result has 128 x 96 pixels and its reference 64 x 48" in shown.err


@pytest.mark.parametrize(
    ("result", "reference", "note"),
    [
        ("I;16", "RGB", "a.png: Its 16 bits per channel were rounded to 8, as the protocol measures."),
        ("RGBA", "RGB", "a.png: It is transparent: it was laid on white."),
        ("L", "RGB", "a.png is grey and"),
        ("RGB", "L", "a.png is in colours and"),
    ],
)
def test_pictures_of_other_kinds_are_measured_and_that_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    result: str,
    reference: str,
    note: str,
) -> None:
    for folder, mode in (("r", result), ("h", reference)):
        path = picture(tmp_path / folder / "a.png", mode="L" if mode == "I;16" else mode)
        with Image.open(path) as opened:
            if mode == "RGBA":
                opened.putalpha(100)
            if mode == "I;16":
                Image.fromarray(np.asarray(opened).astype(np.uint16) * 257).save(path)
            else:
                opened.save(path)
    code, one, told = measured(monkeypatch, capfd, tmp_path / "r", "--reference", tmp_path / "h", "--metrics", "psnr")
    assert code == 0
    assert one["psnr"] is not None or reference == result
    assert note in told


def test_an_animation_is_measured_by_its_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    (tmp_path / "r").mkdir()
    frames[0].save(tmp_path / "r/a.gif", save_all=True, append_images=frames[1:])
    picture(tmp_path / "h/a.png", (32, 32))
    code, _, told = measured(monkeypatch, capfd, tmp_path / "r", "--reference", tmp_path / "h", "--metrics", "psnr")
    assert code == 0
    assert "It holds several frames: the first was taken." in told


def test_one_pixel_is_too_small_for_ssim_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "r/a.png", (1, 1))
    picture(tmp_path / "h/a.png", (1, 1), seed=1)
    code, one, told = measured(monkeypatch, capfd, tmp_path / "r", "--reference", tmp_path / "h")
    assert code == 1
    assert one["psnr"] is not None
    assert "SSIM needs 11 pixels a side" in told


def test_a_file_that_is_no_picture_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, inputs = pairs(tmp_path)
    (results / "0_x4.png").write_bytes(b"no picture")
    assert evaluate(monkeypatch, results, "--input", inputs, "--json") == 1
    shown = capfd.readouterr()
    assert [one["consistency"] is None for one in json.loads(shown.out)["pictures"]] == [True, False, False]
    assert "0_x4.png is not a picture" in shown.err
    (results / "0_x4.png").write_bytes((results / "1_x4.png").read_bytes()[:3000])
    assert evaluate(monkeypatch, results, "--input", inputs, "--json") == 1
    told = " ".join(capfd.readouterr().err.split())
    assert "0_x4.png is damaged or incomplete" in told
    assert "--tolerant" not in told  # which is no option here


def test_a_result_of_another_picture_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, inputs = pairs(tmp_path)
    shutil.copy(results / "1_x4.png", results / "0_x4.png")
    _, one, told = measured(monkeypatch, capfd, results, "--input", inputs)
    assert one["consistency"] < 15
    assert "is it a result of another picture?" in told
    assert one["worst_block"]["departure"] > 50


class Brightness(nn.Module):
    """A network whose value is its weight times the mean of the first picture."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        return self.weight * pictures[0].mean((1, 2, 3))


class Channels(Brightness):
    """A network whose features are the means of the channels."""

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        return self.weight * pictures[0].mean((2, 3))


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights for networks that are small."""
    small = {
        name: network._replace(build=Channels if name == "fid" else Brightness, files=("small.pth",))
        for name, network in load.NETWORKS.items()
    }
    small["clipiqa"] = small["clipiqa"]._replace(read=small["musiq"].read)
    small["maniqa"] = small["maniqa"]._replace(ours=small["musiq"].ours, published=small["musiq"].published)
    monkeypatch.setattr(load, "NETWORKS", small)
    folder = tmp_path / "networks"
    folder.mkdir()
    torch.save({"weight": torch.ones(1)}, folder / "small.pth")
    return folder


def test_networks_measure_what_they_are_given(
    tmp_path: Path, networks: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, _ = pairs(tmp_path)
    references = shutil.copytree(results, tmp_path / "references")
    both = (results, "--reference", references, "--weights", networks)
    assert evaluate(monkeypatch, *both, "--metrics", "paper,psnr", "--json") == 0
    shown = capfd.readouterr()
    content = json.loads(shown.out)
    assert list(content["metrics"]) == ["lpips", "dists", "musiq", "maniqa", "clipiqa", "psnr"]
    for one in content["pictures"]:
        mean = np.asarray(Image.open(one["result"])).mean() / 255
        assert [one[name] for name in ("lpips", "musiq", "clipiqa")] == pytest.approx([mean] * 3, abs=1e-5)
    assert "Not measured: fid, which needs 50 pictures or more." in shown.err
    assert len(content["weights"]["small.pth"]) == 64
    assert evaluate(monkeypatch, *both, "--metrics", "fid") == 2
    assert "fid needs 50 pictures or more, and there are 3" in " ".join(capfd.readouterr().err.split())


def test_fid_is_of_all_pictures_and_of_their_rivals(
    tmp_path: Path, networks: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder, shift in (("results", 0), ("references", 10), ("others", 30)):
        (tmp_path / folder).mkdir()
        for number in range(50):
            Image.new("RGB", (8, 8), (number + shift, 100, 2 * number)).save(tmp_path / folder / f"{number}.png")
    both = (tmp_path / "results", "--reference", tmp_path / "references", "--against", tmp_path / "others")
    out = tmp_path / "F.json"
    assert evaluate(monkeypatch, *both, "--metrics", "fid", "--weights", networks, "--out", out) == 0
    shown = capfd.readouterr()
    content = json.loads(out.read_text())
    assert content["mean"]["fid"] == pytest.approx((10 / 128) ** 2, rel=1e-3)  # features are of pixels in 128ths
    assert content["against"]["fid"]["difference"] == pytest.approx((10 / 128) ** 2 - (20 / 128) ** 2, rel=1e-3)
    assert "fid" not in content["pictures"][0]
    assert shown.out.split("\t")[:2] == ["fid", "50"]
    assert "FID of 50 pictures is biased upwards" in shown.err


def test_networks_that_are_not_here_end_with_three_and_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, _ = pairs(tmp_path, 1)
    assert evaluate(monkeypatch, results, "--metrics", "musiq,clipiqa") == 3
    told = " ".join(capfd.readouterr().err.split())
    assert "The networks of musiq, clipiqa are not on this machine (2 files, 364 MB)." in told
    assert "seesr weights pull metrics: fetches them." in told
    assert evaluate(monkeypatch, results, "--metrics", "musiq", "--weights", tmp_path) == 3
    assert "metrics/musiq_koniq_ckpt-e95806b9.pth is missing" in " ".join(capfd.readouterr().err.split())


def test_options_come_from_the_environment_and_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    results, inputs = pairs(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEESR_INPUT", str(inputs))
    Path("seesr.toml").write_text('[evaluate]\nmetrics = "drift"\n')
    assert evaluate(monkeypatch, results) == 0
    assert capfd.readouterr().out.startswith("drift\t1")
    Path("seesr.toml").write_text('[evaluate]\nmetric = "drift"\n')
    assert evaluate(monkeypatch, results) == 2
    assert "'metric' under [evaluate] is no option of seesr evaluate" in " ".join(capfd.readouterr().err.split())


def upscale(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, list[dict[str, Any]], str]:
    """Restore with the miniature; return the exit code, the events, and what stderr says."""
    options = ["--model", "miniature", "--device", "cpu", "--dtype", "fp32", "--process-size", "64", "--json"]
    monkeypatch.setattr(sys, "argv", ["seesr", "upscale", *map(str, arguments), *options])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    shown = capfd.readouterr()
    return caught.value.code, [json.loads(line) for line in shown.out.splitlines()], shown.err


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "avif"])
def test_a_run_and_evaluate_tell_the_same_consistency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    inputs, results = tmp_path / "in", tmp_path / "out"
    for number, mode in enumerate(("RGB", "L", "RGBA", "LA")):
        path = picture(inputs / f"{mode}.png", (20 + number, 16), seed=number, mode=mode)
        if mode.endswith("A"):
            with Image.open(path) as opened:
                opened.putalpha(Image.linear_gradient("L").resize(opened.size))
                opened.save(path)
    deep = np.random.default_rng(0).integers(0, 65536, (4, 5), dtype=np.uint16)
    Image.fromarray(np.kron(deep, np.ones((4, 4), np.uint16))).save(inputs / "deep.png")
    code, events, _ = upscale(monkeypatch, capfd, inputs, "-o", results, "--format", kind, "--tags")
    assert code == 0
    told = {Path(event["output"]).name: event for event in events if event["event"] == "finished"}
    assert len(told) == 5
    assert evaluate(monkeypatch, results, "--input", inputs, "--metrics", "consistency", "--json") == 0
    for one in json.loads(capfd.readouterr().out)["pictures"]:
        event = told[Path(one["result"]).name]
        assert event["consistency"] == one["consistency"], one["name"]
        record = event["record"]["consistency"]
        assert (record["psnr"], record["worst_block"]) == (one["consistency"], one["worst_block"])
        assert json.loads(Path(one["result"]).with_suffix(".json").read_text())["consistency"] == record
        packet = image.read(Path(one["result"])).xmp
        assert packet is not None
        assert (provenance.extract(packet) or {})["consistency"] == record


@pytest.mark.usefixtures("loaded_once")
def test_a_cut_result_has_the_same_consistency_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs, results = tmp_path / "in", tmp_path / "out"
    picture(inputs / "a.png", (40, 24))
    _, events, _ = upscale(monkeypatch, capfd, inputs, "-o", results, "--width", "80", "--height", "90")
    assert evaluate(monkeypatch, results, "--input", inputs, "--metrics", "consistency", "--json") == 0
    (one,) = json.loads(capfd.readouterr().out)["pictures"]
    assert one["consistency"] == next(event["consistency"] for event in events if event["event"] == "finished") > 15


@pytest.mark.usefixtures("loaded_once")
def test_check_names_the_results_below_it_in_this_run_and_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs, results = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        picture(inputs / f"{name}.png", (20, 16), seed=ord(name))
    arguments = (inputs, "-o", results)
    code, events, told = upscale(monkeypatch, capfd, *arguments, "--check", "1")
    assert (code, "--check" in told) == (0, False)
    values = [event["consistency"] for event in events if event["event"] == "finished"]
    between = sum(values) / 2
    code, events, told = upscale(monkeypatch, capfd, *arguments, "--check", str(between))
    assert code == 1
    assert {event["event"] for event in events} == {"started", "skipped"}
    low = "ab"[values.index(min(values))]
    (line,) = [line for line in told.splitlines() if "--check" in line]
    assert line.startswith(f"{results / low}_x4.png departs from its input: its consistency is {min(values):.2f} dB")
