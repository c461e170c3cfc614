"""The model card, written from the numbers that were measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from words import HAND_LABELS

from seesr_cli.training.evaluation import Summary, table

CARD = """# The miniature

A small model of SeeSR's architecture, bundled so that `seesr upscale photo.jpg --model miniature` runs offline, and for
demonstration and tests. **It is a stand-in. It is not the published model**, whose weights are several hundred times as
large, and its pictures say nothing about what the published model can do.

## What is in it

Tagger (Swin, 384 px, {labels} labels), CLIP text tower with a tokenizer of its own, VAE (f = 4, 12 latent channels),
UNet and ControlNet with text and image cross-attention at the lowest level. fp16, {megabytes:.1f} MB together. The
schedule is short: its noisiest step has noise of 0.05 beside a latent of deviation 1. Trained for one step from the
degraded picture (`trailing` spacing), guidance 1 and wavelet colour alignment, which are its defaults.

## What it was trained on

* 26 photographs of the CLIC 2025 validation set, halved in size (Unsplash License), and 25 of the GB82 set (CC0),
  labelled by eye for the tagger. Every fifth, {held_out} in all, was kept aside and only measured on.
* Pictures the recipe makes itself: ten kinds of texture (tagger only).
* Degraded by the project's second-order degradation, mild to strong.

Made by one command, on two CPU cores: `python recipes/miniature/train.py --photos DIR --out DIR`.
{history}
## What it can do

{quality}

Middle squares of 512 pixels of the {held_out} photographs kept aside, degraded x4; PSNR and SSIM of Y, NIQE,
consistency and colour drift as `seesr evaluate` measures them; gain: PSNR over bicubic enlargement. Measured with
`python benchmarks/quality.py DIR --held-out`. Clean squares through the VAE and back: {vae:.2f} dB.

## What it cannot do

* It crispens edges and takes away some of the JPEG ringing and noise. It does not invent texture: hair, leaves, gravel
  and skin that were lost stay soft, and small letters stay unreadable.
* Guidance above 1 and more than one step are possible and were not trained for.
* Its tagger learnt from {training} photographs, for minutes: its tags are often wrong (F1 below).

## Tags and embedding: what they are worth

Change of the picture when the reading is changed, on middle squares of 256 pixels of the photographs kept aside, both
kinds, by the recipe's stage `evaluate`:

{guidance}

{verdict}
Nearness: PSNR between the pictures with the true and with the changed reading; 54 dB is half a grey level.

## DAPE against its teacher

F1 over all labels, on whole views of the photographs kept aside, degraded as in training. The control is the teacher,
trained on clean pictures for as many more steps as the student was on degraded ones. Same command.

{f1}

{student}
"""


def write_card(path: Path, numbers: Mapping[str, Any], history: str = "") -> None:
    """Write the card with `numbers` as `measure.measure` returns them; history: how this very model was made, if
    otherwise."""
    folder = path.parent
    summaries = [Summary(**entry) for entry in numbers["quality"]]
    held_out = summaries[0].squares
    guidance = ["| changed reading | PSNR | nearness |", "|---|---|---|"]
    guidance += [
        f"| {name} | {effect['gain']:+.3f} dB | {effect['nearness']:.1f} dB |"
        for name, effect in numbers["guidance"].items()
    ]
    scores = ["| tagger | F1, true labels | F1, teacher's tags of the clean picture |", "|---|---|---|"]
    scores += [f"| {name} | {score['true']:.3f} | {score['teacher']:.3f} |" for name, score in numbers["f1"].items()]
    path.write_text(
        CARD.format(
            labels=len((folder / "tagger" / "tags.txt").read_text(encoding="utf-8").split("\n")) - 1,
            megabytes=sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6,
            held_out=held_out,
            training=len(HAND_LABELS) - held_out,
            history=history,
            quality=table(summaries),
            vae=numbers["vae"],
            guidance="\n".join(guidance),
            student=_student(numbers["f1"]),
            verdict=_verdict([effect["gain"] for effect in numbers["guidance"].values()]),
            f1="\n".join(scores),
        ),
        encoding="utf-8",
    )


NOTICEABLE = 0.01
"""Change of PSNR in dB below which an effect counts as none."""


def _verdict(gains: Sequence[float]) -> str:
    largest = max(abs(gain) for gain in gains)
    if largest < NOTICEABLE:
        return f"Neither has a measurable effect: the largest change is {largest:.3f} dB."
    return f"The largest change is {largest:.3f} dB."


def _student(scores: Mapping[str, Mapping[str, float]]) -> str:
    student, teacher, control = (
        scores[f"{name}, degraded pictures"]["true"] for name in ("student", "teacher", "control")
    )
    against = f"{student - teacher:+.3f} against its teacher and {student - control:+.3f} against the control"
    if abs(student - teacher) < NOTICEABLE:
        return f"The student is no better than its teacher ({against})."
    return f"The student's F1 is {against}."
