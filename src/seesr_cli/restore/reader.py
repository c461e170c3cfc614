"""The tagger by itself, ready to read: what `seesr tags` needs, without the libraries that the other networks need."""

from pathlib import Path

from ..machine.device import Place, choose
from ..models import convert, load
from ..settings import Model
from ..weights import locate
from .tag import Reader


def load_reader(model: Model, weights: Path | None = None, device: str = "auto", dtype: str = "auto") -> Reader:
    """Return the model's tagger alone, ready to read pictures.

    Raises UsageError for a device or precision that cannot be had, WeightsMissing and WeightsInvalid for the files.
    """
    place, folder = choose(device, dtype), locate(model, weights)
    convert.prepare_tagger(model, folder, place)
    return assemble(model, folder, place)


def assemble(model: Model, folder: Path, place: Place) -> Reader:
    """Return the reader whose files in `folder` are prepared."""
    tagger = load.load_tagger(model, folder, place)
    return Reader(tagger, load.tag_names(model, folder), load.tag_thresholds(model, folder))
