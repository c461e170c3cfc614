"""Find a model's files; know files, not networks.

`lock` says which files there are, `shelf` which are here and verified, `status` what is lacking; `hub` fetches one
file, `pull` all that are lacking, `verify` looks after them. This module answers what loading asks: which folder, which
file.
"""

import os
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path

from ..catalogue import Model
from ..errors import WeightsMissing
from ..files import from_home
from . import lock, shelf, status

FOLDER_VARIABLE = "SEESR_WEIGHTS"
"""Environment variable that names the weights folder when no option does."""

BASES = ("stable-diffusion-2-base", "stable-diffusion-2-1-base")
"""Names under which people keep the base model; of what SeeSR takes from it, both hold the same."""


TEST_SETS, ARCHIVE = "testsets", "StableSR_testsets.zip"
"""What the lock calls the published test sets, and the name of the one file that holds them."""

METRICS = "metrics"
"""What the lock calls the files of the networks that measure results; their role is the name of the metric."""


def locate(model: Model, given: Path | None) -> Path:
    """Return the folder with `model`'s files: the given one, the bundled one, `$SEESR_WEIGHTS`, or the default.

    Of a folder that was pulled, no file is other than when it was verified. Raises WeightsMissing when there is no
    folder, or not all of the model was pulled; WeightsInvalid when a verified file has changed.
    """
    if given is None and model.bundled:
        return Path(str(files(__package__.rpartition(".")[0]) / model.name))
    return _named(given) or _pulled(
        model.name,
        frozenset(),
        f"The weights of model '{model.name}' are",
        "--model miniature: uses the small bundled stand-in, which is not the published model.",
    )


def locate_metrics(metrics: Collection[str], given: Path | None) -> Path:
    """Return the folder with the files of the networks of `metrics`, found and held to as `locate` does."""
    return _named(given) or _pulled(
        METRICS,
        metrics,
        f"The networks of {', '.join(metrics)} are",
        "--metrics fast: measures what needs nothing to download.",
    )


def locate_test_sets(given: Path | None) -> Path:
    """Return the archive of the published test sets, in `given` or in the default folder. Raises WeightsMissing."""
    for folder in (given, shelf.default().root):
        for name in (f"{TEST_SETS}/{ARCHIVE}", ARCHIVE):
            if folder is not None and (folder / name).is_file():
                shelf.Shelf(folder).hold()
                return folder / name
    (file,) = lock.read().of(TEST_SETS)
    raise WeightsMissing(
        f"The test sets are not on this machine ({ARCHIVE} of dataset {file.sources[0].repository}).",
        ("seesr weights pull testsets: fetches them. Offline: with --to DIR elsewhere; --weights DIR here.",),
    )


def _named(given: Path | None) -> Path | None:
    """Return the folder that was given, or that the environment names. Raises WeightsMissing where it is not there."""
    if given is None and (named := os.environ.get(FOLDER_VARIABLE)):
        given = Path(from_home(named))
    if given is None:
        return None
    if not given.is_dir():
        raise WeightsMissing(
            f"The weights folder {given} does not exist: give the folder that holds the model's files."
        )
    shelf.Shelf(given).hold()
    return given


def _pulled(model: str, roles: Collection[str], what: str, instead: str) -> Path:
    """Return the folder of what was pulled. roles: of the files that must be there; none for all of `model`."""
    pulled = shelf.default()
    pulled.hold()
    if lacking := status.lacking(lock.read(), pulled, model, roles=roles):
        raise WeightsMissing(
            f"{what} not on this machine ({status.in_words(lacking)}).",
            (
                f"seesr weights pull {model}: fetches them. Offline: with --to DIR elsewhere; --weights DIR here.",
                instead,
            ),
        )
    return pulled.root


def find(folder: Path, *names: str) -> Path:
    """Return the first of `names` that is a file under `folder`, in any of the layouts that people have.

    Raises WeightsMissing, saying what was looked for and where.
    """
    for name in names:
        for path in places(folder, name):
            if path.is_file():
                return path
    elsewhere = [str(path) for name in names for path in places(folder, name)][1:]
    raise WeightsMissing(
        f"{folder / names[0]} is missing: the weights folder must hold {' or '.join(names)}"
        + (f" (looked for at {', '.join(elsewhere)} too)." if elsewhere else ".")
    )


def places(folder: Path, name: str) -> list[Path]:
    """Return where the file called `name` in the published layout may be, the likeliest place first.

    The published layout is `folder / name`. A Hub snapshot of CSWRY/SeeSR has its networks where they should be, and
    the base model and the tagger's files beside it, or in the other repositories of huggingface_hub's cache; or
    `folder` is the one that holds the snapshot, as `SeeSR`, and the base model.
    """
    head, _, inner = name.partition("/")
    names = [f"{base}/{inner}" for base in BASES] if head == BASES[0] else [name]
    roots = [folder]
    if (folder / "SeeSR").is_dir():
        roots.append(folder / "SeeSR")
    if (folder / "seesr").is_dir():
        roots.append(folder.absolute().parent)
    found = [root / each for root in roots for each in names]
    if folder.absolute().parent.name == "snapshots":
        cache = folder.absolute().parents[2]
        bases = [f"models--*--{base}/snapshots/*/{inner}" for base in BASES] if head == BASES[0] else []
        found += [path for form in (*bases, f"models--*/snapshots/*/{name}") for path in sorted(cache.glob(form))]
    return found
