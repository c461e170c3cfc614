"""What tags, tokens and ControlNet each do: the table and the sheet, by the program's own pipeline."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import spectrum
import torch
from amounts import MODEL, SETTINGS
from PIL import Image, ImageDraw, ImageFont
from squares import BLUR, SCALE, TEXTURES, Square
from torch import Tensor

from seesr_cli.models.tagger import Tagger
from seesr_cli.restore.sampled import Wanted
from seesr_cli.restore.tag import Reader, Reading
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import Settings
from seesr_cli.training import kernels
from seesr_cli.training.degradation import blur
from seesr_cli.training.pairs import enlarge
from seesr_cli.training.photographs import in_8_bits, unit

TOGETHER = 24
"""Pictures that are sampled in one call."""

WITHOUT = kernels.gaussian(25, (BLUR, BLUR))
"""Takes the texture away."""

GUIDANCES = (1.0, 3.0, 5.5)


class Case(NamedTuple):
    """One restoration. small: the picture that is restored, uint8. read: the tokens that are read; None: zeros."""

    small: Tensor
    tags: tuple[str, ...]
    tokens: Tensor | None


class InTurn(Reader):
    """Gives the tokens that it was handed, one after the other, whatever the picture."""

    def __init__(self, tokens: Iterable[Tensor]) -> None:
        self._tokens = iter(tokens)

    def read(self, picture: Tensor) -> Reading:
        """Return the next tokens, without tags."""
        return Reading((), next(self._tokens))


class Bench:
    """The exported model, and the tagger of clean pictures."""

    def __init__(self, folder: Path, teacher: Tagger) -> None:
        self.upscaler = Upscaler.load(MODEL, folder, device="cpu", dtype="fp32")
        self.student = self.upscaler.reader
        self.teacher = Reader(teacher, TEXTURES, (0.5,) * len(TEXTURES))

    def own(self, small: Tensor) -> Tensor:
        """Return the tokens that the program itself reads of a small picture."""
        return self.student.read(unit(small)).tokens

    def clean(self, picture: Tensor) -> Tensor:
        """Return the tokens of a clean picture."""
        return self.teacher.read(unit(picture)).tokens

    def restore(self, cases: Sequence[Case], settings: Settings) -> Iterator[Tensor]:
        """Yield the restored picture, [3, H, W] in [0, 1], of each case; each has noise of its own."""
        for first in range(0, len(cases), TOGETHER):
            some = cases[first : first + TOGETHER]
            nothing = torch.zeros_like(self.own(some[0].small))
            self.upscaler.reader = InTurn(nothing if each.tokens is None else each.tokens for each in some)
            prepared = [self.upscaler.prepare(unit(each.small), settings) for each in some]
            wanted = [
                Wanted(picture, each.tags, first + place)
                for place, (picture, each) in enumerate(zip(prepared, some, strict=True))
            ]
            sampled = self.upscaler.sample_together(wanted, settings)
            for picture, one in zip(prepared, sampled, strict=True):
                yield self.upscaler.develop(one.latent, picture, settings).pixels


def measure(folder: Path, teacher: Tagger, unseen: Sequence[Square]) -> dict[str, Any]:
    """Return the shares of pictures in which the wanted texture appears, and how far colours are off without control.

    Tags are tried without a hint, right and wrong ones, beside the picture's own tokens.
    """
    bench = Bench(folder, teacher)
    numbers: dict[str, Any] = {"pictures": len(unseen), "tags": {}, "tokens": {}}
    told = [(each, name) for each in unseen for name in TEXTURES]
    for guidance in GUIDANCES:
        settings = replace(SETTINGS, guidance=guidance)
        cases = [Case(each.bare, (name,), bench.own(each.bare)) for each, name in told]
        shown = [spectrum.texture(pixels) for pixels in bench.restore(cases, settings)]
        hits = [name == seen for (_, name), seen in zip(told, shown, strict=True)]
        right = [TEXTURES[each.texture] == name for each, name in told]
        numbers["tags"][f"{guidance:g}"] = {
            "right": _share(hit for hit, is_right in zip(hits, right, strict=True) if is_right),
            "wrong": _share(hit for hit, is_right in zip(hits, right, strict=True) if not is_right),
            "each": {
                name: _share(hit for hit, (_, asked) in zip(hits, told, strict=True) if asked == name)
                for name in TEXTURES
            },
        }
    kinds = {
        "no tag, no tokens": [Case(each.bare, (), None) for each in unseen],
        "clean tokens": [Case(each.bare, (), bench.clean(each.clean)) for each in unseen],
        "own tokens": [Case(each.bare, (), bench.own(each.bare)) for each in unseen],
        "own tokens, weak hint": [Case(each.hinted, (), bench.own(each.hinted)) for each in unseen],
        "no tag, no tokens, weak hint": [Case(each.hinted, (), None) for each in unseen],
    }
    for name, cases in kinds.items():
        shown = [spectrum.texture(pixels) for pixels in bench.restore(cases, SETTINGS)]
        numbers["tokens"][name] = _share(
            TEXTURES[each.texture] == seen for each, seen in zip(unseen, shown, strict=True)
        )
    for control in (1.0, 0.0):
        cases = [Case(each.bare, (TEXTURES[each.texture],), bench.own(each.bare)) for each in unseen]
        made = list(bench.restore(cases, replace(SETTINGS, control=control)))
        numbers[f"control {control:g}"] = {
            "texture": _share(
                TEXTURES[each.texture] == spectrum.texture(pixels) for each, pixels in zip(unseen, made, strict=True)
            ),
            "colours off": sum(_off(pixels, each.bare) for each, pixels in zip(unseen, made, strict=True)) / len(made),
        }
    return numbers


def table(numbers: dict[str, Any]) -> str:
    """Return the numbers as a table."""
    pictures = numbers["pictures"]
    lines = [
        f"| {pictures} unseen pictures | texture appears | colours off |",
        "|---|---|---|",
    ]
    for guidance, share in numbers["tags"].items():
        for kind, of in (("right", pictures), ("wrong", 5 * pictures)):
            lines.append(f"| {kind} tag, guidance {guidance} ({of}) | {share[kind]:.1%} | |")
    lines += [f"| {name} | {share:.1%} | |" for name, share in numbers["tokens"].items()]
    for control in ("control 1", "control 0"):
        entry = numbers[control]
        lines.append(f"| right tag, {control} | {entry['texture']:.1%} | {entry['colours off']:.0f} of 255 |")
    lines += ["", "| tag | " + " | ".join(TEXTURES) + " |", "|---|" + "---|" * len(TEXTURES)]
    for guidance, share in numbers["tags"].items():
        lines.append(f"| guidance {guidance} | " + " | ".join(f"{share['each'][name]:.0%}" for name in TEXTURES) + " |")
    return "\n".join(lines)


def sheet(folder: Path, teacher: Tagger, shown: Sequence[Square], magnified: int = 2) -> Image.Image:
    """Return a picture with a row for each square: input, clean, no tag, each tag, tokens, no control. Guidance 3."""
    bench = Bench(folder, teacher)
    guided = replace(SETTINGS, guidance=3.0)
    heads = ["input", "clean", "no tag", *TEXTURES, "its tokens", "other tokens", "no control"]
    rows = []
    for place, each in enumerate(shown):
        other = shown[(place + 1) % len(shown)]
        own = bench.own(each.bare)
        tagged = [Case(each.bare, (name,), own) for name in TEXTURES]
        untagged = [Case(each.bare, (), tokens) for tokens in (None, bench.clean(each.clean), bench.clean(other.clean))]
        nothing, its, others = bench.restore(untagged, SETTINGS)
        made = list(bench.restore(tagged, guided))
        (free,) = bench.restore([tagged[each.texture]], replace(guided, control=0.0))
        enlarged = unit(each.bare).repeat_interleave(4, 1).repeat_interleave(4, 2)
        rows.append([enlarged, unit(each.clean), nothing, *made, its, others, free])
    side, gap, head = rows[0][0].shape[-1] * magnified, 4, 20
    page = Image.new("RGB", (len(heads) * (side + gap) - gap, head + len(rows) * (side + gap) - gap), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for column, name in enumerate(heads):
        pen.text((column * (side + gap), 1), name, fill="black", font=font)
        for row, pictures in enumerate(rows):
            picture = Image.fromarray(in_8_bits(pictures[column])).resize((side, side), Image.Resampling.NEAREST)
            page.paste(picture, (column * (side + gap), head + row * (side + gap)))
    # 128 colours: a third of the bytes
    return page.quantize(128, dither=Image.Dither.NONE)


def _share(hits: Iterable[bool]) -> float:
    kept = list(hits)
    return sum(kept) / len(kept) if kept else 0.0


def _off(pixels: Tensor, small: Tensor) -> float:
    """Return how far the colours of the result, without its texture, are from the input's, in 255ths."""
    made, meant = (blur(each, WITHOUT) for each in (pixels, enlarge(unit(small), SCALE)))
    return float((made - meant).abs().mean() * 255)
