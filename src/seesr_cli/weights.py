"""Where a model's files are; knows files, not networks."""

import os
from importlib.resources import files
from pathlib import Path

from .errors import WeightsMissing
from .settings import Model

FOLDER_VARIABLE = "SEESR_WEIGHTS"
"""Environment variable that names the weights folder when no option does."""


def locate(model: Model, given: Path | None) -> Path:
    """Return the folder that holds `model`'s files: the one given, the bundled one, or `$SEESR_WEIGHTS`.

    Raises WeightsMissing when there is none.
    """
    if given is None and model.bundled:
        return Path(str(files(__package__) / model.name))
    if given is None and (named := os.environ.get(FOLDER_VARIABLE)):
        given = Path(named)
    if given is None:
        raise WeightsMissing(
            f"The weights of model '{model.name}' are not on this machine: put the published files in a folder and "
            f"give it with --weights DIR (or ${FOLDER_VARIABLE}), or use the small bundled stand-in, which is not the "
            "published model, with --model miniature."
        )
    if not given.is_dir():
        raise WeightsMissing(
            f"The weights folder {given} does not exist: give the folder that holds the model's files."
        )
    return given


def find(folder: Path, *names: str) -> Path:
    """Return the first of `names` that is a file under `folder`. Raises WeightsMissing, naming all of them."""
    for name in names:
        if (path := folder / name).is_file():
            return path
    raise WeightsMissing(f"{folder / names[0]} is missing: the weights folder must hold {' or '.join(names)}.")
