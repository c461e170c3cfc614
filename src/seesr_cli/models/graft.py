"""The second cross-attention, grafted onto the stock diffusers UNet and ControlNet.

In SeeSR every text transformer of the UNet and of the ControlNet is followed by a second, identical one whose
cross-attention reads the tagger's tokens instead of the text (arXiv 2311.16518, section 3.3). Here each stock
`attentions[i]` is replaced by a `TwoReadings` that holds both. Both read one `Guide`, or a `Digest` of one, which
diffusers hands through unopened in the place of its `encoder_hidden_states`.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

TOKEN_WIDTH = 512
"""Width of RAM's tokens, which the published image attention reads."""

Network = TypeVar("Network", bound=nn.Module)


class Guide(NamedTuple):
    """What both cross-attentions read: the prompt and the picture's tokens.

    text: [B, 77, width of the text tower]. image: [B, tokens, width of the tagger's tokens].
    """

    text: Tensor
    image: Tensor


class Known(NamedTuple):
    """What a cross-attention knows of its reading before it is asked anything: [B, heads, length, width] each."""

    keys: Tensor
    values: Tensor

    @property
    def rows(self) -> int:
        """B, which latents that have not read yet may be a divisor of."""
        return len(self.keys)


Digest = Mapping[nn.Module, Known]
"""A guide as the cross-attentions of one network know it, by cross-attention; the same at every step."""


class TwoReadings(nn.Module):
    """The text transformer and, behind it, the image transformer, in the place of diffusers' single one."""

    def __init__(self, text: Transformer2DModel, image: Transformer2DModel) -> None:
        super().__init__()
        self.text = text
        self.image = image

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: "Guide | Digest",
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Return ([B, C, h, w],) for hidden states of that shape; the signature is the one diffusers' blocks call.

        B is that of the reading. Given a digest, the hidden states may be fewer: each then stands for as many rows of
        the reading, one after the other, as there are to it, and is told apart where the text is first read.
        """
        if isinstance(encoder_hidden_states, Guide):
            for transformer, reading in self.readings(encoder_hidden_states):
                hidden_states = transformer(hidden_states, encoder_hidden_states=reading, return_dict=False)[0]
        else:
            for transformer in (self.text, self.image):
                hidden_states = _recall(transformer, hidden_states, encoder_hidden_states)
        return (hidden_states,)

    def readings(self, guide: Guide) -> tuple[tuple[Transformer2DModel, Tensor], ...]:
        """Return each transformer with what it reads, in order."""
        return (self.text, guide.text), (self.image, guide.image)


def digest(network: nn.Module, guide: Guide) -> Digest:
    """Return what the cross-attentions of `network` know of `guide`."""
    return {
        block.attn2: Known(_heads(block.attn2, block.attn2.to_k(read)), _heads(block.attn2, block.attn2.to_v(read)))
        for place in network.modules()
        if isinstance(place, TwoReadings)
        for transformer, read in place.readings(guide)
        for block in transformer.transformer_blocks
    }


def repeated(guide: Guide, times: int) -> Guide:
    """Return the guide for `times` as many rows: the same ones again and again."""
    return guide if times == 1 else Guide(*(reading.repeat(times, 1, 1) for reading in guide))


def spread(features: Tensor, rows: int) -> Tensor:
    """Return `features` with each of its rows repeated, one after the other, until there are `rows`.

    They lie in memory as before, which `repeat_interleave` does not keep.
    """
    times = rows // len(features)
    return features if times == 1 else torch.cat([row for row in features.chunk(len(features)) for _ in range(times)])


def _recall(transformer: Transformer2DModel, features: Tensor, known: Digest) -> Tensor:
    """Return what the stock `Transformer2DModel` does, of features [b, C, h, w], its readings known already.

    The projections of Stable Diffusion 1 are convolutions with one pixel, those of 2 are linear: their weights differ
    by two empty dimensions. Pixels stay innermost-channels throughout, so that no layout is changed and back.
    """
    cells = transformer.norm(features).permute(0, 2, 3, 1)
    hidden = _project(transformer.proj_in, cells).flatten(1, 2)
    for block in transformer.transformer_blocks:
        hidden = _run_block(block, hidden, known[block.attn2])
    moved = _project(transformer.proj_out, hidden).view(-1, *cells.shape[1:]).permute(0, 3, 1, 2)
    return spread(features, len(moved)) + moved


def _run_block(block: BasicTransformerBlock, hidden: Tensor, known: Known) -> Tensor:
    """Return what the stock block does: attend to oneself, to what is read, and think."""
    hidden = hidden + block.attn1(block.norm1(hidden))
    hidden = spread(hidden, known.rows)
    query = _heads(block.attn2, block.attn2.to_q(block.norm2(hidden)))
    read = F.scaled_dot_product_attention(query, known.keys, known.values)
    hidden = hidden + block.attn2.to_out[0](read.transpose(1, 2).flatten(2))
    return hidden + block.ff(block.norm3(hidden))


def _heads(attention: Attention, projected: Tensor) -> Tensor:
    """Return [B, length, heads·width] as [B, heads, length, width]."""
    return projected.view(*projected.shape[:2], attention.heads, -1).transpose(1, 2)


def _project(layer: nn.Linear | nn.Conv2d, hidden: Tensor) -> Tensor:
    return F.linear(hidden.to(layer.weight.dtype), layer.weight.flatten(1), layer.bias).to(hidden.dtype)


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """Return the UNet that `config` (a diffusers config.json) describes, with image attention where it says so.

    Besides diffusers' keys: `use_image_cross_attention`, `image_cross_attention_dim` (512 if absent) and
    `padding_mode` (of every padded convolution, "zeros" if absent). Keys that diffusers does not know are ignored.
    """
    return _finish(construct(UNet2DConditionModel, config), config)


def build_controlnet(config: Mapping[str, Any]) -> ControlNetModel:
    """Return the ControlNet that `config` describes; see `build_unet`."""
    return _finish(construct(ControlNetModel, config), config)


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
            stage.attentions[place] = TwoReadings(text, _twin(text, token_width))


def _twin(text: Transformer2DModel, token_width: int) -> Transformer2DModel:
    """Return a transformer like `text` whose cross-attention reads tokens of `token_width`.

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
