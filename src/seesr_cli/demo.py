"""The page of `seesr demo`: a picture, its tags, a window of its result, and results, on this machine alone.

What it does is what `seesr upscale` does: the same plan, run and writer, so the same bytes.
"""

import os
import shlex
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import fastapi
import gradio as gr
import uvicorn
from PIL import Image

from . import image
from .catalogue import PRESETS, preset
from .errors import PictureError, SeesrError
from .image.shown import as_shown
from .machine.share import ALONE
from .records.journal import Journal
from .restore.tag import Reading
from .run import batch
from .run.foresee import JobForecast, foresee
from .run.inputs import InputFile
from .run.outputs import plan_results
from .run.preview import Look, preview
from .run.request import Request
from .run.session import Session
from .settings import Colour, Preset, Settings, Solver
from .wording import bytes_in_words, duration

if TYPE_CHECKING:
    from .machine.device import Place
    from .restore.upscaler import Upscaler

MOST_UPLOAD = "200mb"
KEPT = 3600
"""Seconds that uploads and results stay on disk; all are gone when the program ends."""

_SHOWN, _SIDE = 2400 * 2400, 384
"""Most pixels of what is shown, and the side of the window that is tried, in pixels of the result."""

SETTINGS = [
    "scale",
    "seed",
    "steps",
    "solver",
    "guidance",
    "control",
    "prompt",
    "negative",
    "colour",
    "colour_strength",
]
"""The settings that the page has fields for, in its order."""

_FIELDS = ["path", "tags", "preset", "variants", "point", *SETTINGS]
_PROGRESS = gr.Progress()  # as a default it has the library hand in the progress of the page
_DOING = {"read": "Reading", "encode": "Encoding", "denoise": "Denoising", "decode": "Decoding", "write": "Writing"}

Said = dict[str, Any]
"""What the fields of the page say, by _FIELDS."""


class Cancelled(BaseException):
    """The person has pressed Cancel, or has left the page."""


class Listener:
    """Shows the progress of a run in one window of a browser, and ends the run if that asks for it (outcome.Watch)."""

    def __init__(self, progress: gr.Progress, cancelled: threading.Event) -> None:
        self._progress, self._cancelled, self._steps = progress, cancelled, (0, 1)

    def started(self, source: Path, target: Path | None, node: str = "") -> None:
        """Show that the picture is begun."""
        self._progress(0, desc="Reading")

    def loading(self, what: str) -> None:
        """Show nothing: the model is loaded before the page is there."""

    def stepped(self, source: Path, done: int, total: int) -> None:
        """Take note of the step."""
        self._steps = (done, total)

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        """Show phase, step and tile. Raises Cancelled."""
        if self._cancelled.is_set():
            raise Cancelled
        words, (step, steps) = _DOING[phase], self._steps
        if phase == "denoise":
            tiles = total // steps
            words += f", step {min(step + 1, steps)} of {steps}"
            words += f", tile {min(done % tiles + 1, tiles)} of {tiles}" if tiles > 1 else ""
        self._progress(done / max(1, total), desc=words)

    def note(self, text: str) -> None:
        """Show a sentence."""
        gr.Info(text)


class Studio:
    """What all windows of the page share: the loaded model and a folder. One picture is worked on at a time."""

    def __init__(self, request: Request, upscaler: "Upscaler", weights: Path, known: str, place: "Place", folder: Path):
        self.request, self.folder, self._upscaler, self._weights = request, folder, upscaler, weights
        self._known, self._place = known, place
        self._runs, self._cancels = deque[tuple[Path, float]](), dict[str | None, threading.Event]()
        self._readings: dict[str, Reading] = {}

    def read(self, path: str | None) -> tuple[Image.Image | None, Any]:
        """Return the picture as it is shown, and its tags with their scores, behind them those that nearly are."""
        if path is None:
            return None, gr.Dropdown([], value=[])
        with told():
            picture = image.read(Path(path))
            reading = self._readings[path] = self._upscaler.reader.read(picture.pixels)
        choices = [(f"{tag.name} {tag.score:.2f}", tag.name) for tag in (*reading.tags, *reading.near)]
        return as_shown(picture, _SHOWN), gr.Dropdown(choices, value=[tag.name for tag in reading.tags])

    def base(self, name: Preset | None) -> Settings:
        """Return the model's settings under a preset, over which those of the fields go."""
        model = self.request.model
        return replace(model.defaults, **(preset(name, model) if name else {}))

    def asked(self, said: Said) -> Request:
        """Return what the fields ask for. Raises UsageError."""
        seen, defaults = [tag.name for tag in self._readings[said["path"]].tags], self.base(said["preset"])
        own = {name: type(getattr(defaults, name))(said[name]) for name in SETTINGS}  # a browser says 2 for 2.0
        own["add_tags"] = tuple(tag for tag in dict.fromkeys(said["tags"]) if tag not in seen)
        own["drop_tags"] = tuple(tag for tag in seen if tag not in said["tags"])
        if said["colour"] == "none":
            own["colour_strength"] = 1.0
        return replace(self.request, settings=replace(defaults, **own))

    def command(self, said: Said, settings: Settings) -> str:
        """Return the command line that makes the same."""
        base, words = self.base(said["preset"]), ["seesr", "upscale", Path(said["path"]).name]
        options = {"model": self.request.model.name, "preset": said["preset"]}
        options |= {it: getattr(settings, it) for it in SETTINGS if getattr(settings, it) != getattr(base, it)}
        options["variants"] = said["variants"] if said["variants"] > 1 else None
        words += [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
        words += [f"--add-tag={tag}" for tag in settings.add_tags] + [f"--drop-tag={tag}" for tag in settings.drop_tags]
        return shlex.join(words)

    def plan(self, said: Said, request: Request, folder: Path, several: bool) -> JobForecast:
        """Return the job of the picture, as the command line plans it, with its forecast. Raises SeesrError."""
        source, label = InputFile(Path(said["path"]), Path(Path(said["path"]).name)), f"{said['scale']:g}"
        jobs = plan_results([source], f"{folder}/", None, label, None, request.settings.seed, several)
        (found,) = foresee(jobs, request, self._place, self._weights, ALONE)
        if not isinstance(found, JobForecast):
            raise PictureError(found.message)
        return found

    def foretell(self, *values: Any) -> tuple[str, str]:
        """Return the forecast of the picture in words, and the command line."""
        said = dict(zip(_FIELDS, values, strict=True))
        if said["path"] not in self._readings or None in [said[name] for name in ("variants", *SETTINGS)]:
            return "", ""
        with told():
            request = self.asked(said)
            plan = self.plan(said, request, self.folder, False)
        (height, width), forecast = plan.sizes.result, plan.forecast
        seconds, memory = said["variants"] * forecast.total_seconds, bytes_in_words(sum(forecast.expected))
        took = f"about {duration(seconds)}" if forecast.timed else "the time is known after a first picture"
        words = f"**{width} × {height}** pixels in {forecast.tiles} tile{'s' * (forecast.tiles > 1)}: {took}, {memory}."
        return words, self.command(said, request.settings)

    def look(self, web: gr.Request, progress: gr.Progress = _PROGRESS, *values: Any) -> str:
        """Return the preview of a window of the result."""
        with self._running(values, web, progress) as (said, folder, listener):
            request = self.asked(said)
            plan = self.plan(said, request, folder, False)
            forecasts = {plan.job.source.path: plan.forecast}
            session = Session(request, lambda: self._upscaler, lambda: self._known, listener, forecasts, Journal.open)
            seeds = tuple(range(said["seed"], said["seed"] + said["variants"]))
            outcome = preview(session, plan.job, Look((said["point"],), _SIDE, seeds))
            if outcome.state == "failed":
                raise PictureError(outcome.message)
            return str(outcome.target)

    def restore(self, web: gr.Request, progress: gr.Progress = _PROGRESS, *values: Any) -> tuple[Any, Any, list[str]]:
        """Return before and after, all variants, and the files of the results."""
        with self._running(values, web, progress) as (said, folder, listener):
            shown, paths, several = list[tuple[Image.Image, str]](), list[str](), said["variants"] > 1
            for seed in range(said["seed"], said["seed"] + said["variants"]):
                request = self.asked(said | {"seed": seed})
                plan = self.plan(said, request, folder, several)
                load, known, forecasts = (
                    lambda: self._upscaler,
                    lambda: self._known,
                    {plan.job.source.path: plan.forecast},
                )
                (outcome,) = batch.run([plan.job], request, load, known, listener, forecasts)
                if outcome.state == "failed" or outcome.target is None:
                    raise PictureError(outcome.message)
                shown.append((as_shown(image.read(outcome.target), _SHOWN), f"seed {seed}"))
                paths.append(str(outcome.target))
            before = as_shown(image.read(outcome.source), _SHOWN).resize(shown[0][0].size, Image.Resampling.BICUBIC)
            return (before, shown[0][0]), gr.Gallery(shown, visible=several), paths

    def cancel(self, web: gr.Request) -> None:
        """End what this window of the browser has begun."""
        if (event := self._cancels.get(web.session_hash)) is not None:
            event.set()

    @contextmanager
    def _running(
        self, values: tuple[Any, ...], web: gr.Request, progress: gr.Progress
    ) -> Iterator[tuple[Said, Path, Listener]]:
        """Lend what the fields say, a new folder, and a listener that ends the run when it is cancelled."""
        said = dict(zip(_FIELDS, values, strict=True))
        if said["path"] not in self._readings:
            raise gr.Error("There is no picture yet: drop one first.", print_exception=False)
        while self._runs and time.monotonic() - self._runs[0][1] > KEPT:
            shutil.rmtree(self._runs.popleft()[0], ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self._runs.append((folder, time.monotonic()))
        event = self._cancels[web.session_hash] = threading.Event()
        try:
            with told():
                yield said, folder, Listener(progress, event)
        except Cancelled:
            raise gr.Error("Cancelled: nothing was kept.", title="", print_exception=False) from None
        finally:
            del self._cancels[web.session_hash]


@contextmanager
def told() -> Iterator[None]:
    """Show an expected failure as its sentence, until it is closed."""
    try:
        yield
    except SeesrError as error:
        raise gr.Error(str(error), duration=None, print_exception=False) from error


def serve(studio: Studio) -> uvicorn.Server:
    """Return the server of the page, to be run on a socket. Uploads go to the folder of the studio."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    app, own = fastapi.FastAPI(openapi_url=None), page(studio)
    gr.mount_gradio_app(app, own, "/", footer_links=[], max_file_size=MOST_UPLOAD, theme=theme)
    return uvicorn.Server(uvicorn.Config(app, log_level="warning"))


def page(studio: Studio) -> gr.Blocks:
    """Return the page."""
    model, own = studio.request.model, studio.request.model.defaults
    presets = [name for name in PRESETS if PRESETS[name].get("steps", own.steps) <= own.steps]

    def number(name: str, label: str, least: float, most: float | None, **more: Any) -> gr.Number:
        value = getattr(own, name, 1)
        return gr.Number(value, label=label, minimum=least, maximum=most, min_width=80, elem_id=name, **more)

    with gr.Blocks(title="seesr", analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)) as blocks:
        gr.Markdown(f"# seesr\nRestores a photograph on this machine, with {model.name}: {model.about}.")
        point = gr.State(None)
        with gr.Row():
            with gr.Column(min_width=320):
                file = gr.File(label="Picture", file_types=sorted(image.SUFFIXES), elem_id="picture", height=120)
                shown = gr.Image(label="Click on a place to try it", interactive=False, height=320, buttons=[])
                about = "Tags: take away what is wrong, type what is missing"
                tags = gr.Dropdown([], multiselect=True, allow_custom_value=True, label=about, elem_id="tags")
            with gr.Column(min_width=320):
                chosen = gr.Radio(presets, label="Preset", visible=len(presets) > 1, elem_id="preset")
                with gr.Row():
                    scale, seed = number("scale", "Scale", 1, 16), number("seed", "Seed", 0, None, precision=0)
                    variants = number("variants", "Variants", 1, 4, precision=0)
                with gr.Accordion("More settings", open=False, elem_id="more"):
                    steps = number("steps", "Steps", 1, 1000, precision=0)
                    solver = gr.Radio(get_args(Solver), value=own.solver, label="Solver")
                    guidance, control = number("guidance", "Guidance", 0, 50), number("control", "Control", 0, 10)
                    prompt = gr.Textbox(own.prompt, label="Words behind the tags")
                    negative = gr.Textbox(own.negative, label="Words to move away from")
                    colour = gr.Radio(get_args(Colour), value=own.colour, label="Colours of the input")
                    strength = number("colour_strength", "Strength of the colours", 0, 1, step=0.1)
                forecast = gr.Markdown(elem_id="forecast")
                with gr.Row():
                    look = gr.Button("Try a region", elem_id="try", min_width=80)
                    go = gr.Button("Restore", variant="primary", elem_id="restore", min_width=80)
                    stop = gr.Button("Cancel", variant="stop", elem_id="cancel", min_width=80)
                command = gr.Textbox(label="The same as a command line", buttons=["copy"], elem_id="command")
        tried = gr.Image(show_label=False, interactive=False, elem_id="tried", buttons=["download", "fullscreen"])
        slider = gr.ImageSlider(label="Before and after", interactive=False, elem_id="slider", max_height=900)
        gallery = gr.Gallery(label="Variants", visible=False, elem_id="gallery", columns=2)
        files = gr.File(label="Results", file_count="multiple", interactive=False, elem_id="results")

        fields = [scale, seed, steps, solver, guidance, control, prompt, negative, colour, strength]
        said, alone = [file, tags, chosen, variants, point, *fields], {"concurrency_id": "networks"}

        def place(event: gr.SelectData) -> tuple[int, int]:
            return event.index[0], event.index[1]

        def of_preset(name: Preset) -> tuple[int, Solver]:
            return studio.base(name).steps, studio.base(name).solver

        old = [point, tried, slider, files]
        read = file.change(studio.read, file, [shown, tags], **alone)
        read.then(lambda: [None] * len(old), None, old).then(studio.foretell, said, [forecast, command])
        shown.select(place, None, point, show_progress="hidden")
        chosen.change(of_preset, chosen, [steps, solver])
        for each in (tags, chosen, variants, *fields):
            each.change(studio.foretell, said, [forecast, command], show_progress="hidden")
        look.click(studio.look, said, tried, **alone)
        go.click(studio.restore, said, [slider, gallery, files], **alone)
        stop.click(studio.cancel, None, None, queue=False)
        blocks.unload(studio.cancel)
    return blocks
