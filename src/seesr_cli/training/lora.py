"""Low-rank updates of linear layers (arXiv 2106.09685): put on, train alone, fold in."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..models.tagger import Tagger


class LowRank(nn.Module):
    """A weight plus B·A · alpha / rank; B starts at zero, so that nothing changes at first."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        bound = inputs**-0.5
        self.a = nn.Parameter((2 * torch.rand((rank, inputs), generator=generator) - 1) * bound)
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        self.factor = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.factor * (self.b @ self.a)


def layers(tagger: Tagger) -> Iterator[nn.Linear]:
    """Yield the layers DAPE updates: query and value of each Swin attention, query and key of the head's."""
    for name, module in tagger.backbone.named_modules():
        if isinstance(module, nn.Linear) and name.endswith((".q_proj", ".v_proj")):
            yield module
    for name, module in tagger.layers.named_modules():
        if isinstance(module, nn.Linear) and name.endswith((".query", ".key")):
            yield module


def put_on(tagger: Tagger, rank: int, alpha: float, seed: int) -> list[nn.Parameter]:
    """Freeze `tagger`, add LoRA to DAPE's layers, and return the parameters that train."""
    generator = torch.Generator().manual_seed(seed)
    tagger.requires_grad_(False)
    learning: list[nn.Parameter] = []
    for layer in layers(tagger):
        update = LowRank(layer.weight, rank, alpha, generator)
        parametrize.register_parametrization(layer, "weight", update)
        learning += [update.a, update.b]
    return learning


def published(tagger: Tagger) -> dict[str, Tensor]:
    """Return the updates on `tagger` by DAPE's published names, as `keys.fold_lora` takes them.

    A Swin `qkv` has one A [2·rank, dim] and one B [2·dim, rank], query first; the head's have A and B each. The
    published file also holds updates of a captioner; where it shares the head's weights they are zeros here.
    """
    found = {
        name.removesuffix(".parametrizations.weight.0"): module
        for name, module in tagger.named_modules()
        if isinstance(module, LowRank)
    }
    state: dict[str, Tensor] = {}
    for name, update in found.items():
        a, b = update.a.detach(), update.b.detach()
        if name.endswith(".q_proj"):
            value = found[name.removesuffix("q_proj") + "v_proj"]
            place = name.replace("backbone.encoder.", "visual_encoder.").replace(".attention.q_proj", ".attn.qkv")
            state[f"{place}.lora_A"] = torch.cat([a, value.a.detach()])
            state[f"{place}.lora_B"] = torch.cat([b, value.b.detach()])
        elif not name.endswith(".v_proj"):
            _, layer, part = name.split(".")
            place = f"encoder.layer.{layer}.crossattention.self.{part}"
            state[f"tagging_head.{place}.lora_A"], state[f"tagging_head.{place}.lora_B"] = a, b
            state[f"tag_encoder.{place}.lora_A"] = torch.zeros_like(a)
            state[f"tag_encoder.{place}.lora_B"] = torch.zeros_like(b)
    return {name: tensor.contiguous() for name, tensor in state.items()}


@torch.no_grad()
def take(tagger: Tagger, state: dict[str, Tensor]) -> None:
    """Set the updates on `tagger` to those of `published`; the inverse of it."""
    names = published(tagger)
    for name, module in tagger.named_modules():
        if not isinstance(module, LowRank):
            continue
        place = name.removesuffix(".parametrizations.weight.0")
        if place.endswith(("q_proj", "v_proj")):
            half = 0 if place.endswith("q_proj") else 1
            owner = place[: -len(".attention.q_proj")].replace("backbone.encoder.", "visual_encoder.") + ".attn.qkv"
            a, b = (state[f"{owner}.{part}"].chunk(2)[half] for part in ("lora_A", "lora_B"))
        else:
            _, layer, part = place.split(".")
            owner = f"tagging_head.encoder.layer.{layer}.crossattention.self.{part}"
            a, b = state[f"{owner}.lora_A"], state[f"{owner}.lora_B"]
        module.a.copy_(a)
        module.b.copy_(b)
    if names.keys() != state.keys():
        raise ValueError("The updates belong to another tagger.")


def fold(tagger: Tagger) -> None:
    """Make the updates part of the weights; the tagger then has its plain names again and computes the same."""
    for layer in layers(tagger):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
