"""One picture through the stages, in the order of the paper's figure."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .colour import align
from .denoise import Predictor, begin, controlled, denoise, guided, tiled
from .device import Place, choose
from .errors import PictureError
from .latent import Coder
from .models import convert, load
from .models.graft import Guide
from .noise import Noise, seeded
from .prepare import Frame, prepare, resize, scaled
from .prompt import Prompt, Scribe, compose
from .schedule import Schedule, schedule
from .settings import Model, Settings
from .tag import Reader, Reading
from .tiles import cover
from .weights import locate

OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all): before the first step and after each."""


class Restored(NamedTuple):
    """What became of one picture.

    pixels: [3, round(scale·h), round(scale·w)], RGB in [0, 1], float32, on the CPU. prompt, negative: as the
    networks read them.
    notes: what the person should know of this picture, a sentence each.
    """

    pixels: Tensor
    reading: Reading
    prompt: str
    negative: str
    notes: tuple[str, ...]


class Upscaler:
    """A model, loaded: restores pictures one after the other."""

    def __init__(
        self,
        reader: Reader,
        scribe: Scribe,
        coder: Coder,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        schedule_config: Mapping[str, Any],
    ) -> None:
        self.reader = reader
        self.scribe = scribe
        self.coder = coder
        self.unet = unet
        self.controlnet = controlnet
        self._schedule_config = schedule_config

    @classmethod
    def load(cls, model: Model, weights: Path | None = None, device: str = "auto", dtype: str = "auto") -> "Upscaler":
        """Return the upscaler of `model`, its files taken from the folder `weights` or from where `locate` finds them.

        Raises UsageError for a device or precision that cannot be had, WeightsMissing and WeightsInvalid for the files.
        """
        place, folder = choose(device, dtype), locate(model, weights)
        convert.prepare(model, folder, place)
        return cls(
            _reader(model, folder, place),
            Scribe(*load.load_text_tower(model, folder, place)),
            Coder(load.load_vae(model, folder, place)),
            load.load_unet(model, folder, place),
            load.load_controlnet(model, folder, place),
            load.load_schedule_config(model, folder),
        )

    def upscale(self, picture: Tensor, settings: Settings, on_step: OnStep = lambda done, total: None) -> Restored:
        """Return `picture`, [3, h, w], RGB in [0, 1], restored and `settings.scale` times as large.

        Raises PictureError when the picture would become too large for this machine, or gets no finite numbers.
        """
        try:
            return self._restore(picture, settings, seeded(settings.seed), on_step)
        except torch.OutOfMemoryError:
            raise PictureError(
                f"The memory of {self.unet.device} is too small for this picture at scale {settings.scale:g}: "
                "use a smaller --scale or --tile, or --device cpu."
            ) from None

    def schedule(self, settings: Settings) -> Schedule:
        """Return the schedule of a run with `settings`."""
        return schedule(self._schedule_config, settings.steps)

    def predictor(self, frame: Frame, guide: Guide, settings: Settings) -> Predictor:
        """Return what predicts the noise in the frame's latent; a guide of two rows is (negative, positive)."""
        predict = controlled(self.unet, self.controlnet, guide, frame.pixels, settings.control)
        if len(guide.text) == 2:
            predict = guided(predict, settings.guidance)
        height, width = (side // self.coder.factor for side in frame.pixels.shape[-2:])
        return tiled(predict, cover((height, width), settings.tile, settings.overlap, self.unet.device))

    def guide(self, prompt: Prompt, reading: Reading, settings: Settings) -> Guide:
        """Return what the networks attend to: (negative, positive) with guidance, the positive prompt alone without."""
        texts = (prompt.negative, prompt.positive) if settings.guidance > 1 else (prompt.positive,)
        return Guide(self.scribe.encode(texts), reading.tokens.expand(len(texts), -1, -1))

    def start(self, frame: Frame, settings: Settings, noise: Noise) -> Tensor:
        """Return the latent that denoising begins at, [1, C, H, W], float32."""
        if settings.start == "noise":
            height, width = (side // self.coder.factor for side in frame.pixels.shape[-2:])
            return noise(torch.Size((1, self.coder.channels, height, width))).to(self.unet.device)
        return begin(self.coder.encode(frame.pixels, noise), self.schedule(settings), noise)

    def _restore(self, picture: Tensor, settings: Settings, noise: Noise, on_step: OnStep) -> Restored:
        wanted = scaled((picture.shape[-2], picture.shape[-1]), settings.scale)
        frame = prepare(picture, settings.scale, settings.process_size, self.coder.factor)
        reading = self.reader.read(picture)
        prompt = compose(tuple(tag.name for tag in reading.tags), settings.prompt, settings.negative)
        latent = self.start(frame, settings, noise)
        predict = self.predictor(frame, self.guide(prompt, reading, settings), settings)

        on_step(0, settings.steps)
        for done, after in enumerate(denoise(latent, predict, self.schedule(settings), noise), start=1):
            latent = after
            on_step(done, settings.steps)

        decoded, notes = self._decode(latent)
        aligned = align(frame.crop(decoded.clamp(0, 1)), frame.crop(frame.pixels).to(decoded.device), settings.colour)
        pixels = resize(aligned[0].cpu(), wanted)
        if lost := self.scribe.lost(prompt.positive):
            notes.append(f"The prompt is longer than the 77 tokens of the text tower; its end is not used: {lost!r}.")
        return Restored(pixels, reading, prompt.positive, prompt.negative, tuple(notes))

    def _decode(self, latent: Tensor) -> tuple[Tensor, list[str]]:
        """Return the pixels of `latent`, all finite, and what there is to say of how they were had."""
        if (decoded := self.coder.decode(latent)).isfinite().all():
            return decoded, []
        if (decoded := self.coder.decode_in_full_precision(latent)).isfinite().all():
            return decoded, ["The picture was decoded again in fp32: it went beyond the range of 16 bits."]
        raise PictureError("The networks went beyond the range of their numbers on this picture: use --dtype fp32.")


def load_reader(model: Model, weights: Path | None = None, device: str = "auto", dtype: str = "auto") -> Reader:
    """Return the model's tagger alone, ready to read pictures. Raises as `Upscaler.load` does."""
    place, folder = choose(device, dtype), locate(model, weights)
    convert.prepare_tagger(model, folder, place)
    return _reader(model, folder, place)


def _reader(model: Model, folder: Path, place: Place) -> Reader:
    tagger = load.load_tagger(model, folder, place)
    return Reader(tagger, load.tag_names(model, folder), load.tag_thresholds(model, folder))
