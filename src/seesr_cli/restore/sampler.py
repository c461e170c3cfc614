"""The networks that predict noise, and how many tiles and pictures go through them in one call."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ..errors import PictureError
from ..machine.device import Place, place_of
from ..machine.graphs import Graphs, straight
from ..machine.out_of_memory import enduring
from ..models.graft import Conditioning
from ..models.products import precision
from ..sampling.noise import Noise
from ..sampling.schedule import Schedule, schedule
from ..sampling.tiles import Tiling, grid, portions, shared
from ..settings import Settings
from ..sizes import Size
from .denoise import (
    Call,
    OnTiles,
    Prediction,
    Predictor,
    RowPredictor,
    TilePredictor,
    apart,
    controlled,
    denoise,
    guided,
    tiled,
    watched,
    within,
)
from .limits import Limits
from .progress import OnParts, OnStep
from .switches import Switches
from .window import Window

NOT_FINITE = "The networks went beyond the range of their numbers on this picture: use --dtype fp32."


class Denoised(NamedTuple):
    """The denoised latents of several pictures, and how the networks were called for them in the last step.

    latent: [P, C, H, W], float32.
    calls: one for each picture.
    notes: sentences for the person.
    """

    latent: Tensor
    tiling: Tiling
    calls: tuple[Call, ...]
    notes: tuple[str, ...]


class Sampler:
    """Predicts noise with the UNet and the ControlNet, and denoises latents with it.

    factor: pixels of a frame along one side of a latent pixel.
    limits: what memory allows, learnt from picture to picture.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        schedule_config: Mapping[str, Any],
        factor: int,
        limits: Limits,
    ) -> None:
        self.unet = unet
        self.controlnet = controlnet
        self.limits = limits
        self.switches = Switches()
        self.graphs = Graphs()
        self._schedule_config = schedule_config
        self._factor = factor

    @property
    def place(self) -> Place:
        """The device and the precision of the networks."""
        return Place(place_of(self.unet).device, precision(self.unet))

    def schedule(self, settings: Settings) -> Schedule:
        """Return the schedule of a run with `settings`."""
        return schedule(self._schedule_config, settings.steps, settings.solver)

    def pictures_a_call(self, frame: Size, settings: Settings, batch_size: int | None = None) -> int:
        """Return how many pictures with frames of this size, (height, width), to sample together, at least one.

        So many that all their tiles go into one call.

        batch_size: most tiles, of all pictures, in one call; None: as many as memory holds.
        """
        latent = self._latent_size(frame)
        laid = grid(latent, *self.limits.tiling(settings, latent))
        rows = 2 if settings.guidance > 1 else 1
        return max(1, self.limits.tiles_a_call(self.place, laid, rows, batch_size) // laid.count)

    def denoise(
        self,
        latent: Tensor,
        frames: Tensor,
        conditioning: Conditioning,
        noise: Noise,
        settings: Settings,
        batch_size: int | None = None,
        on_step: OnStep = lambda done, total: None,
        on_parts: OnParts = lambda done, total: None,
        window: Window | None = None,
    ) -> Denoised:
        """Return the denoised latents of several pictures. Raises PictureError for numbers that are not finite.

        latent: [P, C, H, W], with the noise of the first step.
        frames, conditioning, batch_size, window: as for `predictor`.
        on_parts: told how many tiles of all steps are done.
        """
        # 1. Choose the tiling and the calls of the networks. Both shrink if memory runs out in a step.
        notes: list[str] = []
        tiles_done = steps_done = 0

        def on_tiles(count: int) -> None:
            nonlocal tiles_done
            tiles_done += count
            tiles = len(frames) * prediction.laid.count
            on_parts(steps_done * tiles + min(tiles_done, tiles), settings.steps * tiles)

        prediction = self.predictor(frames, conditioning, settings, batch_size, on_tiles, window)

        def give_up() -> str | None:
            nonlocal prediction, tiles_done
            tiles_done = 0
            self.graphs.forget()
            said = self.limits.lower(prediction, (latent.shape[-2], latent.shape[-1]))
            prediction = self.predictor(frames, conditioning, settings, batch_size, on_tiles, window)
            return said

        def predict(noisy: Tensor, timestep: int) -> Tensor:
            predicted = enduring(lambda: prediction.predict(noisy, timestep), give_up, notes)
            notes.extend(self.graphs.notes)
            self.graphs.notes.clear()
            return predicted

        # 2. Denoise, step by step. A number that is not finite before the second step would stay so through all others.
        _check_finite(latent)
        on_step(0, settings.steps)
        on_parts(0, settings.steps)
        steps = denoise(latent, predict, self.schedule(settings), noise, self.switches)
        for steps_done, after in enumerate(steps, start=1):
            latent, tiles_done = after, 0
            if steps_done == 1:
                _check_finite(latent)
            on_step(steps_done, settings.steps)
        return Denoised(latent, prediction.tiling, prediction.calls, tuple(notes))

    def predictor(
        self,
        frames: Tensor,
        conditioning: Conditioning,
        settings: Settings,
        batch_size: int | None = None,
        on_tiles: OnTiles = lambda count: None,
        window: Window | None = None,
    ) -> Prediction:
        """Return the predictor of the noise in the latents of several pictures, within the limits of memory.

        frames: [P, 3, H, W], RGB in [0, 1].
        conditioning: a row for each picture, or two, (negative, positive). With two, the positive row is guided at the
            steps where `settings` ask for it, and stands alone at the others.
        batch_size: as for `pictures_a_call`.
        window: of the pictures, whose region the frames are; None: the frames are whole.
        """
        pictures, rows = len(frames), len(conditioning.text) // len(frames)
        latent = self._latent_size((frames.shape[-2], frames.shape[-1]))
        tiling = self.limits.tiling(settings, latent if window is None else window.latent)
        # If memory has run out since the window was chosen, its region is divided anew.
        laid = grid(latent, *tiling) if window is None or window.tiling != tiling else window.own_grid
        if batch_size is None and pictures > 1:  # they were found to fit before there were any
            batch_size = pictures * laid.count
        most = self.limits.tiles_a_call(self.place, laid, rows, batch_size)
        tiles = shared(laid, latent, self.place.device)
        shares = portions(pictures, max(1, most // laid.count))
        predictors, calls = list[Predictor](), list[Call]()
        for share in shares:
            count = share.stop - share.start
            own = Conditioning(*(read[rows * share.start : rows * share.stop] for read in conditioning))
            each = min(max(1, most // count), laid.count)
            predictors.append(tiled(self._tile_predictor(frames[share], own, settings), tiles, each, on_tiles))
            calls += [Call(count * each, place) for place in range(count)]
        predict = predictors[0] if len(shares) == 1 else apart(predictors, shares)
        return Prediction(predict, tiling, laid, tuple(calls))

    def _tile_predictor(self, frames: Tensor, conditioning: Conditioning, settings: Settings) -> TilePredictor:
        """Return what predicts the noise in tiles of pictures that are in one call; parameters as for `predictor`."""
        view = watched(self.controlnet, frames, self._factor, self.switches)
        recorded = self.switches.graphs and self.place.device.type == "cuda"
        run = self.graphs.expecting(settings.steps) if recorded else straight

        def under(conditioning: Conditioning) -> RowPredictor:
            return controlled(self.unet, self.controlnet, conditioning, view, settings.control, self.switches, run)

        predict: TilePredictor = under(conditioning)
        if len(conditioning.text) == 2 * len(frames):
            predict = guided(predict, settings.guidance)
            if settings.guidance_within is not None:
                chosen = self.schedule(settings).within(*settings.guidance_within)
                predict = within(
                    chosen, predict, under(Conditioning(conditioning.text[1::2], conditioning.image[1::2]))
                )
        return predict

    def _latent_size(self, frame: Size) -> Size:
        return frame[0] // self._factor, frame[1] // self._factor


def _check_finite(latent: Tensor) -> None:
    """Raise PictureError unless all numbers of `latent` are finite."""
    if not latent.isfinite().all():
        raise PictureError(NOT_FINITE)
