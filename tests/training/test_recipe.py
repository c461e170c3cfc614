"""The miniature's recipe runs from photographs to a folder that the command line can use, in one command."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seesr_cli.catalogue import MINIATURE
from seesr_cli.evaluate.pixels import Pixels
from seesr_cli.restore.upscaler import Upscaler

RECIPE = Path(__file__).parents[2] / "recipes" / "miniature" / "train.py"


@pytest.mark.slow
def test_a_smoke_run_makes_a_miniature_that_restores_a_picture(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for index in range(6):
        coarse = torch.rand(1, 3, 12, 12, generator=generator)
        pixels = torch.nn.functional.interpolate(coarse, (448, 448), mode="bicubic")[0].clamp(0, 1)
        Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    out = tmp_path / "miniature"
    done = subprocess.run(
        [sys.executable, str(RECIPE), "--photos", str(folder), "--out", str(out), "--threads", "1", "--smoke"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stand-in" in (out / "README.md").read_text(encoding="utf-8")
    restored = Upscaler.load(MINIATURE, out, device="cpu", dtype="fp32").upscale(
        torch.rand(3, 32, 32), MINIATURE.defaults
    )
    assert restored.pixels.shape == (3, 128, 128)
    assert restored.pixels.isfinite().all()


class Repeating:
    """Stands in for Real-ESRGAN: every pixel becomes a square of four by four."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __call__(self, degraded: Pixels) -> Pixels:
        return degraded.repeat(4, 0).repeat(4, 1)


def test_squares_are_made_once_of_photographs_that_are_not_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(RECIPE.parent))
    imitation = importlib.import_module("imitation")
    monkeypatch.setattr(imitation, "RealESRGAN", Repeating)
    monkeypatch.setattr(imitation, "SHARD", 2)
    photos, out = tmp_path / "photos", tmp_path / "squares"
    photos.mkdir()
    for index in range(5):  # the third is kept aside, and alone is black
        Image.new("RGB", (300, 300), (0, 0, 0) if index == 2 else (200, 120, 90)).save(photos / f"{index}.png")

    imitation.main([photos], out, 4)
    first, second = sorted(out.iterdir())
    kept = first.read_bytes()
    with np.load(first) as made:
        assert made["degraded"].shape == (2, 64, 64, 3)
        assert (made["taught"][:, ::4, ::4] == made["degraded"]).all()
        assert (made["clean"] == np.full((2, 256, 256, 3), (200, 120, 90))).all()

    first.unlink()
    second.write_bytes(b"there already")
    imitation.main([photos], out, 4)
    assert first.read_bytes() == kept
    assert second.read_bytes() == b"there already"
