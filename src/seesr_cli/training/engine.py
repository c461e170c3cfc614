"""A run: samples by number, steps of the optimiser on any number of devices, checkpoints, and pictures to look at.

Devices, precision and the exchange of gradients are accelerate's; the data and the checkpoints are our own. Step k
takes the samples k·batch … (k+1)·batch - 1, whatever the devices and however often the run was interrupted.
"""

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import gather_object, is_tensorboard_available

from .. import __version__
from ..errors import ResourcesError, UsageError
from ..machine.available import free_on
from . import checkpoint as checkpoints
from . import page, validation
from .checkpoint import Checkpoint
from .optimise import Average, adamw, adamw8bit, set_rate, stepped
from .recipe import FREE, Recipe, parsed
from .samples import Samples, load
from .sources import Source, aside, chance, digest
from .stages import Files, Stage, build

Event = Mapping[str, Any]
Tell = Callable[[Event], None]
"""Told each event: `begun`, `step`, `validated`, `saved`, `skipped`, `note` or `ended`, under the key `event`."""

LOG = "log.jsonl"
MEAN_OF = 100
"""Losses in the mean that is told."""

FEW = 8
"""Pictures that a CPU computes at once, at most."""


class Run(NamedTuple):
    """The options of a run. stop: asked after every step whether to end with a checkpoint."""

    recipe: Recipe
    sources: tuple[Source, ...]
    weights: Path
    out: Path
    resume: bool
    device: str
    tell: Tell
    stop: Callable[[], bool]


def train(run: Run) -> bool:
    """Train to the end of the recipe, or until asked to stop; returns whether the end was reached.

    Raises UsageError for a run folder that is another recipe's, ResourcesError when memory or disk do not suffice.
    """
    recipe = run.recipe
    accelerator = devices(run)
    world, rank, lead = accelerator.num_processes, accelerator.process_index, accelerator.is_main_process
    tell: Tell = run.tell if lead else _silent
    if recipe.batch % world:
        raise UsageError(f"batch is {recipe.batch}: give a multiple of the {world} devices.")
    learnt_from, looked_at = aside(run.sources, recipe.validate)
    # before a checkpoint is read, whose tensors may be torchao's
    kind = adamw8bit() if recipe.optimiser == "adamw8bit" else None
    found = _found(run, digest(learnt_from), tell)
    stage = build(recipe, run.weights, accelerator.device)
    optimiser = adamw([(stage.learning, recipe.lr)], recipe.decay, (recipe.betas[0], recipe.betas[1]), kind)
    learning = {str(place): parameter for place, parameter in enumerate(stage.learning)}
    average = Average(learning, recipe.ema) if recipe.ema else None
    step, micro = 0, recipe.micro or micro_batch(recipe.batch // world, accelerator.device)
    if found is not None:
        step = found.state["step"]
        if found.state["world"] != world:
            tell(_note(f"The run had {found.state['world']} devices and has {world} now: it goes on, up to rounding."))
        elif not recipe.micro:
            micro = found.state["micro"]
        if average is not None:
            stage.take(found.average)
            average = Average(learning, recipe.ema)
            average.steps = step
        stage.take(found.learnt)
        optimiser.load_state_dict(found.optimiser["optimiser"])
    if recipe.batch // world % micro:
        raise UsageError(
            f"micro is {micro}: give a divisor of {recipe.batch // world}, the pictures a device and step."
        )
    module, prepared = accelerator.prepare(stage.module, optimiser)
    if found is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(found.optimiser["scaler"])
    turns = recipe.batch // world // micro
    source = load(Samples(learnt_from, stage.making), step * recipe.batch, rank, world, micro, recipe.workers)
    log = _Log(run.out if lead else None, accelerator)
    losses: deque[float] = deque(maxlen=MEAN_OF)
    tell(_begun(run, stage, step, world, micro, len(learnt_from)))
    started, first, skipped = time.monotonic(), step, set[str]()

    def averaged() -> contextlib.AbstractContextManager[None]:
        return average.instead(learning) if average is not None else contextlib.nullcontext()

    def save() -> None:
        if lead:
            state = _state(run, step, world, micro, digest(learnt_from))
            written = _checkpoint(stage, optimiser, averaged, accelerator, state)
            folder = checkpoints.write(run.out, written, recipe.keep)
            tell({"event": "saved", "step": step, "folder": str(folder)})
        accelerator.wait_for_everyone()

    def validate() -> None:
        if lead and looked_at:
            with averaged():
                seen = validation.look(stage, looked_at, run.out / "validation", step)
            log.add({"step": step, **seen})
            tell({"event": "validated", "step": step, **seen})
        if lead:
            page.write(run.out, recipe)
        accelerator.wait_for_everyone()

    stopped = False
    while step < recipe.steps and not stopped:
        set_rate(optimiser, stepped(step, recipe.warmup, recipe.halvings))
        total, parts = 0.0, dict[str, float]()
        for turn in range(turns):
            sample = next(source)
            torch.manual_seed(chance(recipe.seed, "network", int(sample.n[0])).initial_seed())
            for name in sample.skipped:
                if name not in skipped:
                    skipped.add(name)
                    tell({"event": "skipped", "picture": name, "count": len(skipped)})
            waits = accelerator.no_sync(module) if turn < turns - 1 else contextlib.nullcontext()
            with waits, accelerator.autocast():
                loss = stage.loss(module, sample)
                accelerator.backward(loss.total / turns)
            total += loss.total.item() / turns
            for name, value in loss.parts.items():
                parts[name] = parts.get(name, 0.0) + value / turns
        if accelerator.sync_gradients and recipe.clip:
            accelerator.clip_grad_norm_(stage.learning, recipe.clip)
        prepared.step()
        prepared.zero_grad(set_to_none=True)
        step += 1
        if average is not None:
            average.update(learning)
        told = (total, run.stop())
        everyone = gather_object([told]) if world > 1 else [told]
        total, stopped = sum(each[0] for each in everyone) / world, any(each[1] for each in everyone)
        if total != total:
            raise ResourcesError(
                f"The loss at step {step} is not a number. The last checkpoint stays: lower lr, or take bf16 or fp32."
            )
        losses.append(total)
        speed = (step - first) * recipe.batch / (time.monotonic() - started)
        log.add({"step": step, "loss": total, "lr": float(optimiser.param_groups[0]["lr"]), **parts})
        ends = step == recipe.steps
        tell(
            {
                "event": "step",
                "step": step,
                "steps": recipe.steps,
                "loss": total,
                "mean_loss": sum(losses) / len(losses),
                "samples_per_second": speed,
                "seconds_left": (recipe.steps - step) * recipe.batch / speed,
                "next_checkpoint": min(-(-(step + 1) // recipe.save_every) * recipe.save_every, recipe.steps),
                **parts,
            }
        )
        if step % recipe.save_every == 0 or ends or stopped:
            save()
        if step % recipe.validate_every == 0 or ends:
            validate()
    if lead:
        page.write(run.out, recipe)
    tell({"event": "ended", "step": step, "reached": step >= recipe.steps, "skipped": len(skipped)})
    accelerator.end_training()
    return step >= recipe.steps


class _Log:
    """The log of a run: a JSON line for each step in its folder, and the tracker's log if there is one."""

    def __init__(self, folder: Path | None, accelerator: Accelerator) -> None:
        self._path = folder / LOG if folder else None
        self._accelerator = accelerator
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        accelerator.init_trackers("tracked")

    def add(self, entry: Event) -> None:
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        self._accelerator.log({name: value for name, value in entry.items() if name != "step"}, entry["step"])


def _found(run: Run, names: str, tell: Tell) -> Checkpoint | None:
    """Return the checkpoint to go on from. Raises UsageError where the folder is another run's, or none is wanted."""
    there = checkpoints.whole(run.out)
    if not run.resume:
        if there:
            raise UsageError(
                f"{run.out} holds a run already ({there[-1].name}): go on with --resume, or choose another."
            )
        return None
    if not there:
        tell(_note(f"{run.out} holds no checkpoint yet: the run begins."))
        return None
    checkpoints.sweep(run.out)
    state = checkpoints.read_state(there[-1])
    if state["digest"] != run.recipe.digest():
        own, theirs = run.recipe.as_json(), state["recipe"]
        other = next((key for key in own if key not in FREE and own[key] != theirs.get(key)), "stage")
        raise UsageError(
            f"{run.out} is the run of another recipe: {other} is {theirs.get(other)!r} there and {own.get(other)!r} "
            "here. Choose another --out, or give the same recipe."
        )
    if state["sources"] != names:
        raise UsageError(f"{run.out} learnt from other pictures: give the same --data, or another --out.")
    if state["versions"] != _versions():
        tell(_note("The versions of seesr, torch, diffusers or transformers have changed: it goes on, up to rounding."))
    return checkpoints.read(there[-1])


def _checkpoint(
    stage: Stage,
    optimiser: torch.optim.Optimizer,
    averaged: Callable[[], contextlib.AbstractContextManager[None]],
    accelerator: Accelerator,
    state: dict[str, Any],
) -> Checkpoint:
    kept: Files = {}
    if stage.recipe.ema:
        with averaged():
            kept = {part: {name: each.clone() for name, each in own.items()} for part, own in stage.state().items()}
    scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
    return Checkpoint(state, stage.state(), kept, {"optimiser": optimiser.state_dict(), "scaler": scaler})


def _state(run: Run, step: int, world: int, micro: int, sources: str) -> dict[str, Any]:
    return {
        "step": step,
        "samples": step * run.recipe.batch,
        "world": world,
        "micro": micro,
        "digest": run.recipe.digest(),
        "sources": sources,
        "weights": str(run.weights.resolve()),
        "versions": _versions(),
        "recipe": run.recipe.as_json(),
    }


def _versions() -> dict[str, str]:
    return {
        "seesr": __version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def _begun(run: Run, stage: Stage, step: int, world: int, micro: int, pictures: int) -> Event:
    return {
        "event": "begun",
        "step": step,
        "steps": run.recipe.steps,
        "pictures": pictures,
        "parameters": sum(each.numel() for each in stage.learning),
        "devices": world,
        "micro": micro,
        "accumulation": run.recipe.batch // world // micro,
    }


def _note(text: str) -> Event:
    return {"event": "note", "text": text}


def _silent(event: Event) -> None:
    pass


def devices(run: Run) -> Accelerator:
    """Return the accelerator, which knows the devices.

    Raises UsageError for fp16 without a GPU, and for a tracker that is not there.
    """
    precision, on_cpu = run.recipe.precision, run.device == "cpu" or not torch.cuda.is_available()
    if precision == "fp16" and on_cpu:
        raise UsageError("precision is fp16, and there is no GPU: use --set precision=fp32 or bf16.")
    tracker = None if run.recipe.tracker == "none" else run.recipe.tracker
    if tracker and not is_tensorboard_available():
        raise UsageError("tracker is tensorboard, which is not installed: pip install 'seesr-cli[tensorboard]'")
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision, cpu=on_cpu, log_with=tracker, project_dir=run.out
    )


def micro_batch(share: int, device: torch.device) -> int:
    """Return how many pictures to compute at once: the largest divisor of a device's share that memory holds.

    On CUDA a picture of 512² takes about 5 GB of features while it learns, or 1.5 with checkpointing: counted, not
    measured on every card, so that a third is left free.
    """
    most = FEW
    if device.type == "cuda":
        most = max(1, int(free_on(device) // 3 * 2 // 5e9))
    return max(each for each in range(1, share + 1) if share % each == 0 and each <= most)


def export(run: Path, to: Path, step: int | None, averaged: bool, weights: Path | None) -> int:
    """Write the networks of a run's checkpoint as a folder that `--weights` takes, and return the checkpoint's step.

    step: which checkpoint; None: the newest. averaged: take the averaged weights. weights: where the folder that the
    run began with is now; None: where it was.
    """
    there = checkpoints.whole(run)
    chosen = [path for path in there if step is None or checkpoints.read_state(path)["step"] == step]
    if not chosen:
        held = ", ".join(str(checkpoints.read_state(path)["step"]) for path in there) or "none"
        raise UsageError(f"{run} has no checkpoint{'' if step is None else f' of step {step}'}; there are: {held}.")
    found = checkpoints.read(chosen[-1])
    if averaged and not found.average:
        raise UsageError(f"{run} keeps no averaged weights: leave --ema out (the recipe's ema is 0).")
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{to} is not empty: choose another folder with --to.")
    recipe = parsed(found.state["recipe"]["stage"], found.state["recipe"], str(chosen[-1]))
    stage = build(recipe, weights or Path(found.state["weights"]), torch.device("cpu"))
    stage.take(found.average if averaged else found.learnt)
    stage.export(to)
    return found.state["step"]
