"""The objective of a denoiser: its target, and the loss as a choice.

With signal s = sqrt(kept) and noise level n = sqrt(1 - kept), a noisy latent is s·clean + n·noise. A network may be
asked for the noise (DDPM, arXiv 2006.11239), the velocity s·noise - n·clean (arXiv 2202.00512) or the clean latent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..models.graft import Conditioning, TwoCrossAttentions

Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What is predicted, in the words of a scheduler file."""

Weighting = Literal["none", "min-snr", "late"]


Learns = Literal["published", "networks", "all"]
"""What trains: ControlNet and image attention; ControlNet and UNet; the text tower, too."""


@dataclass(frozen=True)
class Objective:
    """The loss of a denoiser; the defaults are the published ones.

    prediction: what the network is asked for.
    weighting: of the timesteps. "none": all alike. "min-snr": min(SNR, `gamma`) of the clean latent's error (arXiv
    2303.09556). "late": timesteps are drawn three times as often from the noisier half.
    timesteps: (first, last + 1) of the drawn ones, as shares of the schedule, 0 to 1.
    """

    prediction: Prediction = "epsilon"
    weighting: Weighting = "none"
    gamma: float = 5.0
    timesteps: tuple[float, float] = (0.0, 1.0)


class Denoiser(nn.Module):
    """ControlNet and UNet in one module, and the text tower where it trains too.

    One module is what several devices need: every parameter takes part in every step.
    """

    def __init__(
        self, unet: UNet2DConditionModel, controlnet: ControlNetModel, text: CLIPTextModel | None = None
    ) -> None:
        super().__init__()
        self.unet = unet
        self.controlnet = controlnet
        self.text = text

    def forward(self, latent: Tensor, timestep: Tensor, prompt: Tensor, tokens: Tensor, frame: Tensor) -> Tensor:
        """Return the network's prediction for a noisy latent [B, C, h, w].

        timestep: [B]. prompt: token ids [B, 77] where there is a text tower, else embeddings [B, 77, width]. tokens:
        [B, cells, width]. frame: [B, 3, H, W], RGB in [0, 1].
        """
        text = prompt if self.text is None else self.text(prompt).last_hidden_state
        conditioning = Conditioning(text, tokens)
        down, middle = self.controlnet(
            latent, timestep, encoder_hidden_states=conditioning, controlnet_cond=frame, return_dict=False
        )
        return self.unet(
            latent,
            timestep,
            encoder_hidden_states=conditioning,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]


def add_noise(latent: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return sqrt(kept) * latent + sqrt(1 - kept) * noise for each picture's `kept` [B]."""
    share = kept[:, None, None, None]
    return share.sqrt() * latent + (1 - share).sqrt() * noise


def target(objective: Objective, clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return the target of the network; the arguments are those of `add_noise`."""
    share = kept[:, None, None, None]
    match objective.prediction:
        case "epsilon":
            return noise
        case "v_prediction":
            return share.sqrt() * noise - (1 - share).sqrt() * clean
        case "sample":
            return clean


def clean_latent(objective: Objective, predicted: Tensor, noisy: Tensor, kept: Tensor) -> Tensor:
    """Return the clean latent that a prediction stands for."""
    share = kept[:, None, None, None]
    match objective.prediction:
        case "epsilon":
            return (noisy - (1 - share).sqrt() * predicted) / share.sqrt()
        case "v_prediction":
            return share.sqrt() * noisy - (1 - share).sqrt() * predicted
        case "sample":
            return predicted


def weights(objective: Objective, kept: Tensor) -> Tensor:
    """Return each picture's weight [B] in the squared error of the prediction."""
    if objective.weighting != "min-snr":
        return torch.ones_like(kept)
    ratio = kept / (1 - kept)
    capped = ratio.clamp(max=objective.gamma)
    match objective.prediction:
        case "epsilon":
            return capped / ratio
        case "v_prediction":
            return capped / (ratio + 1)
        case "sample":
            return capped


def draw_timestep(objective: Objective, trained: int, generator: torch.Generator) -> int:
    """Return a timestep of `trained` ones, drawn as the objective asks."""
    first, last = (round(share * trained) for share in objective.timesteps)
    if objective.weighting == "late" and float(torch.rand((), generator=generator)) < 0.5:
        first = (first + last) // 2
    return int(torch.randint(first, last, (), generator=generator))


def error(objective: Objective, predicted: Tensor, clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return the mean squared error of a prediction, weighted by timestep, as float32."""
    wanted = target(objective, clean, noise, kept)
    if objective.weighting != "min-snr":
        return torch.nn.functional.mse_loss(predicted.float(), wanted.float())
    each = (predicted.float() - wanted.float()).square().mean((1, 2, 3))
    return (weights(objective, kept) * each).mean()


def image_attention(unet: UNet2DConditionModel) -> Iterator[nn.Parameter]:
    """Yield the parameters of the grafted image transformers."""
    for module in unet.modules():
        if isinstance(module, TwoCrossAttentions):
            yield from module.image.parameters()


def choose(denoiser: Denoiser, learns: Learns) -> list[nn.Parameter]:
    """Freeze all of `denoiser` except the parts that `learns` names, and return their parameters."""
    denoiser.requires_grad_(False)
    parts: list[nn.Parameter] = [*denoiser.controlnet.parameters()]
    parts += image_attention(denoiser.unet) if learns == "published" else denoiser.unet.parameters()
    if learns == "all" and denoiser.text is not None:
        parts += denoiser.text.parameters()
    for parameter in parts:
        parameter.requires_grad_(True)
    return parts
