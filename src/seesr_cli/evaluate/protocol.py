"""Which metrics there are, what each of them needs, and which way is better."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ..errors import UsageError

Needs = Literal["result", "reference", "input"]


class Metric(NamedTuple):
    """One metric.

    title: for tables. needs: what a result is measured against, or "result" where nothing else is needed.
    higher: whether more is better. digits: behind the point, in tables.
    """

    title: str
    needs: Needs
    higher: bool
    digits: int


METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR, dB", "reference", True, 2),
    "ssim": Metric("SSIM", "reference", True, 4),
    "niqe": Metric("NIQE", "result", False, 3),
    "consistency": Metric("consistency, dB", "input", True, 2),
    "drift": Metric("colour drift", "input", False, 2),
}

FAST = ("psnr", "ssim", "niqe", "consistency", "drift")
"""The metrics that need nothing to download."""

PROTOCOL = (
    "8-bit RGB, no border cropped; PSNR of Y of YCbCr (ITU-R BT.601, not rounded), SSIM of Y rounded (window 11, sigma "
    "1.5), NIQE of Y in blocks of 96 with BasicSR's parameters, as pyiqa 0.1.16; consistency: RGB PSNR of the result, "
    "reduced by Pillow's bicubic filter, against its input; drift: the largest departure of a colour's mean, in 255ths"
)


def chosen(text: str, there: frozenset[Needs]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that --metrics names, and a sentence for each thing left out.

    text: "fast", or names with commas between. there: what was given to measure against. A group leaves out what
    cannot be measured; a metric that was named is refused then. Raises UsageError.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    found: dict[str, None] = {}
    for name in names:
        if name == "fast":
            found |= dict.fromkeys(metric for metric in FAST if METRICS[metric].needs in there)
        elif name not in METRICS:
            raise UsageError(f"--metrics {name} is not known: give fast, or of {', '.join(METRICS)}.")
        elif METRICS[name].needs not in there:
            raise UsageError(f"{name} needs {_GIVE[METRICS[name].needs]}.")
        else:
            found[name] = None
    if not found:
        raise UsageError("--metrics names nothing: give fast, or names with commas between, as psnr,ssim.")
    notes = []
    if "fast" in names:
        for needs, option in _GIVE.items():
            if out := [name for name in FAST if METRICS[name].needs == needs and name not in found]:
                notes.append(f"Not measured: {', '.join(out)}, which need {option}.")
    return tuple(found), tuple(notes)


_GIVE = {"reference": "the references: give --reference DIR", "input": "the inputs: give --input DIR"}
