"""`seesr doctor` says what a report of trouble needs and nothing personal; `seesr clean` says what is gone."""

import json
import sys
from pathlib import Path

import pytest

from seesr_cli.cli import main
from seesr_cli.errors import UsageError
from seesr_cli.report import diagnosis
from seesr_cli.report.diagnosis import Bytes, InForce, diagnose


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["seesr", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def anna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a person who has set many things."""
    home = tmp_path / "homes" / "anna"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    monkeypatch.setenv("SEESR_OUTPUT", f"{home}/pictures")
    monkeypatch.setenv("SEESR_WEIGHTS", "/data/anna/weights")
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:secret@cache:3128")
    monkeypatch.setenv("ALL_PROXY", "anna:secret@cache:1080")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", f"{home}2/hub")
    Path("seesr.toml").write_text('scale = 2\n[tags]\nmodel = "miniature"\n')
    return home


def test_the_doctor_tells_what_is_in_force_and_nothing_personal(
    anna: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "doctor", "--json") == 0
    out = capsys.readouterr().out
    assert "secret" not in out
    assert str(anna) not in out.replace(f"{anna}2", "")
    assert "anna:" not in out
    found = json.loads(out)
    assert found["sound"]
    assert found["configuration"]["upscale --output"] == "~/pictures (SEESR_OUTPUT)"
    assert found["configuration"]["upscale --scale"] == "2 (seesr.toml)"
    assert found["configuration"]["tags --model"] == "miniature (seesr.toml)"
    assert "upscale --model" not in found["configuration"]
    assert found["network"]["HTTPS_PROXY"] == "http://cache:3128"
    assert found["network"]["ALL_PROXY"] == "cache:1080"
    assert found["environment"]["HF_TOKEN"] == "set, not shown"
    assert found["weights"]["SEESR_WEIGHTS"] == "/data/USER/weights"
    assert "does not exist" in found["weights"]["seesr"]
    assert found["versions"]["torch"]
    assert found["device"]["device"]
    assert found["machine"]["memory free"] > 0
    assert float(found["self-test"]["consistency"].split()[0]) > diagnosis.LEAST_CONSISTENCY


def test_whatever_is_broken_is_part_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, object]:
        raise ImportError("libcuda.so: no such file\n")

    def refused() -> list[InForce]:
        raise UsageError("seesr.toml cannot be read.")

    for part in ("_device", "_self_test", "_weights", "_network", "_versions", "_machine"):
        monkeypatch.setattr(diagnosis, part, broken)
    found = diagnose(refused)
    assert not found.sound
    assert found.sections["device"] == {"wrong": "ImportError: libcuda.so: no such file\n"}
    assert found.sections["configuration"] == {"wrong": "seesr.toml cannot be read."}


def test_the_report_in_words_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"machine": {"memory": Bytes(25_300_000_000), "free": None, "wrong": "\x1b[2J"}, "network": {}}
    diagnosis.show(diagnosis.Diagnosis(sections, sound=False))
    out = capsys.readouterr().out
    assert "25.3 GB" in out
    assert "not known" in out
    assert "nothing" in out
    assert "\x1b" not in out


def test_clean_says_what_is_gone_and_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / ".seesr-0123456789abcdef.part"
    part.write_bytes(b"x" * 2000)
    assert run(monkeypatch, "clean", str(tmp_path), "--dry-run") == 0
    assert capfd.readouterr() == (f"{part}\n", "1 file would be deleted, 2 kB.\n")
    assert run(monkeypatch, "clean", str(tmp_path), "--json") == 0
    out, err = capfd.readouterr()
    assert (json.loads(out), err) == ({"path": str(part), "bytes": 2000}, "1 file deleted, 2 kB.\n")
    assert not part.exists()
    assert run(monkeypatch, "clean", str(tmp_path), "-q") == 0
    assert capfd.readouterr() == ("", "")
    assert run(monkeypatch, "clean", str(tmp_path / "missing")) == 2
    assert "there is no such folder" in capfd.readouterr().err
