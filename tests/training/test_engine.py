"""A run: resumed to the bit, exported, refused where it is another's; on the tiny checkpoint of the recordings."""

import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from seesr_cli.catalogue import SEESR
from seesr_cli.errors import ResourcesError, UsageError
from seesr_cli.machine.device import Place
from seesr_cli.models import load
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import Settings
from seesr_cli.training import checkpoint, dry_run, engine, lora, page, sources, stages
from seesr_cli.training.engine import Run
from seesr_cli.training.recipe import Recipe, parsed

SMALL: dict[str, Any] = {
    "start": "weights",
    "steps": 3,
    "batch": 2,
    "precision": "fp32",
    "size": 64,
    "least_side": 0,
    "least_bytes": 0,
    "workers": 0,
    "validate": 0,
    "save_every": 3,
    "lr": 1e-3,
    "degradation": "mild",
    "enlargement": "inference",
    "quality_words": True,
}
STAGES: dict[str, dict[str, Any]] = {
    "seesr": SMALL | {"ema": 0.9},
    "dape": SMALL | {"learns": "lora", "whole": True, "sharpened": False, "clip": 0.0},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        coarse = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(number))
        pixels = (torch.nn.functional.interpolate(coarse, (96, 96), mode="bicubic")[0].clamp(0, 1) * 255).byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return folder


def recipe(stage: Any, **keys: Any) -> Recipe:
    return parsed(stage, STAGES[stage] | keys, "test")


def train(
    recipe: Recipe,
    pictures: Path,
    weights: Path,
    out: Path,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> list[engine.Event]:
    events: list[engine.Event] = []
    run = engine.Run(recipe, sources.find([str(pictures)]), weights, out, resume, "cpu", events.append, stop)
    engine.train(run)
    return events


def learnt(run: Path) -> dict[str, Tensor]:
    """Return all tensors of the newest checkpoint."""
    newest = checkpoint.whole(run)[-1]
    return {
        f"{path.parent.name}/{path.stem}/{name}": tensor
        for path in sorted(newest.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def after(number: int) -> Callable[[], bool]:
    """Return what asks to stop after so many steps."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= number


@pytest.mark.parametrize("stage", ["seesr", "dape"])
def test_a_run_that_was_stopped_goes_on_to_the_bit(
    stage: str, pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    train(recipe(stage), pictures, tiny_weights, tmp_path / "whole")
    stopped = train(recipe(stage), pictures, tiny_weights, tmp_path / "parts", stop=after(1))
    assert [each["step"] for each in stopped if each["event"] == "saved"] == [1]
    assert stopped[-1]["reached"] is False
    train(recipe(stage), pictures, tiny_weights, tmp_path / "parts", resume=True)
    one, other = learnt(tmp_path / "whole"), learnt(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_may_go_on_with_another_number_of_devices_and_says_so(
    pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """The samples are the same, whoever takes which: what was learnt by two is gone on with by one."""
    train(recipe("dape"), pictures, tiny_weights, tmp_path / "whole")
    train(recipe("dape"), pictures, tiny_weights, tmp_path / "parts", stop=after(1))
    file = checkpoint.whole(tmp_path / "parts")[-1] / checkpoint.STATE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world": 2, "micro": 1}))
    events = train(recipe("dape"), pictures, tiny_weights, tmp_path / "parts", resume=True)
    notes = [each["text"] for each in events if each["event"] == "note"]
    assert notes == ["The run had 2 devices and has 1 now: it goes on, up to rounding."]
    begun = next(each for each in events if each["event"] == "begun")
    assert (begun["devices"], begun["micro"], begun["step"]) == (1, 2, 1)
    one, other = learnt(tmp_path / "whole"), learnt(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_optimiser_that_is_not_installed_is_told(
    pictures: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(UsageError, match=r"pip install 'seesr-cli\[8bit\]'"):
        train(recipe("dape", optimiser="adamw8bit"), pictures, tiny_weights, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torchao's and the compiler's own
def test_the_optimiser_of_8_bits_follows_the_other_and_goes_on_where_it_was_stopped(
    pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torchao")
    whole = train(recipe("dape", optimiser="adamw8bit"), pictures, tiny_weights, tmp_path / "whole")
    full = train(recipe("dape"), pictures, tiny_weights, tmp_path / "full")
    train(recipe("dape", optimiser="adamw8bit"), pictures, tiny_weights, tmp_path / "parts", stop=after(1))
    train(recipe("dape", optimiser="adamw8bit"), pictures, tiny_weights, tmp_path / "parts", resume=True)
    one, other = learnt(tmp_path / "whole"), learnt(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses, others = ([each["loss"] for each in run if each["event"] == "step"] for run in (whole, full))
    assert losses == pytest.approx(others, rel=1e-2)


def test_the_tracker_is_told_what_the_log_is_told(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    train(recipe("dape", steps=2, tracker="tensorboard"), pictures, tiny_weights, tmp_path)
    told = b"".join(path.read_bytes() for path in (tmp_path / "tracked").rglob("events*"))
    logged = [json.loads(line) for line in (tmp_path / engine.LOG).read_text().splitlines()]
    assert [each["step"] for each in logged] == [1, 2]
    for entry in logged:
        assert struct.pack("<f", entry["loss"]) in told
    assert all(name.encode() in told for name in logged[0] if name != "step")


def test_a_tracker_that_is_not_installed_is_told(
    pictures: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "is_tensorboard_available", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'seesr-cli\[tensorboard\]'"):
        train(recipe("dape", tracker="tensorboard"), pictures, tiny_weights, tmp_path)


@pytest.mark.parametrize(
    ("stage", "kills", "keys"),
    [
        ("dape", 2, {"steps": 3}),
        pytest.param("seesr", 20, {"steps": 12, "batch": 4, "micro": 2, "ema": 0.9}, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_goes_on_to_the_bit(
    stage: str, kills: int, keys: dict[str, Any], pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """At odd moments, by a signal that nothing can catch: in steps, while a checkpoint is written, before the first."""
    wanted = recipe(stage, save_every=1, **keys)
    chance = torch.Generator().manual_seed(0)
    train(wanted, pictures, tiny_weights, tmp_path / "whole")
    reached = 0
    for kill in range(kills):
        child = Child(wanted, pictures, tiny_weights, tmp_path / "killed", kill > 0)
        reached += child.events(int(torch.randint(1, 4, (), generator=chance)))
        time.sleep(0.3 * float(torch.rand((), generator=chance)))
        child.kill()
    assert reached >= kills / 2  # most of the children had begun to learn
    train(wanted, pictures, tiny_weights, tmp_path / "killed", resume=True)
    one, other = learnt(tmp_path / "whole"), learnt(tmp_path / "killed")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list((tmp_path / "killed").glob("*.part"))


def forked(work: Callable[[], object]) -> int:
    """Begin `work` in a process that has all that is imported here, and return its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # the child has no caller
        traceback.print_exc()
    finally:
        os._exit(code)


class Child:
    """A training in a forked process, which can be killed."""

    def __init__(self, recipe: Recipe, pictures: Path, weights: Path, out: Path, resume: bool) -> None:
        reading, writing = os.pipe()

        def tell(event: engine.Event) -> None:
            if event["event"] in ("step", "saved"):
                os.write(writing, b"event\n")

        found = sources.find([str(pictures)])
        run = Run(recipe, found, weights, out, resume, "cpu", tell, lambda: False)
        self._process = forked(lambda: engine.train(run))
        os.close(writing)
        self._told = os.fdopen(reading)

    def events(self, most: int) -> bool:
        """Wait for so many steps and checkpoints, or for the end; returns whether there were as many."""
        return sum(1 for _ in islice(self._told, most)) == most

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self._told.close()


def typed(recipe: Recipe, pictures: Path, weights: Path, folder: Path) -> list[str]:
    """Return the command that trains by `recipe`, which is written into `folder`."""
    file = folder / "mine.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.as_json().items()))
    command = [sys.executable, "-m", "seesr_cli", "train", recipe.stage, str(file)]
    return [*command, "--data", str(pictures), "--weights", str(weights)]


@pytest.mark.slow
def test_the_command_with_workers_goes_on_after_a_kill(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    wanted = recipe("seesr", steps=3, save_every=1, batch=4, micro=2, workers=2, ema=0.9)
    command = [*typed(wanted, pictures, tiny_weights, tmp_path), "--json", "--devices", "cpu", "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True, env=environment)
    run = [*command, str(tmp_path / "killed")]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    assert any(json.loads(line)["event"] == "saved" for line in process.stdout)
    process.kill()
    process.stdout.close()
    process.wait()
    subprocess.run([*run, "--resume"], check=True, capture_output=True, env=environment)
    one, other = learnt(tmp_path / "whole"), learnt(tmp_path / "killed")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_end_alike_and_one_goes_on(
    pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    same = recipe("seesr", steps=2, save_every=1, batch=4, micro=2, lr=1e-4)
    one, two = tmp_path / "one", tmp_path / "two"
    train(same, pictures, tiny_weights, one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        AcceleratorState._reset_state(reset_partial_state=True)
        stage = stages.build(same, tiny_weights, torch.device("cpu"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "build", lambda *asked: stage)
            train(same, pictures, tiny_weights, two)
        torch.save([parameter.detach() for parameter in stage.learning], tmp_path / f"{rank}.pt")

    processes = [forked(functools.partial(work, rank)) for rank in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(own, theirs) for own, theirs in zip(first, second, strict=True))
    own, theirs = learnt(one), learnt(two)
    off = torch.cat([(own[name] - theirs[name]).abs().flatten() for name in own])
    # AdamW follows the sign of the smallest gradient: 3 in 100 weights were further apart
    assert (off <= 1e-6).float().mean() > 0.95
    for run in (one, two):
        events = train(replace(same, steps=3), pictures, tiny_weights, run, resume=True)
        notes = [each["text"] for each in events if each["event"] == "note"]
        assert any("had 2 devices and has 1 now" in text for text in notes) is (run == two)
    assert losses(two) == pytest.approx(losses(one), abs=5e-6)


def losses(run: Path) -> list[float]:
    """Return the loss of every step that a run has logged."""
    return [json.loads(line)["loss"] for line in (run / engine.LOG).read_text().splitlines()]


@pytest.mark.slow
def test_bf16_workers_and_checkpointing_learn_too(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    wanted = recipe("seesr", steps=2, precision="bf16", workers=2, checkpointing=True, degrade_on="device")
    out = tmp_path / "run"
    command = [*typed(wanted, pictures, tiny_weights, tmp_path), "--devices", "cpu", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [json.loads(line).get("loss") for line in done.stdout.splitlines()]
    assert all(0 < loss < 5 for loss in losses if loss is not None)
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in learnt(out).values())


def test_the_export_of_a_run_is_a_folder_that_restores(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    events = train(
        recipe("seesr", steps=2, validate=1, validate_every=2, size=64), pictures, tiny_weights, tmp_path / "run"
    )
    seen = next(each for each in events if each["event"] == "validated")
    assert 0 < seen["psnr_y"] < 60
    assert page.FILE in {path.name for path in (tmp_path / "run").iterdir()}
    text = (tmp_path / "run" / page.FILE).read_text()
    assert "<polyline" in text
    assert "data:image/png;base64," in text
    assert "http" not in text.replace("http-equiv", "")
    assert engine.export(tmp_path / "run", tmp_path / "to", None, False, None) == 2
    newest = learnt(tmp_path / "run")
    unet = load_file(tmp_path / "to" / "seesr" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(
        torch.equal(unet[name.removeprefix("learnt/unet/")], tensor)
        for name, tensor in newest.items()
        if name.startswith("learnt/unet/")
    )
    upscaler = Upscaler.load(SEESR, tmp_path / "to", "cpu", "fp32")
    assert upscaler.upscale(torch.rand(3, 16, 16), Settings(steps=1, process_size=64)).pixels.isfinite().all()
    with pytest.raises(UsageError, match="is not empty"):
        engine.export(tmp_path / "run", tmp_path / "to", None, False, None)
    with pytest.raises(UsageError, match="no checkpoint of step 7; there are: 2"):
        engine.export(tmp_path / "run", tmp_path / "other", 7, False, None)


def test_the_exported_lora_is_the_student_that_was_trained(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    train(recipe("dape", steps=2), pictures, tiny_weights, tmp_path / "run")
    engine.export(tmp_path / "run", tmp_path / "to", None, False, None)
    exported = load.load_published_tagger(SEESR, tmp_path / "to", Place(torch.device("cpu"), torch.float32))
    stage = stages.DapeStage(recipe("dape"), tiny_weights, torch.device("cpu"))
    stage.take(checkpoint.read(checkpoint.whole(tmp_path / "run")[-1]).learnt)
    lora.fold(stage.module)
    picture = torch.rand(1, 3, exported.side, exported.side)
    stage.module.eval()
    with torch.no_grad():
        for own, theirs in zip(stage.module(picture), exported(picture), strict=True):
            assert torch.allclose(own, theirs, atol=1e-6, rtol=1e-5)
    untouched = load.load_teacher(SEESR, tiny_weights, Place(torch.device("cpu"), torch.float32))
    assert not torch.equal(untouched(picture)[0], exported(picture)[0])


def test_another_recipes_run_other_pictures_and_a_run_that_is_there_are_refused(
    pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(recipe("dape", steps=1), pictures, tiny_weights, out)
    with pytest.raises(UsageError, match="holds a run already"):
        train(recipe("dape", steps=2), pictures, tiny_weights, out)
    with pytest.raises(UsageError, match=r"another recipe: lr is 0\.001 there and 0\.1 here"):
        train(recipe("dape", steps=2, lr=0.1), pictures, tiny_weights, out, resume=True)
    few = tmp_path / "few"
    few.mkdir()
    (few / "a.png").write_bytes((pictures / "0.png").read_bytes())
    with pytest.raises(UsageError, match="learnt from other pictures"):
        train(recipe("dape", steps=2), few, tiny_weights, out, resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    pictures: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    train(recipe("dape", steps=1), pictures, tiny_weights, out)
    before = learnt(out)

    def full(*anything: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ResourcesError, match=r"the disk is full.*last whole checkpoint is step-00000001"):
        train(recipe("dape", steps=2), pictures, tiny_weights, out, resume=True)
    assert [path.name for path in out.glob("step-*")] == ["step-00000001"]
    assert learnt(out).keys() == before.keys()


def test_only_the_newest_checkpoints_are_kept(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    train(recipe("dape", steps=4, save_every=1, keep=2), pictures, tiny_weights, tmp_path)
    assert [path.name for path in checkpoint.whole(tmp_path)] == ["step-00000003", "step-00000004"]


def test_a_forecast_counts_parameters_and_hours(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    run = engine.Run(
        recipe("dape", steps=100),
        sources.find([str(pictures)]),
        tiny_weights,
        tmp_path / "none",
        False,
        "cpu",
        lambda event: None,
        lambda: False,
    )
    told = dry_run.forecast(run)
    assert told.hours == pytest.approx(100 * 2 / told.samples_per_second / 3600)
    assert told.memory > 16 * told.learning
    assert not (tmp_path / "none").exists()


def test_a_run_that_cannot_fit_is_told_before_anything_is_loaded(
    pictures: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Run(recipe("seesr"), sources.find([str(pictures)]), tiny_weights, tmp_path, False, "cpu", print, bool)
    monkeypatch.setattr(dry_run, "_free", lambda device: 10**6)
    monkeypatch.delattr(dry_run, "build")
    with pytest.raises(ResourcesError, match="before the first picture"):
        dry_run.forecast(small)
    assert ResourcesError.exit_code == 4


def test_half_precision_without_a_gpu_is_refused(pictures: Path, tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no GPU"):
        train(recipe("dape", precision="fp16"), pictures, tiny_weights, tmp_path)


def test_a_prediction_that_restoring_would_mistake_is_refused(
    pictures: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"the scheduler file of .* says epsilon"):
        train(recipe("seesr", prediction="v_prediction"), pictures, tiny_weights, tmp_path)
