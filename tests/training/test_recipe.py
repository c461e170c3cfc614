"""The miniature's recipe runs from photographs to a folder that the command line can use, in one command."""

import copy
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from seesr_cli.catalogue import MINIATURE
from seesr_cli.evaluate.pixels import Pixels
from seesr_cli.machine.device import Place
from seesr_cli.models import load
from seesr_cli.models.graft import build_controlnet, build_unet, build_vae
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.sampling.schedule import signal_kept
from seesr_cli.settings import QUALITY_WORDS
from seesr_cli.training import autoencoder
from seesr_cli.training.objective import Denoiser
from seesr_cli.training.pairs import enlarge, whole
from seesr_cli.training.photographs import Photograph, Split, unit
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


def ncnn_file(path: Path, tensors: list[torch.Tensor], halves: bool) -> None:
    """Write tensors as ncnn does: a mark before each convolution's weights, and all at multiples of four bytes."""
    with path.open("wb") as file:
        for tensor in tensors:
            if tensor.ndim == 4:
                file.write((0x01306B47 if halves else 0).to_bytes(4, "little"))
            content = tensor.numpy().astype("<f2" if halves and tensor.ndim == 4 else "<f4").tobytes()
            file.write(content + bytes(-len(content) % 4))


@pytest.mark.parametrize("halves", [True, False])
def test_the_decoder_begins_as_the_compact_network_of_a_file(
    tmp_path: Path, recipe: Callable[[str], ModuleType], halves: bool
) -> None:
    srvgg, generator = recipe("srvgg"), torch.Generator().manual_seed(0)
    tensors: list[torch.Tensor] = []
    for number, (outputs, inputs) in enumerate([(64, 3), *[(64, 64)] * 16, (48, 64)]):
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
        tensors += [(weight if number < 17 else weight / 10).half().float(), torch.full((outputs,), 0.01)]
        tensors += [torch.full((64,), 0.25)] if number < 17 else []
    path = tmp_path / "network.bin"
    ncnn_file(path, tensors, halves)
    read = srvgg.read_weights(path)
    assert len(read) == len(tensors)
    assert all(map(torch.equal, read, tensors))

    torch.manual_seed(0)
    config = autoencoder.small_config()
    vae = build_vae(config | {"compact_decoder": {"width": srvgg.WIDTH, "layers": srvgg.LAYERS}})
    reference = build_vae(config)
    photographs = tuple(Photograph(str(each), smooth(generator)) for each in range(4))
    autoencoder.start_linear(reference, photographs, autoencoder.AutoencoderRecipe(crop=64, fit_crops=4))
    vae.encoder.load_state_dict(reference.encoder.state_dict())
    vae.quant_conv.load_state_dict(reference.quant_conv.state_dict())
    small = F.avg_pool2d(torch.stack([unit(each.pixels) for each in photographs]), 4)
    srvgg.begin(vae, small, read, 0.0)
    features = F.conv2d(small, tensors[0], tensors[1], padding=1)
    for place in range(2, len(tensors), 3):
        slope, weight, bias = tensors[place : place + 3]
        features = F.conv2d(F.prelu(features, slope), weight, bias, padding=1)
    wanted = F.pixel_shuffle(features, 4) + F.interpolate(small, scale_factor=4)
    with torch.no_grad():
        frames = torch.stack([enlarge(each, 4) for each in small])
        made = vae.decode(vae.encode(2 * frames - 1).latent_dist.mean).sample / 2 + 0.5
    inside = (..., slice(80, -80), slice(80, -80))  # the decoder pads otherwise than the network
    assert (made - wanted)[inside].abs().mean() < 0.02 * wanted[inside].std()


@pytest.mark.parametrize("change", ["cut", "long", "mark"])
def test_another_file_is_no_compact_network(tmp_path: Path, recipe: Callable[[str], ModuleType], change: str) -> None:
    path = tmp_path / "network.bin"
    shapes = [(64, 3), *[(64, 64)] * 16, (48, 64)]
    tensors = [torch.zeros(size) for outputs, inputs in shapes for size in ((outputs, inputs, 3, 3), (outputs,))]
    for place in range(17):
        tensors.insert(3 * place + 2, torch.zeros(64))
    ncnn_file(path, tensors, True)
    content = path.read_bytes()
    changed = {"cut": content[:-8], "long": content + bytes(8), "mark": b"PK" + content[2:]}
    path.write_bytes(changed[change])
    with pytest.raises(ValueError, match=r"network\.bin|buffer"):
        recipe("srvgg").read_weights(path)


def smooth(generator: torch.Generator) -> torch.Tensor:
    """Return a picture [3, 256, 256], uint8, with nothing finer than 16 pixels."""
    coarse = torch.rand(1, 3, 16, 16, generator=generator)
    return whole(F.interpolate(coarse, scale_factor=16, mode="bicubic").clamp(0, 1))[0]


def test_the_eight_positions_of_a_picture_are_all_different(recipe: Callable[[str], ModuleType]) -> None:
    look, picture = recipe("look"), torch.arange(9.0).view(1, 3, 3)
    positions = [look.turned(picture, turns) for turns in range(8)]
    assert len({tuple(each.flatten().tolist()) for each in positions}) == 8
    assert all(sorted(each.flatten().tolist()) == sorted(picture.flatten().tolist()) for each in positions)


def test_the_error_does_not_ask_for_the_median(recipe: Callable[[str], ModuleType]) -> None:
    """A line that may be on any of four columns: a faint band is nearer to all of them than nothing."""
    together = recipe("together")
    training = object.__new__(together.Together)
    training.recipe = together.TogetherRecipe()
    lines = torch.zeros(4, 3, 64, 64)
    for place in range(4):
        lines[place, :, :, place::4] = 1
    nothing, band = torch.zeros_like(lines), torch.full_like(lines, 0.25)
    assert (nothing - lines).abs().mean() < (band - lines).abs().mean()
    none = torch.zeros(4)
    assert training._error(band, lines, none) < training._error(nothing, lines, none)


def test_where_grain_is_asked_for_its_place_does_not_count(recipe: Callable[[str], ModuleType]) -> None:
    together = recipe("together")
    training = object.__new__(together.Together)
    training.recipe = together.TogetherRecipe()
    goal = torch.full((1, 3, 64, 64), 0.5)
    grain = goal + 0.05 * torch.randn(goal.shape, generator=torch.Generator().manual_seed(0))
    asked, not_asked = (training._error(grain, goal, torch.tensor([each])) for each in (1.0, 0.0))
    assert asked < 0.3 * not_asked
    assert training._error(goal + 0.05, goal, torch.tensor([1.0])) > 0.04


def test_the_unet_begins_by_changing_only_what_words_change(recipe: Callable[[str], ModuleType]) -> None:
    together, weights, place = recipe("together"), locate(MINIATURE, None), Place(torch.device("cpu"), torch.float32)
    unet, controlnet = load.load_unet(MINIATURE, weights, place), load.load_controlnet(MINIATURE, weights, place)
    denoiser = Denoiser(unet, controlnet, None)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, unet.config.in_channels, 16, 16, generator=generator)
    frame = torch.rand(1, 3, 64, 64, generator=generator)
    step, text, tokens = torch.tensor([999]), torch.randn(1, 77, 64), torch.randn(1, 9, 64)
    with torch.no_grad():
        before = denoiser(latent, step, text, tokens, frame)
        together.begin(unet, controlnet)
        after = denoiser(together.LOUDER * latent, step, text, tokens, frame)
    assert (after[:, :-1] == 0).all()
    torch.testing.assert_close(after[:, -1], together.LOUDER * before[:, -1], atol=1e-4, rtol=1e-4)


def test_a_source_of_grain_changes_nothing_until_it_is_learnt(recipe: Callable[[str], ModuleType]) -> None:
    grain, together, sizes = recipe("grain"), recipe("together"), recipe("recipe")
    torch.manual_seed(0)
    count, noise = 3, 0.02
    config = autoencoder.small_config()
    vae, unet, controlnet = (
        build_vae(config | {"compact_decoder": {"width": 16, "layers": 2}}),
        build_unet(sizes.UNET),
        build_controlnet(sizes.CONTROLNET),
    )
    weights = together.by_part(
        grain.widened(together.by_name({"vae": vae, "unet": unet, "controlnet": controlnet}), count, noise)
    )
    channels = config["latent_channels"] + count
    wide_vae = build_vae(config | {"latent_channels": channels, "compact_decoder": {"width": 16 + count, "layers": 2}})
    wide_unet = build_unet(sizes.with_channels(sizes.UNET, channels))
    wide_controlnet = build_controlnet(sizes.with_channels(sizes.CONTROLNET, channels))
    for part, network in (("vae", wide_vae), ("unet", wide_unet), ("controlnet", wide_controlnet)):
        network.load_state_dict(weights[part])

    frame = torch.rand(1, 3, 64, 64)
    step, text, tokens = torch.tensor([999]), torch.randn(1, 77, 64), torch.randn(1, 9, 64)
    new = slice(-1 - count, -1)
    with torch.no_grad():
        latent, wide = (each.encode(2 * frame - 1).latent_dist for each in (vae, wide_vae))
        held = torch.cat([wide.mean[:, : new.start], wide.mean[:, -1:]], 1)
        torch.testing.assert_close(held, latent.mean)
        assert (wide.mean[:, new] == 0).all()
        assert wide.std[:, new].max() < 1e-4
        noisy = wide.mean.clone()
        noisy[:, new] = noise * torch.randn(noisy[:, new].shape)
        torch.testing.assert_close(wide_vae.decode(noisy).sample, vae.decode(latent.mean).sample)
        told = Denoiser(wide_unet, wide_controlnet, None)(noisy, step, text, tokens, frame)
        before = Denoiser(unet, controlnet, None)(latent.mean, step, text, tokens, frame)
        torch.testing.assert_close(torch.cat([told[:, : new.start], told[:, -1:]], 1), before)
        assert (told[:, new] == 0).all()
        features = wide_vae.decoder.conv_in(wide_vae.post_quant_conv(noisy))
        for place, conv in enumerate(wide_vae.decoder.convs):
            features = conv(wide_vae.decoder.slopes[place](features))
        torch.testing.assert_close(features[:, -count:], noisy[:, new] / noise)


def test_a_miniature_that_is_taken_over_is_what_it_was(tmp_path: Path, recipe: Callable[[str], ModuleType]) -> None:
    sizes, train = recipe("recipe"), recipe("train")
    bundled, place = locate(MINIATURE, None), Place(torch.device("cpu"), torch.float32)
    write_squares(tmp_path / "work" / "squares" / "0000.npz", torch.Generator().manual_seed(0))
    making = train.Making(sizes.SMOKE, Split((), ()), tmp_path / "work", tmp_path / "out")
    making.take_over(bundled)
    networks, squares = making._drawing()
    vae = load.load_vae(MINIATURE, bundled, place)
    assert networks.vae.config.scaling_factor == vae.config.scaling_factor
    frame = 2 * squares.frame[:1].float() - 1
    with torch.no_grad():
        latent = networks.vae.encode(frame).latent_dist.mean
        torch.testing.assert_close(latent, vae.encode(frame).latent_dist.mean, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(networks.vae.decode(latent).sample, vae.decode(latent).sample, atol=2e-3, rtol=1e-3)

    tokenizer, text = load.load_text_tower(MINIATURE, bundled, place)
    with torch.no_grad():
        states = [
            tower(tokens("dog, crisp", padding="max_length", return_tensors="pt").input_ids).last_hidden_state
            for tower, tokens in ((text, tokenizer), (networks.text, making._tokenizer(tmp_path / "tokenizer")))
        ]
    torch.testing.assert_close(*states)


def test_a_component_for_words_to_ask_by_changes_nothing_else(
    tmp_path: Path, recipe: Callable[[str], ModuleType]
) -> None:
    grain, grain_words, prompts = recipe("grain"), recipe("grain_words"), recipe("prompts")
    sizes, together, train = recipe("recipe"), recipe("together"), recipe("train")
    write_squares(tmp_path / "squares" / "0000.npz", torch.Generator().manual_seed(0))
    making = train.Making(sizes.SMOKE, Split((), ()), tmp_path, tmp_path / "out")
    making.take_over(locate(MINIATURE, None))
    before, squares = making._drawing()
    after = making._rebuilt(before, grain.asked(together.by_name(train.learning(before))))
    new = after.vae.config.latent_channels + grain_words.ASKED
    rest = [each for each in range(after.vae.config.latent_channels) if each != new]
    frame = squares.frame[:1, :, :64, :64].float()
    step, text, tokens = torch.tensor([999]), torch.randn(1, 77, 64), torch.randn(1, 9, 64)
    with torch.no_grad():
        latent = after.vae.encode(2 * frame - 1).latent_dist.mean
        torch.testing.assert_close(latent[:, rest], before.vae.encode(2 * frame - 1).latent_dist.mean)
        assert (latent[:, new] == 0).all()
        latent[:, new] = 1
        torch.testing.assert_close(after.vae.decode(latent).sample, before.vae.decode(latent[:, rest]).sample)
        told, known = (
            Denoiser(networks.unet, networks.controlnet)(given, step, text, tokens, frame)
            for networks, given in ((after, latent), (before, latent[:, rest]))
        )
        torch.testing.assert_close(told[:, rest], known)
        assert told[:, new].std() > 0

    guide = prompts.Guide(torch.randn(4, 9, sizes.TOKEN_WIDTH), ("dog", "grass"), making._tokenizer(tmp_path / "t"))
    denoiser = Denoiser(after.unet, after.controlnet, after.text)
    for grainy, off in ((0.0, False), (1.0, True)):
        few = replace(sizes.SMOKE.grain_words, grainy=grainy, batch=2)
        training = grain_words.GrainWords(denoiser, after.kept, few, guide)
        words, others = training.off(recipe("look").encoded(after.vae, squares.frame), squares.frame)
        assert words > 0
        assert (others.item() > 1e-6) == off, "without such a word nothing else changes"


def test_muon_makes_steps_orthogonal_and_of_one_size(recipe: Callable[[str], ModuleType]) -> None:
    muon = recipe("muon")
    generator = torch.Generator().manual_seed(0)
    for shape in ((16, 40), (40, 16)):
        uneven = torch.randn(shape, generator=generator) * torch.logspace(0, -1, shape[1])
        values = torch.linalg.svdvals(muon.orthogonal(uneven))
        assert values.min() > 0.5
        assert values.max() < 1.5
    weight = torch.nn.Parameter(torch.zeros(16, 12, 3, 3))
    optimiser = muon.Muon([{"params": [weight], "lr": 0.01, "orthogonal": True}], (0.9, 0.99))
    weight.grad = 1000 * torch.randn(weight.shape, generator=generator)
    optimiser.step()
    assert 0.5 < weight.square().mean().sqrt() / (0.01 * muon.LIKE_ADAM) < 1.5


@pytest.mark.parametrize(("shape", "orthogonal"), [((3, 4), True), ((16, 20), False)])
def test_muon_steps_like_adam_elsewhere(
    recipe: Callable[[str], ModuleType], shape: tuple[int, int], orthogonal: bool
) -> None:
    mine, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    group = {"params": [mine], "lr": 0.1, "orthogonal": orthogonal}
    pair = recipe("muon").Muon([group], (0.9, 0.999)), torch.optim.Adam([theirs], 0.1)
    for step in range(5):
        for weight, optimiser in zip((mine, theirs), pair, strict=True):
            weight.grad = (weight.detach() - step).square()
            optimiser.step()
    torch.testing.assert_close(mine, theirs)


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
    look = recipe("look")
    generator = torch.Generator().manual_seed(0)
    plain = torch.full((1, 3, 96, 96), 0.5)
    grain, other = (plain + 0.05 * torch.randn(1, 1, 96, 96, generator=generator) for _ in range(2))
    axis = torch.arange(96.0)

    def hatched(across: float, down: float) -> torch.Tensor:
        turn = 2 * torch.pi * (across * axis + down * axis[:, None])
        return plain + 0.05 * 2**0.5 * turn.cos()

    assert look.spectra(grain).square().sum((1, 2, 3)).sqrt().mean() == pytest.approx(0.05, rel=0.05)
    assert look.otherwise(grain, other) < 0.3 * look.otherwise(grain, plain)
    for waves in (hatched(0.25, 0.0), hatched(0.0, 0.44), hatched(0.16, 0.16)):
        assert look.otherwise(waves, grain) > look.otherwise(plain, grain)


def test_grain_in_colours_is_no_grain_in_grey(recipe: Callable[[str], ModuleType]) -> None:
    look, generator = recipe("look"), torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(1, 3, 96, 96, generator=generator)
    grey, other = (0.5 + 0.05 * torch.randn(1, 1, 96, 96, generator=generator).expand(1, 3, 96, 96) for _ in range(2))
    luma = (noise * noise.new_tensor(look.YCBCR[0])[:, None, None]).sum(1)
    coloured = 0.5 + noise * 0.05 / luma.std()
    assert look.otherwise(coloured, grey) > 3 * look.otherwise(other, grey)


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
    asked = torch.zeros(2, judge.ASKED)

    def pictures() -> tuple[torch.Tensor, torch.Tensor]:
        sharp = (0.5 + 0.05 * torch.randn(2, 3, 32, 32, generator=generator)).clamp(0, 1)
        return look.blur(sharp), sharp

    for _ in range(40):
        adversary.learn(*pictures(), asked, 1.0)
    blurred, sharp = pictures()
    for each, sides in zip(adversary.judges, ([8], [16, 8]), strict=True):
        marks, features = each(torch.cat([blurred, sharp]), asked.repeat(2, 1))
        assert [mark.shape for mark in marks] == [(4, 1, side, side) for side in sides]
        assert all(mark[:2].mean() < mark[2:].mean() for mark in marks)
        assert len(features) >= len(marks)
    assert adversary.loss(blurred, sharp, asked, 0.3) > adversary.loss(sharp, sharp, asked, 0.3)
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


def test_a_word_for_grain_is_told_with_what_the_prompt_is_without_it(recipe: Callable[[str], ModuleType]) -> None:
    prompts = recipe("prompts")
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(300):
        told = prompts.prompt(("dog", "grass"), 0.5, generator, 0.6)
        said = told.prompt.removesuffix(QUALITY_WORDS)  # which say "clean" of every picture
        words = [word for word in prompts.GRAIN_WORDS if re.search(rf"\b{word}\b", said)]
        assert told.grain == sum(prompts.GRAIN_WORDS[word] for word in words)
        assert sorted(re.findall(r"\w+", told.prompt)) == sorted([*re.findall(r"\w+", told.without), *words])
        crisp = [word for word in prompts.STRENGTHS if re.search(rf"\b{word}\b", told.prompt)]
        assert told.strength == pytest.approx(max(-2, min(2, sum(prompts.STRENGTHS[word] for word in crisp))))
        seen.add(told.grain)
    assert seen == {-1.0, 0.0, 1.0}


def test_a_new_vocabulary_keeps_the_words_that_were_known(recipe: Callable[[str], ModuleType]) -> None:
    rows = torch.arange(6.0).view(3, 2)
    made = recipe("prompts").renumbered(rows, {"a": 0, "b": 1, "c": 2}, {"c": 0, "grain": 1, "a": 2, "b": 3})
    assert torch.equal(made[[2, 3, 0]], rows)
    assert made[1].abs().sum() > 0


def test_grain_is_that_of_a_film_or_as_the_teacher_paints(recipe: Callable[[str], ModuleType]) -> None:
    look, generator = recipe("look"), torch.Generator().manual_seed(0)
    clean, taught = torch.rand(2, 3, 3, 64, 64, generator=generator)
    same, film, none = look.grained(clean, taught, torch.tensor([0.0, 1.0, -1.0]), generator)
    assert torch.equal(same, clean[0])
    torch.testing.assert_close(none, taught[2])
    grain = film - clean[1]
    torch.testing.assert_close(grain, grain[:1].expand(3, -1, -1))
    assert grain.std() == pytest.approx(look.FILM, rel=0.1)
    assert grain.mean().abs() < 0.1 * look.FILM


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
    look, prompts, together, sizes = recipe("look"), recipe("prompts"), recipe("together"), recipe("recipe")
    weights, place = locate(MINIATURE, None), Place(torch.device("cpu"), torch.float32)
    tokenizer, text = load.load_text_tower(MINIATURE, weights, place)
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "squares" / "0000.npz"
    write_squares(path, generator)
    squares = look.read_squares([path])
    guide = prompts.Guide(torch.randn(4, 9, sizes.TOKEN_WIDTH, generator=generator), ("dog", "grass"), tokenizer)

    few = replace(next(iter(sizes.SMOKE.together.values())), judged=0.0)

    def begin() -> Any:
        denoiser = Denoiser(
            load.load_unet(MINIATURE, weights, place), load.load_controlnet(MINIATURE, weights, place), text
        )
        vae = load.load_vae(MINIATURE, weights, place)
        return together.Together(vae, denoiser, signal_kept(sizes.SCHEDULER), few, guide)

    training = begin()
    began = {name: tensor.clone() for name, tensor in training.weights().items()}
    told = [tensor.clone() for tensor in text.parameters()]
    training.learn(training.draw(squares))
    changed = {
        name.split(".")[0] for name, tensor in training.weights().items() if not torch.equal(tensor, began[name])
    }
    assert changed == {"vae", "unet", "controlnet"}
    assert all(map(torch.equal, text.parameters(), told))

    other = begin()
    other.restore(copy.deepcopy(training.state()))
    for each in (training, other):
        each.learn(each.draw(squares))
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
