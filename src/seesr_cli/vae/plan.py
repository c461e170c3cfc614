"""Plan how a picture goes through the VAE within the memory that the VAE may use."""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch

from ..machine.available import free_on
from ..machine.share import ALONE, Share
from ..sizes import Size
from .attention import GLOBAL, QUERIES, coarseness
from .course import Course, Plan
from .steps import Attention, Box, Layer, grid

SPARED = 0.8
"""Of the free memory: what is taken when nobody says."""

BAND = 2**25
"""Bytes that a band works with on a CPU at most: blocks of up to 32 MiB are used again by malloc, and not cleared."""

REDUCED = 0.07
"""Of the operations of joined steps: what may be spent on measuring their norms."""

SLACK = 1.15
"""What joined steps hold at most over what they need, as measured: blocks below what `memory_returned` maps stay."""

BESIDES = 2**25
"""Bytes in use beside the features, at most: oneDNN's kernels and their scratch; measured 9 to 24 MB."""

LEAST = 8
"""Side of the smallest piece."""

OVERHEAD = 1.15
"""Operations of joined steps over those without pieces that are accepted for the sake of fewer estimated norms."""


def plan(course: Course, budget: int, room: int = 0) -> Plan | None:
    """Return the plan with the fewest estimated norms that keeps within `budget`, bytes of the device.

    None: the networks themselves do, given the whole map. room: bytes of the host in which features may rest when the
    device has not enough; 0 where the device is the host. Where nothing keeps within the budget it is the plan that
    needs the least.
    """
    if whole(course) <= budget:
        return None
    cuts = _cuts(course)
    spans = [(0, 0)] + [
        (first, last)
        for first, last in product(cuts, cuts)
        if first < last and all(isinstance(step, Layer) for step in course.steps[first:last])
    ]
    spans.sort(key=lambda span: _estimated(course, span))
    layers = [isinstance(step, Layer) for step in course.steps]
    band = min(BAND if course.device.type == "cpu" else 16 * BAND, budget // 8)
    rows = tuple(_rows(course, index, band) if layer else 0 for index, layer in enumerate(layers))
    within, beyond = list[Plan](), list[_Rests]()
    for span, hosted in product(spans, (False, True) if room else (False,)):
        rests = _rests(course, span, rows, hosted)
        if hosted and rests.resting > room:
            continue
        if rests.memory > budget:
            beyond.append(rests)
            continue
        found = _planned(course, rests, rows, budget)
        if found.memory <= budget and found.overhead <= OVERHEAD:
            return found
        within.append(found)
    if fitting := [found for found in within if found.memory <= budget]:
        return min(fitting, key=lambda found: found.overhead)
    least = min(beyond, key=lambda rests: rests.memory, default=None)
    candidates = within if least is None else [*within, _planned(course, least, rows, budget)]
    return min(candidates, key=lambda found: found.memory)


def _cuts(course: Course) -> list[int]:
    """Return the places between steps, 0 the first, at which nothing is kept to be added later."""
    cuts, waits = [0], False
    for number, step in enumerate(course.steps, 1):
        if isinstance(step, Layer):
            waits = step.keeps or (waits and not step.adds)
        if not waits:
            cuts.append(number)
    return cuts


def whole(course: Course) -> int:
    """Return the bytes that the networks themselves use at most for the whole map at once, the result included."""
    end = len(course.steps)
    boxes = [Box(0, 0, *size) for size in course.sizes]
    layers = [index for index in range(end) if isinstance(course.steps[index], Layer)]
    # Attention holds what it is given, normed, as queries, keys and values, and what comes of it in two layouts.
    attention = [8 * course.bytes_of(index) for index in range(end) if index not in layers]
    return max([*attention, _bytes(course, layers, boxes, plain=True)])


def free(device: torch.device, share: Share = ALONE) -> int:
    """Return the bytes of `device` that this process may take, by its `share`.

    It is a power of two, so that it is the same from run to run.
    """
    return 2 ** int(math.log2(max(1, SPARED * free_on(device, share))))


class _Rests(NamedTuple):
    """The bytes that the exact steps need if those of `span` are joined.

    resting: in which features rest.
    memory: in use on the device; beside: of these, the bytes beside the pieces.
    """

    span: tuple[int, int]
    hosted: bool
    resting: int
    memory: int
    beside: int


def _rests(course: Course, span: tuple[int, int], rows: Sequence[int], hosted: bool) -> _Rests:
    first, last = span
    given = kept = resting = memory = beside = 0
    index, end = 0, len(course.steps)
    while index < end:
        step = course.steps[index]
        stop = last if first <= index < last else index + 1
        made = 0 if stop == end else course.bytes_of(stop)
        if first <= index < last:
            held, scratch = given + made, 0
            beside = 0 if hosted else held
        elif isinstance(step, Attention):
            held, scratch = 2 * given, _attention_bytes(course, index)
        else:
            kept = given if step.keeps else kept
            apart = 0 if step.keeps else kept
            held = given + apart + (0 if step.adds else made)
            scratch = _piece_bytes(course, (index, stop), (rows[index], 0))
            kept = 0 if step.adds else kept
        resting, memory = max(resting, held), max(memory, scratch + (0 if hosted else held))
        given, index = made, stop
    return _Rests(span, hosted, resting, memory, beside)


def _planned(course: Course, rests: _Rests, rows: tuple[int, ...], budget: int) -> Plan:
    """Return the plan with these rests, and the largest pieces and the least reduction that keep within `budget`."""
    span, beside = rests.span, rests.beside
    if span[0] == span[1]:
        return Plan(*span, (0, 0), 1, rows, rests.hosted, rests.memory, 1.0)
    # Where the rests alone are beyond the budget, the pieces need not be the smaller for it.
    left, size = max(budget, rests.memory) - beside, course.sizes[span[1]]
    piece = size
    while (needs := _piece_bytes(course, span, piece)) > left and max(piece) > LEAST:
        piece = (-(-piece[0] // 2), piece[1]) if piece[0] >= piece[1] else (piece[0], -(-piece[1] // 2))
    ideal = _operations(course, span, size)
    reduction, small = 1, (0, 0)
    while _estimated(course, span) and (small := _reduced(course, span, reduction)):
        fits = small[0] <= left and small[1] <= REDUCED * ideal
        if fits or reduction >= min(course.sizes[span[0]]) // 4:
            break
        reduction += 1
    spent = len(grid(size, piece)) * _operations(course, span, piece) + small[1]
    memory = max(rests.memory, beside + max(needs, small[0]))
    return Plan(*span, piece, reduction, rows, rests.hosted, memory, spent / ideal)


def _reduced(course: Course, span: tuple[int, int], reduction: int) -> tuple[int, int]:
    """Return bytes and operations of the layers of `span` given a map that is smaller by `reduction`."""
    height, width = course.sizes[span[0]]
    small = course.reduced(span[0], (-(-height // reduction), -(-width // reduction)))
    return _piece_bytes(small, span, small.sizes[span[1]]), _operations(small, span, small.sizes[span[1]])


def _middle(size: Size, piece: Size) -> Box:
    top, left = (size[0] - piece[0]) // 2, (size[1] - piece[1]) // 2
    return Box(top, left, top + piece[0], left + piece[1])


def _operations(course: Course, span: tuple[int, int], piece: Size) -> int:
    """Return the operations, up to a factor, that a piece of what the layers of `span` make takes with its halo."""
    path = course.path(span, _middle(course.sizes[span[1]], piece))
    return sum(course.layer(index).operations() * box.area for index, box in zip(range(*span), path[1:], strict=True))


def _estimated(course: Course, span: tuple[int, int]) -> int:
    return sum(course.layer(index).norm is not None for index in range(*span))


def _rows(course: Course, index: int, most: int) -> int:
    """Return of how many rows of a layer's output a band within `most` bytes is made."""
    rows = course.sizes[index + 1][0]
    while (
        isinstance(course.steps[index], Layer)
        and rows > 1
        and _piece_bytes(course, (index, index + 1), (rows, 0)) > most
    ):
        rows = -(-rows // 2)
    return rows


def _piece_bytes(course: Course, span: tuple[int, int], piece: Size) -> int:
    """Return the bytes in use while a piece is made, the piece before it included; a width of 0 is the whole width."""
    size = course.sizes[span[1]]
    path = course.path(span, _middle(size, (piece[0], piece[1] or size[1])))
    before = path[-1].area * course.layer(span[1] - 1).width * course.dtype.itemsize
    slack = SLACK if span[1] - span[0] > 1 else 1.0
    return int(slack * _bytes(course, range(*span), path)) + before


def _attention_bytes(course: Course, index: int) -> int:
    """Return the bytes in use while positions attend to others: these, their keys and their values, and the means."""
    positions = math.prod(course.sizes[index])
    near, far = min(positions, GLOBAL**2), 0
    if positions > near:
        far = math.prod(-(-side // coarseness(course.sizes[index])) for side in course.sizes[index])
    asking = 4 * min(QUERIES, near)
    return (3 * (near + far) + far + asking) * course.width(index) * course.dtype.itemsize


def _bytes(course: Course, indices: Sequence[int], path: Sequence[Box], plain: bool = False) -> int:
    """Return the most that `pieces.through` uses at a time to make one box; if `plain`, what the networks use.

    path: what each step is given, and the last one makes. diffusers' networks apply the activation to a copy, and torch
    copies what a convolution is given in rows and columns into its own order, and what it makes back.
    """
    kept = most = 0
    for index in indices:
        layer, number = course.layer(index), index - indices[0]
        given = path[number].area * layer.conv.in_channels * course.dtype.itemsize
        made = path[number + 1].area * layer.width * course.dtype.itemsize
        kept = given if layer.keeps else kept
        if layer.norm is not None or layer.slope is not None:
            most = max(most, kept + (0 if layer.keeps else given) + given * (2 if plain else 1))
        wide = 4 * given if layer.doubles else given
        if plain:
            most = max(most, kept + 2 * wide + max(2 * made, wide))
        else:
            # Doubled and cut, or padded, it is there a second time, beside what comes of it.
            most = max(most, kept + given + wide + (max(wide, made) if layer.doubles else made))
        if layer.adds:
            most, kept = max(most, kept + 2 * made), 0
    return most
