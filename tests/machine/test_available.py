"""How much is free is asked of the system, and not known is not none."""

import os
from pathlib import Path

import pytest
import torch

import peak
from seesr_cli.machine import available
from seesr_cli.machine.device import choose
from seesr_cli.machine.share import Share
from seesr_cli.vae import plan

CPU = choose("cpu", "fp32")
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
