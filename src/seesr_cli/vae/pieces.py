"""Large pictures go through a VAE in bounded memory: convolutions in pieces, one group norm for the whole picture.

A VAE's encoder and decoder are flat lists of steps (`encoding`, `decoding`). Most steps are exact: what they give rests
whole in memory, they work in bands of rows, and the norm that follows has the true statistics (law of total variance).
Steps whose features are too large to rest are joined: pieces go through all of them at once, with enough halo, and all
pieces share statistics that were measured on a reduced picture. Which are which is a `Plan`; `budget` makes it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ..sizes import Size

GLOBAL, HALO = 256, 32
"""Attention is global over up to GLOBAL² latents (2048² pixels of Stable Diffusion's VAE). Above, squares attend to
what is within HALO of them, GLOBAL² latents, and to means of the rest, about as many: so all share one tone."""

QUERIES = 4096
"""Positions that attend at once."""

CHUNK = 2**18
"""Numbers of which moments are taken at once on a CPU: they stay in its cache."""


class Box(NamedTuple):
    """A part of a map: rows from top to bottom, columns from left to right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def cut(self, features: Tensor, origin: Size = (0, 0)) -> Tensor:
        """Return a view of this part of features [..., H, W], the first of which stands at `origin`."""
        top, left = origin
        return features[..., self.top - top : self.bottom - top, self.left - left : self.right - left]

    def put(self, features: Tensor, part: Tensor) -> None:
        """Let this part of features [..., H, W] be `part`."""
        self.cut(features).copy_(part)


Source = Callable[[Box], Tensor]
Sink = Callable[[Box, Tensor], None]

OnPiece = Callable[[int, int], None]
"""Told (pieces done, pieces in all), after each."""


class Layer(NamedTuple):
    """A convolution of silu(norm(x)), in which x is doubled in both directions first where it `doubles`.

    keeps: what it is given is kept, and added to what the next layer that `adds` gives, through its `shortcut` if any.
    """

    conv: nn.Conv2d
    norm: nn.GroupNorm | None = None
    doubles: bool = False
    keeps: bool = False
    adds: bool = False
    shortcut: nn.Conv2d | None = None

    @property
    def width(self) -> int:
        """Channels of what it gives."""
        return self.conv.out_channels

    def size(self, given: Size) -> Size:
        """Return the size of what it gives for a map of size `given`."""
        stride = self.conv.stride[0]
        return (given[0] * 2, given[1] * 2) if self.doubles else (given[0] // stride, given[1] // stride)

    def reads(self, box: Box, given: Size) -> Box:
        """Return the part of its input, of size `given`, that `box` of its output is computed from."""
        (top, bottom), (left, right) = self._spans(box, given)[0]
        factor = 2 if self.doubles else 1
        return Box(top // factor, left // factor, -(-bottom // factor), -(-right // factor))

    def convolve(self, part: Tensor, box: Box, given: Size) -> Tensor:
        """Return `box` of its output, without what is kept, for the activated `part` that `reads` names."""
        (rows, columns), ((above, below), (before, after)) = self._spans(box, given)
        if self.doubles:
            origin = self.reads(box, given)
            part = F.interpolate(part, scale_factor=2.0, mode="nearest")
            part = Box(rows[0], columns[0], rows[1], columns[1]).cut(part, (2 * origin.top, 2 * origin.left))
            part = part.contiguous(memory_format=torch.channels_last)
        padding = (0, 0)
        if self.conv.padding_mode == "zeros" and above == below and before == after:
            padding = (above, before)
        elif above or below or before or after:
            mode = "constant" if self.conv.padding_mode == "zeros" else self.conv.padding_mode
            part = F.pad(part, (before, after, above, below), mode=mode)
        return F.conv2d(part, self.conv.weight, self.conv.bias, self.conv.stride, padding)

    def operations(self) -> int:
        """Return multiplications per number of positions of its output."""
        shortcut = 0 if self.shortcut is None else self.shortcut.weight.numel()
        return self.conv.weight.numel() + shortcut

    def _spans(self, box: Box, given: Size) -> tuple[tuple[Size, Size], tuple[Size, Size]]:
        """Return which rows and columns of its (doubled) input are read, and how many are missing around them."""
        side, stride = self.conv.kernel_size[0], self.conv.stride[0]
        # As in diffusers: the convolution that halves is padded behind only.
        before = (side - 1) // 2 if stride == 1 else 0
        read, missing = [], []
        for start, stop, length in ((box.top, box.bottom, given[0]), (box.left, box.right, given[1])):
            whole = length * (2 if self.doubles else 1)
            first, last = start * stride - before, (stop - 1) * stride - before + side
            read.append((max(first, 0), min(last, whole)))
            missing.append((max(-first, 0), max(last - whole, 0)))
        return (read[0], read[1]), (missing[0], missing[1])


class Attention(NamedTuple):
    """diffusers' attention with its residual, all positions to all."""

    module: Any

    @property
    def width(self) -> int:
        """Channels of what it gives."""
        return int(self.module.to_q.in_features)

    def heads(self, positions: Tensor) -> Tensor:
        """Return [1, heads, N, C/heads] of [1, N, C]."""
        return positions.view(1, positions.shape[1], self.module.heads, -1).transpose(1, 2)


Step = Layer | Attention


def encoding(vae: AutoencoderKL) -> tuple[Step, ...]:
    """Return the steps from pixels in [-1, 1] to the parameters of the posterior, [1, 2·channels, H/f, W/f]."""
    encoder, steps = vae.encoder, list[Step]()
    steps.append(Layer(encoder.conv_in))
    for block in encoder.down_blocks:
        steps += [step for resnet in block.resnets for step in _residual(resnet)]
        steps += [Layer(down.conv) for down in block.downsamplers or ()]
    steps += _middle(encoder.mid_block)
    steps.append(Layer(encoder.conv_out, encoder.conv_norm_out))
    return (*steps, *([] if vae.quant_conv is None else [Layer(vae.quant_conv)]))


def decoding(vae: AutoencoderKL) -> tuple[Step, ...]:
    """Return the steps from an unscaled latent to pixels in [-1, 1]."""
    decoder, steps = vae.decoder, list[Step]()
    steps += [] if vae.post_quant_conv is None else [Layer(vae.post_quant_conv)]
    steps += [Layer(decoder.conv_in), *_middle(decoder.mid_block)]
    for block in decoder.up_blocks:
        steps += [step for resnet in block.resnets for step in _residual(resnet)]
        steps += [Layer(up.conv, doubles=True) for up in block.upsamplers or ()]
    return (*steps, Layer(decoder.conv_out, decoder.conv_norm_out))


def _middle(block: Any) -> list[Step]:
    steps: list[Step] = list(_residual(block.resnets[0]))
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        steps += [*([] if attention is None else [Attention(attention)]), *_residual(resnet)]
    return steps


def _residual(block: Any) -> tuple[Layer, Layer]:
    return (
        Layer(block.conv1, block.norm1, keeps=True),
        Layer(block.conv2, block.norm2, adds=True, shortcut=block.conv_shortcut),
    )


class Norm(NamedTuple):
    """A group norm with given statistics: `mean` and `variance` of the group of each channel, float32."""

    module: nn.GroupNorm
    mean: Tensor
    variance: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return `features` [1, C, H, W] normalised."""
        # With statistics from outside a group norm is what a batch norm is at inference.
        weight, bias = self.module.weight.float(), self.module.bias.float()
        return F.batch_norm(features, self.mean, self.variance, weight, bias, False, 0.0, self.module.eps)


class Moments:
    """Sum and sum of squares of every channel over the parts of a map that were added."""

    def __init__(self) -> None:
        self._count = 0
        self._pivot = self._sum = self._squares = torch.zeros(0)

    def add(self, part: Tensor) -> None:
        """Count `part`, [1, C, h, w], channels last."""
        positions = part.permute(0, 2, 3, 1).flatten(0, 2)
        if not self._count:
            # Sums of squares lose no digits where they are taken around something near the mean.
            self._pivot = positions[:256].float().mean(0)
            self._sum = self._squares = torch.zeros(part.shape[1], dtype=torch.float64)
        self._count += len(positions)
        at_once = max(1, (CHUNK if part.device.type == "cpu" else 256 * CHUNK) // part.shape[1])
        for chunk in torch.split(positions, at_once):
            offsets = chunk.float() - self._pivot
            ones = offsets.new_ones(1, len(offsets))
            self._sum = self._sum + (ones @ offsets)[0].cpu().double()
            self._squares = self._squares + (ones @ offsets.square_())[0].cpu().double()

    def norm(self, module: nn.GroupNorm) -> Norm:
        """Return `module` with the statistics of what was added."""
        offset = self._sum / self._count
        mean = (self._pivot.cpu().double() + offset).view(module.num_groups, -1)
        variance = (self._squares / self._count - offset.square()).view(module.num_groups, -1)
        # Law of total variance: within the channels of a group, and between them.
        variance = variance.mean(1) + mean.var(1, correction=0)
        repeats, device = mean.shape[1], self._pivot.device
        return Norm(
            module,
            mean.mean(1).repeat_interleave(repeats).float().to(device),
            variance.clamp(min=0).repeat_interleave(repeats).float().to(device),
        )


class Rest:
    """A map that rests whole on the device `home` between two steps, and its moments so far."""

    def __init__(self, width: int, size: Size, dtype: torch.dtype, home: torch.device) -> None:
        shape = (1, width, *size)
        self.features = torch.empty(shape, dtype=dtype, device=home, memory_format=torch.channels_last)
        self.moments = Moments()

    def anew(self) -> "Rest":
        """Return this map, to be written over: its moments are to be counted from nothing."""
        self.moments = Moments()
        return self

    def read(self, box: Box) -> Tensor:
        """Return `box` of the map, where it rests."""
        return box.cut(self.features)

    def write(self, box: Box, part: Tensor) -> None:
        """Let `part` be `box` of the map from now on, and count it."""
        self.moments.add(part)
        box.put(self.features, part)


class Course(NamedTuple):
    """Steps and the sizes of their maps: steps[i] makes a map of sizes[i + 1] from one of sizes[i]."""

    steps: tuple[Step, ...]
    sizes: tuple[Size, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, steps: Sequence[Step], size: Size) -> "Course":
        """Return the course of `steps`, the first of which is a layer, over a map of `size`."""
        sizes = [size]
        for step in steps:
            sizes.append(step.size(sizes[-1]) if isinstance(step, Layer) else sizes[-1])
        course = cls(tuple(steps), tuple(sizes), torch.float32, torch.device("cpu"))
        weight = course.layer(0).conv.weight
        return course._replace(dtype=weight.dtype, device=weight.device)

    def reduced(self, index: int, size: Size) -> "Course":
        """Return the course in which steps[index] is given a map of `size`."""
        later = Course.of(self.steps[index:], size).sizes
        return self._replace(sizes=(*self.sizes[:index], *later))

    def layer(self, index: int) -> Layer:
        """Return steps[index], which is a layer."""
        step = self.steps[index]
        assert isinstance(step, Layer)
        return step

    def width(self, index: int) -> int:
        """Return the channels of the map that steps[index] is given."""
        step = self.steps[index]
        return step.conv.in_channels if isinstance(step, Layer) else step.width

    def bytes_of(self, index: int) -> int:
        """Return the bytes of the map that steps[index] is given."""
        return math.prod(self.sizes[index]) * self.width(index) * self.dtype.itemsize

    def path(self, span: tuple[int, int], box: Box) -> list[Box]:
        """Return what the layers from span[0] up to span[1] read, one after the other, to make `box`, which is last."""
        boxes = [box]
        for index in reversed(range(*span)):
            boxes.insert(0, self.layer(index).reads(boxes[0], self.sizes[index]))
        return boxes


class Plan(NamedTuple):
    """How a map goes through the steps of a course.

    first, last: the steps from `first` up to `last` are joined; all are exact where the two are the same. piece: size
    of what is made of their output at once. reduction: their norms are measured on a map smaller by it. rows: of the
    output of each exact step, made at once. hosted: features rest in the host's memory and not on the device.
    memory: bytes in use on the device at most. overhead: operations of the joined convolutions over those without
    pieces, the reduced map's included.
    """

    first: int
    last: int
    piece: Size
    reduction: int
    rows: tuple[int, ...]
    hosted: bool
    memory: int
    overhead: float


def run(course: Course, plan: Plan, source: Source, sink: Sink, on_piece: OnPiece = lambda done, total: None) -> None:
    """Give to `sink`, box by box, what the steps of `course` make of a map of which `source` returns any box.

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
            _attend(step, given, course)
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
    source: Source,
    sink: Sink,
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
    course: Course, plan: Plan, given: Rest | None, source: Source, sink: Sink, tick: Callable[[], None]
) -> Rest | None:
    """Return what the joined steps make of `given`, or of the source if None; if they end all, it goes to the sink."""
    span, read = (plan.first, plan.last), given.read if given else source
    norms = _estimated(course, span, plan.reduction, read)
    made = _rest(course, plan.last, plan) if plan.last < len(course.steps) else None
    _fill(course, span, _boxes(course, plan, plan.first), read, made.write if made else sink, norms, None, tick)
    return made


def _estimated(course: Course, span: tuple[int, int], reduction: int, read: Source) -> dict[int, Norm]:
    """Return the norms of the layers of `span`, measured on means over squares of side `reduction` of what they read.

    Each channel of the means is given the mean and the deviation that it has without reduction.
    """
    height, width = course.sizes[span[0]]
    moments, means = Moments(), list[Tensor]()
    for box in grid((height, width), (reduction, width)):
        band = _here(read(box), course)
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
    read: Source,
    write: Sink,
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
    read: Source,
    norms: dict[int, Norm],
    kept: Rest | None = None,
) -> tuple[list[Tensor], dict[int, Norm]]:
    """Return `boxes` of what the layers from span[0] up to span[1] make of what `read` returns, and their norms.

    norms: by the number of the step; one that is absent is measured on all boxes together. kept: what is added if it
    was kept by a step before these.
    """
    paths = [course.path(span, box) for box in boxes]
    parts = [_here(read(path[0]), course) for path in paths]
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
        given = course.sizes[index]
        parts = [layer.convolve(part, path[number + 1], given) for part, path in zip(parts, paths, strict=True)]
        if layer.adds:
            for at, path in enumerate(paths):
                if kept is None:
                    old = path[number + 1].cut(added[at][0], (added[at][1].top, added[at][1].left))
                else:
                    old = _here(kept.read(path[number + 1]), course)
                parts[at] += old if layer.shortcut is None else layer.shortcut(old)
            added = []
    return parts, used


def _attend(attention: Attention, given: Rest, course: Course) -> None:
    """Add to `given` what its positions attend to: to all up to GLOBAL², to what is far from them only to means above.

    A mean over n positions is attended to as they would be if they were equal: its logit is larger by log n.
    """
    module, features = attention.module, given.features
    norm = given.moments.norm(module.group_norm)
    height, width = size = (features.shape[-2], features.shape[-1])
    whole = height * width <= GLOBAL**2
    cell = coarseness(size)
    if not whole:
        rows = (_here(given.read(band), course) for band in grid(size, (cell, width)))
        means = norm(torch.cat([F.avg_pool2d(row, cell, ceil_mode=True) for row in rows], dim=2))
        weights = F.avg_pool2d(torch.ones(1, 1, *size), cell, ceil_mode=True, divisor_override=1).log()
    found = torch.empty_like(features)
    for box in grid(size, size if whole else (GLOBAL - 2 * HALO, GLOBAL - 2 * HALO)):
        near = box if whole else _near(box, cell, size)
        positions = norm(_here(given.read(near), course)).permute(0, 2, 3, 1).flatten(1, 2)
        bias = None
        if not whole:
            far = torch.ones(means.shape[-2:], dtype=torch.bool)
            far[near.top // cell : -(-near.bottom // cell), near.left // cell : -(-near.right // cell)] = False
            counted = torch.cat([torch.zeros(near.area), weights[0, 0, far]])
            bias = counted.to(course.device, course.dtype).view(1, 1, 1, -1)
            positions = torch.cat([positions, means.permute(0, 2, 3, 1)[:, far.to(course.device)]], dim=1)
        keys, values = attention.heads(module.to_k(positions)), attention.heads(module.to_v(positions))
        del positions
        side = box.right - box.left
        for band in grid((box.bottom - box.top, side), (max(1, QUERIES // side), side)):
            part = Box(box.top + band.top, box.left, box.top + band.bottom, box.right)
            asking = norm(_here(given.read(part), course)).permute(0, 2, 3, 1).flatten(1, 2)
            heard = F.scaled_dot_product_attention(attention.heads(module.to_q(asking)), keys, values, attn_mask=bias)
            heard = module.to_out[0](heard.transpose(1, 2).flatten(2))
            part.put(found, heard.transpose(1, 2).reshape(1, attention.width, -1, side))
    given.anew()
    for band in grid(size, (max(1, CHUNK // width), width)):
        given.write(band, _here(band.cut(features) + band.cut(found), course))


def coarseness(size: Size) -> int:
    """Return the side of the squares over which attention takes means in a map of `size`."""
    return math.ceil(math.sqrt(math.prod(size)) / GLOBAL)


def _near(box: Box, cell: int, size: Size) -> Box:
    """Return `box` and what is within HALO of it in a map of `size`, in whole squares of side `cell`."""
    return Box(
        max(0, box.top - HALO) // cell * cell,
        max(0, box.left - HALO) // cell * cell,
        min(size[0], -(-(box.bottom + HALO) // cell) * cell),
        min(size[1], -(-(box.right + HALO) // cell) * cell),
    )


def _here(part: Tensor, course: Course) -> Tensor:
    return part.to(course.device, course.dtype).contiguous(memory_format=torch.channels_last)


def grid(size: Size, piece: Size) -> list[Box]:
    """Return the boxes of up to `piece` that cover `size`, row by row."""
    return [
        Box(top, left, min(top + piece[0], size[0]), min(left + piece[1], size[1]))
        for top, left in product(range(0, size[0], piece[0]), range(0, size[1], piece[1]))
    ]
