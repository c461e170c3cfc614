"""Device and precision are what was asked for, or are refused in a sentence."""

import os
from pathlib import Path

import pytest
import torch

from seesr_cli.device import choose, memory_kept
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


def test_memory_is_kept_inside_and_given_back_at_the_end() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        pytest.skip("only glibc can be told")
    large, before = 200_000_000, resident()
    with memory_kept(torch.device("cpu")):
        torch.ones(large // 4)
        assert resident() - before > large / 2
    assert resident() - before < large / 2
