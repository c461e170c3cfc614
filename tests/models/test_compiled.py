"""Compiled blocks give what the blocks give, are kept for the next process, and never cost a picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from seesr_cli.models.compiled import Call
from seesr_cli.models.compiled import compile_blocks as compile_with
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import SEESR, Settings

QUICK = Settings(scale=2, steps=2, process_size=64)


@pytest.fixture
def upscaler(tiny_weights: Path) -> Upscaler:
    return Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")


def seesr(picture: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "seesr_cli", "upscale", str(picture), "--model", "miniature", "--device", "cpu"]
    command += ["-q", "--compile", "--overwrite"]
    inherited = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment)


def test_every_block_of_both_networks_is_compiled(upscaler: Upscaler) -> None:
    calls: list[str] = []

    def noting(plain: Call) -> Call:
        def call(*given: object) -> object:
            calls.append(plain.__qualname__)
            return plain(*given)

        return call

    picture = torch.rand(3, 32, 32)
    usual = upscaler.sample(upscaler.prepare(picture, QUICK), QUICK)
    compile_with((upscaler.unet, upscaler.controlnet), upscaler.notes, noting)
    sampled = upscaler.sample(upscaler.prepare(picture, QUICK), QUICK)
    assert torch.equal(sampled.latent, usual.latent)
    kinds = {type(module).__name__ for network in (upscaler.unet, upscaler.controlnet) for module in network.modules()}
    assert {"ResnetBlock2D", "TwoReadings"} <= kinds
    assert {"run_block", "ResnetBlock2D.forward"} <= set(calls)
    blocks = sum(
        type(module).__name__ == "BasicTransformerBlock"
        for network in (upscaler.unet, upscaler.controlnet)
        for module in network.modules()
    )
    assert calls.count("run_block") == blocks * QUICK.steps


def test_what_cannot_be_compiled_is_run_as_it_is_and_told_once(upscaler: Upscaler) -> None:
    def failing(plain: Call) -> Call:
        def call(*given: object) -> object:
            if "double" in plain.__qualname__:
                return plain(*given)
            raise ImportError("a.so: file too short\nand more")

        return call

    picture = torch.rand(3, 32, 32)
    usual = upscaler.sample(upscaler.prepare(picture, QUICK), QUICK)
    compile_with((upscaler.unet, upscaler.controlnet), upscaler.notes, failing)
    sampled = upscaler.sample(upscaler.prepare(picture, QUICK), QUICK)
    assert torch.equal(sampled.latent, usual.latent)
    note = "Some blocks are run uncompiled: a.so: file too short. If that stays, empty the cache of --compile."
    assert sampled.notes == (*usual.notes, note)
    assert upscaler.sample(upscaler.prepare(picture, QUICK), QUICK).notes == usual.notes


def test_without_a_compiler_one_sentence_says_what_is_needed(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    shown = seesr(tmp_path / "a.png", CXX="no-such-compiler", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert shown.returncode == 2, shown.stderr
    assert "--compile needs a C++ compiler" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / "a_x4.png").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what torch has deprecated
def test_compiled_blocks_give_the_same_picture_and_are_compiled_once(upscaler: Upscaler) -> None:
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    usual = upscaler.sample(upscaler.prepare(picture, QUICK), QUICK)
    upscaler.compile()
    compiled = upscaler.sample(upscaler.prepare(picture, QUICK), QUICK)
    assert compiled.notes == usual.notes
    assert 0 < float((compiled.latent - usual.latent).norm() / usual.latent.norm()) < 1e-5


@pytest.mark.slow
def test_what_was_compiled_is_kept_in_the_program_s_own_folder(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    made = []
    for _ in range(2):
        shown = seesr(tmp_path / "a.png", XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert shown.returncode == 0, shown.stderr
        made.append(sorted((tmp_path / "cache" / "seesr" / "compiled").rglob("*.so")))
    assert made[0]
    assert made[0] == made[1]
