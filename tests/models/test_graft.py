"""The second cross-attention stands behind every first one, in the published networks' exact shape."""

import json
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from conftest import OWN_GOLDEN
from seesr_cli.models import keys
from seesr_cli.models.graft import Conditioning, TwoCrossAttentions, build_controlnet, build_unet

BUILDERS = {"unet": build_unet, "controlnet": build_controlnet}


def real_config(network: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((OWN_GOLDEN / "real" / f"{network}_config.json").read_text())
    return config


def tiny(network: str, **changes: Any) -> nn.Module:
    config = json.loads((OWN_GOLDEN / "seesr" / network / "config.json").read_text())
    return BUILDERS[network](config | changes)


@pytest.mark.parametrize(
    ("network", "tensors", "parameters", "slots"),
    [("unet", 1102, 1_126_760_324, 16), ("controlnet", 522, 489_031_440, 7)],
)
def test_the_published_networks_have_the_published_names_and_shapes(
    network: str, tensors: int, parameters: int, slots: int
) -> None:
    with torch.device("meta"):
        built = BUILDERS[network](real_config(network))
    ours = {name: list(tensor.shape) for name, tensor in keys.published(built.state_dict()).items()}
    published = json.loads((OWN_GOLDEN / "real" / f"{network}_keys.json").read_text())
    assert ours == published
    assert len(ours) == tensors
    assert sum(tensor.numel() for tensor in built.parameters()) == parameters
    assert sum(isinstance(module, TwoCrossAttentions) for module in built.modules()) == slots


@pytest.mark.parametrize("network", ["unet", "controlnet"])
def test_without_image_attention_the_network_is_the_stock_one(network: str) -> None:
    plain = tiny(network, use_image_cross_attention=False)
    assert not any(isinstance(module, TwoCrossAttentions) for module in plain.modules())


def test_the_text_is_read_first_and_the_tokens_on_top() -> None:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 32, "use_linear_projection": True}
    text, image = (Transformer2DModel(**sizes, cross_attention_dim=width).eval() for width in (48, 64))
    conditioning = Conditioning(torch.randn(2, 77, 48), torch.randn(2, 5, 64))
    features = torch.randn(2, 32, 8, 8)
    with torch.inference_mode():
        (both,) = TwoCrossAttentions(text, image)(features, encoder_hidden_states=conditioning)
        first = text(features, encoder_hidden_states=conditioning.text, return_dict=False)[0]
        second = image(first, encoder_hidden_states=conditioning.image, return_dict=False)[0]
    assert torch.equal(both, second)
    assert not torch.allclose(first, second)


def test_token_width_and_padding_follow_the_config() -> None:
    built = tiny("unet", image_cross_attention_dim=64, padding_mode="reflect")
    read = built.get_parameter("mid_block.attentions.0.image.transformer_blocks.0.attn2.to_k.weight")
    assert read.shape[1] == 64
    padded = [module for module in built.modules() if isinstance(module, nn.Conv2d) and module.padding != (0, 0)]
    assert {module.padding_mode for module in padded} == {"reflect"}


def test_a_key_that_diffusers_does_not_know_is_harmless() -> None:
    assert isinstance(tiny("controlnet", a_key_of_tomorrow=True), nn.Module)
