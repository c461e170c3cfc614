"""What a person reads of what was measured: tables on a terminal of 80 columns."""

import sys
from pathlib import Path

import pytest

from seesr_cli.evaluate.measure import Measured
from seesr_cli.evaluate.pairs import Pair
from seesr_cli.evaluate.protocol import METRICS
from seesr_cli.evaluate.summary import Whole
from seesr_cli.evaluate.testsets import SETS
from seesr_cli.report import evaluation


def test_all_metrics_with_a_rival_and_published_means_fit_on_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    single = [metric for metric in METRICS if not METRICS[metric].of_folder]
    measured = [
        Measured(
            Pair(f"picture{number}", Path("r"), against=Path("a")),
            dict.fromkeys(single, 20.0 + number),
            dict.fromkeys(single, 18.0 + number / 2),
        )
        for number in range(100)
    ]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no codes of colours between the characters
    evaluation.show(measured, list(METRICS), {"fid": Whole(125.5, 130.25)}, SETS["realsr"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    text = [line.split() for line in lines]
    assert ["FID", "↓", "100", "125.50", "-", "-"] in text
    assert ["FID", "↓", "-4.75", "-", "-", "-"] in text
    assert next(line for line in text if line[:1] == ["LPIPS"])[-1] == "0.3009"
    assert "Published: of SeeSR, by its authors. Others measured a PSNR of 25.15 dB." in lines
