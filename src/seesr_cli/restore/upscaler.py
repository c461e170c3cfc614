"""A picture through the stages, in the order of the paper's figure; several at once where the networks predict."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ..errors import PictureError
from ..machine.device import DTYPES, Place, choose, tiles_a_call
from ..machine.graphs import Graphs, straight
from ..machine.out_of_memory import enduring, release, smaller_tile
from ..machine.share import ALONE, Share
from ..models import convert, load
from ..models.compiled import compile_blocks
from ..models.graft import Guide
from ..sampling.noise import Noise, seeded, together
from ..sampling.schedule import Schedule, schedule
from ..sampling.tiles import cover, portions, tilings
from ..settings import MOST_BATCH, MOST_TILE, Model, Settings
from ..sizes import Size, Sizes, sizes
from ..weights import locate
from .colour import align
from .denoise import (
    Predictor,
    RowPredictor,
    TilePredictor,
    Tiles,
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
from .prepare import Frame, finish, prepare
from .prompt import Fitted, Prompt, Scribe
from .reader import assemble
from .switches import Switches
from .tag import Reader, Reading, Tag, edited

OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all): before the first step and after each."""


LEAST_BUDGET = 2**26
"""Bytes below which smaller pieces in the VAE save nothing any more."""


class Wanted(NamedTuple):
    """A picture to be sampled: [3, h, w], RGB in [0, 1]. given: tags in the place of those that the tagger sees."""

    picture: Tensor
    given: tuple[str, ...] | None = None


class Sampled(NamedTuple):
    """A picture that has been read and redrawn, but is not yet pixels again: what the hours went into.

    latent: free of noise, [1, C, H/f, W/f], float32. reading, fitted: tags and prompt as the networks read them. tile,
    overlap: as they were, whatever was asked for. batch_size: tiles in one call of the networks, of all pictures that
    were sampled together. batch_place: of this one among them. notes: what the person should know of this picture, a
    sentence each.
    """

    latent: Tensor
    reading: Reading
    fitted: Fitted
    tile: int
    overlap: int
    batch_size: int
    batch_place: int
    notes: tuple[str, ...] = ()

    def about(self) -> dict[str, Any]:
        """Return all but the latent, as JSON can say it; of what the tagger saw, tags and near misses."""
        return {
            "tags": self.reading.tags,
            "near": self.reading.near,
            "prompt": self.fitted.prompt,
            "left_out": self.fitted.left_out,
            "cut": self.fitted.cut,
            "tile": self.tile,
            "overlap": self.overlap,
            "batch_size": self.batch_size,
            "batch_place": self.batch_place,
            "notes": self.notes,
        }

    @classmethod
    def recalled(cls, latent: Tensor, about: Mapping[str, Any]) -> "Sampled":
        """Return what `about` told of, without the tokens, which served their turn."""
        tags, near = (tuple(Tag(*entry) for entry in about[name]) for name in ("tags", "near"))
        fitted = Fitted(Prompt(*about["prompt"]), tuple(about["left_out"]), about["cut"])
        reading = Reading(tags, torch.empty(0), near)
        tile, overlap, size, place = (about[name] for name in ("tile", "overlap", "batch_size", "batch_place"))
        return cls(latent, reading, fitted, tile, overlap, size, place, tuple(about["notes"]))


class Restored(NamedTuple):
    """What became of one picture: its pixels, [3, H, W] of the size asked for, RGB in [0, 1], float32, on the CPU."""

    pixels: Tensor
    sampled: Sampled
    notes: tuple[str, ...]


class _Ready(NamedTuple):
    """A picture before the first step: its frame, [1, 3, H, W], what the networks attend to, where denoising begins."""

    frame: Tensor
    reading: Reading
    fitted: Fitted
    guide: Guide
    latent: Tensor
    noise: Noise
    notes: list[str]


class Upscaler:
    """A model, loaded: restores pictures."""

    def __init__(
        self,
        reader: Reader,
        scribe: Scribe,
        coder: Coder,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        schedule_config: Mapping[str, Any],
        known_tilings: tuple[tuple[int, int], ...],
        share: Share = ALONE,
    ) -> None:
        self.reader = reader
        self.scribe = scribe
        self.coder = coder
        self.unet = unet
        self.controlnet = controlnet
        self.switches = Switches()
        self.graphs = Graphs()
        self.notes: list[str] = []  # of the networks, for the picture in whose steps they arise
        self._schedule_config = schedule_config
        self._known_tilings = known_tilings
        self._share = share
        # What memory allows, as far as it has been found out; these only ever go down.
        self._most_tiles = MOST_BATCH
        self._most_tile = MOST_TILE
        self._tiles = 1  # in a call, at present, of all its pictures

    @property
    def place(self) -> tuple[str, str]:
        """The type of the device and the precision that the networks run in, in words."""
        precisions = {dtype: name for name, dtype in DTYPES.items()}
        return self.unet.device.type, precisions[self.unet.dtype]

    @property
    def threads(self) -> int | None:
        """How many threads compute, on which rounding depends; None where it is not a CPU that does."""
        return torch.get_num_threads() if self.unet.device.type == "cpu" else None

    @classmethod
    def load(
        cls,
        model: Model,
        weights: Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        share: Share = ALONE,
    ) -> "Upscaler":
        """Return the upscaler of `model`, its files taken from the folder `weights` or from where `locate` finds them.

        share: of the memory, where other processes of the same run work beside this one.

        Raises UsageError for a device or precision that cannot be had, WeightsMissing and WeightsInvalid for the files.
        """
        place, folder = choose(device, dtype), locate(model, weights)
        convert.prepare(model, folder, place)
        return cls(
            assemble(model, folder, place),
            Scribe(*load.load_text_tower(model, folder, place)),
            Coder(load.load_vae(model, folder, place), share=share),
            load.load_unet(model, folder, place),
            load.load_controlnet(model, folder, place),
            load.load_schedule_config(model, folder),
            model.tilings,
            share,
        )

    def compile(self) -> None:
        """Let the networks' blocks be compiled, each shape when it is first met.

        Raises UsageError where nothing can be compiled.
        """
        compile_blocks((self.unet, self.controlnet), self.notes)

    def upscale(self, picture: Tensor, settings: Settings, on_step: OnStep = lambda done, total: None) -> Restored:
        """Return `picture`, [3, h, w], RGB in [0, 1], restored, in the size that `settings` ask for.

        Raises PictureError when there is not the memory for it, or it gets no finite numbers.
        """
        sampled = self.sample(picture, settings, on_step=on_step)
        pixels, notes = self.develop(sampled.latent, picture, settings)
        return Restored(pixels, sampled, sampled.notes + notes)

    def sample(
        self,
        picture: Tensor,
        settings: Settings,
        given: tuple[str, ...] | None = None,
        on_step: OnStep = lambda done, total: None,
        batch_size: int | None = None,
    ) -> Sampled:
        """Return `picture`, [3, h, w], RGB in [0, 1], read and redrawn as a latent. Raises as `upscale` does.

        given: tags in the place of those that the tagger sees. batch_size: as for `sample_together`.
        """
        return self.sample_together([Wanted(picture, given)], settings, on_step, batch_size)[0]

    def sample_together(
        self,
        wanted: Sequence[Wanted],
        settings: Settings,
        on_step: OnStep = lambda done, total: None,
        batch_size: int | None = None,
    ) -> list[Sampled]:
        """Return what `sample` makes of each picture, up to rounding, all predicted in the same calls of the networks.

        Their frames are of one size, and they are at most as many as `pictures_a_call` says. batch_size: most tiles, of
        all pictures, in one call; None: what memory holds.
        """
        ready = [self._ready(*each, settings) for each in wanted]
        frames, latent = (_joined([getattr(each, part) for each in ready]) for part in ("frame", "latent"))
        guide = Guide(*map(_joined, zip(*(each.guide for each in ready), strict=True)))
        noise, notes = together([each.noise for each in ready]), list[str]()
        predict = self._enduring_predictor(frames, guide, settings, batch_size, notes)

        on_step(0, settings.steps)
        for done, after in enumerate(denoise(latent, predict, self.schedule(settings), noise, self.switches), start=1):
            latent = after
            on_step(done, settings.steps)
        tiling = self.tiling(settings, _size(latent))
        in_a_call = max(1, self._tiles // len(self._cover(_size(frames), settings)))
        return [
            Sampled(own, each.reading, each.fitted, *tiling, self._tiles, place % in_a_call, (*each.notes, *notes))
            for place, (each, own) in enumerate(zip(ready, latent.chunk(len(ready)), strict=True))
        ]

    def pictures_a_call(self, frame: Size, settings: Settings, batch_size: int | None = None) -> int:
        """Return how many pictures with frames of this size, (height, width), are to be sampled together.

        As many as have all their tiles in one call, at least one; batch_size: as for `sample_together`.
        """
        tiles = self._cover(frame, settings)
        return max(1, self._tiles_a_call(tiles, 2 if settings.guidance > 1 else 1, batch_size) // len(tiles))

    def _ready(self, picture: Tensor, given: tuple[str, ...] | None, settings: Settings) -> _Ready:
        """Return `picture`, read, encoded and under the noise that it starts from."""
        noise, notes = seeded(settings.seed), list[str]()
        frame = prepare(picture, self._sizes(picture, settings))
        read = self.reader.read(picture)
        reading = edited(read, given, settings.tag_threshold, settings.drop_tags, settings.add_tags)
        names, certainty = [tag.name for tag in reading.tags], [tag.certainty for tag in reading.tags]
        fitted = self.scribe.fit(names, certainty, settings.prompt, settings.negative)
        latent = enduring(lambda: self.start(frame, settings, noise), self._spare_coder, notes)
        guide = self.guide(fitted.prompt, reading, settings)
        if fitted.left_out:
            notes.append(f"The prompt has no room for all tags; left out: {', '.join(fitted.left_out)}.")
        if fitted.cut:
            notes.append(f"The prompt has no room for all of --prompt; its end is not used: {fitted.cut!r}.")
        if settings.guidance > 1 and (lost := self.scribe.lost(fitted.prompt.negative)):
            notes.append(f"The negative prompt is too long; its end is not used: {lost!r}.")
        return _Ready(frame.pixels, reading, fitted, guide, latent, noise, notes)

    @torch.inference_mode()
    def develop(self, latent: Tensor, picture: Tensor, settings: Settings) -> tuple[Tensor, tuple[str, ...]]:
        """Return the pixels of a picture's sampled latent, and what there is to say of them. Raises as `upscale` does.

        picture: the input, [3, h, w], RGB in [0, 1]. The pixels are [3, H, W] of the size that `settings` ask for, RGB
        in [0, 1], float32, on the CPU.
        """
        notes: list[str] = []
        stations = self._sizes(picture, settings)
        decoded = enduring(lambda: self._decode(latent, notes), self._spare_coder, notes)
        frame = prepare(picture, stations)
        pixels = frame.crop(decoded).cpu().clamp_(0, 1)
        aligned = align(pixels, frame.crop(frame.pixels), settings.colour)[0]
        if max(stations.cut) > 1:  # one row or column is the rounding of the sides
            cut = f"{stations.cut[0]} rows" if stations.cut[0] else f"{stations.cut[1]} columns"
            notes.append(f"To have just the size that was asked for, {cut} were cut off.")
        return finish(aligned, stations), tuple(notes)

    def schedule(self, settings: Settings) -> Schedule:
        """Return the schedule of a run with `settings`."""
        return schedule(self._schedule_config, settings.steps, settings.solver)

    def predictor(self, frames: Tensor, guide: Guide, settings: Settings, batch_size: int | None = None) -> Predictor:
        """Return what predicts the noise in the latents of `frames`, [P, 3, H, W], RGB in [0, 1].

        guide: a row for each picture, or two, (negative, positive). With two the positive one is guided, at the steps
        where `settings` ask for that, and alone at the others. batch_size: as for `sample_together`.
        """
        pictures, rows = len(frames), len(guide.text) // len(frames)
        tiles = self._cover(_size(frames), settings)
        if batch_size is None and pictures > 1:  # they were found to fit when there were none
            batch_size = pictures * len(tiles)
        most = self._tiles_a_call(tiles, rows, batch_size)
        shares = portions(pictures, max(1, most // len(tiles)))
        if len(shares) > 1:
            guides = [Guide(*(read[rows * share.start : rows * share.stop] for read in guide)) for share in shares]
            own = zip(shares, guides, strict=True)
            return apart([self.predictor(frames[share], read, settings, most) for share, read in own], shares)
        view = watched(self.controlnet, frames, self.coder.factor, self.switches)
        recorded = self.switches.graphs and self.unet.device.type == "cuda"
        run = self.graphs.expecting(settings.steps) if recorded else straight

        def under(guide: Guide) -> RowPredictor:
            return controlled(self.unet, self.controlnet, guide, view, settings.control, self.switches, run)

        predict: TilePredictor = under(guide)
        if rows == 2:
            predict = guided(predict, settings.guidance)
            if settings.guidance_within is not None:
                chosen = self.schedule(settings).within(*settings.guidance_within)
                predict = within(chosen, predict, under(Guide(guide.text[1::2], guide.image[1::2])))
        each = max(1, most // pictures)
        self._tiles = pictures * min(each, len(tiles))
        return tiled(predict, tiles, each)

    def guide(self, prompt: Prompt, reading: Reading, settings: Settings) -> Guide:
        """Return what the networks attend to: (negative, positive) with guidance, the positive prompt alone without."""
        texts = (prompt.negative, prompt.positive) if settings.guidance > 1 else (prompt.positive,)
        return Guide(self.scribe.encode(texts), reading.tokens.expand(len(texts), -1, -1))

    def start(self, frame: Frame, settings: Settings, noise: Noise) -> Tensor:
        """Return the latent that denoising begins at, [1, C, H, W], float32."""
        if settings.start == "noise":
            height, width = (side // self.coder.factor for side in frame.pixels.shape[-2:])
            return noise(torch.Size((1, self.coder.channels, height, width))).to(self.unet.device)
        self._make_room(_size(frame.pixels))
        return begin(self.coder.encode(frame.pixels, noise), self.schedule(settings), noise)

    def _sizes(self, picture: Tensor, settings: Settings) -> Sizes:
        return sizes((picture.shape[-2], picture.shape[-1]), settings, self.coder.factor)

    def _enduring_predictor(
        self, frames: Tensor, guide: Guide, settings: Settings, batch_size: int | None, notes: list[str]
    ) -> Predictor:
        """Return the predictor of pictures, which gives up whatever it must when memory runs out in a step."""
        predict = self.predictor(frames, guide, settings, batch_size)

        def attempt(latent: Tensor, timestep: int) -> Tensor:
            def give_up() -> str | None:
                nonlocal predict
                said = self._spare_predictor(settings, _size(latent))
                predict = self.predictor(frames, guide, settings, batch_size)
                return said

            predicted = enduring(lambda: predict(latent, timestep), give_up, notes)
            for told in (self.notes, self.graphs.notes):
                notes.extend(told)
                told.clear()
            return predicted

        return attempt

    def _spare_predictor(self, settings: Settings, latent: Size) -> str | None:
        """Have fewer pictures, then tiles, in memory at a time, then smaller tiles, from now on; say so.

        None where that is all.
        """
        self.graphs.forget()
        if self._tiles > 1:
            self._most_tiles = self._tiles // 2
            of_one = len(cover(latent, *self.tiling(settings, latent)))
            if self._tiles > of_one:
                pictures = max(1, self._most_tiles // of_one)
                return f"Memory ran out: pictures are computed {pictures} at a time from now on."
            return f"Memory ran out: tiles are computed {self._most_tiles} at a time from now on."
        side = min(self.tiling(settings, latent)[0], max(latent))
        if (smaller := smaller_tile(side)) is None:
            return None
        self._most_tile = smaller
        return f"Memory ran out: tiles have sides of {smaller} latent pixels from now on, in the place of {side}."

    def _spare_coder(self) -> str | None:
        """Have the VAE work in smaller pieces, at last on the CPU, from now on; say so, or None where that is all."""
        self.graphs.forget()
        coder = self.coder
        budget = (coder.free() if coder.budget is None else coder.budget) // 2
        if budget >= LEAST_BUDGET:
            coder.budget = budget
            return f"Memory ran out: the VAE works in pieces of at most {budget / 2**20:.0f} MiB from now on."
        if coder.vae.device.type == "cpu":
            return None
        coder.budget = None
        coder.move("cpu")
        return "Memory ran out: the VAE works on the CPU from now on."

    def tiling(self, settings: Settings, latent: Size) -> tuple[int, int]:
        """Return side and overlap of tiles for a latent of this size: smaller ones where memory has run out before."""
        if settings.tile == "auto":
            return tilings(latent, self._known_tilings, self._most_tile)[0]
        if settings.tile <= self._most_tile:
            return settings.tile, settings.overlap
        return self._most_tile, min(settings.overlap, self._most_tile // 2)

    def _cover(self, frame: Size, settings: Settings) -> Tiles:
        """Return the tiles of the latent of a frame of this size."""
        latent = (frame[0] // self.coder.factor, frame[1] // self.coder.factor)
        return cover(latent, *self.tiling(settings, latent), self.unet.device)

    def _tiles_a_call(self, tiles: Tiles, rows: int, batch_size: int | None) -> int:
        """Return how many such tiles, of `rows` rows each, one call takes at most."""
        if batch_size is None:
            place = Place(self.unet.device, self.unet.dtype)
            batch_size = tiles_a_call(place, tiles[0].share.numel(), rows, self._share)
        return min(self._most_tiles, batch_size)

    def _make_room(self, frame: Size) -> None:
        """Let the VAE have what recordings and allocator keep for the next step, where it would work in pieces for it.

        So what it makes of a frame of this size does not depend on what was made before.
        """
        if self.unet.device.type == "cuda" and not self.coder.whole(frame):
            self.graphs.forget()
            release()

    def _decode(self, latent: Tensor, notes: list[str]) -> Tensor:
        """Return the pixels of `latent`, all finite."""
        height, width = _size(latent)
        self._make_room((height * self.coder.factor, width * self.coder.factor))
        if (decoded := self.coder.decode(latent)).isfinite().all():
            return decoded
        if (decoded := self.coder.decode_in_full_precision(latent)).isfinite().all():
            notes.append("The picture was decoded again in fp32: it went beyond the range of 16 bits.")
            return decoded
        raise PictureError("The networks went beyond the range of their numbers on this picture: use --dtype fp32.")


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return all parts in one tensor, along their first dimension; one alone, which may be large, is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
