"""The noise schedule of a model as a table: one row per step, everything in it known before the first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import UsageError, WeightsInvalid


class Step(NamedTuple):
    """One step of ancestral sampling (DDPM, arXiv 2006.11239).

    The next latent is `to_clean·clean + to_latent·latent + spread·noise` with `clean = (latent - noise_level·predicted)
    / signal_level`. On the last step it is the clean one and spread is 0. timestep: what the networks are told.
    """

    timestep: int
    signal_level: float
    noise_level: float
    to_clean: float
    to_latent: float
    spread: float

    def clean(self, latent: Tensor, predicted: Tensor) -> Tensor:
        """Return the latent without the predicted noise."""
        return (latent - self.noise_level * predicted) / self.signal_level


class Schedule(NamedTuple):
    """The steps of a run, and the levels of signal and noise that a picture is brought to where it starts."""

    steps: tuple[Step, ...]
    start_signal: float
    start_noise: float


def schedule(config: Mapping[str, Any], steps: int) -> Schedule:
    """Return the schedule of `steps` steps that a diffusers scheduler file describes.

    Understood are beta_start, beta_end, beta_schedule (linear, scaled_linear), num_train_timesteps, prediction_type
    (epsilon), timestep_spacing (leading, which is diffusers' default for these files, or trailing) and steps_offset.
    The variance is the posterior's ("fixed small"), nothing is clipped, and the start is the last training timestep.
    Raises WeightsInvalid for a file that asks for anything else, UsageError for more steps than it has room for.
    """
    if config.get("prediction_type", "epsilon") != "epsilon":
        raise WeightsInvalid(
            f"The scheduler file asks to predict {config['prediction_type']!r}; only 'epsilon' is known."
        )
    trained = int(config["num_train_timesteps"])
    kept = torch.cumprod(1 - _betas(config, trained), dim=0)  # the share of the signal's variance at each timestep
    timesteps = _timesteps(config, trained, steps) if steps <= trained else [trained]
    if timesteps[0] >= trained:  # spacing may leave less room than there are timesteps
        raise UsageError(f"{steps} steps are more than the model's {trained} timesteps hold: use fewer --steps.")
    rows = []
    for here, there in zip(timesteps, [*timesteps[1:], -1], strict=True):
        signal, ahead = float(kept[here]), float(kept[there]) if there >= 0 else 1.0
        ratio = signal / ahead
        rows.append(
            Step(
                timestep=here,
                signal_level=signal**0.5,
                noise_level=(1 - signal) ** 0.5,
                to_clean=ahead**0.5 * (1 - ratio) / (1 - signal),
                to_latent=ratio**0.5 * (1 - ahead) / (1 - signal),
                spread=((1 - ahead) / (1 - signal) * (1 - ratio)) ** 0.5,
            )
        )
    return Schedule(tuple(rows), float(kept[-1]) ** 0.5, (1 - float(kept[-1])) ** 0.5)


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
