"""Tensor names: the published files' to ours, and back. Knows names and tensors, neither files nor networks.

Every function takes and returns a whole state dict (name → tensor), so that a name it does not know stays as it is and
is found out by the strict loading behind it.
"""

import re

import torch
from torch import Tensor

StateDict = dict[str, Tensor]

_TEXT_SLOT = re.compile(r"^((?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.)attentions\.(\d+)\.")
_IMAGE_SLOT = re.compile(r"^((?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.)image_attentions\.(\d+)\.")
_GRAFTED_SLOT = re.compile(r"^((?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.)attentions\.(\d+)\.(text|image)\.")

IMAGE_ATTENTION = "image_attentions"
"""The part of a published name that marks the second branch."""

_TEXT_MODEL = "text_model."
_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# (published, ours): applied in this order, in either direction, each once; the special stand before the general.
_TAGGER_PREFIXES = (
    ("visual_encoder.patch_embed.proj.", "backbone.embeddings.patch_embeddings.projection."),
    ("visual_encoder.patch_embed.norm.", "backbone.embeddings.norm."),
    ("visual_encoder.norm.", "backbone.layernorm."),
    ("visual_encoder.layers.", "backbone.encoder.layers."),
    ("label_embed", "label_vectors"),
    ("image_proj.", "to_tokens."),
    ("wordvec_proj.", "to_queries."),
    ("fc.", "to_logit."),
    ("tagging_head.encoder.layer.", "layers."),
)
_SWIN_PARTS = (
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.proj.", ".attention.o_proj."),
    (".attn.relative_position_bias_table", ".attention.relative_position_bias.relative_position_bias_table"),
    (".attn.", ".attention."),
)
_HEAD_PARTS = (
    (".crossattention.self.query.", ".query."),
    (".crossattention.self.key.", ".key."),
    (".crossattention.self.value.", ".value."),
    (".crossattention.output.dense.", ".attended."),
    (".crossattention.output.LayerNorm.", ".attended_norm."),
    (".intermediate.dense.", ".widen."),
    (".output.dense.", ".narrow."),
    (".output.LayerNorm.", ".mlp_norm."),
)
_PROJECTIONS = ("q", "k", "v")

_CAPTIONER = ("text_decoder.", "tag_encoder.")
_SWIN_BUFFERS = (".relative_position_index", ".attn_mask")
_LORA = (".lora_A", ".lora_B")


def grafted(state: StateDict) -> StateDict:
    """Return the published names of a UNet or ControlNet with image attention as the grafted network's."""
    return {
        _IMAGE_SLOT.sub(r"\1attentions.\2.image.", _TEXT_SLOT.sub(r"\1attentions.\2.text.", name)): tensor
        for name, tensor in state.items()
    }


def published(state: StateDict) -> StateDict:
    """Return the names of a grafted network as the published ones: the inverse of `grafted`."""

    def rename(match: re.Match[str]) -> str:
        slot = "attentions" if match[3] == "text" else IMAGE_ATTENTION
        return f"{match[1]}{slot}.{match[2]}."

    return {_GRAFTED_SLOT.sub(rename, name): tensor for name, tensor in state.items()}


def vae(state: StateDict) -> StateDict:
    """Return a VAE's state with the mid-block attention named as diffusers names it today.

    Old files call its projections query, key, value and proj_attn, and some hold them as 1×1 convolutions.
    """
    renamed: StateDict = {}
    for name, tensor in state.items():
        owner, _, leaf = name.rpartition(".")
        block, _, projection = owner.rpartition(".")
        if ".attentions." in name and projection in _OLD_VAE_ATTENTION:
            name = f"{block}.{_OLD_VAE_ATTENTION[projection]}.{leaf}"
            tensor = tensor.flatten(1) if tensor.ndim == 4 else tensor
        renamed[name] = tensor
    return renamed


def text_tower(state: StateDict) -> StateDict:
    """Return a CLIP text tower's published names as transformers' of today, without the positions, a constant."""
    names = {name.removeprefix(_TEXT_MODEL): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in names.items() if name != "embeddings.position_ids"}


def published_text_tower(state: StateDict) -> StateDict:
    """Return a text tower's names as the published ones: the inverse of `text_tower`."""
    return {f"{_TEXT_MODEL}{name}": tensor for name, tensor in state.items()}


def ram(state: StateDict) -> StateDict:
    """Return RAM's `model` entry without the captioner and the constant buffers; older releases' names made new.

    Names stay published ones, so that LoRA can be folded in; `tagger` translates them.
    """
    named = {name.replace("vision_multi.", "tagging_head.", 1): tensor for name, tensor in state.items()}
    return {
        name: tensor
        for name, tensor in named.items()
        if not name.startswith(_CAPTIONER) and not name.endswith(_SWIN_BUFFERS)
    }


def fold_lora(state: StateDict, lora: StateDict, rank: int, alpha: float) -> tuple[StateDict, list[str]]:
    """Return RAM's state with DAPE's LoRA folded in, and the names in `lora` that found no place.

    state: published names, as `ram` returns it. The update of a weight is B·A·alpha/rank. A Swin `qkv` has an update of
    its query rows and one of its value rows, none of its key rows: A [2·rank, dim], B [2·dim, rank], query first.
    The published model shares the cross-attention of the captioner's first `tag_encoder` layers with the tagging head
    and merging folds both updates into the shared weight, so a `tag_encoder` update is folded too where the head has
    that weight; the captioner's own are passed over.
    """
    folded = dict(state)
    strays = [name for name in lora if not name.endswith(_LORA)]
    for name, down in lora.items():
        if not name.endswith(".lora_A"):
            continue
        place = name.removesuffix(".lora_A")
        up = lora.get(f"{place}.lora_B")
        if up is None:
            strays.append(name)
            continue
        weight = f"{place.replace('tag_encoder.', 'tagging_head.', 1)}.weight"
        if weight in folded:
            folded[weight] = folded[weight].float() + _update(down.float(), up.float(), rank) * (alpha / rank)
        elif not place.startswith(_CAPTIONER):
            strays.append(name)
    strays += [name for name in lora if name.endswith(".lora_B") and f"{name[:-1]}A" not in lora]
    return folded, strays


def _update(down: Tensor, up: Tensor, rank: int) -> Tensor:
    """Return the [out, in] update of one weight; with two halves in `down`, that of query, key (nothing) and value."""
    if len(down) == rank:
        return up @ down
    (down_query, down_value), (up_query, up_value) = down.chunk(2), up.chunk(2)
    query = up_query @ down_query
    return torch.cat([query, torch.zeros_like(query), up_value @ down_value])


def tagger(state: StateDict) -> StateDict:
    """Return the published names of the tagger as ours, every `qkv` split into its three projections."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        name = _translate(name, source=0, target=1)
        if ".attention.qkv." in name:
            for projection, rows in zip(_PROJECTIONS, tensor.chunk(len(_PROJECTIONS)), strict=True):
                renamed[name.replace(".qkv.", f".{projection}_proj.")] = rows
        else:
            renamed[name] = tensor
    return renamed


def published_tagger(state: StateDict) -> StateDict:
    """Return our names of the tagger as the published ones: the inverse of `tagger`."""
    joined: StateDict = {}
    for name, tensor in state.items():
        if ".q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{projection}_proj.")] for projection in _PROJECTIONS]
            joined[name.replace(".q_proj.", ".qkv.")] = torch.cat(parts)
        elif not (".k_proj." in name or ".v_proj." in name):
            joined[name] = tensor
    return {_translate(name, source=1, target=0): tensor for name, tensor in joined.items()}


def _translate(name: str, source: int, target: int) -> str:
    """Return `name` with what stands in column `source` of the tables replaced by its partner in column `target`."""
    for pair in _TAGGER_PREFIXES:
        if name.startswith(pair[source]):
            name = pair[target] + name.removeprefix(pair[source])
            break
    for pair in _SWIN_PARTS if name.startswith(("visual_encoder.", "backbone.")) else _HEAD_PARTS:
        name = name.replace(pair[source], pair[target], 1)
    return name
