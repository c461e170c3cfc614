"""Device and precision are what was asked for, or are refused in a sentence."""

import pytest
import torch

from seesr_cli.device import choose
from seesr_cli.errors import UsageError


def test_a_cpu_computes_in_fp32_unless_told_otherwise() -> None:
    assert choose("cpu") == (torch.device("cpu"), torch.float32)
    assert choose("cpu", "bf16").dtype == torch.bfloat16


def test_auto_chooses_something_that_is_there() -> None:
    place = choose()
    assert torch.zeros(1, device=place.device, dtype=place.dtype).device.type == place.device.type


@pytest.mark.parametrize(
    ("device", "dtype", "complaint"),
    [
        ("cpu", "fp16", "bf16"),
        ("toaster", "auto", "toaster"),
        ("cpu", "fp12", "fp12"),
        ("cuda:99", "auto", "not on this machine"),
        ("meta", "auto", "not on this machine"),
    ],
)
def test_what_cannot_be_had_is_refused(device: str, dtype: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        choose(device, dtype)
