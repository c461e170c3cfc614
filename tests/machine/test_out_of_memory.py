"""When memory runs out, something is given up, said, and the picture goes on; the next one starts from there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seesr_cli.catalogue import SEESR
from seesr_cli.errors import PictureError
from seesr_cli.machine.out_of_memory import TILE_SIDES, enduring, ran_out, smaller_tile
from seesr_cli.restore.latent import LEAST_BUDGET
from seesr_cli.restore.limits import Limits
from seesr_cli.restore.sampled import Wanted
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import Settings

QUICK = Settings(scale=2, steps=2, guidance=1.0, process_size=64)


@pytest.fixture(scope="module")
def loaded(tiny_weights: Path) -> Upscaler:
    return Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")


@pytest.fixture
def upscaler(loaded: Upscaler) -> Upscaler:
    """One that has not learnt anything of memory."""
    loaded.sampler.limits = Limits(SEESR.tilings)
    loaded.vae.budget = None
    return loaded


def without_memory(work: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """`work`, which runs out of memory whenever `when` says so of its arguments."""

    def failing(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return work(*arguments, **options)

    return failing


def test_every_allocator_s_way_to_say_it_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert ran_out(caught.value)
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert ran_out(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not ran_out(RuntimeError("The size of tensor a (3) must match"))
    assert not ran_out(ValueError("out of memory"))


def test_what_is_no_lack_of_memory_is_not_caught() -> None:
    with pytest.raises(ZeroDivisionError):
        enduring(lambda: 1 / 0, lambda: "given up", [])


def test_the_end_of_the_ladder_is_one_sentence() -> None:
    rungs = iter(["a", "b"])
    notes: list[str] = []

    def fail() -> None:
        raise MemoryError

    with pytest.raises(PictureError, match="not enough memory for this picture, even after everything"):
        enduring(fail, lambda: next(rungs, None), notes)
    assert notes == ["a", "b"]


def test_tiles_get_smaller_down_to_an_end() -> None:
    sides = [96]
    while (smaller := smaller_tile(sides[-1])) is not None:
        sides.append(smaller)
    assert sides == [96, *TILE_SIDES]


def test_a_step_without_memory_goes_on_in_smaller_tiles(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(3, 100, 100, generator=torch.Generator().manual_seed(0))
    whole = upscaler.upscale(picture, QUICK)
    assert whole.notes == ()
    entry = upscaler.sampler.unet.conv_in
    monkeypatch.setattr(entry, "forward", without_memory(entry.forward, lambda latent: latent.shape[-1] > 16))
    told: list[tuple[int, int]] = []
    restored = upscaler.upscale(picture, QUICK, lambda done, total: told.append((done, total)))
    assert restored.notes == (
        "Memory ran out: tiles have sides of 24 latent pixels from now on, in the place of 25.",
        "Memory ran out: tiles have sides of 16 latent pixels from now on, in the place of 24.",
    )
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert torch.equal(restored.pixels, upscaler.upscale(picture, replace(QUICK, tile=16)).pixels)
    assert upscaler.upscale(picture, QUICK).notes == ()
    assert upscaler.sampler.limits.tiling(QUICK, (40, 40)) == (16, 4)
    assert upscaler.sampler.limits.tiling(replace(QUICK, tile=12), (40, 40)) == (12, 4)
    assert upscaler.sampler.limits.tiling(replace(QUICK, tile="auto"), (40, 40)) == (16, 8)


def test_a_step_without_memory_goes_on_with_fewer_pictures_then_fewer_and_smaller_tiles(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(QUICK, tile=8)
    pictures = [torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    wanted = [Wanted(upscaler.prepare(picture, settings)) for picture in pictures]
    assert upscaler.pictures_a_call((80, 80), settings, 16) == 4  # four tiles each
    usual = upscaler.sample_together(wanted, settings)
    entry = upscaler.sampler.unet.conv_in
    monkeypatch.setattr(
        entry, "forward", without_memory(entry.forward, lambda crops: crops.shape[0] * crops.shape[-1] ** 2 > 100)
    )
    told: list[tuple[int, int]] = []
    sampled = upscaler.sample_together(wanted, settings, lambda done, total: told.append((done, total)), 16)
    for own, other in zip(sampled, usual, strict=True):
        assert own.notes == (
            "Memory ran out: pictures are computed 2 at a time from now on.",
            "Memory ran out: pictures are computed 1 at a time from now on.",
            "Memory ran out: tiles are computed 2 at a time from now on.",
            "Memory ran out: tiles are computed 1 at a time from now on.",
        )
        assert float((own.latent - other.latent).norm() / other.latent.norm()) < 1e-5
        assert own.call.tiles == 1
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert upscaler.pictures_a_call((80, 80), settings, 16) == 1
    monkeypatch.undo()
    monkeypatch.setattr(entry, "forward", without_memory(entry.forward, lambda crops: crops.shape[-1] > 16))
    larger = replace(QUICK, tile=20)
    picture = torch.rand(3, 84, 84, generator=torch.Generator().manual_seed(0))
    (own,) = upscaler.sample_together([Wanted(upscaler.prepare(picture, larger))], larger)
    assert own.notes == ("Memory ran out: tiles have sides of 16 latent pixels from now on, in the place of 20.",)


def test_a_vae_without_memory_works_in_smaller_pieces(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels = upscaler.upscale(picture, QUICK).pixels
    upscaler.vae.budget = 8 * LEAST_BUDGET
    for name in ("encode", "decode"):
        least = 4 if name == "encode" else 1
        work = without_memory(
            getattr(upscaler.vae, name), lambda *_, least=least: (upscaler.vae.budget or 0) > least * LEAST_BUDGET
        )
        monkeypatch.setattr(upscaler.vae, name, work)
    restored = upscaler.upscale(picture, QUICK)
    sentences = [
        f"Memory ran out: the VAE works in pieces of at most {64 * size} MiB from now on." for size in (4, 2, 1)
    ]
    assert list(restored.notes) == sentences
    torch.testing.assert_close(restored.pixels, pixels, atol=1e-4, rtol=0)
    assert upscaler.upscale(picture, QUICK).notes == ()


def test_a_picture_that_no_ladder_saves_fails_alone(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(3, 32, 32)
    with monkeypatch.context() as patch:
        entry = upscaler.sampler.unet.conv_in
        patch.setattr(entry, "forward", without_memory(entry.forward, lambda _: True))
        with pytest.raises(PictureError, match="use a smaller --scale"):
            upscaler.upscale(picture, QUICK)
    assert upscaler.upscale(picture, QUICK).pixels.shape == (3, 64, 64)
