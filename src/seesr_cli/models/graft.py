"""The second cross-attention, grafted onto the stock diffusers UNet and ControlNet.

In SeeSR every text transformer of the UNet and of the ControlNet is followed by a second, identical one whose
cross-attention reads the tagger's tokens instead of the text (arXiv 2311.16518, section 3.3). Here each stock
`attentions[i]` is replaced by a `TwoReadings` that holds both. Both read one `Guide`, which diffusers hands through
unopened in the place of its `encoder_hidden_states`.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple, TypeVar

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


class TwoReadings(nn.Module):
    """The text transformer and, behind it, the image transformer, in the place of diffusers' single one."""

    def __init__(self, text: Transformer2DModel, image: Transformer2DModel) -> None:
        super().__init__()
        self.text = text
        self.image = image

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Guide,
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Return ([B, C, h, w],) for hidden states of that shape; the signature is the one diffusers' blocks call."""
        for transformer, reading in (
            (self.text, encoder_hidden_states.text),
            (self.image, encoder_hidden_states.image),
        ):
            hidden_states = transformer(hidden_states, encoder_hidden_states=reading, return_dict=False)[0]
        return (hidden_states,)


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
