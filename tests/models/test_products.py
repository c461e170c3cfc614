"""On a CPU in bf16 products are of bf16, and all that they are added to is fp32."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import OWN_GOLDEN
from seesr_cli.models.graft import build_controlnet, build_unet
from seesr_cli.models.products import ENDS, lower, precision


@pytest.mark.parametrize(("name", "build"), [("unet", build_unet), ("controlnet", build_controlnet)])
def test_all_but_the_ends_multiply_in_bf16_and_nothing_else_is_in_it(name: str, build: Callable[..., Any]) -> None:
    network = build(json.loads((OWN_GOLDEN / "seesr" / name / "config.json").read_text()))
    assert precision(network) == torch.float32
    lower(network, torch.bfloat16)
    assert precision(network) == torch.bfloat16
    for place, layer in network.named_modules():
        own = {parameter.dtype for parameter in layer.parameters(recurse=False)}
        product = isinstance(layer, nn.Linear | nn.Conv2d) and place.rpartition(".")[2] not in ENDS
        assert own <= {torch.bfloat16 if product else torch.float32}, place
    assert {network.conv_in.weight.dtype, network.conv_in.bias.dtype} == {torch.float32}


@torch.inference_mode()
def test_what_is_added_to_a_product_keeps_all_its_bits() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8)

        def forward(self, features: Tensor) -> Tensor:
            return features + self.linear(self.norm(features))

    torch.manual_seed(0)
    block, given = Residual(), torch.randn(4, 8)
    given[:, 0] += 1000.1234  # which bf16 has as 1000
    linear, normed = nn.Linear(8, 8), block.norm(given)
    linear.load_state_dict(block.linear.state_dict())
    lower(block, torch.bfloat16)
    made = block(given)
    assert made.dtype == torch.float32
    assert torch.equal(made, given + linear.bfloat16()(normed.bfloat16()).float())
    assert not torch.equal(made, made.bfloat16().float())
