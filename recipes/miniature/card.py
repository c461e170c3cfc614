"""The model card, written from the numbers that were measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prompts import STRENGTHS
from srvgg import LAYERS, WIDTH
from together import LOUDER
from words import HAND_LABELS

from seesr_cli.training.evaluation import METHODS, Summary, table

CARD = """# The miniature

A small model of SeeSR's architecture, bundled so that `seesr upscale photo.jpg --model miniature` runs offline, and for
demonstration and tests. **It is a stand-in. It is not the published model**, whose weights are several hundred times as
large, and its pictures say nothing about what the published model can do.

## What is in it

Tagger (Swin, 384 px, {labels} labels), CLIP text tower with a tokenizer of its own, VAE (f = 4, {channels} latent
channels, of which {grain} hold the sampler's noise alone, and two are what words ask by; a decoder of {layers} layers
at the latent's size), UNet and ControlNet with text and image cross-attention at the lowest level. fp16,
{megabytes:.1f} MB together. The schedule is short: its noisiest step has noise of 0.05 beside a latent of deviation
{loud:.0f}. Trained for one step from the degraded picture (`trailing` spacing), guidance 1 and wavelet colour
alignment, which are its defaults.

The decoder began with the weights of **realesr-animevideov3** (Real-ESRGAN's authors, BSD-3-Clause, in
`LICENSE-Real-ESRGAN`). Then UNet, ControlNet and decoder learnt together to make of a degraded picture what
**Real-ESRGAN x4plus** (Wang et al. 2021, BSD-3-Clause) makes of it: by the difference of pixels and spectra, and by two
adversaries, which learnt beside them to tell the two pictures apart, one by pixels, one by what EfficientNet-Lite0
(Apache-2.0) sees in them. Then spectra and adversaries compared with the originals, and grain was learnt: where
a surface has texture that the small picture does not tell, it is drawn from chance. Last came the words for grain: for
`grain` the originals had that of a film, for `clean` the teacher's pictures stood for them.

## What it was trained on

* 26 photographs of the CLIC 2025 validation set, halved in size (Unsplash License), and 25 of the GB82 set (CC0),
  labelled by eye for the tagger.
* For look and words also 209 photographs of Cloudinary's Compression Image Dataset 2022, training half (CC BY-SA 4.0).
* What Real-ESRGAN x4plus makes of degraded squares of them. Neither it nor EfficientNet is a part of this program.
* What the authors of realesr-animevideov3 trained it on: drawn pictures.
* Pictures the recipe makes itself: ten kinds of texture (tagger only).
* Degraded by the project's second-order degradation, mild to strong, and, for look and words, as phones, scanners and
  the web do. Every fifth photograph of each set was kept aside and only measured on.

Made by one command, on one CPU core: `python recipes/miniature/train.py --photos DIR [--photos DIR ...] --out DIR`.
{history}
sha256 of names and pixels of the photographs that were learnt from, of the squares, and of all weights:

{sums}

## What it can do

{quality}

Middle squares of 512 pixels of {held_out} photographs kept aside, degraded x4; PSNR and SSIM of Y, NIQE (less is
better), consistency and colour drift as `seesr evaluate` measures them; gain: PSNR over bicubic enlargement.

## What it cannot do

* What it draws is likely, not true: letters too small to read become other letters, small faces other faces.
* It paints: fur and hair become smooth, grass and reeds become strokes with grain between them, and what is blurred on
  purpose may get hard edges. There plain enlargement is up to {worst:.1f} dB nearer to the original, though NIQE says
  the opposite. `--add-tag soft` paints less.
* Fine regular lines become faint or crooked, as those of a facade of glass do, four pixels of the small picture apart.
* Small or badly degraded faces are distorted, and get blotches and wrinkles. In grass the grain may show a lattice, and
  pale fur a trace of hatching.
* Guidance above 1 and more than one step are possible and were not trained for.
* Its tagger learnt from {training} photographs, for minutes: its tags are often wrong (F1 below).

## Tags and embedding: what they are worth

Words that say how much detail there is to be are obeyed: {words}, for a person (`--add-tag crisp`) as for the tagger.
With `crisp` a picture has {most:.2f} times the detail that it has with `soft` (least: {least:.2f} times; deviation of a
picture minus its blur of 2 pixels), and their mean colours differ by at most {shift:.2f} / 255. `grain` asks for that
of a film, `clean` for less than would be likely: {grainy:.2f} times the detail (least: {grainy_least:.2f}), colours
within {grainy_shift:.2f} / 255. Other tags, and the embedding, change next to nothing. Change of the picture when the
reading is changed, on middle squares of 256 pixels of the photographs kept aside, both kinds, by the recipe's stage
`evaluate`:

{guidance}

Nearness: PSNR between the pictures with the true and with the changed reading; 54 dB is half a grey level.

## DAPE against its teacher

{f1}
"""

F1 = """F1 over all labels, on whole views of the labelled photographs kept aside, degraded as in training. The control
is the teacher, trained on clean pictures for as many more steps as the student was on degraded ones.

{table}

{student}"""


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
    words, film = numbers["words"], numbers["grain"]
    vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    path.write_text(
        CARD.format(
            labels=len((folder / "tagger" / "tags.txt").read_text(encoding="utf-8").split("\n")) - 1,
            megabytes=sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6,
            layers=LAYERS + 2,
            channels=vae["latent_channels"],
            grain=vae["compact_decoder"]["width"] - WIDTH,
            loud=LOUDER,
            held_out=held_out,
            worst=-min(each.worst for each in summaries if each.method == METHODS[-1]),
            training=TRAINED_ON,
            history=history,
            sums="\n".join(f"    {sum}  {name}" for name, sum in numbers["sums"].items()),
            quality=table(summaries),
            words=", ".join(STRENGTHS),
            most=words["mean"],
            least=words["least"],
            shift=words["shift"],
            grainy=film["mean"],
            grainy_least=film["least"],
            grainy_shift=film["shift"],
            guidance="\n".join(guidance),
            f1=_f1(numbers["f1"]),
        ),
        encoding="utf-8",
    )


TRAINED_ON = len(HAND_LABELS) - len(HAND_LABELS) // 5
"""Labelled photographs that the tagger learnt from."""

NOTICEABLE = 0.01
"""Difference of F1 below which two taggers count as equal."""


def _f1(scores: Mapping[str, Mapping[str, float]]) -> str:
    if not scores:
        return "Not measured: the tagger was taken from another miniature, and its teacher was not there."
    rows = ["| tagger | F1, true labels | F1, teacher's tags of the clean picture |", "|---|---|---|"]
    rows += [f"| {name} | {score['true']:.3f} | {score['teacher']:.3f} |" for name, score in scores.items()]
    return F1.format(table="\n".join(rows), student=_student(scores))


def _student(scores: Mapping[str, Mapping[str, float]]) -> str:
    student, teacher, control = (
        scores[f"{name}, degraded pictures"]["true"] for name in ("student", "teacher", "control")
    )
    against = f"{student - teacher:+.3f} against its teacher and {student - control:+.3f} against the control"
    if abs(student - teacher) < NOTICEABLE:
        return f"The student is no better than its teacher ({against})."
    return f"The student's F1 is {against}."
