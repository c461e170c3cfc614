"""Restore pictures from Python: load a model, give it a picture, save the result with its metadata."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from . import image
from .catalogue import DEFAULT_MODEL, MODELS
from .errors import UsageError
from .files import replacing
from .records import provenance
from .restore import upscaler
from .restore.sampled import Restored
from .restore.tag import Tag
from .settings import ModelName, Settings
from .sizes import Size
from .weights import locate
from .weights.fingerprint import fingerprint

__all__ = ["OpenedPicture", "Result", "Settings", "Upscaler", "open_picture"]


@dataclass(frozen=True)
class OpenedPicture:
    """A picture in memory, with the origin that the record of its result tells.

    name: of its file, "" if it was none. sha256: of the file's bytes, else of the pixels.
    """

    picture: image.Picture
    name: str
    sha256: str


def open_picture(source: str | Path | Image.Image | Tensor) -> OpenedPicture:
    """Return a file, a Pillow image or a tensor as a picture, with all metadata that it has.

    source: a tensor is [3, h, w] or [4, h, w] with alpha last, in [0, 1].
    Raises PictureUnreadable for a file that is no whole picture, UsageError for a tensor of another form.
    """
    if isinstance(source, Tensor):
        if source.ndim != 3 or len(source) not in (3, 4) or not source.is_floating_point():
            raise UsageError(f"A tensor must be [3 or 4, height, width] in [0, 1], not {list(source.shape)}.")
        pixels = source.detach().to("cpu", torch.float32).clamp(0, 1).contiguous()
        digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        return OpenedPicture(image.Picture(pixels[:3], pixels[3:] if len(pixels) == 4 else None), "", digest)
    if isinstance(source, Image.Image):
        with BytesIO() as file:  # through our reader, which knows every mode, profile and orientation
            source.save(file, "PNG", exif=source.getexif(), compress_level=1)
            data, path = file.getvalue(), Path("picture.png")
        return OpenedPicture(image.decode(data, path), "", hashlib.sha256(data).hexdigest())
    path = Path(source)
    data = image.load(path)
    return OpenedPicture(image.decode(data, path), path.name, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Result:
    """A restored picture.

    pixels: [3, H, W], RGB in [0, 1], float32. alpha: [1, H, W] in [0, 1]; None if the picture has none.
    tags: as the model read them. prompt: as it was followed. size_before, size: (height, width).
    notes: sentences on what a person should know. recipe: what it takes to make the result again.
    """

    pixels: Tensor
    alpha: Tensor | None
    tags: tuple[Tag, ...]
    prompt: str
    size_before: Size
    size: Size
    notes: tuple[str, ...]
    recipe: provenance.Recipe
    _picture: image.Picture
    _restored: Restored

    def save(self, path: str | Path, overwrite: bool = False, quality: int | None = None) -> tuple[str, ...]:
        """Write the result whole or not at all, with the input's metadata and with how it was made.

        path: its suffix names the format. quality: 1 to 100, of JPEG, WebP and AVIF.
        Returns sentences on what the format could not hold. Raises OutputUnwritable, also if `path` is there and
        `overwrite` is False.
        """
        path = Path(path)
        kind = image.kind_of(path)
        if kind is None:
            suffixes = " ".join(image.WRITTEN_SUFFIXES)
            raise UsageError(f"{path} has no suffix that is written: end it with one of {suffixes}.")
        image.check_target(path, self.size, kind)
        bits = self._picture.bits if image.FORMATS[kind].deep else 8
        recipe = self.recipe._replace(kind=kind, quality=quality, bits=bits)
        sampled = self._restored.sampled
        record = provenance.record(recipe, sampled.reading.tags, sampled.fitted.prompt)
        packet, notes = provenance.packet(self._picture.xmp, record, kind)
        with replacing(path, overwrite) as file:
            return notes + image.encode(file, replace(self._picture, xmp=packet), kind, quality)

    def pil(self) -> Image.Image:
        """Return the result as a Pillow image of 8 bits, with its colour profile."""
        pixels = self.pixels if self.alpha is None else torch.cat([self.pixels, self.alpha])
        array = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        made = Image.fromarray(array)
        if self._picture.icc is not None:
            made.info["icc_profile"] = self._picture.icc
        return made


class Upscaler:
    """A loaded model, which restores pictures. settings: its own, for whoever gives none."""

    def __init__(
        self,
        model: ModelName = DEFAULT_MODEL,
        weights: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        """Load `model`; the arguments are those of --model, --weights, --device and --dtype.

        Raises UsageError for what cannot be had, WeightsMissing and WeightsInvalid for the model's files.
        """
        if model not in MODELS:
            raise UsageError(f"The model {model!r} is not known: choose {', '.join(MODELS)}.")
        self._model = MODELS[model]
        self._folder = locate(self._model, None if weights is None else Path(weights))
        self._networks = upscaler.Upscaler.load(self._model, self._folder, device, dtype)
        self.settings = self._model.defaults

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._model, self._folder)

    def upscale(
        self,
        picture: str | Path | Image.Image | Tensor | OpenedPicture,
        settings: Settings | None = None,
    ) -> Result:
        """Return `picture` restored. settings: in the place of the model's own.

        Raises PictureUnreadable for a file that is no picture, PictureError if the picture cannot be restored.
        """
        opened = picture if isinstance(picture, OpenedPicture) else open_picture(picture)
        asked = self.settings if settings is None else settings
        given = opened.picture
        prepared = self._networks.prepare(given.pixels, asked, given.alpha)
        sampled = self._networks.sample(prepared, asked)
        developed = self._networks.develop(sampled.latent, prepared, asked)
        recipe = provenance.recipe_of(
            self._networks,
            sampled,
            asked,
            self._model.name,
            self._fingerprint,
            opened.name,
            opened.sha256,
            bits=given.bits,
        )
        return Result(
            developed.pixels,
            developed.alpha,
            sampled.reading.tags,
            sampled.fitted.prompt.positive,
            prepared.sizes.picture,
            prepared.sizes.result,
            given.notes + sampled.notes + developed.notes,
            recipe,
            replace(given, pixels=developed.pixels, alpha=developed.alpha, part=prepared.sizes.part),
            Restored(developed.pixels, developed.alpha, sampled, ()),
        )
