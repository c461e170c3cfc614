"""The values that carry a picture between the stages: prepared, sampled, developed, restored."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..sampling.tiles import Tiling
from ..sizes import Sizes
from .denoise import Call
from .prepare import Frame
from .prompt import Fitted, Prompt
from .tag import Reading, Tag
from .window import Window


class PreparedPicture(NamedTuple):
    """A picture with its sizes and its frame, which stay the same through all stages.

    pixels: [3, h, w], RGB in [0, 1].
    alpha: [1, h, w] in [0, 1]; None if the picture has none.
    window: part of the result that is made; None: all of it.
    """

    pixels: Tensor
    alpha: Tensor | None
    sizes: Sizes
    frame: Frame
    window: Window | None = None

    def seen(self, factor: int) -> Frame:
        """Return the part of the frame that the networks see. factor: pixels of the frame to one of the latent."""
        if self.window is None:
            return self.frame
        height, width = self.window.cut(self.frame.crop(self.frame.pixels), factor).shape[-2:]
        return Frame(self.window.cut(self.frame.pixels, factor), (height, width))


class Wanted(NamedTuple):
    """A picture to sample.

    tags: replace those that the tagger sees; None: the tagger's are used.
    seed: in the place of the settings'.
    """

    picture: PreparedPicture
    tags: tuple[str, ...] | None = None
    seed: int | None = None


class Sampled(NamedTuple):
    """The denoised latent of a picture, on which nearly all of its time was spent, and how it was made.

    latent: [1, C, H/f, W/f], float32.
    reading, fitted: tags and prompt as the networks read them.
    tiling: of the last step; smaller than asked for if memory ran out.
    call: the picture's place in the calls of the networks in the last step.
    notes: sentences for the person.
    """

    latent: Tensor
    reading: Reading
    fitted: Fitted
    tiling: Tiling
    call: Call
    notes: tuple[str, ...] = ()

    def about(self) -> dict[str, Any]:
        """Return everything but the latent and the tokens, ready for JSON."""
        return {
            "tags": self.reading.tags,
            "near": self.reading.near,
            "prompt": self.fitted.prompt,
            "left_out": self.fitted.left_out,
            "cut": self.fitted.cut,
            "tile": self.tiling.side,
            "overlap": self.tiling.overlap,
            "batch_size": self.call.tiles,
            "batch_place": self.call.place,
            "notes": self.notes,
        }

    @classmethod
    def recalled(cls, latent: Tensor, about: Mapping[str, Any]) -> "Sampled":
        """Return the value that `about` came from; its tokens, which nothing needs any more, are empty."""
        tags, near = (tuple(Tag(*entry) for entry in about[name]) for name in ("tags", "near"))
        return cls(
            latent,
            Reading(tags, torch.empty(0), near),
            Fitted(Prompt(*about["prompt"]), tuple(about["left_out"]), about["cut"]),
            Tiling(about["tile"], about["overlap"]),
            Call(about["batch_size"], about["batch_place"]),
            tuple(about["notes"]),
        )


class Developed(NamedTuple):
    """The pixels of a result, in the size that was asked for.

    pixels: [3, H, W], RGB in [0, 1], float32, on the CPU.
    alpha: [1, H, W] in [0, 1]; None if the picture has none.
    notes: sentences for the person.
    """

    pixels: Tensor
    alpha: Tensor | None
    notes: tuple[str, ...]


class Restored(NamedTuple):
    """One restored picture: its pixels and alpha as in Developed, how they were made, and all notes."""

    pixels: Tensor
    alpha: Tensor | None
    sampled: Sampled
    notes: tuple[str, ...]
