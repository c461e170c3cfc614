"""An installed pyiqa, called exactly as the published protocol calls it (OSEDiff's test_metrics.py).

It is never a dependency: its licence forbids commercial use, and it brings gigabytes.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ..errors import PictureError, UsageError
from .fidelity import check_sizes
from .paper.fid import Features
from .pixels import Pixels

LICENCE = "Measured by pyiqa, whose licence (PolyForm Noncommercial 1.0.0) forbids commercial use."

CALLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "psnr": ("psnr", {"test_y_channel": True, "color_space": "ycbcr"}),
    "ssim": ("ssim", {"test_y_channel": True, "color_space": "ycbcr"}),
    "niqe": ("niqe", {}),
    "lpips": ("lpips", {}),
    "dists": ("dists", {}),
    "fid": ("fid", {}),
    "musiq": ("musiq", {}),
    "maniqa": ("maniqa-pipal", {}),
    "clipiqa": ("clipiqa", {}),
}
"""Its name of each metric, and the arguments that are given."""


class Pyiqa:
    """Metrics of pyiqa on a device; an engine as `measure` takes one."""

    def __init__(self, metrics: Iterable[str], device: torch.device) -> None:
        """Make those of `metrics` that pyiqa has; it fetches their weights itself. Raises UsageError without pyiqa."""
        pyiqa = _imported()
        self.version = version("pyiqa")
        self._device = device
        with redirect_stdout(sys.stderr):  # it prints what it loads
            self._metrics = {
                metric: pyiqa.create_metric(CALLS[metric][0], device=device, **CALLS[metric][1])
                for metric in metrics
                if metric in CALLS
            }

    def measures(self, metric: str) -> bool:
        """Return whether a metric of single pictures is computed here."""
        return metric in self._metrics and metric != "fid"

    def value(self, metric: str, result: Pixels, reference: Pixels | None) -> float:
        """Return the metric of a picture. Raises PictureError for unequal sizes, and for what pyiqa cannot measure."""
        if reference is not None:
            check_sizes(result, reference)
        pictures = (result,) if reference is None else (result, reference)
        try:
            with torch.no_grad(), redirect_stdout(sys.stderr):
                return float(self._metrics[metric](*map(self._tensor, pictures)).item())
        except (RuntimeError, ValueError, AssertionError) as problem:
            raise PictureError(f"pyiqa: {problem}") from problem

    def features(self, pixels: Pixels) -> Features | None:
        """Return None: pyiqa's FID takes folders."""
        return None

    def fid(self, results: Sequence[Path], references: Sequence[Path]) -> float | None:
        """Return the FID of these pictures, copied into folders of their own; None if it is not asked for."""
        if "fid" not in self._metrics:
            return None
        with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            places = [Path(folder, name) for name in ("references", "results")]
            for place, paths in zip(places, (references, results), strict=True):
                place.mkdir()
                for number, path in enumerate(paths):
                    (place / f"{number:06}{path.suffix}").symlink_to(path.resolve())
            return float(self._metrics["fid"](*map(str, places)))

    def _tensor(self, pixels: Pixels) -> torch.Tensor:
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return torch.from_numpy(planes).unsqueeze(0).to(self._device).float() / 255


def _imported() -> ModuleType:
    try:
        import pyiqa
    except ImportError as problem:
        lacks = "is not installed" if problem.name == "pyiqa" else f"does not import ({problem})"
        raise UsageError(
            f"--engine pyiqa needs pyiqa, which {lacks}: pip install pyiqa, or leave --engine out."
        ) from None
    return pyiqa
