"""The frame has the published sizes, is padded where the published code resamples, and is resampled as Pillow does."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from seesr_cli.restore.prepare import Frame, pad, prepare, resize
from seesr_cli.settings import Settings
from seesr_cli.sizes import sizes


def picture(height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(height * width).rand(3, height, width).astype(np.float32))


def framed(pixels: Tensor, process_size: int = 512) -> Frame:
    return prepare(pixels, sizes((pixels.shape[-2], pixels.shape[-1]), Settings(process_size=process_size)))


@pytest.mark.parametrize("size", [(31, 50), (128, 128), (9, 7), (200, 20)])
def test_resize_is_pillow_s_bicubic_to_its_rounding(size: tuple[int, int]) -> None:
    levels = np.random.RandomState(0).randint(0, 256, (40, 60, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(levels).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    ours = resize(torch.from_numpy(levels).permute(2, 0, 1) / 255, size).permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - theirs).max() < 1.6  # it rounds twice, once for each direction


def test_a_large_enough_picture_is_enlarged_once() -> None:
    frame = framed(picture(128, 160), 512)
    assert frame.size == tuple(frame.pixels.shape[-2:]) == (512, 640)
    assert torch.equal(frame.pixels[0], resize(picture(128, 160), (512, 640)))


def test_a_small_picture_is_first_enlarged_to_the_process_size() -> None:
    assert framed(picture(21, 30), 160).size == (160, 228)  # 40 × int(30·40/21) = 57, four times
    assert framed(picture(200, 30), 160).size == (4 * int(200 * 40 / 30), 160)


def test_sides_are_padded_by_their_last_pixels_and_never_resampled() -> None:
    frame = framed(picture(33, 45), 64)
    assert frame.size == (132, 180)
    assert frame.pixels.shape == (1, 3, 136, 184)
    assert torch.equal(frame.crop(frame.pixels)[0], resize(picture(33, 45), (132, 180)))
    assert torch.equal(frame.pixels[..., 132:, :180], frame.pixels[..., 131:132, :180].expand(-1, -1, 4, -1))
    assert torch.equal(frame.pixels[..., 180:], frame.pixels[..., 179:180].expand(-1, -1, -1, 4))


def test_what_needs_no_padding_is_left_alone() -> None:
    pixels = picture(16, 24).unsqueeze(0)
    assert torch.equal(pad(pixels, (16, 24)), pixels)
