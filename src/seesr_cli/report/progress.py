"""Show the progress of a run on a terminal: a line for the current picture and one for the run."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from ..wording import duration, shortened

if TYPE_CHECKING:
    from rich.live import Live

    from ..forecast.estimate import Forecast

PHASES = ("read", "encode", "denoise", "decode", "write")
"""The phases of a picture, in their order."""

_DOING = {"read": "reading", "encode": "encoding", "denoise": "denoising", "decode": "decoding", "write": "writing"}
_BAR = 20
_LEAST_NAME = 12
_PER_SECOND = 4
ROOM = 6
"""Lines of the terminal that nodes of a cluster leave to others."""
_TELLING = 0.02
"""Share of a phase after which its own pace tells more than the forecast."""


@dataclass
class _Picture:
    """A picture in the making. node: of a cluster. done, total: of its phase. step, steps: of the denoising."""

    name: str
    weights: dict[str, float] | None
    node: str = ""
    phase: str = "read"
    done: int = 0
    total: int = 0
    step: int = 0
    steps: int = 0
    loading: str = ""
    began: float = field(default_factory=time.monotonic)
    phase_began: float = field(default_factory=time.monotonic)

    @property
    def part(self) -> float:
        """The share of the phase that is done."""
        return self.done / self.total if self.total else 0.0

    @property
    def share(self) -> float:
        """The share of the picture that is done, by the forecast's weights of the phases, else by their number."""
        weights = self.weights or dict.fromkeys(PHASES, 1.0)
        before = sum(weights[phase] for phase in PHASES[: PHASES.index(self.phase)])
        return min(1.0, (before + weights[self.phase] * self.part) / (sum(weights.values()) or 1.0))

    def slower(self) -> float:
        """Return how many times as long as forecast the picture has taken so far; 1 while too little is known."""
        if self.weights is None or self.share < _TELLING:
            return 1.0
        return (time.monotonic() - self.began) / (self.share * sum(self.weights.values()))

    def left(self) -> float | None:
        """Return the seconds left: of this phase by its own pace, of later ones by the forecast; None if unknown."""
        spent = time.monotonic() - self.phase_began
        own = spent * (1 - self.part) / self.part if self.part >= _TELLING else None
        if self.weights is None:
            return None
        slower = self.slower()
        later = sum(self.weights[phase] for phase in PHASES[PHASES.index(self.phase) + 1 :])
        current = self.weights[self.phase] * (1 - self.part) * slower if own is None else own
        return current + later * slower

    def doing(self) -> str:
        """Return the current phase, in a few words."""
        if self.loading:
            return f"loading {self.loading}"
        words = _DOING[self.phase]
        if self.phase == "denoise" and self.steps:
            if self.steps > 1:
                words += f" step {min(self.step + 1, self.steps)}/{self.steps}"
            tiles = self.total // self.steps
            if tiles > 1:
                words += ("," if self.steps > 1 else "") + f" tile {min(self.done % tiles + 1, tiles)}/{tiles}"
        elif self.total > 1:
            words += f" {100 * self.done // self.total} %"
        return words


class Progress:
    """The two lines at the foot of a terminal, which move by themselves.

    total: pictures of the run. at_once: pictures that are worked on at a time; with several there is no picture's line.
    """

    def __init__(self, console: Console, total: int, at_once: int) -> None:
        self._console = console
        self._total = total
        self._at_once = at_once
        self._ended = 0
        self._began = time.monotonic()
        self._slower = 1.0
        self._pictures: dict[Path, _Picture] = {}
        self._waiting: dict[Path, list[float]] = {}  # one for each variant of a picture
        self._nodes: Counter[str] = Counter()  # pictures that each node of a cluster has ended
        self._live: Live | None = None

    def planned(self, source: Path, forecast: "Forecast") -> None:
        """Count on the time that is forecast for a picture."""
        self._waiting.setdefault(source, []).append(forecast.total_seconds)

    def started(self, source: Path, name: str, forecast: "Forecast | None", node: str = "") -> None:
        """Show the picture `source`, under `name`; on a cluster, with its node."""
        self._pictures[source] = _Picture(name, None if forecast is None else _weights(forecast), node)
        if node:
            self._nodes[node] += 0
        self.show()

    def loading(self, what: str) -> None:
        """Show that a model is being loaded, which is nothing that a picture takes."""
        for picture in self._pictures.values():
            picture.loading = what

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        """Show how much of a phase of the picture `source` is done."""
        picture = self._pictures[source]
        if picture.loading:
            picture.loading, picture.began = "", time.monotonic()
        if phase != picture.phase:
            picture.phase, picture.phase_began = phase, time.monotonic()
        picture.done, picture.total = done, total

    def stepped(self, source: Path, done: int, total: int) -> None:
        """Show how many denoising steps of the picture `source` are done."""
        picture = self._pictures[source]
        picture.step, picture.steps = done, total

    def ended(self, source: Path) -> None:
        """Count the picture `source` as ended, well or not."""
        self._ended += 1
        if len(self._waiting.get(source, ())) > 1:
            self._waiting[source].pop()
        else:
            self._waiting.pop(source, None)
        if (picture := self._pictures.pop(source, None)) is not None:
            if picture.phase == PHASES[-1]:
                self._slower = picture.slower()
            if picture.node:
                self._nodes[picture.node] += 1

    def show(self) -> None:
        """Put the lines on the terminal, if they are not there."""
        if self._live is None:
            from rich.live import Live  # only a terminal needs it

            # A new one each time: rich, started again below other output, would climb over that output's last lines.
            self._live = Live(
                console=self._console,
                get_renderable=self._lines,
                refresh_per_second=_PER_SECOND,
                transient=True,
                redirect_stdout=False,  # rich would print results on stderr
                redirect_stderr=False,
            )
            self._live.start()

    def hide(self) -> None:
        """Take the lines off the terminal, and give it its cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the lines off the terminal for as long as something else is printed there."""
        shown = self._live is not None
        self.hide()
        try:
            yield
        finally:
            if shown:
                self.show()

    def _lines(self) -> Group:
        lines = []
        lines += [self._of_node(node) for node in list(self._nodes)[: self._console.height - ROOM]]
        if self._pictures and self._at_once == 1 and not self._nodes:
            # Of several that are sampled together the first one tells: they are at the same place.
            lines.append(self._of_picture(next(iter(self._pictures.values()))))
        if self._total > 1:
            lines.append(self._of_run())
        return Group(*lines)

    def _of_picture(self, picture: _Picture) -> Text:
        left = picture.left()
        words = picture.doing() + ("" if left is None else f" · {duration(left, tenths=False)} left")
        room = self._console.width - len(words) - 3
        bar = _bar(picture.share) + " " if room - _BAR - 1 >= _LEAST_NAME else ""
        return Text(f"{shortened(picture.name, max(_LEAST_NAME, room - len(bar)))}  {bar}{words}", no_wrap=True)

    def _of_node(self, node: str) -> Text:
        """Return the line of a node: what it has done, and how far it is with the first picture that it is at."""
        at_work = [picture for picture in self._pictures.values() if picture.node == node]
        words = f"{self._nodes[node]} ended, {len(at_work)} at work"
        if at_work:
            words += f" · {at_work[0].name}: {at_work[0].doing()}"
        room = max(_LEAST_NAME, self._console.width // 3)
        return Text(f"{shortened(node, room)}  {words}", no_wrap=True, overflow="ellipsis")

    def _of_run(self) -> Text:
        at_work = f", {len(self._pictures)} at work" if self._at_once > 1 or self._nodes else ""
        words = f"{self._ended}/{self._total} pictures{at_work}"
        if self._nodes and self._ended:
            words += f" · {60 * self._ended / (time.monotonic() - self._began):.3g} a minute"
        if (left := self._left()) is not None:
            words += f" · {duration(left, tenths=False)} left"
        return Text(words, no_wrap=True)

    def _left(self) -> float | None:
        """Return the seconds left in all, by the forecasts and by how much slower the last picture was than its own."""
        if not self._waiting:
            return None
        begun = [picture.left() or 0.0 for source, picture in self._pictures.items() if source in self._waiting]
        slower = max((picture.slower() for picture in self._pictures.values()), default=1.0)
        slower = self._slower if slower == 1.0 else slower
        waiting = sum(
            sum(seconds[1:] if source in self._pictures else seconds) for source, seconds in self._waiting.items()
        )
        at_once = max(self._at_once, len(self._pictures) if self._nodes else 1)
        return (sum(begun) + slower * waiting) / max(1, min(at_once, len(self._waiting)))


def _weights(forecast: "Forecast") -> dict[str, float]:
    """Return the seconds that are forecast for each phase."""
    took = forecast.seconds
    seconds = (took.tagger + took.text, took.encode, took.denoise, took.decode, took.pixels)
    return dict(zip(PHASES, seconds, strict=True))


def _bar(share: float) -> str:
    full = round(_BAR * share)
    return "━" * full + "╌" * (_BAR - full)
