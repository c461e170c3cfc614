"""A night's work in small: a thousand pictures take no more memory and hold no more files at the end than at first."""

import os
from pathlib import Path
from statistics import mean

import pytest
from PIL import Image

from seesr_cli.catalogue import MINIATURE
from seesr_cli.report.screen import Report
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.run import batch
from seesr_cli.run.inputs import find
from seesr_cli.run.outputs import plan_results
from seesr_cli.run.request import Request
from seesr_cli.settings import Settings
from seesr_cli.weights import locate
from seesr_cli.weights.fingerprint import fingerprint

STATUS, DESCRIPTORS = Path("/proc/self/statm"), Path("/proc/self/fd")
COUNT, SHARE = 1000, 100


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")
def test_a_thousand_pictures_leave_memory_and_files_as_they_were(tmp_path: Path) -> None:
    for number in range(COUNT):
        path = tmp_path / "in" / f"{number // 100}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((12 + number % 5, 12 + number % 7), 60).convert("RGB").save(path)
    settings = Settings(steps=1, guidance=1.0, process_size=64, colour="wavelet", tile=160, overlap=16)
    jobs = plan_results(find([str(tmp_path / "in")]).pictures, str(tmp_path / "out"))
    upscaler = Upscaler.load(MINIATURE, None, "cpu", "fp32")
    memory, files = [], []
    with Report(len(jobs), quiet=True) as report:
        for outcome in batch.run(
            jobs,
            Request(MINIATURE, settings, sidecar="json"),
            lambda: upscaler,
            lambda: fingerprint(MINIATURE, locate(MINIATURE, None)),
            report,
        ):
            assert outcome.state == "done"
            memory.append(int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            files.append(len(list(DESCRIPTORS.iterdir())))
    first, last = mean(memory[:SHARE]), mean(memory[-SHARE:])
    print(
        f"{first / 2**20:.1f} MiB in the first hundred, {last / 2**20:.1f} MiB in the last; {files[0]} -> {files[-1]}"
    )
    assert last < 1.02 * first
    assert files[-1] <= files[0]
