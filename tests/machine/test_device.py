"""Device and precision are what was asked for, or are refused in a sentence."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import gpu
from seesr_cli.catalogue import MODELS
from seesr_cli.errors import UsageError
from seesr_cli.machine.device import (
    MOST_TILES,
    NUMBERS_A_PIXEL,
    SMALL,
    Place,
    choose,
    memory_kept,
    threads_enough,
    tiles_a_call,
)


@pytest.mark.parametrize("model", MODELS)
def test_a_cpu_computes_in_fp32_unless_it_is_asked_for_another(model: str) -> None:
    assert choose("cpu", model=model) == (torch.device("cpu"), torch.float32)
    assert choose("cpu", "bf16", model).dtype == torch.bfloat16
    assert choose("cpu", "fp32", model).dtype == torch.float32


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


def test_a_cpu_predicts_one_tile_at_a_time() -> None:
    assert tiles_a_call(Place(torch.device("cpu"), torch.float32), 96 * 96, 2) == 1


def test_a_small_network_has_one_thread_a_large_one_all_and_what_comes_after_what_was_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_enough(SMALL):
            assert torch.get_num_threads() == 2
        with suppress(ValueError), threads_enough(SMALL - 1):
            assert torch.get_num_threads() == 1
            raise ValueError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_gpu_predicts_as_many_tiles_as_half_of_its_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    place, tile = Place(torch.device("cuda", 0), torch.float16), 64 * 64 * 2 * NUMBERS_A_PIXEL * 2
    for free, kept, used, tiles in ((0, 0, 0, 1), (6.5, 0, 0, 3), (6.5, 9.0, 5.0, 5), (99.0, 0, 0, MOST_TILES)):
        gpu.put(monkeypatch, int(free * tile), gpu.Segment(int(kept * tile), int(used * tile)))
        assert tiles_a_call(place, 64 * 64, 2) == tiles


def test_memory_is_kept_nowhere_on_a_system_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delattr(os, "confstr_names")
    with memory_kept(torch.device("cpu")):
        assert torch.ones(2**20).sum() == 2**20
