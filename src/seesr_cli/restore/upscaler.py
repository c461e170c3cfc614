"""Take pictures through all stages of SeeSR, in the order of the paper's figure; sample several at once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..catalogue import Model
from ..errors import PictureError
from ..machine.device import choose, vae_place
from ..machine.out_of_memory import enduring, release
from ..machine.precision import DTYPES
from ..machine.share import ALONE, Share
from ..models import convert, load
from ..models.graft import Conditioning
from ..sampling.noise import Noise, seeded, together
from ..sampling.tiles import Box
from ..settings import Settings
from ..sizes import Size, sizes
from ..weights import locate
from .colour import align, expected_moments
from .denoise import begin
from .latent import VAE
from .limits import Limits
from .prepare import Frame, finish, prepare
from .progress import OnProgress, OnStep, silent
from .prompt import Fitted, Prompt, TextEncoder
from .sampled import Developed, PreparedPicture, Restored, Sampled, Wanted
from .sampler import NOT_FINITE, Sampler
from .tag import Reader, Reading, assemble, edited
from .window import Window


class _Start(NamedTuple):
    """A picture before the first step: its conditioning, its noised latent, and the source of its noise."""

    reading: Reading
    fitted: Fitted
    conditioning: Conditioning
    latent: Tensor
    noise: Noise
    notes: list[str]


class Upscaler:
    """A loaded model, which restores pictures."""

    def __init__(self, reader: Reader, text_encoder: TextEncoder, vae: VAE, sampler: Sampler) -> None:
        self.reader = reader
        self.text_encoder = text_encoder
        self.vae = vae
        self.sampler = sampler

    @classmethod
    def load(
        cls,
        model: Model,
        weights: Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        share: Share = ALONE,
    ) -> "Upscaler":
        """Return the upscaler of `model`.

        weights: folder with the model's files; None: where `locate` finds them.
        device, dtype: as for --device and --dtype.
        share: of the memory, if other processes of the same run work beside this one.

        Raises UsageError for a device or precision that cannot be had, WeightsMissing and WeightsInvalid for the files.
        """
        place, folder = choose(device, dtype, model.name), locate(model, weights)
        convert.prepare(model, folder, place)
        reader = assemble(model, folder, place)
        text_encoder = TextEncoder(*load.load_text_tower(model, folder, place))
        vae = VAE(load.load_vae(model, folder, vae_place(place)), share=share)
        sampler = Sampler(
            load.load_unet(model, folder, place),
            load.load_controlnet(model, folder, place),
            load.load_schedule_config(model, folder),
            vae.factor,
            Limits(model.tilings, share),
        )
        return cls(reader, text_encoder, vae, sampler)

    @property
    def place(self) -> tuple[str, str]:
        """The type of the device and the precision of the networks, in words."""
        precisions = {dtype: name for name, dtype in DTYPES.items()}
        device, dtype = self.sampler.place
        return device.type, precisions[dtype]

    @property
    def threads(self) -> int | None:
        """The number of computing threads, on which rounding depends; None if the device is no CPU."""
        return torch.get_num_threads() if self.sampler.place.device.type == "cpu" else None

    def pictures_a_call(self, frame: Size, settings: Settings, batch_size: int | None = None) -> int:
        """Return how many pictures with frames of this size, (height, width), to sample together, at least one."""
        return self.sampler.pictures_a_call(frame, settings, batch_size)

    # --- the way of a picture ------------------------------------------------------------------------------------

    def upscale(self, picture: Tensor, settings: Settings, on_step: OnStep = lambda done, total: None) -> Restored:
        """Return `picture`, [3, h, w], RGB in [0, 1], restored, in the size that `settings` ask for.

        Raises PictureError if memory runs out with nothing left to give up, or if the networks give no finite numbers.
        """
        prepared = self.prepare(picture, settings)
        sampled = self.sample(prepared, settings, on_step=on_step)
        developed = self.develop(sampled.latent, prepared, settings)
        return Restored(developed.pixels, developed.alpha, sampled, sampled.notes + developed.notes)

    def prepare(self, picture: Tensor, settings: Settings, alpha: Tensor | None = None) -> PreparedPicture:
        """Return `picture`, [3, h, w], RGB in [0, 1], with its sizes and its frame.

        alpha: [1, h, w] in [0, 1]. Raises PictureError if the result would be too many times as large.
        """
        stations = sizes(_size(picture), settings, self.vae.factor)
        return PreparedPicture(picture, alpha, stations, prepare(picture, stations))

    def within(self, picture: PreparedPicture, box: Box, settings: Settings) -> PreparedPicture:
        """Return `picture` limited to the part of its result that is to be made.

        box: (top, left, bottom, right), pixels of the result. The tiling of `settings` is that of the whole run.
        """
        height, width = picture.sizes.padded
        tiling = self.sampler.limits.tiling(settings, (height // self.vae.factor, width // self.vae.factor))
        return picture._replace(window=Window.of(box, picture.sizes, self.vae.factor, tiling))

    def sample(
        self,
        picture: PreparedPicture,
        settings: Settings,
        tags: tuple[str, ...] | None = None,
        on_step: OnStep = lambda done, total: None,
        on_progress: OnProgress = silent,
    ) -> Sampled:
        """Return the denoised latent of one picture; as `sample_together`."""
        return self.sample_together([Wanted(picture, tags)], settings, on_step, on_progress=on_progress)[0]

    def sample_together(
        self,
        wanted: Sequence[Wanted],
        settings: Settings,
        on_step: OnStep = lambda done, total: None,
        batch_size: int | None = None,
        on_progress: OnProgress = silent,
    ) -> list[Sampled]:
        """Return the denoised latent of each picture, all predicted in the same calls of the networks.

        Each latent equals that of the picture alone, up to rounding. Raises as `upscale` does.

        wanted: pictures whose frames have one size, at most as many as `pictures_a_call` says; or variants of a window.
        batch_size: most tiles, of all pictures, in one call; None: as many as memory holds.
        """
        # 1. Read each picture, write its prompt, encode it and add noise.
        starts = [self._start(each, settings, on_progress) for each in wanted]

        # 2. Put the pictures into one batch.
        frames = _joined([each.picture.seen(self.vae.factor).pixels for each in wanted])
        latent = _joined([start.latent for start in starts])
        conditioning = Conditioning(*map(_joined, zip(*(start.conditioning for start in starts), strict=True)))
        noise = together([start.noise for start in starts])

        # 3. Denoise, step by step.
        on_parts, window = partial(on_progress, "denoise"), wanted[0].picture.window
        denoised = self.sampler.denoise(
            latent, frames, conditioning, noise, settings, batch_size, on_step, on_parts, window
        )

        # 4. Give each picture its own latent, and how it was made.
        return [
            Sampled(own, start.reading, start.fitted, denoised.tiling, call, (*start.notes, *denoised.notes))
            for start, own, call in zip(starts, denoised.latent.chunk(len(starts)), denoised.calls, strict=True)
        ]

    @torch.inference_mode()
    def develop(
        self, latent: Tensor, picture: PreparedPicture, settings: Settings, on_progress: OnProgress = silent
    ) -> Developed:
        """Return the pixels and the alpha of the result. Raises as `upscale` does.

        latent: of `picture`, as sampled or recalled.
        """
        notes: list[str] = []
        # 1. Decode the latent.
        decoded = enduring(lambda: self._decode(latent, notes, on_progress), self._lower_vae, notes)
        # 2. Take the padding away, and the colours from the input.
        frame, seen, window = picture.frame, picture.seen(self.vae.factor), picture.window
        whole, reference = frame.crop(frame.pixels), seen.crop(seen.pixels)
        pixels = seen.crop(decoded).cpu().clamp_(0, 1)
        moments = None
        if window is not None and not window.whole and settings.colour == "adain":
            moments = expected_moments(pixels, reference, whole)
        aligned = align(pixels, reference, settings.colour, settings.colour_strength, moments)
        if window is not None:
            around = whole.clone()
            window.cut(around, self.vae.factor).copy_(aligned)
            aligned = around
        # 3. Resize pixels and alpha to the size of the result.
        cut = picture.sizes.cut
        if max(cut) > 1:  # one row or column is the rounding of the sides
            rows = f"{cut[0]} rows" if cut[0] else f"{cut[1]} columns"
            notes.append(f"To have just the size that was asked for, {rows} were cut off.")
        alpha = None if picture.alpha is None else finish(picture.alpha, picture.sizes)
        pixels = finish(aligned[0], picture.sizes)
        if window is not None:
            pixels, alpha = window.of_result(pixels), None if alpha is None else window.of_result(alpha)
        return Developed(pixels, alpha, tuple(notes))

    # --- the stages ----------------------------------------------------------------------------------------------

    def _start(self, wanted: Wanted, settings: Settings, on_progress: OnProgress) -> _Start:
        """Return what the picture's denoising starts from."""
        picture, notes = wanted.picture, list[str]()
        noise = seeded(settings.seed if wanted.seed is None else wanted.seed)
        if picture.window is not None:
            noise = picture.window.noise(noise)
        # 1. Read the picture, and let the person's tags win.
        on_progress("read", 0, 1)
        read = self.reader.read(picture.pixels)
        reading = edited(read, wanted.tags, settings.tag_threshold, settings.drop_tags, settings.add_tags)
        # 2. Compose the prompt from as many tags as there is room for.
        names, certainty = [tag.name for tag in reading.tags], [tag.certainty for tag in reading.tags]
        fitted = self.text_encoder.fit(names, certainty, settings.prompt, settings.negative)
        # 3. Encode the frame and add noise; encode the prompt.
        seen = picture.seen(self.vae.factor)
        latent = enduring(lambda: self.start(seen, settings, noise, on_progress), self._lower_vae, notes)
        conditioning = self.conditioning(fitted.prompt, reading, settings)
        if fitted.left_out:
            notes.append(f"The prompt has no room for all tags; left out: {', '.join(fitted.left_out)}.")
        if fitted.cut:
            notes.append(f"The prompt has no room for all of --prompt; its end is not used: {fitted.cut!r}.")
        if settings.guidance > 1 and (lost := self.text_encoder.lost(fitted.prompt.negative)):
            notes.append(f"The negative prompt is too long; its end is not used: {lost!r}.")
        return _Start(reading, fitted, conditioning, latent, noise, notes)

    def start(self, frame: Frame, settings: Settings, noise: Noise, on_progress: OnProgress = silent) -> Tensor:
        """Return the latent at which denoising begins, [1, C, H, W], float32."""
        if settings.start == "noise":
            height, width = (side // self.vae.factor for side in frame.pixels.shape[-2:])
            return noise(torch.Size((1, self.vae.channels, height, width))).to(self.sampler.place.device)
        self._make_room(_size(frame.pixels))
        on_progress("encode", 0, 1)
        encoded = self.vae.encode(frame.pixels, noise, partial(on_progress, "encode"))
        return begin(encoded, self.sampler.schedule(settings), noise)

    def conditioning(self, prompt: Prompt, reading: Reading, settings: Settings) -> Conditioning:
        """Return the conditioning: rows (negative, positive) with guidance, else the positive row alone."""
        texts = (prompt.negative, prompt.positive) if settings.guidance > 1 else (prompt.positive,)
        return Conditioning(self.text_encoder.encode(texts), reading.tokens.expand(len(texts), -1, -1))

    def _decode(self, latent: Tensor, notes: list[str], on_progress: OnProgress) -> Tensor:
        """Return the pixels of `latent`, all finite."""
        height, width = _size(latent)
        self._make_room((height * self.vae.factor, width * self.vae.factor))
        on_progress("decode", 0, 1)
        if (decoded := self.vae.decode(latent, partial(on_progress, "decode"))).isfinite().all():
            return decoded
        if (decoded := self.vae.decode_in_full_precision(latent)).isfinite().all():
            notes.append("The picture was decoded again in fp32: it went beyond the range of 16 bits.")
            return decoded
        raise PictureError(NOT_FINITE)

    # --- memory --------------------------------------------------------------------------------------------------

    def _lower_vae(self) -> str | None:
        """Have the VAE use less memory from now on; return a sentence about it, None if nothing is left."""
        self.sampler.graphs.forget()
        return self.vae.lower_budget()

    def _make_room(self, frame: Size) -> None:
        """Free what graphs and allocator keep for the next step, if else the VAE would work in pieces.

        So the pixels of a frame of this size do not depend on the pictures before it.
        """
        if self.sampler.place.device.type == "cuda" and not self.vae.whole(frame):
            self.sampler.graphs.forget()
            release()


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return all parts in one tensor, along the first dimension; a single part, which may be large, is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
