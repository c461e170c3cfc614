"""The loss as a choice: what is asked for, and how it is weighted."""

import pytest
import torch

from seesr_cli.sampling.schedule import signal_kept
from seesr_cli.training import objective
from seesr_cli.training.objective import Objective, Prediction, Weighting

KEPT = signal_kept({"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_what_is_asked_for_gives_the_clean_latent_back(prediction: Prediction) -> None:
    clean, noise, kept = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), KEPT[[10, 400, 700]]
    asked = Objective(prediction)
    noisy = objective.add_noise(clean, noise, kept)
    wanted = objective.target(asked, clean, noise, kept)
    assert torch.allclose(objective.clean_latent(asked, wanted, noisy, kept), clean, atol=1e-4)
    assert objective.error(asked, wanted, clean, noise, kept) == 0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_min_snr_is_the_same_error_of_the_clean_latent_whatever_is_predicted(prediction: Prediction) -> None:
    clean, noise, kept = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), KEPT[[10, 400, 700]]
    asked = Objective(prediction, "min-snr")
    wrong = clean + 0.1 * torch.randn(3, 4, 8, 8)
    noisy = objective.add_noise(clean, noise, kept)
    share = kept[:, None, None, None]
    implied = (noisy - share.sqrt() * wrong) / (1 - share).sqrt()
    answer = {"epsilon": implied, "v_prediction": share.sqrt() * implied - (1 - share).sqrt() * wrong, "sample": wrong}
    capped = (kept / (1 - kept)).clamp(max=5.0)
    expected = (capped * (wrong - clean).square().mean((1, 2, 3))).mean()
    assert objective.error(asked, answer[prediction], clean, noise, kept).item() == pytest.approx(
        expected.item(), rel=2e-3
    )


@pytest.mark.parametrize(("weighting", "late"), [("none", 0.5), ("late", 0.75)])
def test_timesteps_are_drawn_as_often_as_the_weighting_says(weighting: Weighting, late: float) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [objective.draw_timestep(Objective("epsilon", weighting), 1000, generator) for _ in range(4000)]
    assert min(drawn) < 20
    assert max(drawn) > 980
    assert sum(each >= 500 for each in drawn) / 4000 == pytest.approx(late, abs=0.03)
    few = Objective(timesteps=(0.2, 0.3))
    assert all(200 <= objective.draw_timestep(few, 1000, generator) < 300 for _ in range(50))


def test_training_and_sampling_know_one_noise_schedule() -> None:
    scaled = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    linear = scaled | {"beta_schedule": "linear"}
    assert signal_kept(scaled)[-1].item() == pytest.approx(0.00466, abs=1e-4)
    assert signal_kept(linear)[-1].item() == pytest.approx(0.0015, abs=2e-4)
