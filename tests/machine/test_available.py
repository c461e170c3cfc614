"""How much is free is asked of the system, and not known is not none."""

import os
from pathlib import Path

import pytest
import torch

import gpu
import peak
from seesr_cli.machine import available
from seesr_cli.machine.device import MOST_TILES, NUMBERS_A_PIXEL, Place, tiles_a_call
from seesr_cli.machine.share import Share
from seesr_cli.vae import plan

CPU = torch.device("cpu")
MIB = 2**20


def test_there_is_room_here(tmp_path: Path) -> None:
    found = available.room(CPU, tmp_path)
    assert found.device is None
    assert found.host is None or 2**26 < found.host < 2**50
    assert found.disk is not None
    assert found.disk > 0


def test_a_folder_that_is_still_to_be_made_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert available.room(CPU, tmp_path / "new" / "folder").disk is not None


@pytest.mark.parametrize(
    ("folder", "limit", "usage", "reclaimable"),
    [("", *available._LIMITS[0][1:]), ("memory", *available._LIMITS[1][1:])],
)
def test_a_limit_of_the_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, limit: str, usage: str, reclaimable: str
) -> None:
    group = tmp_path / folder
    group.mkdir(exist_ok=True)
    (group / limit).write_text("900\n")
    (group / usage).write_text("400\n")
    (group / "memory.stat").write_text(f"cache 7\n{reclaimable} 100\n")
    monkeypatch.setattr(available, "_GROUPS", tmp_path)
    assert 600 in available._limits()


def test_no_limit_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(available, "_GROUPS", tmp_path)
    assert available._limits() == []


def test_there_are_cores_to_keep_busy() -> None:
    assert 1 <= available.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, [1]),
        ({"cpu.max": "50000 100000\n"}, [1]),
        ({"cpu.max": "400000 100000\n"}, [4]),
        ({"cpu.max": "max 100000\n"}, []),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [3]),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
    ],
)
def test_a_control_group_s_quota_of_time_is_whole_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], quota: list[int]
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(available, "_GROUPS", tmp_path)
    assert available._quotas() == quota
    assert available.cores() <= min(quota, default=available.cores())


def test_a_share_is_a_part_of_device_and_host_and_knows_the_whole(tmp_path: Path) -> None:
    share = available.room(CPU, tmp_path, Share(host=4))
    assert share.host is not None
    assert share.whole().host == pytest.approx(4 * share.host)
    everything = available.Room(800, 900, 70, Share(3, 2))
    assert everything.whole()[:3] == (1600, 2700, 70)
    assert plan.free(torch.device("cpu"), Share(host=4)) * 4 == plan.free(torch.device("cpu"))


@pytest.mark.skipif(not peak.THERE, reason="memory is read from /proc")
def test_what_the_process_has_is_room_for_it_but_may_not_be_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group is allowed 900 MiB, 400 of them are in use, and some of those are this process's."""
    (tmp_path / "memory.max").write_text(f"{900 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{400 * MIB}\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    monkeypatch.setattr(available, "_GROUPS", tmp_path)
    assert available.unclaimed() == 500 * MIB
    host = available.room(CPU, tmp_path).host
    assert host is not None
    assert host > 540 * MIB  # a process with torch in it has more than 40
    assert plan.free(torch.device("cpu")) == 256 * MIB


def test_of_a_machine_that_says_nothing_the_installed_memory_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr(available, "_GROUPS", tmp_path)
    assert available.unclaimed() is None
    installed = available.installed()
    assert installed is not None
    assert available.room(CPU, tmp_path).host == installed
    assert installed // 8 < plan.free(torch.device("cpu")) < installed // 2


def test_what_the_allocator_keeps_is_free_and_what_a_graph_s_pool_keeps_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = (gpu.Segment(900, 300), gpu.Segment(5000, 100, gpu.GRAPH), gpu.Segment(70000, 0, device=1))
    gpu.put(monkeypatch, 4000, *segments)
    assert available.free_on(torch.device("cuda", 0)) == 4000 + 600
    assert available.free_on(torch.device("cuda")) == 4000 + 600  # the current one
    assert available.free_on(torch.device("cuda", 1)) == 4000 + 70000


def test_only_what_the_driver_has_is_divided_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.put(monkeypatch, 4000, gpu.Segment(900, 300))
    assert available.free_on(torch.device("cuda", 0), Share(host=8, device=4)) == 1000 + 600


def test_an_allocator_that_does_not_name_pools_is_asked_for_its_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.put(monkeypatch, 4000, gpu.Segment(900, 300), backend="cudaMallocAsync")
    assert available.free_on(torch.device("cuda", 0)) == 4000 + 600


def test_apple_s_gpu_has_what_it_recommends_less_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 900)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 300)
    assert available.free_on(torch.device("mps"), Share(host=2)) == 300
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1000)
    assert available.free_on(torch.device("mps")) == 0


def test_forecast_tiles_and_vae_have_one_number_for_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph's pool of 40 GiB changes none of the three; 4 GiB that the allocator keeps are free for all."""
    place, gib = Place(torch.device("cuda", 0), torch.float16), 2**30
    tile = NUMBERS_A_PIXEL * 2  # of one latent pixel and one row
    gpu.put(monkeypatch, 8 * gib, gpu.Segment(10 * gib, 6 * gib), gpu.Segment(40 * gib, 0, gpu.GRAPH))
    assert available.free_on(place.device) == 12 * gib
    assert available.room(place.device, tmp_path).device == (12 + 6) * gib  # its own tensors included
    assert available.room(place.device, tmp_path, Share(device=2)).device == (12 + 6) // 2 * gib
    assert plan.free(place.device) == 8 * gib  # 80 %, as a power of two
    fitting = 6 * gib // tile // 4
    assert tiles_a_call(place, fitting, 1) == 4
    assert tiles_a_call(place, fitting + 1, 1) == 3
    assert tiles_a_call(place, 1, 1) == MOST_TILES
