"""Make a preview: windows of a result, as the whole run would make them, beside the same windows enlarged."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import image
from ..errors import OutputUnwritable, UsageError
from ..files import replacing
from ..image.sheet import Cell, check_free, sheet
from ..image.sheet import write as write_sheet
from ..image.shown import as_shown
from ..sizes import Sizes
from .begin import find_result, tags_given
from .foresee import JobForecast, check_pixels
from .inputs import read_bytes
from .naming import preview_name
from .outcome import Outcome, failed_outcome
from .outputs import Job
from .session import Session

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..restore.sampled import PreparedPicture
    from ..sampling.tiles import Box

LEAST_SIDE, MOST_SIDE = 32, 4096
"""Of a window, in pixels of the result."""


_SIDES = ("top", "left", "bottom", "right")


class Look(NamedTuple):
    """The content of a preview.

    points: middles of the windows, (x, y) in pixels of the picture as it is seen; None: the middle of the result.
    side: of a window, in pixels of the result.
    seeds: each gives another variant of every window.
    """

    points: tuple[tuple[int, int] | None, ...]
    side: int
    seeds: tuple[int, ...]


def preview_path(target: Path) -> Path:
    """Return the path of the preview of the result that would be at `target`."""
    return target.with_name(preview_name(target.name))


def windows(look: Look, sizes: Sizes, source: Path) -> "list[Box]":
    """Return the windows of the result, which end where it ends. Raises UsageError for a point beside the picture."""
    height, width = sizes.result
    top, left = sizes.box[:2]
    boxes = []
    for point in look.points:
        down, across = height / 2, width / 2
        if point is not None:
            if not (point[0] < sizes.picture[1] and point[1] < sizes.picture[0]):
                raise UsageError(
                    f"--at {point[0]},{point[1]} is beside the picture: {source} has {sizes.picture[1]} x "
                    f"{sizes.picture[0]} pixels, counted from 0."
                )
            down = (point[1] + 0.5) * sizes.whole[0] / sizes.picture[0] - top
            across = (point[0] + 0.5) * sizes.whole[1] / sizes.picture[1] - left
        rows, columns = min(look.side, height), min(look.side, width)
        first = min(max(0, round(down - rows / 2)), height - rows)
        begin = min(max(0, round(across - columns / 2)), width - columns)
        boxes.append((first, begin, first + rows, begin + columns))
    return boxes


def preview(session: Session, job: Job, look: Look) -> Outcome:
    """Make the preview of the job's picture, and return its Outcome; `content` is the file if it goes to stdout.

    Journal, results and latents are left as they are. Raises what would make every picture fail.
    """
    start, loading = time.monotonic(), session.loading_seconds
    target = None if job.target is None else preview_path(job.target)
    session.watch.started(job.source.path, target)
    try:
        outcome = _previewed(session, replace(job, target=target), job, look)
    except Exception as error:
        outcome = failed_outcome(job.source.path, error)
    return replace(outcome, seconds=time.monotonic() - start - (session.loading_seconds - loading))


def _previewed(session: Session, own: Job, job: Job, look: Look) -> Outcome:
    from ..restore.sampled import Wanted

    # 1. Read the picture, with the tags that the whole run would take.
    request, source = session.request, job.source.path
    if own.target is not None:
        check_free(own.target)
    data = read_bytes(job.source)
    tagged = tags_given(session, job, hashlib.sha256(data).hexdigest())
    if job.target is not None:
        tagged, _ = find_result(session, job, job.target, tagged)
    picture = image.decode(data, source, request.tolerant)
    # 2. Choose the windows.
    upscaler = session.upscaler()
    prepared = upscaler.prepare(picture.pixels, request.settings, picture.alpha)
    check_pixels(job, prepared.sizes.result, request.max_pixels)
    settings = session.tiled_settings(job)
    boxes = windows(look, prepared.sizes, source)
    # 3. Make each window with each seed.
    parts, notes, rows = len(boxes) * len(look.seeds), list[str](), list[list[Cell]]()
    advanced = partial(session.watch.advanced, source)
    for number, (point, box) in enumerate(zip(look.points, boxes, strict=True)):
        part = upscaler.within(prepared, box, settings)
        place = "middle" if point is None else f"{point[0]},{point[1]}"
        cells = [Cell(_shown(picture, *_enlarged(prepared, box)), f"bicubic, {place}")]
        for turn, seed in enumerate(look.seeds):
            before = (number * len(look.seeds) + turn) * settings.steps

            def stepped(done: int, total: int, before: int = before) -> None:
                session.watch.stepped(source, before + done, parts * total)

            wanted = Wanted(part, tagged.tags, seed)
            (sampled,) = upscaler.sample_together([wanted], settings, stepped, request.batch_size, advanced)
            developed = upscaler.develop(sampled.latent, part, settings, advanced)
            cells.append(Cell(_shown(picture, developed.pixels, developed.alpha), f"{request.model.name}, seed {seed}"))
            notes += [*sampled.notes, *developed.notes]
        rows.append(cells)
    # 4. Write the sheet.
    advanced("write", 0, 1)
    content = _written(own.target, rows)
    return Outcome(
        source,
        "done",
        0.0,
        own.target,
        f"{source}: {_in_words(boxes, look.seeds)}",
        size_in=prepared.sizes.picture,
        size_out=prepared.sizes.result,
        tags=sampled.reading.tags,
        prompt=sampled.fitted.prompt.positive,
        notes=tuple(dict.fromkeys((*tagged.notes, *picture.notes, *notes))),
        record={"windows": [dict(zip(_SIDES, box, strict=True)) for box in boxes], "seeds": look.seeds},
        content=content,
    )


def _in_words(boxes: "Sequence[Box]", seeds: Sequence[int]) -> str:
    """Return what a preview shows: windows and variants, as far as there are several."""
    top, left, bottom, right = boxes[0]
    words = f"a window of {right - left} x {bottom - top} at {left},{top} of the result"
    if len(boxes) > 1:
        words = f"{len(boxes)} windows of the result"
    return words if len(seeds) == 1 else f"{words}, with {len(seeds)} seeds"


def _enlarged(prepared: "PreparedPicture", box: "Box") -> "tuple[Tensor, Tensor | None]":
    """Return pixels and alpha of a window of the picture that is enlarged only."""
    from ..restore.prepare import finish

    frame, (top, left, bottom, right) = prepared.frame, box
    maps = (frame.crop(frame.pixels)[0], prepared.alpha)
    pixels, alpha = (None if each is None else finish(each, prepared.sizes)[:, top:bottom, left:right] for each in maps)
    assert pixels is not None
    return pixels, alpha


def _shown(picture: image.Picture, pixels: "Tensor", alpha: "Tensor | None") -> "Image.Image":
    return as_shown(replace(picture, pixels=pixels, alpha=alpha), MOST_SIDE**2)


def _written(target: Path | None, rows: Sequence[Sequence[Cell]]) -> bytes:
    """Write the sheet to `target`, or return it as a file if it goes to stdout."""
    made = sheet(rows)
    if target is None:
        with BytesIO() as stream:
            write_sheet(stream, made)
            return stream.getvalue()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritable(
            f"The folder {target.parent} cannot be made ({error.strerror}): choose another place with -o."
        ) from error
    check_free(target)
    with replacing(target, overwrite=True) as file:
        write_sheet(file, made)
    return b""


def foresee_preview(planned: JobForecast, look: Look) -> JobForecast:
    """Return the forecast of a preview, by the forecast of the whole picture."""
    from ..forecast import estimate
    from ..forecast.rates import Parts
    from ..restore.window import Window
    from ..sampling.tiles import Tiling

    case = planned.forecast.case
    tile, overlap = case.settings.tile, case.settings.overlap
    assert tile != "auto"  # the forecast has chosen
    factor, forecasts = case.networks.factor, []
    for box in windows(look, planned.sizes, planned.job.source.path):
        region = Window.of(box, planned.sizes, factor, Tiling(tile, overlap)).size
        seen = (region[0] * factor, region[1] * factor)
        size = (box[2] - box[0], box[3] - box[1])
        stations = planned.sizes._replace(least=seen, frame=seen, padded=seen, whole=size, box=(0, 0, *size))
        forecasts.append(estimate.of_case(case._replace(sizes=stations)))
    widest, seeds = max(forecasts, key=lambda each: each.expected), len(look.seeds)
    whole = widest._replace(
        case=case,
        tiles=seeds * sum(each.tiles for each in forecasts),
        calls=seeds * sum(each.calls for each in forecasts),
        work=Parts(*(seeds * sum(parts) for parts in zip(*(each.work for each in forecasts), strict=True))),
    )
    target = planned.job.target
    return JobForecast(replace(planned.job, target=target and preview_path(target)), planned.sizes, whole)
