"""The schedule is that of the stock scheduler, as one table."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from seesr_cli.errors import UsageError, WeightsInvalid
from seesr_cli.restore.denoise import begin, denoise
from seesr_cli.sampling.noise import seeded
from seesr_cli.sampling.schedule import schedule
from seesr_cli.settings import Solver

STABLE_DIFFUSION: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "clip_sample": False,
}
SHORT = STABLE_DIFFUSION | {"num_train_timesteps": 100, "beta_schedule": "linear", "steps_offset": 0}


def predicted(latent: Tensor, timestep: int) -> Tensor:
    return torch.sin(3 * latent + timestep)


def gently(latent: Tensor, timestep: int) -> Tensor:
    """Solvers of second order draw lines through predictions, and rounding errors with them."""
    return torch.sin(latent / 2 + timestep / 300)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("config", [STABLE_DIFFUSION, SHORT], ids=["stable-diffusion", "short"])
def test_denoising_is_the_stock_scheduler_s(config: dict[str, Any], spacing: str, steps: int) -> None:
    config = config | {"timestep_spacing": spacing}
    stock = DDPMScheduler(**config)
    stock.set_timesteps(steps)
    ours = schedule(config, steps)
    assert [step.timestep for step in ours.steps] == stock.timesteps.tolist()

    start = theirs = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    chance = torch.Generator().manual_seed(1)
    for timestep in stock.timesteps:
        theirs = stock.step(predicted(theirs, int(timestep)), timestep, theirs, generator=chance).prev_sample
    *_, latent = denoise(start, predicted, ours, seeded(1))
    torch.testing.assert_close(latent, theirs, atol=1e-4, rtol=1e-4)


def test_the_start_is_under_the_noise_of_the_last_training_timestep() -> None:
    stock = DDPMScheduler(**STABLE_DIFFUSION)
    latent, noise = torch.randn(1, 4, 8, 8), seeded(3)
    theirs = stock.add_noise(latent, seeded(3)(latent.shape), torch.tensor([999]))
    torch.testing.assert_close(begin(latent, schedule(STABLE_DIFFUSION, 50), noise), theirs)


def test_fifty_steps_are_the_published_ones() -> None:
    timesteps = [step.timestep for step in schedule(STABLE_DIFFUSION, 50).steps]
    assert timesteps[:3] == [981, 961, 941]
    assert timesteps[-1] == 1


def test_the_last_step_ends_at_the_clean_latent() -> None:
    last = schedule(STABLE_DIFFUSION, 50).steps[-1]
    assert (last.to_clean, last.to_latent, last.spread) == (1, 0, 0)


@pytest.mark.parametrize(
    "change", [{"prediction_type": "v_prediction"}, {"beta_schedule": "cosine"}, {"timestep_spacing": "linspace"}]
)
def test_a_file_that_asks_for_another_sampler_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(WeightsInvalid, match=next(iter(change.values()))):
        schedule(STABLE_DIFFUSION | change, 10)


def test_more_steps_than_the_model_knows_are_refused() -> None:
    with pytest.raises(UsageError, match="101 steps are more than the model's 100"):
        schedule(SHORT, 101)
    with pytest.raises(UsageError, match="1000"):  # leading spacing begins one later than there is room for
        schedule(STABLE_DIFFUSION, 1000)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers under numpy 2
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 25])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_solver_of_second_order_is_the_stock_one(spacing: str, steps: int) -> None:
    ours = schedule(STABLE_DIFFUSION | {"timestep_spacing": spacing}, steps, "dpm++")
    known = {key: STABLE_DIFFUSION[key] for key in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")}
    theirs = DPMSolverMultistepScheduler(**known, final_sigmas_type="zero", lower_order_final=True)
    theirs.set_timesteps(steps)
    # Their spacing differs from DDPM's, which ours keeps: put our levels in the place of theirs.
    theirs.timesteps = torch.tensor([step.timestep for step in ours.steps])
    theirs.sigmas = torch.tensor([*(step.noise_level / step.signal_level for step in ours.steps), 0])

    start = latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for timestep in theirs.timesteps:
        latent = theirs.step(gently(latent, int(timestep)), timestep, latent).prev_sample
    *_, last = denoise(start, gently, ours, seeded(1))
    torch.testing.assert_close(last, latent, atol=1e-4, rtol=1e-4)


def ended(steps: int, solver: Solver, spread: float) -> float:
    """Where one deviation of noise ends up, of data spread normally, whose noise is known: N(0, spread²)."""
    table = schedule(STABLE_DIFFUSION, steps, solver)
    levels = {step.timestep: (step.signal_level, step.noise_level) for step in table.steps}

    def known(latent: Tensor, timestep: int) -> Tensor:
        signal, noise = levels[timestep]
        return latent * noise / (signal**2 * spread**2 + noise**2)

    signal, noise = levels[table.steps[0].timestep]
    start = torch.full((1, 1, 1, 1), (signal**2 * spread**2 + noise**2) ** 0.5, dtype=torch.float64)
    *_, latent = denoise(start, known, table, lambda shape: torch.zeros(shape))
    return float(latent)


def test_twice_the_steps_are_a_quarter_of_the_error_or_less() -> None:
    """The way of a normal distribution is known: a deviation stays one."""
    for spread in (2.0, 1.0):
        errors = [abs(ended(steps, "dpm++", spread) / spread - 1) for steps in (20, 40, 80)]
        assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_an_interval_of_noise_is_timesteps() -> None:
    chosen = schedule(STABLE_DIFFUSION, 50).within(0.28, 5.42)
    assert 1 not in chosen
    assert 981 not in chosen
    assert 501 in chosen
