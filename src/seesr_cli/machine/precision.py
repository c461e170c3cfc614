"""Which precision each network is computed in, and the measurement that decided it.

A precision is automatic only where the picture is shown to agree with fp32: at least 45 dB from end to end.
On a CPU bf16 is inside the products alone (`of_features`).
"""

from typing import Literal, NamedTuple

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Torch's names of what multiplies in bf16; others emulate it. Arm's are not listed: their gain was not measured."""

Part = Literal["vae", "others"]


class Rule(NamedTuple):
    """The precisions that are allowed for some networks on one kind of device.

    models: names of models, or "all".
    part: "vae", or "others": tagger, text encoder, UNet and ControlNet.
    device: "cpu", or "gpu" for CUDA and MPS.
    auto: precision that `--dtype auto` means.
    allowed: precisions that are computed as asked for; others become `auto`.
    reason: measurement or fact that decided it.
    """

    models: str
    part: Part
    device: Literal["cpu", "gpu"]
    auto: str
    allowed: tuple[str, ...]
    reason: str


RULES = (
    Rule(
        "all",
        "vae",
        "cpu",
        "fp32",
        ("fp32",),
        "In bf16 the miniature's pictures are 38 dB from fp32 by it alone. It is 3 % of the published model's work.",
    ),
    Rule(
        "miniature",
        "others",
        "cpu",
        "fp32",
        ("fp32", "bf16"),
        "With products in bf16 and the VAE in fp32, its pictures are 83 dB from fp32, and nothing is faster.",
    ),
    Rule(
        "seesr, turbo",
        "others",
        "cpu",
        "fp32",
        ("fp32", "bf16"),
        "With products in bf16, at real size with random weights, pictures are 45.8 to 49.5 dB from fp32 (bf16 "
        "throughout: 42.6 to 47.1); steps take two thirds to four fifths of the time.",
    ),
    Rule(
        "all",
        "vae",
        "gpu",
        "fp16",
        ("fp32", "fp16", "bf16"),
        "In fp16 the miniature's pictures are 52 dB from fp32, computed on a CPU; on a GPU it was not measured.",
    ),
    Rule(
        "all",
        "others",
        "gpu",
        "fp16",
        ("fp32", "fp16", "bf16"),
        "In fp16 the miniature's pictures are 52 dB from fp32, computed on a CPU; on a GPU it was not measured.",
    ),
)


def rule(model: str, part: Part, device: str) -> Rule:
    """Return the rule for a part of a model on a type of device, as torch names the type."""
    kind = "cpu" if device == "cpu" else "gpu"
    return next(
        each
        for each in RULES
        if (each.part, each.device) == (part, kind) and (each.models == "all" or model in each.models.split(", "))
    )


def of_network(model: str, part: Part, device: str, asked: str) -> torch.dtype:
    """Return the precision of a part of a model on a type of device; asked: as in `--dtype`."""
    found = rule(model, part, device)
    return DTYPES[asked if asked in found.allowed else found.auto]


def of_features(device: str, products: torch.dtype) -> torch.dtype:
    """Return the precision of the values between layers, for layers that multiply in `products`.

    On a CPU bf16 stays inside the products, and all else is fp32. Weight files are read in this precision, too.
    """
    return torch.float32 if (device, products) == ("cpu", torch.bfloat16) else products


def of_vae(device: str, others: torch.dtype) -> torch.dtype:
    """Return the precision of a VAE whose other networks have the precision `others` on this type of device."""
    name = next(name for name, dtype in DTYPES.items() if dtype == others)
    return of_network("all", "vae", device, name)


def has_bf16() -> bool:
    """Return whether this CPU multiplies in bf16. No picture depends on it, only advice does."""
    present = torch.cpu.get_capabilities()
    return any(present.get(name, False) for name in BF16_INSTRUCTIONS)
