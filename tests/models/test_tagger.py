"""The tagger's parts by a second source."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.swin.configuration_swin import SwinConfig
from transformers.models.swin.modeling_swin import SwinModel

from seesr_cli.models.configs import PUBLISHED_TAGGER
from seesr_cli.models.swin import Swin, _apart, _places
from seesr_cli.models.tagger import HeadLayer, Tagger

SMALL = PUBLISHED_TAGGER | {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}


def test_a_head_layer_is_torch_s_own_attention_and_mlp() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "encoder_width": 32}
    layer = HeadLayer(sizes | {"layer_norm_eps": 1e-12})
    stock = nn.MultiheadAttention(64, 4, kdim=32, vdim=32, batch_first=True)
    with torch.inference_mode():
        stock.q_proj_weight.copy_(layer.query.weight)
        stock.k_proj_weight.copy_(layer.key.weight)
        stock.v_proj_weight.copy_(layer.value.weight)
        stock.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]))
        stock.out_proj.load_state_dict(layer.attended.state_dict())
        queries, tokens = torch.randn(2, 5, 64), torch.randn(2, 9, 32)
        expected = layer.attended_norm(queries + stock(queries, tokens, tokens, need_weights=False)[0])
        mlp = nn.Sequential(layer.widen, nn.GELU(), layer.narrow)
        expected = layer.mlp_norm(expected + mlp(expected))
        torch.testing.assert_close(layer(queries, tokens), expected)


@pytest.mark.parametrize("side", [384, 192])
def test_the_backbone_is_the_stock_one(side: int) -> None:
    torch.manual_seed(0)
    stages = 4 if side == 384 else 3
    sizes: dict[str, Any] = {"embed_dim": 8, "depths": [1, 2, 2, 1][:stages], "num_heads": [1, 2, 2, 4][:stages]}
    stock = SwinModel(
        SwinConfig(image_size=side, window_size=12, mlp_ratio=3.0, drop_path_rate=0.0, **sizes), add_pooling_layer=False
    ).eval()
    for parameter in stock.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = Swin(side, 4, 12, 8, sizes["depths"], sizes["num_heads"], 3.0)
    ours.load_state_dict(stock.state_dict())
    pixels = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), stock(pixels).last_hidden_state, atol=1e-4, rtol=1e-4)


def test_the_first_token_stands_for_the_mean_of_the_others() -> None:
    torch.manual_seed(0)
    tagger = Tagger(SMALL, labels=3).eval()
    with torch.inference_mode():
        logits, tokens = tagger(torch.randn(2, 3, 384, 384))
    assert logits.shape == (2, 3)
    assert tokens.shape == (2, 145, 512)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1), atol=1e-5, rtol=1e-4)


def test_a_network_that_was_built_without_numbers_leaves_none_of_its_kind_behind() -> None:
    _places.cache_clear()
    _apart.cache_clear()
    with torch.device("meta"):
        kept = [_places(4), _apart(8, 4, 2)]
    assert {tensor.device.type for tensor in (*kept, _places(4), _apart(8, 4, 2))} == {"cpu"}
