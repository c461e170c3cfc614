"""Take large pictures through a VAE in bounded memory: convolutions in pieces, one group norm for the whole picture.

A VAE's encoder and decoder are flat lists of steps (`steps.encoding`, `steps.decoding`). Most steps are exact: their
output rests whole in memory, they work in bands of rows, and the norm that follows has the true statistics (law of
total variance). Steps whose features are too large to rest are joined: pieces go through all of them at once, with
enough halo, and all pieces share statistics that were measured on a reduced picture. A `Plan` says which steps are
which, and `plan.plan` makes it.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend
from .course import Course, Plan, here
from .moments import Moments, Norm, Rest
from .steps import Attention, Box, grid

BoxSource = Callable[[Box], Tensor]
BoxSink = Callable[[Box, Tensor], None]

OnPiece = Callable[[int, int], None]
"""Told (pieces done, pieces in all), after each."""


def run(
    course: Course, plan: Plan, source: BoxSource, sink: BoxSink, on_piece: OnPiece = lambda done, total: None
) -> None:
    """Compute the steps of `course` in boxes: read each from `source`, and hand its result to `sink`.

    Both see tensors [1, C, h, w] of the networks' type and on their device; the boxes given to `sink` cover the output
    once. With an exact plan it is what the networks give to rounding, but for attention above GLOBAL² positions.
    on_piece: told how many pieces of how many are done, over all steps, after each.
    """
    total, done = sum(len(_boxes(course, plan, index)) for index in range(len(course.steps))), 0

    def tick() -> None:
        nonlocal done
        done += 1
        on_piece(done, total)

    given: Rest | None = None
    kept: Rest | None = None
    index = 0
    while index < len(course.steps):
        step = course.steps[index]
        if plan.first <= index < plan.last:
            given = _joined(course, plan, given, source, sink, tick)
            index = plan.last
        elif isinstance(step, Attention):
            assert given is not None
            attend(step, given, course)
            tick()
            index += 1
        else:
            kept = given if step.keeps else kept
            given = _convolved(course, index, plan, given, kept, source, sink, tick)
            kept = None if step.adds else kept
            index += 1


def _convolved(
    course: Course,
    index: int,
    plan: Plan,
    given: Rest | None,
    kept: Rest | None,
    source: BoxSource,
    sink: BoxSink,
    tick: Callable[[], None],
) -> Rest | None:
    """Return what a layer makes of `given`, or of the source if None; the last layer's goes to the sink."""
    layer = course.layer(index)
    norms = {} if layer.norm is None or given is None else {index: given.moments.norm(layer.norm)}
    made = None
    if index + 1 < len(course.steps):
        # What is added to, or is as large and not needed any more, is written over.
        over = (given if layer.shortcut else kept) if layer.adds else None
        made = _rest(course, index + 1, plan) if over is None else over.anew()
    boxes = _boxes(course, plan, index)
    added = kept if layer.adds else None
    read, write = given.read if given else source, made.write if made else sink
    _fill(course, (index, index + 1), boxes, read, write, norms, added, tick)
    return made


def _boxes(course: Course, plan: Plan, index: int) -> Sequence[Box]:
    """Return the pieces that a step's output is made in; the joined steps' are those of their first one."""
    size = course.sizes[index + 1]
    if index == plan.first < plan.last:
        return grid(course.sizes[plan.last], plan.piece)
    if plan.first < index < plan.last:
        return ()
    if isinstance(course.steps[index], Attention):
        return (Box(0, 0, *size),)
    return grid(size, (plan.rows[index], size[1]))


def _joined(
    course: Course, plan: Plan, given: Rest | None, source: BoxSource, sink: BoxSink, tick: Callable[[], None]
) -> Rest | None:
    """Return what the joined steps make of `given`, or of the source if None; if they end all, it goes to the sink."""
    span, read = (plan.first, plan.last), given.read if given else source
    norms = _estimated(course, span, plan.reduction, read)
    made = _rest(course, plan.last, plan) if plan.last < len(course.steps) else None
    _fill(course, span, _boxes(course, plan, plan.first), read, made.write if made else sink, norms, None, tick)
    return made


def _estimated(course: Course, span: tuple[int, int], reduction: int, read: BoxSource) -> dict[int, Norm]:
    """Return the norms of the layers of `span`, measured on means over squares of side `reduction` of what they read.

    Each channel of the means is given the mean and the deviation that it has without reduction.
    """
    if all(course.layer(index).norm is None for index in range(*span)):
        return {}
    height, width = course.sizes[span[0]]
    moments, means = Moments(), list[Tensor]()
    for box in grid((height, width), (reduction, width)):
        band = here(read(box), course)
        moments.add(band)
        means.append(F.adaptive_avg_pool2d(band, (1, -(-width // reduction))))
    small = torch.cat(means, dim=2).float()
    norm = moments.norm(nn.GroupNorm(small.shape[1], small.shape[1]))
    variance, mean = torch.var_mean(small, dim=(2, 3), keepdim=True, correction=0)
    deviation = (norm.variance.view(1, -1, 1, 1) / variance.clamp(min=torch.finfo(torch.float32).tiny)).sqrt()
    small = (small - mean) * deviation + norm.mean.view(1, -1, 1, 1)
    reduced = course.reduced(span[0], (small.shape[-2], small.shape[-1]))
    return through(reduced, span, (Box(0, 0, *reduced.sizes[span[1]]),), lambda box: box.cut(small), {})[1]


def _rest(course: Course, index: int, plan: Plan) -> Rest:
    home = torch.device("cpu") if plan.hosted else course.device
    return Rest(course.width(index), course.sizes[index], course.dtype, home)


def _fill(
    course: Course,
    span: tuple[int, int],
    boxes: Sequence[Box],
    read: BoxSource,
    write: BoxSink,
    norms: dict[int, Norm],
    kept: Rest | None,
    tick: Callable[[], None],
) -> None:
    """Give `write` all `boxes` of what the steps of `span` make of what `read` returns."""
    late: tuple[Box, Tensor] | None = None
    for box in boxes:
        (part,), _ = through(course, span, (box,), read, norms, kept)
        # A map may be written over the one it is made from: a band still reads the last row of the band before.
        if late is not None:
            write(*late)
        late = box, part
        tick()
    if late is not None:
        write(*late)


def through(
    course: Course,
    span: tuple[int, int],
    boxes: Sequence[Box],
    read: BoxSource,
    norms: dict[int, Norm],
    kept: Rest | None = None,
) -> tuple[list[Tensor], dict[int, Norm]]:
    """Return `boxes` of the result of the layers span[0] to span[1], and their norms.

    norms: by the number of the step; one that is absent is measured on all boxes together. kept: what is added if it
    was kept by a step before these.
    """
    paths = [course.path(span, box) for box in boxes]
    parts = [here(read(path[0]), course) for path in paths]
    used = dict(norms)
    added: list[tuple[Tensor, Box]] = []
    for number, index in enumerate(range(*span)):
        layer = course.layer(index)
        if layer.keeps:
            added = [(part, path[number]) for part, path in zip(parts, paths, strict=True)]
        if layer.norm is not None:
            if index not in used:
                moments = Moments()
                for part in parts:
                    moments.add(part)
                used[index] = moments.norm(layer.norm)
            parts = [F.silu(used[index](part), inplace=True) for part in parts]
        if layer.slope is not None:
            parts = [layer.slope(part) for part in parts]
        given = course.sizes[index]
        parts = [layer.convolve(part, path[number + 1], given) for part, path in zip(parts, paths, strict=True)]
        if layer.adds:
            for at, path in enumerate(paths):
                if kept is None:
                    old = path[number + 1].cut(added[at][0], (added[at][1].top, added[at][1].left))
                else:
                    old = here(kept.read(path[number + 1]), course)
                parts[at] += old if layer.shortcut is None else layer.shortcut(old)
            added = []
    return parts, used
