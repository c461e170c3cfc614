"""Read the tags of many pictures, without restoring them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import image
from .inputs import InputFile, read_bytes
from .outcome import Outcome, Watch, failed_outcome

if TYPE_CHECKING:
    from ..restore.tag import Reader


def read_tags(
    sources: Sequence[InputFile], model: str, load: "Callable[[], Reader]", watch: Watch, *, tolerant: bool = False
) -> Iterator[Outcome]:
    """Read the tags of every picture and yield an Outcome for each, in order; failures as in `batch.run`.

    model: name of the model, for the report.
    load: loads the tagger; called once, when the first picture has been read.
    tolerant: whether damaged pictures are read as far as possible.
    """
    reader: Reader | None = None
    for source in sources:
        start = time.monotonic()
        watch.started(source.path, None)
        try:
            picture = image.decode(read_bytes(source), source.path, tolerant)
            if reader is None:
                watch.loading(model)
                began = time.monotonic()
                reader = load()
                start += time.monotonic() - began  # loading is no picture's time
            tags = reader.read(picture.pixels).tags
        except Exception as error:
            outcome = failed_outcome(source.path, error)
        else:
            height, width = picture.pixels.shape[-2:]
            outcome = Outcome(source.path, "done", 0.0, size_in=(height, width), tags=tags, notes=picture.notes)
        yield replace(outcome, seconds=time.monotonic() - start)
