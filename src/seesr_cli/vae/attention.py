"""Compute a VAE's attention over a map of any size: exact nearby, by means of areas far away."""

import math

import torch
import torch.nn.functional as F

from ..sizes import Size
from .course import Course, here
from .moments import CHUNK, Rest
from .steps import Attention, Box, grid

GLOBAL, HALO = 256, 32
"""Attention is global over up to GLOBAL² latents (2048² pixels of Stable Diffusion's VAE). Above, squares attend to
what is within HALO of them, GLOBAL² latents, and to means of the rest, about as many: so all share one tone."""

QUERIES = 4096
"""Positions that attend at once."""


def attend(attention: Attention, given: Rest, course: Course) -> None:
    """Add attention to `given`: over everything up to GLOBAL², above that over far areas by their means.

    A mean over n positions is attended to as they would be if they were equal: its logit is larger by log n.
    """
    module, features = attention.module, given.features
    norm = given.moments.norm(module.group_norm)
    height, width = size = (features.shape[-2], features.shape[-1])
    whole = height * width <= GLOBAL**2
    cell = coarseness(size)
    if not whole:
        rows = (here(given.read(band), course) for band in grid(size, (cell, width)))
        means = norm(torch.cat([F.avg_pool2d(row, cell, ceil_mode=True) for row in rows], dim=2))
        weights = F.avg_pool2d(torch.ones(1, 1, *size), cell, ceil_mode=True, divisor_override=1).log()
    found = torch.empty_like(features)
    for box in grid(size, size if whole else (GLOBAL - 2 * HALO, GLOBAL - 2 * HALO)):
        near = box if whole else _near(box, cell, size)
        positions = norm(here(given.read(near), course)).permute(0, 2, 3, 1).flatten(1, 2)
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
            asking = norm(here(given.read(part), course)).permute(0, 2, 3, 1).flatten(1, 2)
            heard = F.scaled_dot_product_attention(attention.heads(module.to_q(asking)), keys, values, attn_mask=bias)
            heard = module.to_out[0](heard.transpose(1, 2).flatten(2))
            part.put(found, heard.transpose(1, 2).reshape(1, attention.width, -1, side))
    given.anew()
    for band in grid(size, (max(1, CHUNK // width), width)):
        given.write(band, here(band.cut(features) + band.cut(found), course))


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
