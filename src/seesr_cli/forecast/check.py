"""Check forecasts against the free memory and disk, and advise an option that makes a picture fit."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from ..errors import PictureError, ResourcesError
from ..machine.available import Room
from ..machine.precision import DTYPES, has_bf16
from ..machine.share import ALONE
from ..settings import EXACT_SIZES
from ..sizes import sizes
from ..wording import bytes_in_words
from .estimate import Forecast, fits, memories, of_case


def check(planned: Sequence[tuple[Path, Forecast]], room: Room) -> None:
    """Return if every picture fits the memory, and all results together the disk, or the room is not known.

    Else raise ResourcesError: what is needed, what is there, and an option that makes it fit, tried out.
    """
    for path, picture in planned:
        for what, needed, free in memories(picture.least, room):
            if free is not None and needed > free:
                lack = f"{path} needs {bytes_in_words(needed)} of {what}, and {bytes_in_words(free)} are free"
                raise ResourcesError(f"{lack}: {_advice(picture, room)}.")
    disk = sum(picture.disk for _, picture in planned)
    if room.disk is not None and disk > room.disk:
        results = "The result takes" if len(planned) == 1 else f"The {len(planned)} results take"
        lack = f"{results} up to {bytes_in_words(disk)} of disk, and {bytes_in_words(room.disk)} are free"
        raise ResourcesError(f"{lack}: choose another disk with -o, or make room.")


def _advice(picture: Forecast, room: Room) -> str:
    """Return what to do about a picture that does not fit: the mildest change of one option that makes it fit."""
    case = picture.case
    settings = case.settings
    assert settings.tile != "auto"  # a forecast has chosen
    if room.share != ALONE and fits(of_case(case._replace(room=room.whole())), room.whole()):
        return "use fewer --jobs or --devices, one picture at a time fits"
    for size in range(case.batch_size - 1, 0, -1):
        if fits(of_case(case._replace(batch_size=size)), room):
            return f"use --batch-size {size}, which fits"
    for side in range((max(picture.side) - 1) // 8 * 8, max(15, settings.overlap), -8):
        if side < settings.tile and fits(of_case(case._replace(settings=replace(settings, tile=side))), room):
            return f"use --tile {side}, which fits"
    if case.place.device.type == "cpu" and case.place.dtype == DTYPES["fp32"]:
        half = of_case(case._replace(place=case.place._replace(dtype=DTYPES["bf16"])))
        # Without instructions for it a CPU takes days for what would take hours.
        measured = half.timed and picture.timed
        served = half.total_seconds < 2 * picture.total_seconds if measured else has_bf16()
        if fits(half, room) and served:
            return "use --dtype bf16, which fits"
    whole = max(case.sizes.result[0] / case.sizes.picture[0], case.sizes.result[1] / case.sizes.picture[1])
    place = "" if all(getattr(settings, name) is None for name in EXACT_SIZES) else " in the place of the size"
    for tenths in range(ceil(10 * whole) - 1, 9, -1):
        smaller = replace(settings, scale=tenths / 10, width=None, height=None, long_edge=None, megapixels=None)
        try:
            stations = sizes(case.sizes.picture, smaller, case.networks.multiple)
        except PictureError:
            continue
        if fits(of_case(case._replace(sizes=stations, settings=smaller)), room):
            return f"use --scale {tenths / 10:g}{place}, which fits"
    if case.place.device.type == "cuda":
        return "use --device cpu, or cut it into parts"
    return "cut it into parts, close other programs, or use a machine with more memory"
