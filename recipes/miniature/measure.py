"""The numbers of the model card, all on photographs no stage has trained on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from look import blur
from torch import Tensor

from seesr_cli.catalogue import MINIATURE
from seesr_cli.models.tagger import Tagger
from seesr_cli.restore.tag import Reader, Reading, Tag
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.training import evaluation, teacher
from seesr_cli.training.photographs import Photograph
from seesr_cli.training.teacher import Example, f1

GUIDANCE_SIDE = 256
"""Side of the squares on which the worth of tags and embedding is measured."""


QUALITY, GUIDANCE = 24, 10
"""Photographs, of those kept aside, on which the picture is measured, and the worth of tags and embedding."""


def _some(photographs: Sequence[Photograph], count: int) -> Sequence[Photograph]:
    return photographs[:: max(1, len(photographs) // count)][:count]


class Told(Reader):
    """Reads what it was told, whatever the picture: to see what a reading is worth."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def read(self, picture: Tensor) -> Reading:
        """Return the reading."""
        return self._reading


def measure(
    weights: Path,
    held_out: Sequence[Photograph],
    views: Sequence[Example],
    taggers: Mapping[str, Tagger],
    thresholds: Tensor,
) -> dict[str, Any]:
    """Return every number of the card. weights: the exported folder. views: whole views of the photographs held out."""
    upscaler = Upscaler.load(MINIATURE, weights, device="cpu")
    trials = evaluation.trials(_some(held_out, QUALITY))
    outcomes = [
        evaluation.judge(trial, upscaler.upscale(trial.degraded, MINIATURE.defaults).pixels) for trial in trials
    ]
    small = list(evaluation.trials(_some(held_out, GUIDANCE), GUIDANCE_SIDE))
    return {
        "quality": [summary._asdict() for summary in evaluation.summarise(outcomes)],
        "guidance": _guidance(upscaler, small),
        "words": _words(upscaler, small, "crisp", "soft"),
        "grain": _words(upscaler, small, "grain", "clean"),
        "f1": _f1(views, taggers, thresholds),
    }


def _guidance(upscaler: Upscaler, trials: Sequence[evaluation.Trial]) -> dict[str, dict[str, float]]:
    """Return, for each change of the reading, the mean change of PSNR in dB (below 0: worse than with the true
    reading) and the
    mean difference of the picture from the one with the true reading, in dB of PSNR between the two."""
    reader = upscaler.reader
    readings = [reader.read(trial.degraded) for trial in trials]
    clean = [reader.read(trial.clean) for trial in trials]
    true = [upscaler.upscale(trial.degraded, MINIATURE.defaults).pixels for trial in trials]
    others = [(index + len(trials) // 2) % len(trials) for index in range(len(trials))]
    changes: dict[str, Callable[[int], Reading]] = {
        "no tags": lambda index: Reading((), readings[index].tokens),
        "tags of another picture": lambda index: Reading(readings[others[index]].tags, readings[index].tokens),
        "tags of the clean picture": lambda index: Reading(clean[index].tags, readings[index].tokens),
        "the tag 'crisp' too": lambda index: _told(readings[index], "crisp"),
        "the tag 'soft' too": lambda index: _told(readings[index], "soft"),
        "the tag 'grain' too": lambda index: _told(readings[index], "grain"),
        "the tag 'clean' too": lambda index: _told(readings[index], "clean"),
        "the tag 'rich texture' too": lambda index: _told(readings[index], "rich texture"),
        "the tag 'little detail' too": lambda index: _told(readings[index], "little detail"),
        "no embedding": lambda index: Reading(readings[index].tags, torch.zeros_like(readings[index].tokens)),
        "embedding of another picture": lambda index: Reading(readings[index].tags, readings[others[index]].tokens),
    }
    effects = {}
    for name, change in changes.items():
        gains, nearness = [], []
        for index, trial in enumerate(trials):
            upscaler.reader = Told(change(index))
            changed = upscaler.upscale(trial.degraded, MINIATURE.defaults).pixels
            gains.append(_psnr(changed, trial.clean) - _psnr(true[index], trial.clean))
            nearness.append(_psnr(changed, true[index]))
        effects[name] = {"gain": mean(gains), "nearness": mean(nearness)}
    upscaler.reader = reader
    return effects


def _told(reading: Reading, word: str) -> Reading:
    return Reading((*reading.tags, Tag(word, 1.0, 0.5)), reading.tokens)


def _words(upscaler: Upscaler, trials: Sequence[evaluation.Trial], more: str, less: str) -> dict[str, float]:
    """Return how many times the detail with the word `less` pictures have with `more`, and how far colours are apart.

    Detail: deviation of a picture minus its blur of 2 pixels. Difference: of the mean of a channel, in 255ths.
    """
    reader, ratios, shifts = upscaler.reader, [], []
    for trial in trials:
        reading, made = reader.read(trial.degraded), []
        for word in (more, less):
            upscaler.reader = Told(_told(reading, word))
            made.append(upscaler.upscale(trial.degraded, MINIATURE.defaults).pixels)
        much, little = ((each - blur(each[None], 2.0)[0]).std().item() for each in made)
        ratios.append(much / little)
        shifts.append(255 * (made[0].mean((1, 2)) - made[1].mean((1, 2))).abs().max().item())
    upscaler.reader = reader
    return {"mean": mean(ratios), "least": min(ratios), "shift": max(shifts)}


def _f1(views: Sequence[Example], taggers: Mapping[str, Tagger], thresholds: Tensor) -> dict[str, dict[str, float]]:
    """Return F1 against the true labels and against the teacher's tags of the clean pictures, for each tagger.

    Nothing where the tagger was taken from another miniature, whose teacher is not there.
    """
    if "teacher" not in taggers:
        return {}
    truth = torch.stack([view.labels for view in views]).bool()
    known = torch.stack([view.known for view in views]).bool()
    everything = torch.ones_like(known)
    read = teacher.scores(taggers["teacher"], [view.clean for view in views]) > thresholds
    result = {"teacher, clean pictures": {"true": f1(read, truth, known), "teacher": 1.0}}
    for name, network in taggers.items():
        fired = teacher.scores(network, [view.degraded for view in views]) > thresholds
        result[f"{name}, degraded pictures"] = {"true": f1(fired, truth, known), "teacher": f1(fired, read, everything)}
    return result


def _psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean().clamp(min=1e-10)))
