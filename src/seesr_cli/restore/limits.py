"""Remember where memory ran out, and choose tilings and calls of the networks within those limits."""

from ..machine.device import Place, tiles_a_call
from ..machine.out_of_memory import smaller_tile
from ..machine.share import ALONE, Share
from ..sampling.tiles import Grid, Tiling, tilings
from ..settings import MOST_BATCH, MOST_TILE, Settings
from ..sizes import Size
from .denoise import Prediction


class Limits:
    """The known limits of memory of one process. The limits only ever go down.

    known_tilings: (side, overlap) among which --tile auto chooses, the default first.
    share: of the memory, that this process has.
    """

    def __init__(self, known_tilings: tuple[tuple[int, int], ...], share: Share = ALONE) -> None:
        self._known_tilings = known_tilings
        self._share = share
        self._most_tiles = MOST_BATCH
        self._most_side = MOST_TILE

    def tiling(self, settings: Settings, latent: Size) -> Tiling:
        """Return the tiling for a latent of this size: the setting's own, if its tiles fit."""
        if settings.tile == "auto":
            return tilings(latent, self._known_tilings, self._most_side)[0]
        if settings.tile <= self._most_side:
            return Tiling(settings.tile, settings.overlap)
        return Tiling(self._most_side, min(settings.overlap, self._most_side // 2))

    def tiles_a_call(self, place: Place, laid: Grid, rows: int, asked: int | None) -> int:
        """Return how many tiles one call of the networks takes at most.

        rows: prompts that each tile is predicted under. asked: most tiles; None: as many as free memory holds.
        """
        if asked is None:
            asked = tiles_a_call(place, laid.area, rows, self._share)
        return min(self._most_tiles, asked)

    def lower(self, prediction: Prediction, latent: Size) -> str | None:
        """Lower a limit below those of `prediction`, and return a sentence; None if nothing is left.

        First go pictures in a call, then tiles in a call, then the side of tiles. latent: (height, width).
        """
        tiles = max(call.tiles for call in prediction.calls)
        if tiles > 1:
            self._most_tiles = tiles // 2
            of_one = prediction.laid.count
            if tiles > of_one:
                pictures = max(1, self._most_tiles // of_one)
                return f"Memory ran out: pictures are computed {pictures} at a time from now on."
            return f"Memory ran out: tiles are computed {self._most_tiles} at a time from now on."
        side = min(prediction.tiling.side, max(latent))
        if (smaller := smaller_tile(side)) is None:
            return None
        self._most_side = smaller
        return f"Memory ran out: tiles have sides of {smaller} latent pixels from now on, in the place of {side}."
