"""The miniature's recipe runs from photographs to a folder that the command line can use, in one command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from seesr_cli.catalogue import MINIATURE
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
