"""The metrics: which pictures each one needs, and which direction is better."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ..errors import UsageError

Needs = Literal["result", "reference", "input"]


class Metric(NamedTuple):
    """One metric.

    title: for tables. needs: what a result is measured against, or "result" where nothing else is needed.
    higher: whether more is better. digits: behind the point, in tables.
    of_folder: it is of all pictures together, and no single one has it. learned: it is computed by a network.
    """

    title: str
    needs: Needs
    higher: bool
    digits: int
    of_folder: bool = False
    learned: bool = False


METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR, dB", "reference", True, 2),
    "ssim": Metric("SSIM", "reference", True, 4),
    "niqe": Metric("NIQE", "result", False, 3),
    "consistency": Metric("consistency, dB", "input", True, 2),
    "drift": Metric("colour drift", "input", False, 2),
    "lpips": Metric("LPIPS", "reference", False, 4, learned=True),
    "dists": Metric("DISTS", "reference", False, 4, learned=True),
    "fid": Metric("FID", "reference", False, 2, of_folder=True, learned=True),
    "musiq": Metric("MUSIQ", "result", True, 2, learned=True),
    "maniqa": Metric("MANIQA", "result", True, 4, learned=True),
    "clipiqa": Metric("CLIP-IQA", "result", True, 4, learned=True),
}

FAST = ("psnr", "ssim", "niqe", "consistency", "drift")
"""The metrics that need nothing to download."""

PAPER = ("lpips", "dists", "fid", "musiq", "maniqa", "clipiqa")
"""The metrics that are networks, as the papers have them."""

GROUPS: Mapping[str, tuple[str, ...]] = {"fast": FAST, "paper": PAPER}

FEWEST = 50
"""Pictures below which FID is not told: it is biased upwards, the more the fewer there are."""

PROTOCOL = (
    "8-bit RGB, no border cropped; PSNR of Y of YCbCr (ITU-R BT.601, not rounded), SSIM of Y rounded (window 11, sigma "
    "1.5), NIQE of Y in blocks of 96 with BasicSR's parameters, as pyiqa 0.1.16; LPIPS 0.1 (AlexNet), DISTS, FID "
    "(clean, folder against folder), MUSIQ (KonIQ), MANIQA (PIPAL), CLIP-IQA (RN50) of whole pictures in float32; "
    "consistency: RGB PSNR of the result, reduced by Pillow's bicubic filter, against its input; drift: the largest "
    "departure of a colour's mean, in 255ths"
)


def chosen(text: str, there: frozenset[Needs]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that --metrics names, and a sentence for each thing left out.

    text: "fast", "paper", or names, with commas between. there: what was given to measure against. A group leaves out
    what cannot be measured; a metric that was named is refused then. Raises UsageError.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    found: dict[str, None] = {}
    for name in names:
        if name in GROUPS:
            found |= dict.fromkeys(metric for metric in GROUPS[name] if METRICS[metric].needs in there)
        elif name not in METRICS:
            raise UsageError(f"--metrics {name} is not known: give {', '.join(GROUPS)}, or of {', '.join(METRICS)}.")
        elif METRICS[name].needs not in there:
            raise UsageError(f"{name} needs {_GIVE[METRICS[name].needs]}.")
        else:
            found[name] = None
    if not found:
        raise UsageError("--metrics names nothing: give fast, or names with commas between, as psnr,ssim.")
    wanted = dict.fromkeys(metric for name in names for metric in GROUPS.get(name, ()))
    notes = []
    for needs, option in _GIVE.items():
        if out := [metric for metric in wanted if METRICS[metric].needs == needs and metric not in found]:
            notes.append(f"Not measured: {', '.join(out)}, which need {option}.")
    return tuple(found), tuple(notes)


def enough(metrics: tuple[str, ...], asked: str, pictures: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics for which there are enough pictures, and a note about FID.

    asked: what --metrics says. Raises UsageError where FID itself was asked for.
    """
    if "fid" not in metrics:
        return metrics, ()
    if pictures >= FEWEST:
        note = f"FID of {pictures} pictures is biased upwards: compare it with FID of as many pictures alone."
        return metrics, (note,)
    if "fid" in [name.strip().lower() for name in asked.split(",")]:
        raise UsageError(f"fid needs {FEWEST} pictures or more, and there are {pictures}: leave it out.")
    left = tuple(metric for metric in metrics if metric != "fid")
    return left, (f"Not measured: fid, which needs {FEWEST} pictures or more.",)


_GIVE = {"reference": "the references: give --reference DIR", "input": "the inputs: give --input DIR"}
