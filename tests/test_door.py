"""Programs in Python restore pictures through one door, as docs/python.md shows it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from seesr_cli import Settings, Upscaler, open_picture
from seesr_cli.errors import OutputUnwritable, UsageError
from seesr_cli.image import read
from seesr_cli.records.provenance import extract

PAGE = Path(__file__).parent.parent / "docs/python.md"


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler("miniature", device="cpu", dtype="fp32")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    gradient = Image.linear_gradient("L").resize((40, 32)).convert("RGB")
    exif = Image.Exif()
    exif[271] = "Maker"
    gradient.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    return tmp_path / "photo.jpg"


def test_the_page_s_lines_run(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(photo.parent)
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("(64, 80) [")
    assert shown[0].size == (80, 64)
    made = read(photo.parent / "photo_x2.png")
    assert made.xmp is not None
    record = extract(made.xmp)
    assert record is not None
    assert (record["input"]["name"], record["settings"]["seed"]) == ("photo.jpg", 7)
    assert b"Maker" in (made.exif or b"")


def test_a_path_a_picture_and_a_tensor_of_the_same_pixels_become_the_same(upscaler: Upscaler, photo: Path) -> None:
    settings = replace(upscaler.settings, scale=2, process_size=64)
    lossless = photo.with_suffix(".png")
    Image.open(photo).convert("RGB").save(lossless)
    from_path = upscaler.upscale(lossless, settings)
    with Image.open(lossless) as opened:
        from_pillow = upscaler.upscale(opened, settings)
    from_tensor = upscaler.upscale(open_picture(lossless).picture.pixels, settings)
    assert torch.equal(from_path.pixels, from_pillow.pixels)
    assert torch.equal(from_path.pixels, from_tensor.pixels)
    assert (from_path.size_before, from_path.size) == ((32, 40), (64, 80))


def test_alpha_goes_through(upscaler: Upscaler) -> None:
    given = torch.rand(4, 24, 24, generator=torch.Generator().manual_seed(0))
    result = upscaler.upscale(given, replace(upscaler.settings, scale=2, process_size=64))
    assert result.alpha is not None
    assert result.alpha.shape == (1, 48, 48)
    assert result.pil().mode == "RGBA"


def test_a_file_that_is_there_is_left_alone_unless_asked(upscaler: Upscaler, photo: Path, tmp_path: Path) -> None:
    result = upscaler.upscale(photo, replace(upscaler.settings, scale=1, process_size=64))
    with pytest.raises(OutputUnwritable, match="already there"):
        result.save(photo)
    with pytest.raises(UsageError, match="no suffix that is written"):
        result.save(tmp_path / "result.txt")
    assert result.save(tmp_path / "a.jpg", quality=90) == ()
    result.save(tmp_path / "a.jpg", overwrite=True)
    assert read(tmp_path / "a.jpg").pixels.shape == (3, 32, 40)


@pytest.mark.parametrize("given", [torch.zeros(1, 8, 8), torch.zeros(8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_a_tensor_of_another_form_is_refused_in_a_sentence(given: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="A tensor must be"):
        open_picture(given)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="--steps 0 is out of range"):
        Settings(steps=0)


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, seesr_cli; print(sorted(set(sys.modules) & {'torch', 'numpy', 'PIL', 'typer'}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
