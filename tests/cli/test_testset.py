"""`seesr evaluate --set`: a published test set is fetched, restored and measured."""

import json
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import warm
from hub import Hub, serving
from seesr_cli.cli import main
from seesr_cli.errors import WeightsInvalid
from seesr_cli.evaluate.testsets import SETS, unpacked
from seesr_cli.weights import lock
from shop import Shop
from warm import Kiln

REPOSITORY = "datasets/Iceclear/StableSR-TestSets"
NAMES = ("Canon_001", "Nikon_002")


def png(side: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with BytesIO() as file:
        Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(file, "PNG")
        return file.getvalue()


def archive(references: tuple[str, ...] = NAMES, filling: int = 0) -> bytes:
    """An archive in the published layout with two pairs, and pictures of another set."""
    with BytesIO() as file:
        with zipfile.ZipFile(file, "w") as content:
            for number, name in enumerate(NAMES):
                content.writestr(f"StableSR_testsets/RealSRVal_crop128/test_LR/{name}_LR4.png", png(16, number))
                content.writestr(f"StableSR_testsets/DIV2K_V2_val/lq/{name}.png", png(16, number))
            for number, name in enumerate(references):
                content.writestr(f"StableSR_testsets/RealSRVal_crop128/test_HR/{name}_HR4.png", png(64, number))
            content.writestr("__MACOSX/StableSR_testsets/RealSRVal_crop128/test_LR/._a.png", b"no picture")
            content.writestr("filling", np.random.default_rng(0).bytes(filling))
        return file.getvalue()


def test_a_set_is_fetched_restored_and_measured_beside_the_published_means(tmp_path: Path) -> None:
    hub = Hub()
    hub.commit(REPOSITORY, {"StableSR_testsets.zip": archive(filling=2**20)})
    with serving(hub) as address:
        shop = Shop(hub, address, tmp_path / "home", lock.find(), Kiln(warm.WEIGHTS))
        results, out = tmp_path / "out", tmp_path / "F.json"
        arguments = ("evaluate", "--set", "realsr", "--model", "miniature", "--to", str(results), "--out", str(out))
        process = shop.start("-m", "seesr_cli", *arguments, "--yes", "--device", "cpu")
        shown, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "The test sets need 1 file, 1." in told  # the size is the Hub's word
    assert [path.name for path in sorted(results.glob("*.png"))] == ["Canon_001_x4.png", "Nikon_002_x4.png"]
    assert "The set has 2 pictures, and the published one 100." in " ".join(told.split())
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in shown.splitlines()}
    assert lines.keys() == {"psnr", "ssim", "niqe", "consistency", "drift"}
    assert (lines["psnr"][0], lines["psnr"][-1], lines["niqe"][-1]) == ("2", "25.18", "-")
    (pin,) = json.loads((shop.shelf / ".seesr/state.json").read_text())["pins"].values()
    assert (pin["repository"], pin["type"]) == ("Iceclear/StableSR-TestSets", "dataset")
    content = json.loads(out.read_text())
    assert content["published"]["mean"]["lpips"] == 0.3009
    assert content["mean"]["consistency"] > 15


def test_results_that_are_there_are_kept_and_an_archive_that_was_brought_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "StableSR_testsets.zip").write_bytes(archive())
    to = tmp_path / "out"
    arguments = ["--set", "realsr", "--model", "miniature", "--device", "cpu", "--weights", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["seesr", "evaluate", *arguments, "--to", str(to), "--metrics", "drift"])
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    times = []
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        assert capfd.readouterr().out.startswith("drift\t2\t")
        times.append([path.stat().st_mtime_ns for path in sorted(to.glob("*.png"))])
    assert times[0] == times[1]


def test_a_set_is_unpacked_in_pairs_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive())
    folders = unpacked(path, SETS["realsr"], tmp_path / "realsr")
    for folder, side in ((folders.inputs, 16), (folders.references, 64)):
        assert sorted(each.stem for each in folder.iterdir()) == list(NAMES)
        with Image.open(folder / "Canon_001.png") as opened:
            assert opened.size == (side, side)
    before = (folders.inputs / "Canon_001.png").stat().st_mtime_ns
    (folders.inputs / "Nikon_002.png").write_bytes(b"cut")
    unpacked(path, SETS["realsr"], tmp_path / "realsr")
    assert (folders.inputs / "Canon_001.png").stat().st_mtime_ns == before
    with Image.open(folders.inputs / "Nikon_002.png") as opened:
        assert opened.size == (16, 16)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (archive(NAMES[:1]), r"test_LR \(2 pictures\) and .*test_HR \(1\) do not hold the pairs"),
        (archive()[:-30], "not a whole archive"),
        (b"no archive", "not a whole archive"),
    ],
)
def test_an_archive_that_is_another_or_damaged_is_told(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(WeightsInvalid, match=sentence):
        unpacked(path, SETS["realsr"], tmp_path / "realsr")
    assert not (tmp_path / "realsr").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--metrics", "niqe"], 2, "There is nothing to measure: name a folder of results, or a test set with --set."),
        (["results", "--set", "realsr"], 2, "--set brings its own pictures"),
        (["--set", "realsr", "--input", "lr"], 2, "--set brings its own pictures"),
        (["--set", "realsr"], 3, "The test sets are not on this machine (StableSR_testsets.zip of dataset"),
    ],
)
def test_what_a_set_lacks_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(sys, "argv", ["seesr", "evaluate", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    assert sentence in " ".join(capfd.readouterr().err.split())
