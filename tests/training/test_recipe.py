"""The miniature's recipe runs from photographs to a folder that the command line can use, in one command."""

import copy
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from seesr_cli.catalogue import MINIATURE
from seesr_cli.evaluate.pixels import Pixels
from seesr_cli.machine.device import Place
from seesr_cli.models import load
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.sampling.schedule import signal_kept
from seesr_cli.training import autoencoder
from seesr_cli.training.objective import Denoiser
from seesr_cli.weights import locate

RECIPE = Path(__file__).parents[2] / "recipes" / "miniature" / "train.py"


def write_squares(path: Path, generator: torch.Generator) -> None:
    """Write squares as a teacher that only enlarges would make them, so that none has to be there."""
    path.parent.mkdir(parents=True)
    small = torch.randint(256, (4, 64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    large = small.repeat(4, 1).repeat(4, 2)
    np.savez(path, degraded=small, taught=large, clean=large)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("efficientnet_lite_pytorch") is None, reason="needs recipes/miniature/requirements.txt")
def test_a_smoke_run_makes_a_miniature_that_restores_a_picture(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for index in range(6):
        coarse = torch.rand(1, 3, 12, 12, generator=generator)
        pixels = torch.nn.functional.interpolate(coarse, (448, 448), mode="bicubic")[0].clamp(0, 1)
        Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    out = tmp_path / "miniature"
    write_squares(tmp_path / "miniature-work" / "squares" / "0000.npz", generator)
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


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of the recipe."""
    monkeypatch.syspath_prepend(str(RECIPE.parent))
    return importlib.import_module


def test_a_larger_vae_computes_what_the_smaller_one_does(recipe: Callable[[str], ModuleType]) -> None:
    torch.manual_seed(0)
    config = autoencoder.small_config()
    vae = autoencoder.build(config)
    large = recipe("look").grown(vae, config | {"layers_per_block": 3, "block_out_channels": [16, 32, 64]})
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        latent = vae.encode(pixels).latent_dist.mean
        torch.testing.assert_close(large.encode(pixels).latent_dist.mean, latent, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(large.decode(latent).sample, vae.decode(latent).sample, atol=1e-5, rtol=1e-5)
    shares = large.decoder.conv_out.weight[:, :8] / vae.decoder.conv_out.weight
    assert shares.std() > 0.02, "copies that are read alike learn alike"


def test_strength_changes_detail_and_no_colour(recipe: Callable[[str], ModuleType]) -> None:
    look = recipe("look")
    picture = 0.3 + 0.4 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    soft, same, crisp = look.in_strength(picture, torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.equal(same, picture[1])
    for changed, original, times in ((soft, picture[0], look.SOFTEST), (crisp, picture[2], look.CRISPEST)):
        detail = (original - look.blur(original[None])[0]).std()
        assert ((changed - look.blur(changed[None])[0]).std() / detail - times).abs() < 0.25
        assert (changed.mean((1, 2)) - original.mean((1, 2))).abs().max() < 0.5 / 255


def test_a_lattice_is_told_from_noise(recipe: Callable[[str], ModuleType]) -> None:
    repeating = recipe("look").repeating
    noise = 0.05 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    lattice = noise[..., :4, :4].tile(16, 16)
    assert repeating(lattice) > 5 * repeating(noise)


def test_a_hatching_is_no_grain_though_it_has_its_energy(recipe: Callable[[str], ModuleType]) -> None:
    spectra = recipe("look").spectra
    generator = torch.Generator().manual_seed(0)
    plain = torch.full((1, 3, 96, 96), 0.5)
    grain, other = (plain + 0.05 * torch.randn(1, 1, 96, 96, generator=generator) for _ in range(2))
    axis = torch.arange(96.0)

    def hatched(across: float, down: float) -> torch.Tensor:
        turn = 2 * torch.pi * (across * axis + down * axis[:, None])
        return plain + 0.05 * 2**0.5 * turn.cos()

    def apart(one: torch.Tensor, another: torch.Tensor) -> float:
        return (spectra(one) - spectra(another)).square().sum(1).sqrt().mean().item()

    assert spectra(grain).square().sum(1).sqrt().mean() == pytest.approx(0.05, rel=0.05)
    assert apart(grain, other) < 0.3 * apart(grain, plain)
    for waves in (hatched(0.25, 0.0), hatched(0.0, 0.44), hatched(0.16, 0.16)):
        assert apart(waves, grain) > 1.15 * apart(plain, grain)


def judges(judge: ModuleType) -> list[torch.nn.Module]:
    """Return both judges; what the second looks with is two convolutions."""
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(3, 6, 3, 2, 1), torch.nn.Conv2d(6, 12, 3, 2, 1))
    return [judge.Judge(), judge.Connoisseur([judge.Level(each, each.out_channels) for each in layers])]


def test_judges_learn_to_tell_blurred_pictures_from_sharp_ones(recipe: Callable[[str], ModuleType]) -> None:
    look, judge = recipe("look"), recipe("judge")
    adversary = judge.Adversary(judges(judge), 3e-3)
    known = [each.clone() for each in adversary.judges[1].known.parameters()]
    generator = torch.Generator().manual_seed(0)
    strength = torch.zeros(2)

    def pictures() -> tuple[torch.Tensor, torch.Tensor]:
        sharp = (0.5 + 0.05 * torch.randn(2, 3, 32, 32, generator=generator)).clamp(0, 1)
        return look.blur(sharp), sharp

    for _ in range(40):
        adversary.learn(*pictures(), strength, 1.0)
    blurred, sharp = pictures()
    for each, sides in zip(adversary.judges, ([8], [16, 8]), strict=True):
        marks, features = each(torch.cat([blurred, sharp]), torch.zeros(4))
        assert [mark.shape for mark in marks] == [(4, 1, side, side) for side in sides]
        assert all(mark[:2].mean() < mark[2:].mean() for mark in marks)
        assert len(features) >= len(marks)
    assert adversary.loss(blurred, sharp, strength, 0.3) > adversary.loss(sharp, sharp, strength, 0.3)
    assert all(map(torch.equal, adversary.judges[1].known.parameters(), known)), "what is known stays"


def test_the_adversary_never_outweighs_its_share(recipe: Callable[[str], ModuleType]) -> None:
    picture = torch.ones(4, requires_grad=True)
    loss, other = 3 * picture[:2].sum(), 1e-4 * picture[2:].sum()
    slope = recipe("judge").balanced(loss, other, picture, 0.5)
    assert torch.allclose(slope, torch.tensor([3.0, 3.0, 1.5, 1.5]))


def test_the_words_of_a_prompt_add_up_and_others_count_nothing(recipe: Callable[[str], ModuleType]) -> None:
    prompts = recipe("prompts")
    generator = torch.Generator().manual_seed(0)
    names = ("dog", "grass", "rich texture", "little detail")
    for _ in range(300):
        told = prompts.prompt(names, prompts.PromptRecipe().plain, generator)
        words = [word for word in prompts.STRENGTHS if re.search(rf"\b{word}\b", told.prompt)]
        assert told.strength == pytest.approx(max(-2, min(2, sum(prompts.STRENGTHS[word] for word in words))))
        assert told.prompt.startswith(", ".join(told.tags))


def test_what_a_tower_tells_of_tags_does_not_depend_on_their_order(recipe: Callable[[str], ModuleType]) -> None:
    codes = recipe("prompts").Codes(64, 0)
    states = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(0))
    off = codes.off(states, [("dog", "grass"), ()])
    assert 0.5 < off < 1.5
    assert codes.off(states, [("grass", "dog"), ()]) == off
    told = (codes.known["dog"] + codes.known["grass"]).expand(1, 77, 64)
    assert codes.off(told, [("dog", "grass")]) < 1e-6
    assert codes.off(told, [()]) == 0


def test_a_crisp_prompt_is_far_from_a_soft_one_before_any_training(recipe: Callable[[str], ModuleType]) -> None:
    prompts = recipe("prompts")
    torch.manual_seed(0)
    config = recipe("recipe").TEXT | {"vocab_size": 300, "bos_token_id": 298, "eos_token_id": 299}
    text = CLIPTextModel(CLIPTextConfig(**config))
    prompts.start_text(text, 0)
    first, second = torch.zeros(2, 77, dtype=torch.long)
    first[:12], second[:12] = torch.arange(10, 22), torch.arange(40, 52)
    with torch.no_grad():
        one, other = text(torch.stack([first, second])).last_hidden_state
    assert (one - other).norm() / one.norm() > 0.3


def test_the_error_of_the_picture_teaches_all_networks_but_the_text_tower(
    tmp_path: Path, recipe: Callable[[str], ModuleType]
) -> None:
    look, together, sizes = recipe("look"), recipe("together"), recipe("recipe")
    weights, place = locate(MINIATURE, None), Place(torch.device("cpu"), torch.float32)
    tokenizer, text = load.load_text_tower(MINIATURE, weights, place)
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "squares" / "0000.npz"
    write_squares(path, generator)
    squares = look.read_squares([path])
    guide = together.Guide(torch.randn(4, 9, sizes.TOKEN_WIDTH, generator=generator), ("dog", "grass"), tokenizer)

    def begin() -> Any:
        denoiser = Denoiser(
            load.load_unet(MINIATURE, weights, place), load.load_controlnet(MINIATURE, weights, place), text
        )
        vae = load.load_vae(MINIATURE, weights, place)
        return together.Together(vae, denoiser, signal_kept(sizes.SCHEDULER), sizes.SMOKE.imitating, guide)

    training = begin()
    began = {name: tensor.clone() for name, tensor in training.weights().items()}
    told = [tensor.clone() for tensor in text.parameters()]
    latents = torch.randn(4, 12, 64, 64, generator=generator)
    training.learn(training.draw(squares, latents))
    changed = {
        name.split(".")[0] for name, tensor in training.weights().items() if not torch.equal(tensor, began[name])
    }
    assert changed == {"vae", "unet", "controlnet"}
    assert all(map(torch.equal, text.parameters(), told))

    other = begin()
    other.restore(copy.deepcopy(training.state()))
    for each in (training, other):
        each.learn(each.draw(squares, latents))
    assert all(torch.equal(tensor, other.weights()[name]) for name, tensor in training.weights().items())


def test_squares_are_made_once_of_photographs_that_are_not_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Callable[[str], ModuleType]
) -> None:
    imitation = recipe("imitation")
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
