"""The options of a run that hold for every picture."""

from dataclasses import dataclass
from pathlib import Path

from ..catalogue import Model
from ..records import provenance
from ..settings import MAX_PIXELS, Metadata, Settings, Sidecar


@dataclass(frozen=True)
class Request:
    """The options for every picture of a run, apart from the paths of the results.

    dtype: precision of the networks; "auto": the best for the device.
    quality: 1 to 100, of lossy formats; None: the format's own.
    overwrite: whether existing results and sidecars may be replaced.
    sidecar: kind of file with the tags that is written beside each result.
    tags_from: folder of sidecars; their tags replace those of the tagger.
    like: recipe of an earlier result; its tags too replace those of the tagger.
    keep_latents: whether the denoised latent stays beside the result.
    tolerant: whether damaged pictures are read as far as possible.
    metadata: what of the file's metadata goes on with the picture.
    keep_time: whether results have the time of change of their input.
    max_pixels: most pixels of one result.
    batch_size: most tiles, of one picture or several, in one call of the networks; None: as many as memory holds, or
        as many as `like` had.
    alone: whether the person vouches that no other run writes into the folder, which matters where it has no locks.
    graphs: whether predictions are recorded as CUDA graphs and replayed.
    """

    model: Model
    settings: Settings
    dtype: str = "auto"
    quality: int | None = None
    overwrite: bool = False
    sidecar: Sidecar = "none"
    tags_from: Path | None = None
    like: provenance.Recipe | None = None
    keep_latents: bool = False
    tolerant: bool = False
    metadata: Metadata = "keep"
    keep_time: bool = False
    max_pixels: int = MAX_PIXELS
    batch_size: int | None = None
    alone: bool = False
    graphs: bool = False
