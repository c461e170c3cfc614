"""Forecast the tiles, operations, time, memory and disk of a picture before it is begun.

`counts` counts the operations of the networks, and `rates` knows the speed of this device. The memory besides the
networks was measured (docs/decisions/0014).
"""

from dataclasses import replace
from functools import lru_cache
from math import ceil, log2, prod
from pathlib import Path
from typing import Literal, NamedTuple

from ..catalogue import Model
from ..machine.available import Room
from ..machine.device import Place, vae_place
from ..machine.precision import of_features
from ..models.configs import Networks, networks
from ..sampling.schedule import schedule
from ..sampling.tiles import grid, tilings
from ..settings import Format, Settings
from ..sizes import Size, Sizes
from . import counts, rates
from .rates import Parts, Phases, Rates

BASE = 600_000_000
"""Bytes of a process besides weights and activations, as measured: Python, PyTorch, diffusers and transformers take 460
million of them, the allocator the others."""

CUDA_HOST, CUDA_CONTEXT = 2_500_000_000, 600_000_000
"""Bytes that CUDA and its libraries take in the host's memory, and on the device: assumed, not measured."""

SPARED = 0.8
"""Largest share of the free memory that the VAE takes."""

SPARE = 0.05
"""Share of the free memory that is left to other programs."""

TELLING = 2**17
"""Pixels of a frame below which a picture's time is more overhead than work."""

FLOAT32 = 4
RGB = 3 * FLOAT32
"""Bytes of a pixel in the pipeline."""

LIVE_FRAMES = {"adain": 4, "wavelet": 9, "none": 3}
"""Most pictures of the frame's size in memory while colours are aligned, by method."""

RESTING, ATTENDING, FAR, PIECE = 2, 4.5, 4, 250_000_000
"""The least memory of the VAE, as `vae.plan` has it. In maps of its widest level: RESTING whole ones, ATTENDING windows
in attention, FAR windows of means for maps above one window. In bytes: PIECE for the piece in work."""

MOST_PER_SAMPLE: dict[Format, float] = {"png": 1.01, "tiff": 1.01, "jpeg": 1.4, "webp": 0.4, "avif": 1.3}
"""Bytes on disk for one 8-bit number of a picture of pure noise, the hardest there is, at quality 100, as measured."""

DEEP: tuple[Format, ...] = ("png", "tiff")
"""Formats that write 16 bits where the picture has them."""

ABOUT = 200_000
"""Bytes on disk for profile, EXIF and sidecar."""


class PeakMemory(NamedTuple):
    """Bytes at the peak. On a CPU and on Apple's devices, whose memory is the host's, `device` is 0."""

    device: int
    host: int


class Case(NamedTuple):
    """A picture to forecast, with its settings and the device that works on it."""

    sizes: Sizes
    settings: Settings
    model: Model
    place: Place
    networks: Networks
    room: Room
    kind: Format
    bits: int
    alpha: bool
    batch_size: int


class Forecast(NamedTuple):
    """The forecast for one picture.

    case: with a tiling in the place of "auto".
    tiles, side: number of tiles, and (height, width) of one in latent pixels.
    calls: of UNet and ControlNet, each with a row per prompt.
    first_step: the first step's share of the work of all steps.
    work: floating-point operations by part, a multiply-add as two; `pixels` is in pixels.
    expected: peak in the room there is.
    least: peak of the thriftiest way through the VAE.
    disk: most bytes of the result and of the latent beside it.
    rates: source of the time.
    """

    case: Case
    tiles: int
    side: Size
    calls: int
    first_step: float
    work: Parts
    expected: PeakMemory
    least: PeakMemory
    disk: int
    rates: Rates

    @property
    def timed(self) -> bool:
        """Whether seconds are from a measurement; else only their ratios mean something."""
        return self.rates.source != "known after the first step"

    @property
    def seconds(self) -> Parts:
        """Seconds by part, without loading the model."""
        return Parts(*(work / rate for work, rate in zip(self.work, self.rates.parts, strict=True)))

    @property
    def phases(self) -> Phases:
        """Seconds before the first step, in the steps, and after them."""
        took = self.seconds
        return Phases(took.tagger + took.text + took.encode, took.denoise, took.decode + took.pixels)

    @property
    def total_seconds(self) -> float:
        """Seconds in all, without loading the model."""
        return sum(self.seconds)

    @property
    def operations(self) -> float:
        """Floating-point operations in all."""
        return sum(self.work) - self.work.pixels

    def refined(self, seconds: float) -> "Forecast":
        """Return the forecast with the rate of its first step, which took so many seconds.

        If nothing was measured before, the other networks are taken to have the same rate.
        """
        rate = self.first_step * self.work.denoise / max(seconds, 1e-9)
        parts = self.rates.parts._replace(denoise=rate)
        if not self.timed:
            parts = parts._replace(tagger=rate, text=rate, encode=rate, decode=rate)
        return self._replace(rates=Rates(parts, "measured in this run"))


def forecast(
    stations: Sizes,
    settings: Settings,
    model: Model,
    place: Place,
    room: Room,
    weights: Path | None = None,
    kind: Format = "png",
    bits: int = 8,
    alpha: bool = False,
    batch_size: int = 1,
) -> Forecast:
    """Return the forecast for a picture with the sizes `stations`.

    Nothing is loaded or tried. For "auto" the tiling is the one with the least work that fits in memory, else the one
    with the least memory.

    weights: folder whose configurations count; None: those of the published or bundled model.
    kind, bits, alpha: of the result.
    batch_size: most tiles in one call.
    """
    found = networks(model, weights)
    return of_case(Case(stations, settings, model, place, found, room, kind, bits, alpha, batch_size))


def remember(planned: Forecast, taken: Phases) -> None:
    """Teach later forecasts the time that this picture took, unless it is too small to tell. Never raises."""
    case = planned.case
    if prod(case.sizes.padded) < TELLING:
        return
    rates.remember(case.place, case.model.name, planned.rates, planned.seconds, taken)


def of_case(case: Case) -> Forecast:
    """Return the forecast for the picture of `case`."""
    networks, settings = case.networks, case.settings
    frame = case.sizes.padded
    latent = (frame[0] // networks.factor, frame[1] // networks.factor)
    if settings.tile == "auto":
        ways = [
            of_case(case._replace(settings=replace(settings, tile=tile, overlap=overlap)))
            for tile, overlap in tilings(latent, case.model.tilings)
        ]
        return next((way for way in ways if fits(way, case.room)), min(ways, key=lambda way: way.least))
    laid = grid(latent, settings.tile, settings.overlap)
    tiles, side = laid.count, laid.tile
    prompts = _prompts(case)
    rows = 2 if settings.guidance > 1 else 1
    call, encode, decode, text, tagger = _costs(networks, side, frame, latent, case.place.device.type == "cpu")
    work = Parts(
        tagger=tagger.operations,
        text=rows * text.operations,
        encode=encode.operations if settings.start == "lr" else 0,
        denoise=sum(prompts) * tiles * call.operations,
        decode=decode.operations,
        pixels=prod(frame),
    )
    weights = sum(cost.parameters for cost in (call, text, tagger)) * case.place.dtype.itemsize
    weights += (encode.parameters + decode.parameters) * vae_place(case.place).dtype.itemsize
    least = _thriftiest(networks, latent, case.place)
    whole = max(encode.widest, decode.widest) * vae_place(case.place).dtype.itemsize
    features = of_features(case.place.device.type, case.place.dtype)
    call_bytes = (case.batch_size * rows * call.widest + tagger.widest) * features.itemsize
    thrifty = _memory(case, weights, call_bytes, min(whole, least))
    free = case.room.host if thrifty.device == 0 else case.room.device
    used = thrifty.host if thrifty.device == 0 else thrifty.device
    vae = whole if free is None else min(whole, max(min(whole, least), _budget(free - used)))
    return Forecast(
        case,
        tiles,
        side,
        settings.steps * tiles,
        prompts[0] / sum(prompts),
        work,
        _memory(case, weights, call_bytes, vae),
        thrifty,
        _disk(case, latent),
        rates.rates(case.place, case.model.name),
    )


def _prompts(case: Case) -> list[int]:
    """Return how many prompts each step follows: with guidance the negative one too."""
    settings = case.settings
    if settings.guidance <= 1 or settings.guidance_within is None:
        return settings.steps * [2 if settings.guidance > 1 else 1]
    table = schedule(case.networks.schedule, settings.steps, settings.solver)
    guided = table.within(*settings.guidance_within)
    return [2 if step.timestep in guided else 1 for step in table.steps]


@lru_cache(maxsize=4096)
def _costs(
    networks: Networks, side: Size, frame: Size, latent: Size, copies: bool
) -> tuple[counts.Cost, counts.Cost, counts.Cost, counts.Cost, counts.Cost]:
    """Return the cost of one row of one call (ControlNet, then UNet), encoding, decoding, one prompt, one reading."""
    tagger, text = _reading(networks)
    width = networks.tagger["tagging_head"]["encoder_width"]
    image = (tagger.held // width, width)
    words = (networks.text["max_position_embeddings"], networks.text["hidden_size"])
    unet, control = (
        (config, counts.ConditioningSize(words, image if config.get("use_image_cross_attention", False) else None))
        for config in (networks.unet, networks.controlnet)
    )
    drawn = counts.unet(unet[0], side, unet[1], copies)
    held = counts.controlnet(control[0], side, networks.factor, control[1], copies)
    call = counts.Cost(
        drawn.parameters + held.parameters, drawn.operations + held.operations, max(drawn.widest, held.widest)
    )
    return (
        call,
        counts.encoder(networks.vae, frame, copies),
        counts.decoder(networks.vae, latent, copies),
        text,
        tagger,
    )


@lru_cache
def _reading(networks: Networks) -> tuple[counts.Cost, counts.Cost]:
    return counts.tagger(networks.tagger), counts.text(networks.text)


def _thriftiest(networks: Networks, latent: Size, place: Place) -> int:
    """Return the bytes that the VAE works in at least when it takes a large picture in pieces."""
    position = networks.vae["block_out_channels"][-1] * vae_place(place).dtype.itemsize
    near = min(prod(latent), counts.WINDOW**2)
    far = near if prod(latent) > near else 0
    return int(position * (RESTING * prod(latent) + ATTENDING * near + FAR * far)) + PIECE


def _budget(free: int) -> int:
    """Return the bytes that the VAE takes where it needs more: as `vae.plan.free` has it, a power of two."""
    return 2 ** int(log2(max(1, SPARED * free)))


def _memory(case: Case, weights: int, call: int, vae: int) -> PeakMemory:
    """Return the peak; call, vae: bytes of activations in the networks, alive at different times."""
    stations = case.sizes
    frame, result = RGB * prod(stations.padded), RGB * prod(stations.whole)
    pixels = RGB * prod(stations.picture) + frame
    colours = LIVE_FRAMES[case.settings.colour] * frame + (result if stations.whole != stations.frame else 0)
    write = frame + 2 * result
    active = max(call, vae + 2 * frame)
    if case.place.device.type == "cuda":
        return PeakMemory(
            CUDA_CONTEXT + weights + max(active, colours), BASE + CUDA_HOST + pixels + max(2 * frame, write)
        )
    return PeakMemory(0, BASE + weights + pixels + max(active, colours, write))


def _disk(case: Case, latent: Size) -> int:
    samples = prod(case.sizes.result) * (4 if case.alpha else 3)
    deep = 2 if case.bits > 8 and case.kind in DEEP else 1
    kept = FLOAT32 * case.networks.latent_channels * prod(latent)
    return ceil(samples * deep * MOST_PER_SAMPLE[case.kind]) + kept + ABOUT


def memories(memory: PeakMemory, room: Room) -> tuple[tuple[Literal["memory", "GPU memory"], int, int | None], ...]:
    """Return name, needed bytes and usable bytes of each kind of memory."""

    def left(free: int | None) -> int | None:
        return None if free is None else int(free * (1 - SPARE))

    return (("memory", memory.host, left(room.host)), ("GPU memory", memory.device, left(room.device)))


def fits(picture: Forecast, room: Room) -> bool:
    """Return whether the picture fits in memory when the VAE uses the least."""
    return all(free is None or needed <= free for _, needed, free in memories(picture.least, room))
