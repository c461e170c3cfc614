"""Three recorded steps of the published training code, on the tiny checkpoint of the same recording."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seesr_cli.catalogue import SEESR
from seesr_cli.machine.device import Place
from seesr_cli.models import keys, load
from seesr_cli.sampling.schedule import signal_kept
from seesr_cli.training import restorer
from seesr_cli.training.objective import Denoiser, Objective, choose, error
from seesr_cli.training.optimise import adamw

LOSS, MOVED = 1e-6, 1e-7
"""Bounds of a loss, and of 99 in 100 sampled movements."""

NORM = 2e-5
"""Relative bound of gradient norms: six times what rounding takes the recording away from exact ones."""

ROUNDING = 1e-7
"""Gradient norms below this are rounding: a bias in front of a GroupNorm has none, and AdamW moves it by its sign."""


def inputs(seed: int, width: int) -> tuple[Tensor, ...]:
    """Return noisy latents, noise, timesteps, text, tokens and frames, in the order that the recording drew them in."""
    chance = torch.Generator().manual_seed(seed)
    clean, noise = (torch.randn(2, 4, 16, 16, generator=chance) for _ in range(2))
    timestep = torch.randint(0, 1000, (2,), generator=chance)
    text, tokens = torch.randn(2, 77, width, generator=chance), torch.randn(2, 145, 512, generator=chance)
    frame = torch.rand(2, 3, 128, 128, generator=chance)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, 0).float()[timestep][:, None, None, None]
    return signal.sqrt() * clean + (1 - signal).sqrt() * noise, noise, timestep, text, tokens, frame


def learning(denoiser: Denoiser) -> dict[str, Tensor]:
    """Return the parameters that train, by their published names."""
    parts = {"unet": denoiser.unet, "controlnet": denoiser.controlnet}
    return {
        f"{part}.{name}": parameter
        for part, network in parts.items()
        for name, parameter in keys.published(dict(network.named_parameters())).items()
        if parameter.requires_grad
    }


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    with gzip.open(golden / "training" / "steps.json.gz") as file:
        return json.load(file)


@pytest.mark.parametrize(("betas", "published"), [((0.9, 0.999), True), ((0.9, 0.99), False)])
def test_three_training_steps_are_those_of_the_published_code(
    golden_weights: Path, recorded: dict[str, Any], betas: tuple[float, float], published: bool
) -> None:
    place = Place(torch.device("cpu"), torch.float32)
    unet, controlnet = load.load_unet(SEESR, golden_weights, place), load.load_controlnet(SEESR, golden_weights, place)
    kept = signal_kept(load.load_schedule_config(SEESR, golden_weights))
    recipe = restorer.Denoising()
    denoiser = Denoiser(unet, controlnet)
    chosen = choose(denoiser, recipe.learns)
    named = learning(denoiser)
    # slopes in double precision: those in single precision differ from processor to processor
    exact = copy.deepcopy(denoiser).double()
    exactly = learning(exact)
    assert named.keys() == recorded["grads"][0].keys()
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    steady = [name for name in named if min(step[name] for step in recorded["grads"]) > ROUNDING]
    assert len(steady) > 900
    optimiser = adamw([(chosen, recipe.lr)], recipe.decay, betas)
    for step, seed in enumerate(recorded["seeds"]):
        exact.load_state_dict(denoiser.state_dict())
        noisy, noise, timestep, text, tokens, frame = inputs(seed, unet.config.cross_attention_dim)
        predicted = exact(noisy.double(), timestep, text.double(), tokens.double(), frame.double())
        loss = error(Objective(), predicted, torch.zeros_like(noise), noise, kept[timestep])
        exact.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for name, parameter in named.items():
            slope = exactly[name].grad
            parameter.grad = None if slope is None else slope.float()
        norms = {name: each.grad.norm().item() for name, each in exactly.items() if each.grad is not None}
        total = nn.utils.clip_grad_norm_(chosen, recipe.clip).item()
        optimiser.step()
        if published:
            assert loss.item() == pytest.approx(recorded["losses"][step], abs=LOSS)
            assert total == pytest.approx(recorded["norms"][step], rel=NORM)
            assert max(abs(norms[name] / recorded["grads"][step][name] - 1) for name in steady) < NORM
    off = []
    for name in steady:
        moved = (named[name].detach() - before[name]).flatten()
        _, *sampled = recorded["moved"][name]
        ours = moved[:: max(1, len(moved) // 4)][:4].tolist()
        off += [abs(own - theirs) for own, theirs in zip(ours, sampled, strict=True)]
    near = sum(each < MOVED for each in off) / len(off)
    assert (near >= 0.99) is published, f"{near:.4f} of {len(off)} samples are within {MOVED}"
