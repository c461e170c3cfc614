"""The tagger's parts by a second source."""

import torch
from torch import nn

from seesr_cli.models.tagger import HeadLayer, Tagger
from seesr_cli.settings import PUBLISHED_TAGGER

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


def test_built_on_the_meta_device_it_gets_back_the_buffers_it_would_have_had() -> None:
    usual = Tagger(SMALL, labels=3)
    with torch.device("meta"):
        restored = Tagger(SMALL, labels=3)
    restored.load_state_dict(usual.state_dict(), assign=True)
    restored.restore_buffers()
    buffers = dict(usual.named_buffers())
    assert buffers
    for name, buffer in restored.named_buffers():
        assert torch.equal(buffer, buffers[name])


def test_the_first_token_stands_for_the_mean_of_the_others() -> None:
    torch.manual_seed(0)
    tagger = Tagger(SMALL, labels=3).eval()
    with torch.inference_mode():
        logits, tokens = tagger(torch.randn(2, 3, 384, 384))
    assert logits.shape == (2, 3)
    assert tokens.shape == (2, 145, 512)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1), atol=1e-5, rtol=1e-4)
