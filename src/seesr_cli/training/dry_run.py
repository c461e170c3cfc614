"""Forecast a run before it is begun: parameters, memory of a device, pictures a second and hours."""

import sys
import time
from typing import NamedTuple

import torch
from torch import nn

from ..errors import ResourcesError
from ..machine.available import free_on, unclaimed
from .engine import Run, devices, micro_batch
from .samples import Samples, load
from .sources import aside
from .stages import build, counted


class Forecast(NamedTuple):
    """The forecast of a run.

    memory, free: bytes of a device.
    hours: None if the speed of the machine was not measured.
    """

    learning: int
    frozen: int
    memory: int
    free: int
    samples_per_second: float
    hours: float


def forecast(run: Run) -> Forecast:
    """Return the forecast of a run, measured by one step on a few pictures.

    Raises ResourcesError if the run cannot fit.
    """
    recipe = run.recipe
    accelerator = devices(run)
    device = accelerator.device
    free = _free(device)
    if recipe.stage == "seesr":
        learning, together = counted(recipe, run.weights)
        _check_room(4 * together + 12 * learning, learning, free)
    stage = build(recipe, run.weights, device)
    learning = sum(each.numel() for each in stage.learning)
    networks = [each for each in vars(stage).values() if isinstance(each, nn.Module)]
    parameters = {id(each): each for network in networks for each in network.parameters()}
    frozen = sum(each.numel() for each in parameters.values()) - learning
    memory = sum(each.numel() * each.element_size() for each in parameters.values()) + 12 * learning
    _check_room(memory, learning, free + (memory - 12 * learning if device.type == "cpu" else 0))
    learnt_from, _ = aside(run.sources, recipe.validate)
    micro = recipe.micro or micro_batch(recipe.batch // accelerator.num_processes, device)
    source = load(Samples(learnt_from, stage.making), 0, 0, 1, micro, 0)
    spent = []
    for _ in range(2):
        started = time.monotonic()
        with accelerator.autocast():
            torch.autograd.backward(stage.loss(stage.module, next(source)).total)
        spent.append(time.monotonic() - started)
    if device.type == "cuda":
        memory = max(memory, torch.cuda.max_memory_allocated(device) + 8 * learning)
    speed = micro * accelerator.num_processes / min(spent)
    return Forecast(learning, frozen, memory, free, speed, recipe.steps * recipe.batch / speed / 3600)


def _check_room(memory: int, learning: int, free: int) -> None:
    """Raise ResourcesError unless weights, gradients and AdamW's two moments, in fp32, find room."""
    if memory > free:
        raise ResourcesError(
            f"The run takes {memory / 1e9:.1f} GB a device before the first picture ({learning / 1e6:.1f} million "
            f"parameters learn) and {free / 1e9:.1f} GB are free: take a device with more memory."
        )


def _free(device: torch.device) -> int:
    return free_on(device) if device.type == "cuda" else unclaimed() or sys.maxsize
