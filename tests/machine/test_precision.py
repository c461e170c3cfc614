"""Every network has a rule for its precision, and the default precision gives fp32's picture."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import seesr_cli
from seesr_cli.catalogue import MODELS
from seesr_cli.forecast import check
from seesr_cli.machine.device import Place, vae_place
from seesr_cli.machine.precision import DTYPES, RULES, has_bf16, of_network, of_vae, rule
from seesr_cli.models.products import precision
from seesr_cli.restore.upscaler import Upscaler

PICTURES = 50
"""Decibels that a picture in the default precision is from fp32 at least."""


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("part", ["vae", "others"])
@pytest.mark.parametrize("model", MODELS)
def test_exactly_one_rule_holds_for_each_network(model: str, part: str, device: str) -> None:
    kind = "cpu" if device == "cpu" else "gpu"
    found = [
        each
        for each in RULES
        if (each.part, each.device) == (part, kind) and (each.models == "all" or model in each.models.split(", "))
    ]
    assert found == [rule(model, part, device)]  # type: ignore[arg-type]  # the parts are listed above
    assert found[0].auto in found[0].allowed
    assert set(found[0].allowed) <= set(DTYPES)
    assert found[0].reason.endswith(".")


def test_no_rule_is_without_a_model_that_it_holds_for() -> None:
    assert {name for each in RULES for name in each.models.split(", ")} == {"all", *MODELS}


def test_what_is_not_allowed_becomes_what_is_automatic() -> None:
    assert of_network("miniature", "vae", "cpu", "bf16") == torch.float32
    assert of_network("miniature", "vae", "cuda", "bf16") == torch.bfloat16
    assert of_network("seesr", "others", "cpu", "bf16") == torch.bfloat16
    assert of_network("seesr", "others", "cpu", "auto") == torch.float32
    assert of_network("seesr", "others", "cuda", "auto") == torch.float16


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_the_vae_is_in_fp32_on_a_cpu(dtype: torch.dtype) -> None:
    assert of_vae("cpu", dtype) == torch.float32
    assert vae_place(Place(torch.device("cpu"), dtype)).dtype == torch.float32
    assert of_vae("cuda", dtype) == dtype


def test_only_words_depend_on_what_the_cpu_can_do_the_advice_of_a_refusal_and_the_report_on_a_machine() -> None:
    """Everything else, the tests too, is the same with and without bf16 instructions."""
    asking = re.compile(r"has_bf16\(\)|get_capabilities|cpu_capability|_is_(avx|amx|vnni)")
    folder = Path(seesr_cli.__file__).parent
    asked = {path: len(asking.findall(path.read_text())) for path in folder.rglob("*.py")}
    assert {path.relative_to(folder).as_posix(): times for path, times in asked.items() if times} == {
        "machine/precision.py": 2,  # the definition, and what it asks
        "forecast/check.py": 1,
        "report/diagnosis.py": 2,
    }
    assert "has_bf16()" in inspect.getsource(check._advice)


def picture_in(dtype: str) -> torch.Tensor:
    model = MODELS["miniature"]
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    settings = replace(model.defaults, process_size=64)
    return Upscaler.load(model, device="cpu", dtype=dtype).upscale(picture, settings).pixels


@pytest.fixture(scope="module")
def in_fp32() -> torch.Tensor:
    return picture_in("fp32")


@pytest.mark.parametrize("served", [False, True])
def test_the_miniature_s_picture_in_the_default_precision_is_fp32_s(
    served: bool, in_fp32: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "amx_bf16": served})
    assert has_bf16() == served
    distance = (picture_in("auto") - in_fp32).square().mean()
    assert distance == 0 or -10 * torch.log10(distance) >= PICTURES


def test_the_miniature_s_picture_in_bf16_is_near_fp32_s(in_fp32: torch.Tensor) -> None:
    distance = (picture_in("bf16") - in_fp32).square().mean()
    assert distance > 0
    assert -10 * torch.log10(distance) >= PICTURES


def test_asked_for_bf16_the_networks_have_it_and_the_vae_does_not() -> None:
    upscaler = Upscaler.load(MODELS["miniature"], device="cpu", dtype="bf16")
    for network in (upscaler.sampler.unet, upscaler.sampler.controlnet, upscaler.reader.tagger):
        assert precision(network) == torch.bfloat16
    assert upscaler.place == ("cpu", "bf16")
    assert {parameter.dtype for parameter in upscaler.vae.network.parameters()} == {torch.float32}
