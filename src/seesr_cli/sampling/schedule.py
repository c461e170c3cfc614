"""The noise schedule of a model as a table: one row per step, everything in it known before the first."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import expm1, inf, log
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError, WeightsInvalid
from ..settings import Solver


class Step(NamedTuple):
    """One step from a noise level to the next.

    clean = (latent - noise_level·predicted) / signal_level. The next latent is
    `to_clean·clean + to_latent·latent + to_previous·(the step before's clean) + spread·noise`; on the last step it is
    the clean one. timestep: what the networks are told.
    """

    timestep: int
    signal_level: float
    noise_level: float
    to_clean: float
    to_latent: float
    spread: float = 0.0
    to_previous: float = 0.0

    def clean(self, latent: Tensor, predicted: Tensor) -> Tensor:
        """Return the latent without the predicted noise."""
        return (latent - self.noise_level * predicted) / self.signal_level


class Schedule(NamedTuple):
    """The steps of a run, with the signal and noise of the latent at which it starts."""

    steps: tuple[Step, ...]
    start_signal: float
    start_noise: float

    def within(self, least: float, most: float) -> frozenset[int]:
        """Return the timesteps at which noise/signal is within [least, most]."""
        return frozenset(step.timestep for step in self.steps if least <= step.noise_level / step.signal_level <= most)


class Level(NamedTuple):
    """A timestep with its levels of signal and noise, whose squares sum to 1; the clean end has no noise."""

    timestep: int
    signal: float
    noise: float

    @property
    def progress(self) -> float:
        """Half the logarithm of the signal-to-noise ratio, in which the solvers of second order count."""
        return log(self.signal / self.noise) if self.noise > 0 else inf


def schedule(config: Mapping[str, Any], steps: int, solver: Solver = "ddpm") -> Schedule:
    """Return the schedule of `steps` steps of `solver`, for a diffusers scheduler file.

    Understood are beta_start, beta_end, beta_schedule (linear, scaled_linear), num_train_timesteps, prediction_type
    (epsilon), timestep_spacing (leading, which is diffusers' default for these files, or trailing) and steps_offset.
    DDPM's variance is the posterior's ("fixed small"), nothing is clipped, and the start is the last training timestep.
    Raises WeightsInvalid for a file that asks for anything else, UsageError for more steps than it has room for.
    """
    if config.get("prediction_type", "epsilon") != "epsilon":
        raise WeightsInvalid(
            f"The scheduler file asks to predict {config['prediction_type']!r}; only 'epsilon' is known."
        )
    kept = signal_kept(config)
    trained = len(kept)
    timesteps = _timesteps(config, trained, steps) if steps <= trained else [trained]
    if timesteps[0] >= trained:  # spacing may leave less room than there are timesteps
        raise UsageError(f"{steps} steps are more than the model's {trained} timesteps hold: use fewer --steps.")
    levels = [
        Level(timestep, float(kept[timestep]) ** 0.5, (1 - float(kept[timestep])) ** 0.5) for timestep in timesteps
    ]
    steps_of: Callable[[list[Level]], list[Step]] = {"ddpm": _ddpm, "dpm++": _dpm}[solver]
    rows = steps_of([*levels, Level(-1, 1.0, 0.0)])
    return Schedule(tuple(rows), float(kept[-1]) ** 0.5, (1 - float(kept[-1])) ** 0.5)


def signal_kept(config: Mapping[str, Any]) -> Tensor:
    """Return the share of the signal's variance that is left at each training timestep, for training and sampling.

    config: as for `schedule`. Returns [num_train_timesteps], float32, the product of (1 - beta).
    """
    return torch.cumprod(1 - _betas(config, int(config["num_train_timesteps"])), dim=0)


def _ddpm(levels: list[Level]) -> list[Step]:
    """Return the steps through `levels` of ancestral sampling."""
    rows = []
    for here, there in pairwise(levels):
        signal, ahead = here.signal**2, there.signal**2
        ratio = signal / ahead
        rows.append(
            Step(
                *here,
                to_clean=ahead**0.5 * (1 - ratio) / (1 - signal),
                to_latent=ratio**0.5 * (1 - ahead) / (1 - signal),
                spread=((1 - ahead) / (1 - signal) * (1 - ratio)) ** 0.5,
            )
        )
    return rows


def _dpm(levels: list[Level]) -> list[Step]:
    """Return the steps through `levels` of DPM-Solver++(2M): the clean latent is drawn out in a line from the last two.

    The first and the last step, which has no way in this measure, are of first order.
    """
    rows: list[Step] = []
    for place, (here, there) in enumerate(pairwise(levels)):
        whole = -there.signal * expm1(here.progress - there.progress)
        bend = 0.0
        if 0 < place < len(levels) - 2:
            way, way_before = there.progress - here.progress, here.progress - levels[place - 1].progress
            bend = whole / 2 * way / way_before
        rows.append(Step(*here, to_clean=whole + bend, to_latent=there.noise / here.noise, to_previous=-bend))
    return rows


def _betas(config: Mapping[str, Any], trained: int) -> Tensor:
    start, end, form = config["beta_start"], config["beta_end"], config["beta_schedule"]
    if form == "linear":
        return torch.linspace(start, end, trained)
    if form == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, trained) ** 2
    raise WeightsInvalid(f"The scheduler file asks for betas of form {form!r}; known are linear and scaled_linear.")


def _timesteps(config: Mapping[str, Any], trained: int, steps: int) -> list[int]:
    spacing = config.get("timestep_spacing", "leading")
    if spacing == "leading":
        offset = config.get("steps_offset", 0)
        return [step * (trained // steps) + offset for step in reversed(range(steps))]
    if spacing == "trailing":
        return [round(trained * (steps - step) / steps) - 1 for step in range(steps)]
    raise WeightsInvalid(f"The scheduler file asks for spacing {spacing!r}; known are leading and trailing.")
