"""Take pictures through all stages of SeeSR, in the order of the paper's figure; sample several at once."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ..catalogue import Model
from ..errors import PictureError
from ..machine.device import Place, choose, vae_place
from ..machine.graphs import Graphs, straight
from ..machine.out_of_memory import enduring, release
from ..machine.precision import DTYPES
from ..machine.share import ALONE, Share
from ..models import convert, load
from ..models.graft import Guide
from ..sampling.noise import Noise, seeded, together
from ..sampling.schedule import Schedule, schedule
from ..sampling.tiles import cover, grid, portions
from ..settings import Settings
from ..sizes import Size, sizes
from ..weights import locate
from .colour import align
from .denoise import (
    Call,
    OnTiles,
    Prediction,
    Predictor,
    RowPredictor,
    TilePredictor,
    apart,
    begin,
    controlled,
    denoise,
    guided,
    tiled,
    watched,
    within,
)
from .latent import Coder
from .limits import Limits
from .prepare import Frame, finish, prepare
from .prompt import Fitted, Prompt, Scribe
from .sampled import Developed, PreparedPicture, Restored, Sampled, Wanted
from .switches import Switches
from .tag import Reader, Reading, assemble, edited

Phase = Literal["read", "encode", "denoise", "decode", "write"]
"""What is done with a picture, in this order; the last one is for those who write it."""

OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all), before the first step and after each."""

OnProgress = Callable[[Phase, int, int], None]
"""Told the phase of a picture, and how many of its parts of how many are done: tiles over all steps, or pieces."""


def silent(phase: Phase, done: int, total: int) -> None:
    """Tell nobody of the progress."""


class _Start(NamedTuple):
    """A picture before the first step: what the networks attend to, its noised latent, and the source of its noise."""

    reading: Reading
    fitted: Fitted
    guide: Guide
    latent: Tensor
    noise: Noise
    notes: list[str]


NOT_FINITE = "The networks went beyond the range of their numbers on this picture: use --dtype fp32."


class Upscaler:
    """A loaded model, which restores pictures.

    limits: what memory allows, learnt from picture to picture.
    """

    def __init__(
        self,
        reader: Reader,
        scribe: Scribe,
        coder: Coder,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        schedule_config: Mapping[str, Any],
        limits: Limits,
    ) -> None:
        self.reader = reader
        self.scribe = scribe
        self.coder = coder
        self.unet = unet
        self.controlnet = controlnet
        self.limits = limits
        self.switches = Switches()
        self.graphs = Graphs()
        self.notes: list[str] = []  # of the networks, for the picture in whose steps they arise
        self._schedule_config = schedule_config

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
        return cls(
            assemble(model, folder, place),
            Scribe(*load.load_text_tower(model, folder, place)),
            Coder(load.load_vae(model, folder, vae_place(place)), share=share),
            load.load_unet(model, folder, place),
            load.load_controlnet(model, folder, place),
            load.load_schedule_config(model, folder),
            Limits(model.tilings, share),
        )

    @property
    def place(self) -> tuple[str, str]:
        """The type of the device and the precision of the networks, in words."""
        precisions = {dtype: name for name, dtype in DTYPES.items()}
        return self.unet.device.type, precisions[self.unet.dtype]

    @property
    def threads(self) -> int | None:
        """The number of computing threads, on which rounding depends; None if the device is no CPU."""
        return torch.get_num_threads() if self.unet.device.type == "cpu" else None

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
        stations = sizes(_size(picture), settings, self.coder.factor)
        return PreparedPicture(picture, alpha, stations, prepare(picture, stations))

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

        wanted: pictures whose frames have one size, at most as many as `pictures_a_call` says.
        batch_size: most tiles, of all pictures, in one call; None: as many as memory holds.
        """
        # 1. Read each picture, write its prompt, encode it and add noise.
        starts = [self._start(each, settings, on_progress) for each in wanted]
        notes: list[str] = []

        # 2. Put the pictures into one batch.
        frames = _joined([each.picture.frame.pixels for each in wanted])
        latent = _joined([start.latent for start in starts])
        guide = Guide(*map(_joined, zip(*(start.guide for start in starts), strict=True)))
        noise = together([start.noise for start in starts])

        # 3. Choose the tiling and the calls of the networks. Both shrink if memory runs out in a step.
        tiles_done = steps_done = 0

        def on_tiles(count: int) -> None:
            nonlocal tiles_done
            tiles_done += count
            tiles = len(wanted) * grid(self._latent_size(_size(frames)), *prediction.tiling).count
            before = steps_done * tiles
            on_progress("denoise", before + min(tiles_done, tiles), settings.steps * tiles)

        prediction = self.predictor(frames, guide, settings, batch_size, on_tiles)

        def give_up() -> str | None:
            nonlocal prediction, tiles_done
            tiles_done = 0
            self.graphs.forget()
            said = self.limits.lower(prediction, self._latent_size(_size(frames)))
            prediction = self.predictor(frames, guide, settings, batch_size, on_tiles)
            return said

        def predict(noisy: Tensor, timestep: int) -> Tensor:
            predicted = enduring(lambda: prediction.predict(noisy, timestep), give_up, notes)
            for told in (self.notes, self.graphs.notes):
                notes.extend(told)
                told.clear()
            return predicted

        # 4. Denoise, step by step. A number that is not finite before the second step would stay so through all others.
        _check_finite(latent)
        on_step(0, settings.steps)
        on_progress("denoise", 0, settings.steps)
        steps = denoise(latent, predict, self.schedule(settings), noise, self.switches)
        for steps_done, after in enumerate(steps, start=1):
            latent, tiles_done = after, 0
            if steps_done == 1:
                _check_finite(latent)
            on_step(steps_done, settings.steps)

        # 5. Give each picture its own latent, and how it was made.
        return [
            Sampled(own, start.reading, start.fitted, prediction.tiling, call, (*start.notes, *notes))
            for start, own, call in zip(starts, latent.chunk(len(starts)), prediction.calls, strict=True)
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
        decoded = enduring(lambda: self._decode(latent, notes, on_progress), self._lower_coder, notes)
        # 2. Take the padding away, and the colours from the input.
        frame = picture.frame
        pixels = frame.crop(decoded).cpu().clamp_(0, 1)
        aligned = align(pixels, frame.crop(frame.pixels), settings.colour)[0]
        # 3. Resize pixels and alpha to the size of the result.
        cut = picture.sizes.cut
        if max(cut) > 1:  # one row or column is the rounding of the sides
            rows = f"{cut[0]} rows" if cut[0] else f"{cut[1]} columns"
            notes.append(f"To have just the size that was asked for, {rows} were cut off.")
        alpha = None if picture.alpha is None else finish(picture.alpha, picture.sizes)
        return Developed(finish(aligned, picture.sizes), alpha, tuple(notes))

    # --- the stages ----------------------------------------------------------------------------------------------

    def _start(self, wanted: Wanted, settings: Settings, on_progress: OnProgress) -> _Start:
        """Return what the picture's denoising starts from."""
        noise, notes = seeded(settings.seed), list[str]()
        # 1. Read the picture, and let the person's tags win.
        on_progress("read", 0, 1)
        read = self.reader.read(wanted.picture.pixels)
        reading = edited(read, wanted.tags, settings.tag_threshold, settings.drop_tags, settings.add_tags)
        # 2. Compose the prompt from as many tags as there is room for.
        names, certainty = [tag.name for tag in reading.tags], [tag.certainty for tag in reading.tags]
        fitted = self.scribe.fit(names, certainty, settings.prompt, settings.negative)
        # 3. Encode the frame and add noise; encode the prompt.
        frame = wanted.picture.frame
        latent = enduring(lambda: self.start(frame, settings, noise, on_progress), self._lower_coder, notes)
        guide = self.guide(fitted.prompt, reading, settings)
        if fitted.left_out:
            notes.append(f"The prompt has no room for all tags; left out: {', '.join(fitted.left_out)}.")
        if fitted.cut:
            notes.append(f"The prompt has no room for all of --prompt; its end is not used: {fitted.cut!r}.")
        if settings.guidance > 1 and (lost := self.scribe.lost(fitted.prompt.negative)):
            notes.append(f"The negative prompt is too long; its end is not used: {lost!r}.")
        return _Start(reading, fitted, guide, latent, noise, notes)

    def start(self, frame: Frame, settings: Settings, noise: Noise, on_progress: OnProgress = silent) -> Tensor:
        """Return the latent at which denoising begins, [1, C, H, W], float32."""
        if settings.start == "noise":
            height, width = (side // self.coder.factor for side in frame.pixels.shape[-2:])
            return noise(torch.Size((1, self.coder.channels, height, width))).to(self.unet.device)
        self._make_room(_size(frame.pixels))
        on_progress("encode", 0, 1)
        encoded = self.coder.encode(frame.pixels, noise, partial(on_progress, "encode"))
        return begin(encoded, self.schedule(settings), noise)

    def guide(self, prompt: Prompt, reading: Reading, settings: Settings) -> Guide:
        """Return what the networks attend to: rows (negative, positive) with guidance, else the positive row alone."""
        texts = (prompt.negative, prompt.positive) if settings.guidance > 1 else (prompt.positive,)
        return Guide(self.scribe.encode(texts), reading.tokens.expand(len(texts), -1, -1))

    def schedule(self, settings: Settings) -> Schedule:
        """Return the schedule of a run with `settings`."""
        return schedule(self._schedule_config, settings.steps, settings.solver)

    def pictures_a_call(self, frame: Size, settings: Settings, batch_size: int | None = None) -> int:
        """Return how many pictures with frames of this size, (height, width), to sample together, at least one.

        So many that all their tiles go into one call. batch_size: as for `sample_together`.
        """
        latent = self._latent_size(frame)
        laid = grid(latent, *self.limits.tiling(settings, latent))
        rows = 2 if settings.guidance > 1 else 1
        return max(1, self.limits.tiles_a_call(self._device, laid, rows, batch_size) // laid.count)

    def predictor(
        self,
        frames: Tensor,
        guide: Guide,
        settings: Settings,
        batch_size: int | None = None,
        on_tiles: OnTiles = lambda count: None,
    ) -> Prediction:
        """Return what predicts the noise in the latents of several pictures, within the limits of memory.

        frames: [P, 3, H, W], RGB in [0, 1].
        guide: a row for each picture, or two, (negative, positive). With two, the positive row is guided at the steps
            where `settings` ask for it, and stands alone at the others.
        batch_size: as for `sample_together`.
        """
        pictures, rows, latent = len(frames), len(guide.text) // len(frames), self._latent_size(_size(frames))
        tiling = self.limits.tiling(settings, latent)
        laid = grid(latent, *tiling)
        if batch_size is None and pictures > 1:  # they were found to fit before there were any
            batch_size = pictures * laid.count
        most = self.limits.tiles_a_call(self._device, laid, rows, batch_size)
        tiles = cover(latent, *tiling, self.unet.device)
        shares = portions(pictures, max(1, most // laid.count))
        predictors, calls = list[Predictor](), list[Call]()
        for share in shares:
            count = share.stop - share.start
            own = Guide(*(read[rows * share.start : rows * share.stop] for read in guide))
            each = min(max(1, most // count), laid.count)
            predictors.append(tiled(self._tile_predictor(frames[share], own, settings), tiles, each, on_tiles))
            calls += [Call(count * each, place) for place in range(count)]
        predict = predictors[0] if len(shares) == 1 else apart(predictors, shares)
        return Prediction(predict, tiling, tuple(calls))

    def _tile_predictor(self, frames: Tensor, guide: Guide, settings: Settings) -> TilePredictor:
        """Return what predicts the noise in tiles of pictures that are in one call; parameters as for `predictor`."""
        view = watched(self.controlnet, frames, self.coder.factor, self.switches)
        recorded = self.switches.graphs and self.unet.device.type == "cuda"
        run = self.graphs.expecting(settings.steps) if recorded else straight

        def under(guide: Guide) -> RowPredictor:
            return controlled(self.unet, self.controlnet, guide, view, settings.control, self.switches, run)

        predict: TilePredictor = under(guide)
        if len(guide.text) == 2 * len(frames):
            predict = guided(predict, settings.guidance)
            if settings.guidance_within is not None:
                chosen = self.schedule(settings).within(*settings.guidance_within)
                predict = within(chosen, predict, under(Guide(guide.text[1::2], guide.image[1::2])))
        return predict

    def _decode(self, latent: Tensor, notes: list[str], on_progress: OnProgress) -> Tensor:
        """Return the pixels of `latent`, all finite."""
        height, width = _size(latent)
        self._make_room((height * self.coder.factor, width * self.coder.factor))
        on_progress("decode", 0, 1)
        if (decoded := self.coder.decode(latent, partial(on_progress, "decode"))).isfinite().all():
            return decoded
        if (decoded := self.coder.decode_in_full_precision(latent)).isfinite().all():
            notes.append("The picture was decoded again in fp32: it went beyond the range of 16 bits.")
            return decoded
        raise PictureError(NOT_FINITE)

    # --- memory --------------------------------------------------------------------------------------------------

    @property
    def _device(self) -> Place:
        return Place(self.unet.device, self.unet.dtype)

    def _latent_size(self, frame: Size) -> Size:
        return frame[0] // self.coder.factor, frame[1] // self.coder.factor

    def _lower_coder(self) -> str | None:
        """Have the VAE use less memory from now on; return a sentence about it, None if nothing is left."""
        self.graphs.forget()
        return self.coder.lower_budget()

    def _make_room(self, frame: Size) -> None:
        """Free what graphs and allocator keep for the next step, if else the VAE would work in pieces.

        So the pixels of a frame of this size do not depend on the pictures before it.
        """
        if self.unet.device.type == "cuda" and not self.coder.whole(frame):
            self.graphs.forget()
            release()


def _check_finite(latent: Tensor) -> None:
    """Raise PictureError unless all numbers of `latent` are finite."""
    if not latent.isfinite().all():
        raise PictureError(NOT_FINITE)


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return all parts in one tensor, along the first dimension; a single part, which may be large, is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
