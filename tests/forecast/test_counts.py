"""What networks cost by their configurations is what PyTorch counts on the networks themselves."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

import real
from seesr_cli.catalogue import MINIATURE, SEESR, Model
from seesr_cli.forecast import counts
from seesr_cli.models import graft
from seesr_cli.models.configs import PUBLISHED_TAGGER, networks
from seesr_cli.models.tagger import Tagger

REAL = Path(__file__).parents[1] / "golden" / "real"


def published(part: str) -> dict[str, Any]:
    return json.loads((REAL / f"{part}_config.json").read_text())


def counted(network: torch.nn.Module, *inputs: Any, **named: Any) -> tuple[int, int, Any]:
    """Return (parameters, operations) of a network on the meta device, and its answer."""
    with FlopCounterMode(display=False) as counter:
        answer = network(*inputs, **named)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops(), answer


@cache
def built(model: Model) -> tuple[torch.nn.Module, torch.nn.Module]:
    """ControlNet and UNet on the meta device."""
    found, bundled = networks(model), model.bundled
    with torch.device("meta"):
        controlnet = graft.build_controlnet(found.controlnet if bundled else published("controlnet"))
        return controlnet, graft.build_unet(found.unet if bundled else published("unet"))


@pytest.mark.parametrize("model", [MINIATURE, SEESR], ids=lambda model: model.name)
@pytest.mark.parametrize("size", [(64, 64), (72, 96)])
def test_a_step_costs_what_pytorch_counts(model: Model, size: tuple[int, int]) -> None:
    found = networks(model)
    words, image = (77, found.text["hidden_size"]), (145, found.tagger["tagging_head"]["encoder_width"])
    controlnet, unet = built(model)
    with torch.device("meta"):
        conditioning = graft.Conditioning(torch.empty(1, *words), torch.empty(1, *image))
        latent = torch.empty(1, found.latent_channels, *size)
        frame = torch.empty(1, 3, *(found.factor * side for side in size))
        step = {"encoder_hidden_states": conditioning, "return_dict": False}
        *first, (down, mid) = counted(controlnet, latent, torch.tensor(1), controlnet_cond=frame, **step)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        *second, _ = counted(unet, latent, torch.tensor(1), **residuals, **step)
    given = counts.ConditioningSize(words, image)
    control = counts.controlnet(found.controlnet, size, found.factor, given)
    assert [control.parameters, control.operations] == first
    assert control.held == sum(residual.numel() for residual in (*down, mid))
    drawn = counts.unet(found.unet, size, given)
    assert [drawn.parameters, drawn.operations] == second


@pytest.mark.parametrize("model", [MINIATURE, SEESR], ids=lambda model: model.name)
def test_the_other_parts_cost_what_pytorch_counts(model: Model) -> None:
    found = networks(model)
    config = dict(found.vae) if model.bundled else real.VAE_CONFIG
    text = dict(found.text) if model.bundled else real.TEXT_CONFIG
    with torch.device("meta"):
        vae = graft.build_vae(config)
        tagger = Tagger(found.tagger if model.bundled else PUBLISHED_TAGGER, found.tagger["labels"])
        pixels, latent = torch.empty(1, 3, 128, 192), torch.empty(1, found.latent_channels, 16, 24)
        with FlopCounterMode(display=False) as encoding:
            vae.encode(pixels)
        with FlopCounterMode(display=False) as decoding:
            vae.decode(latent)
        tower = counted(CLIPTextModel(CLIPTextConfig.from_dict(text)), torch.zeros(1, 77, dtype=torch.long))
        reading = counted(tagger, torch.empty(1, 3, tagger.side, tagger.side))
    encoder, decoder = counts.encoder(found.vae, (128, 192)), counts.decoder(found.vae, (16, 24))
    assert (encoder.operations, decoder.operations) == (encoding.get_total_flops(), decoding.get_total_flops())
    assert encoder.parameters + decoder.parameters == sum(parameter.numel() for parameter in vae.parameters())
    assert counts.text(found.text)[:2] == tower[:2]
    assert counts.tagger(found.tagger)[:2] == reading[:2]


def test_the_published_networks_cost_what_was_counted_on_them() -> None:
    """In GF, counted on the published classes; the whole guided step by its fitted formula."""
    found, given = networks(SEESR), counts.ConditioningSize((77, 1024), (145, 512))
    for side, unet, controlnet in ((64, 1193, 442), (96, 3364, 1266)):
        drawn = counts.unet(found.unet, (side, side), given).operations / 1e9
        control = counts.controlnet(found.controlnet, (side, side), 8, given).operations / 1e9
        assert drawn == pytest.approx(unet, rel=0.01)
        assert control == pytest.approx(controlnet, rel=0.01)
        assert 2 * (drawn + control) == pytest.approx(0.6254 * side**2 + 4.09e-5 * side**4 + 22, rel=0.01)
    assert counts.encoder(found.vae, (512, 512)).operations / 1e9 == pytest.approx(1117, rel=0.01)
    assert counts.decoder(found.vae, (64, 64)).operations / 1e9 == pytest.approx(2515, rel=0.01)
    assert counts.text(found.text).operations / 1e9 == pytest.approx(45, rel=0.01)


def test_attention_of_the_vae_does_not_grow_with_the_square_of_large_pictures() -> None:
    found = networks(SEESR)
    small, large = (counts.decoder(found.vae, (side, side)).operations for side in (512, 1024))
    assert large == pytest.approx(4 * small, rel=0.01)
