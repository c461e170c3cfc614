"""Forecast every picture of a run from the headers of the files, before any is begun."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import image
from ..errors import PictureError
from ..sizes import Size, Sizes, sizes
from .outcome import Outcome, failed_outcome
from .outputs import Job
from .request import Request

if TYPE_CHECKING:
    from ..forecast.estimate import Forecast
    from ..machine.device import Place
    from ..machine.share import Share


class JobForecast(NamedTuple):
    """A picture to restore, every size it passes through, and the time, memory and disk it will take."""

    job: Job
    sizes: Sizes
    forecast: "Forecast"


def foresee(
    jobs: Sequence[Job], request: Request, place: "Place", weights: Path | None, share: "Share"
) -> Iterator[JobForecast | Outcome]:
    """Yield the forecast of each job's picture on `place`, or the Outcome of a picture that will fail.

    A picture on stdin or by a pipe is left out, because it can be read once only.

    weights: folder with the model's configurations; None: the published model's.
    share: of the memory, for each picture that is worked on at the same time.
    """
    from ..forecast import estimate
    from ..machine.available import room
    from ..models.configs import networks

    multiple = networks(request.model, weights).multiple
    there = room(place.device, jobs[0].target.parent if jobs and jobs[0].target else Path(), share)
    for job in jobs:
        if job.source.stream:
            continue
        try:
            header = image.probe(job.source.path)
            stations = sizes(header.size, request.settings, multiple)
            check_pixels(job, stations.result, request.max_pixels)
        except PictureError as error:
            yield failed_outcome(job.source.path, error)
            continue
        bits = header.bits if image.FORMATS[job.kind].deep else 8
        forecast = estimate.forecast(
            stations,
            request.settings,
            request.model,
            place,
            there,
            weights,
            job.kind,
            bits,
            header.alpha,
            request.batch_size or 1,
        )
        yield JobForecast(job, stations, forecast)


def check_pixels(job: Job, size: Size, most: int) -> None:
    """Raise PictureError if the job's result, of `size` (height, width), would have more than `most` pixels."""
    height, width = size
    if height * width > most:
        reason = f"{job.source.path} would become {width} x {height} pixels"
        allowed = f"more than the {most:,} that --max-pixels allows"
        raise PictureError(f"{reason}, {allowed}: raise it if that is meant, or ask for a smaller size.")
