"""Graft the second cross-attention of SeeSR onto the stock diffusers UNet and ControlNet.

In SeeSR a second transformer follows every text transformer of both networks. It has the same layers, but its
cross-attention attends to the tagger's tokens instead of the text (arXiv 2311.16518, section 3.3). Here each stock
`attentions[i]` becomes a `TwoCrossAttentions`, which holds both transformers. diffusers hands a `Conditioning`, or
the `KVCache` of one, through to it as `encoder_hidden_states`, unopened.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from .compact import CompactDecoder

TOKEN_WIDTH = 512
"""Width of RAM's tokens, which the published image attention reads."""

Network = TypeVar("Network", bound=nn.Module)


class Conditioning(NamedTuple):
    """The encoded prompt and the tagger's tokens, to which the two cross-attentions attend.

    text: [B, 77, width of the text encoder].
    image: [B, tokens, width of the tagger's tokens].
    """

    text: Tensor
    image: Tensor


class KeyValue(NamedTuple):
    """The keys and values of one cross-attention for one conditioning: [B, heads, length, width] each."""

    keys: Tensor
    values: Tensor

    @property
    def rows(self) -> int:
        """B, the number of prompts. The number of latents before the first cross-attention may be a divisor of it."""
        return len(self.keys)


KVCache = Mapping[nn.Module, KeyValue]
"""The keys and values of every cross-attention of a network. They are the same at every step."""


class TwoCrossAttentions(nn.Module):
    """Applies the text transformer and then the image transformer, where diffusers has the former alone."""

    def __init__(self, text: Transformer2DModel, image: Transformer2DModel) -> None:
        super().__init__()
        self.text = text
        self.image = image

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: "Conditioning | KVCache",
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Return ([B, C, h, w],) for hidden states of that shape; the signature is the one diffusers' blocks call.

        B is that of the conditioning. With a KVCache the hidden states may be fewer, a divisor of B: then each is
        repeated for its share of the rows, before the first cross-attention.
        """
        if isinstance(encoder_hidden_states, Conditioning):
            for transformer, context in self.contexts(encoder_hidden_states):
                hidden_states = transformer(hidden_states, encoder_hidden_states=context, return_dict=False)[0]
        else:
            for transformer in (self.text, self.image):
                hidden_states = _with_cache(transformer, hidden_states, encoder_hidden_states)
        return (hidden_states,)

    def contexts(self, conditioning: Conditioning) -> tuple[tuple[Transformer2DModel, Tensor], ...]:
        """Return each transformer with its half of `conditioning`, in order."""
        return (self.text, conditioning.text), (self.image, conditioning.image)


def kv_cache(network: nn.Module, conditioning: Conditioning) -> KVCache:
    """Return the keys and values that the cross-attentions of `network` compute from `conditioning`."""
    return {
        block.attn2: KeyValue(_heads(block.attn2, block.attn2.to_k(read)), _heads(block.attn2, block.attn2.to_v(read)))
        for place in network.modules()
        if isinstance(place, TwoCrossAttentions)
        for transformer, read in place.contexts(conditioning)
        for block in transformer.transformer_blocks
    }


def repeated(conditioning: Conditioning, times: int) -> Conditioning:
    """Return the conditioning with all its rows repeated `times` times, one round after the other."""
    return conditioning if times == 1 else Conditioning(*(half.repeat(times, 1, 1) for half in conditioning))


def spread(features: Tensor, rows: int) -> Tensor:
    """Return `features` with each row repeated in its place, until there are `rows`.

    The memory layout is kept, unlike by `repeat_interleave`.
    """
    times = rows // len(features)
    return features if times == 1 else torch.cat([row for row in features.chunk(len(features)) for _ in range(times)])


def _with_cache(transformer: Transformer2DModel, features: Tensor, known: KVCache) -> Tensor:
    """Return the result of the stock `Transformer2DModel` for features [b, C, h, w], with cached keys and values.

    The projections are 1×1 convolutions in Stable Diffusion 1 and linear layers in 2. Their weights differ by two
    dimensions of size 1. Channels stay innermost throughout, so that no layout is converted.
    """
    cells = transformer.norm(features).permute(0, 2, 3, 1)
    hidden = _project(transformer.proj_in, cells).flatten(1, 2)
    for block in transformer.transformer_blocks:
        hidden = _run_block(block, hidden, known[block.attn2])
    moved = _project(transformer.proj_out, hidden).view(-1, *cells.shape[1:]).permute(0, 3, 1, 2)
    return spread(features, len(moved)) + moved


def _run_block(block: BasicTransformerBlock, hidden: Tensor, known: KeyValue) -> Tensor:
    """Return the result of the stock block: self-attention, cross-attention, feed-forward."""
    hidden = hidden + block.attn1(block.norm1(hidden))
    hidden = spread(hidden, known.rows)
    query = _heads(block.attn2, block.attn2.to_q(block.norm2(hidden)))
    attended = F.scaled_dot_product_attention(query, known.keys, known.values)
    hidden = hidden + block.attn2.to_out[0](attended.transpose(1, 2).flatten(2))
    return hidden + block.ff(block.norm3(hidden))


def _heads(attention: Attention, projected: Tensor) -> Tensor:
    """Return [B, length, heads·width] as [B, heads, length, width]."""
    return projected.view(*projected.shape[:2], attention.heads, -1).transpose(1, 2)


def _project(layer: nn.Linear | nn.Conv2d, hidden: Tensor) -> Tensor:
    return F.linear(hidden.to(layer.weight.dtype), layer.weight.flatten(1), layer.bias).to(hidden.dtype)


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """Return the UNet of `config`, a diffusers config.json; with image attention if the config has it.

    Besides diffusers' keys: `use_image_cross_attention`, `image_cross_attention_dim` (512 if absent) and
    `padding_mode` (of every padded convolution, "zeros" if absent). Keys that diffusers does not know are ignored.
    """
    return _finish(construct(UNet2DConditionModel, config), config)


def build_controlnet(config: Mapping[str, Any]) -> ControlNetModel:
    """Return the ControlNet of `config`, which is as for `build_unet`."""
    return _finish(construct(ControlNetModel, config), config)


def build_vae(config: Mapping[str, Any]) -> AutoencoderKL:
    """Return the VAE of `config`, a diffusers config.json, with `padding_mode` as for `build_unet`.

    Where the config has `compact_decoder`, {"width": channels, "layers": number}, a `CompactDecoder` of that size
    stands in the place of the stock decoder.
    """
    vae = construct(AutoencoderKL, config)
    if (compact := config.get("compact_decoder")) is not None:
        factor = 2 ** (len(config["block_out_channels"]) - 1)
        vae.decoder = CompactDecoder(config["latent_channels"], compact["width"], compact["layers"], factor)
    set_padding(vae, config)
    return vae


def construct(network: Callable[..., Network], config: Mapping[str, Any]) -> Network:
    """Return `network` built from those entries of `config` that its constructor knows."""
    known = signature(network).parameters
    return network(**{key: value for key, value in config.items() if key in known})


def set_padding(network: nn.Module, config: Mapping[str, Any]) -> None:
    """Let every padded convolution of `network` pad as the config's `padding_mode` says."""
    if (mode := config.get("padding_mode", "zeros")) != "zeros":
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
                module.padding_mode = mode


def _finish(network: Network, config: Mapping[str, Any]) -> Network:
    if config.get("use_image_cross_attention", False):
        _graft(network, config.get("image_cross_attention_dim", TOKEN_WIDTH))
    set_padding(network, config)
    return network


def _graft(network: UNet2DConditionModel | ControlNetModel, token_width: int) -> None:
    stages = [*network.down_blocks, network.mid_block, *getattr(network, "up_blocks", ())]
    for stage in stages:
        for place, text in enumerate(getattr(stage, "attentions", ())):
            stage.attentions[place] = TwoCrossAttentions(text, _twin(text, token_width))


def _twin(text: Transformer2DModel, token_width: int) -> Transformer2DModel:
    """Return a transformer like `text`, with a cross-attention for tokens of `token_width`.

    Built by its constructor: the stock `from_config` forgets arguments that were given by position.
    """
    attention = text.transformer_blocks[0].attn1
    return Transformer2DModel(
        num_attention_heads=attention.heads,
        attention_head_dim=attention.inner_dim // attention.heads,
        in_channels=text.in_channels,
        num_layers=len(text.transformer_blocks),
        norm_num_groups=text.norm.num_groups,
        cross_attention_dim=token_width,
        use_linear_projection=text.use_linear_projection,
        upcast_attention=attention.upcast_attention,
    )
