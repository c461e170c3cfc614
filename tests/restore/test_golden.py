"""What the published system computes, stage by stage, within the tolerances that its recording states.

`pytest tests/test_golden.py --golden DIR --golden-seed N` replays another recording in the same layout.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from seesr_cli.catalogue import MODELS
from seesr_cli.image import read
from seesr_cli.models.graft import Conditioning
from seesr_cli.restore.colour import align
from seesr_cli.restore.denoise import denoise
from seesr_cli.restore.prepare import Frame, prepare, resize
from seesr_cli.restore.prompt import compose
from seesr_cli.restore.switches import Switches
from seesr_cli.restore.tag import normalise
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.settings import Settings
from seesr_cli.sizes import Sizes, sizes

TAGGER = 1e-4
TEXT = 1e-5
CALL = 1e-4  # of the recorded standard deviation
LATENT = 1e-3  # likewise, after any number of steps
GREY_LEVELS = 2 / 255
RESAMPLED = 3 / 255  # where the published code rounds to whole levels twice

SWITCHED = {
    "all": Switches(),
    "none": Switches(**dict.fromkeys((field.name for field in fields(Switches)), False)),
}


class Run(NamedTuple):
    """One recorded run: how it was made and what was seen on the way."""

    folder: Path
    record: dict[str, Any]
    stages: dict[str, Tensor]
    settings: Settings
    picture: Tensor
    sizes: Sizes
    frame: Frame


class Replay:
    """The recorded noise, given out in the order in which a picture draws it."""

    def __init__(self, run: Run) -> None:
        posterior = [run.stages["vae_noise"]] if run.settings.start == "lr" else []
        self._draws = iter([*posterior, run.stages["initial_noise"], *run.stages["step_noise"]])

    def __call__(self, shape: torch.Size) -> Tensor:
        draw = next(self._draws)
        assert draw.shape == shape
        return draw


@pytest.fixture(scope="module")
def upscalers(golden_weights: Path) -> dict[str, Upscaler]:
    """Both models in the precision that a user of a CPU gets."""
    return {name: Upscaler.load(MODELS[name], golden_weights, "cpu") for name in ("seesr", "turbo")}


@pytest.fixture
def run(golden_run: Path) -> Run:
    record = json.loads((golden_run / "run.json").read_text())
    settings = Settings(
        scale=record["upscale"],
        steps=record["steps"],
        guidance=record["guidance_scale"],
        control=record["conditioning_scale"],
        prompt=record["user_prompt"],
        negative=record["negative_prompt"],
        start=record["start_point"],
        colour="none" if record["align"] == "nofix" else record["align"],
        process_size=record["process_size"],
        tile=record["latent_tile"],
        overlap=record["latent_overlap"],
    )
    # The published code resamples a frame down to multiples of 8 where we pad: its own frame is replayed.
    condition = read(golden_run / "condition.png").pixels
    frame = Frame(condition.unsqueeze(0), (condition.shape[-2], condition.shape[-1]))
    picture = read(golden_run.parent.parent / record["image"]).pixels
    stages = load_file(golden_run / "stages.safetensors")
    stations = sizes((picture.shape[-2], picture.shape[-1]), settings)
    return Run(golden_run, record, stages, settings, picture, stations, frame)


def first_call(layer: nn.Module, caught: dict[str, Tensor], name: str, given: bool = False) -> RemovableHandle:
    """Catch the first tensor that the layer returns, or is given."""

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        caught.setdefault(name, args[0] if given else output)

    return layer.register_forward_hook(note)


def close(ours: Tensor, recorded: Tensor, tolerance: float) -> None:
    """Assert that two tensors differ nowhere by more than `tolerance` of the recorded one's standard deviation.

    Before the text is read one row of ours may stand for all of the recorded ones.
    """
    worst = float((ours - recorded).abs().max() / recorded.std())
    assert ours.shape[1:] == recorded.shape[1:]
    assert len(ours) in (1, len(recorded))
    assert worst <= tolerance, f"off by {worst:.1e} of its standard deviation"


def within_grey_levels(ours: Tensor, recorded: Path, most: float = GREY_LEVELS) -> None:
    worst = float((ours - read(recorded).pixels).abs().max())
    assert worst <= most, f"{recorded.name}: off by {worst * 255:.2f} grey levels"


def test_the_tagger_sees_what_was_recorded(golden: Path, golden_picture: Path, upscalers: dict[str, Upscaler]) -> None:
    number = golden_picture.stem.removeprefix("lr_")
    recorded = load_file(golden / "tagger.safetensors")
    reader = upscalers["seesr"].reader
    picture = read(golden_picture).pixels

    with torch.inference_mode():
        logits, tokens = reader.tagger(normalise(picture, reader.tagger.side))
    torch.testing.assert_close(logits, recorded[f"{number}.logits"], atol=TAGGER, rtol=0)
    torch.testing.assert_close(tokens, recorded[f"{number}.embeds"], atol=TAGGER, rtol=0)
    assert [tag.name for tag in reader.read(picture).tags] == json.loads((golden / f"tags_{number}.json").read_text())


def test_the_tagger_is_given_what_was_recorded(golden: Path, upscalers: dict[str, Upscaler]) -> None:
    recorded = load_file(golden / "tagger.safetensors")["0.pixel_values"]
    given = normalise(read(golden / "lr_0.png").pixels, upscalers["seesr"].reader.tagger.side)
    torch.testing.assert_close(given[..., ::16, ::16], recorded, atol=TAGGER, rtol=0)


def test_the_frame_is_the_recorded_one_and_is_padded_where_that_was_resampled_to_multiples_of_8(run: Run) -> None:
    frame = prepare(run.picture, run.sizes)
    published = (frame.size[0] // 8 * 8, frame.size[1] // 8 * 8)
    assert run.frame.size == published
    recorded, own = run.folder / "condition.png", frame.crop(frame.pixels)[0]
    if frame.size == published:
        assert own.shape == frame.pixels[0].shape
        within_grey_levels(own, recorded)
    else:
        within_grey_levels(resize(own, published), recorded, RESAMPLED)


@pytest.mark.parametrize("switches", ["all", pytest.param("none", marks=pytest.mark.slow)])
def test_every_stage_is_the_recorded_one(run: Run, switches: str, upscalers: dict[str, Upscaler]) -> None:
    upscaler, stages, settings = upscalers[run.record["model"]], run.stages, run.settings
    upscaler.sampler.switches = SWITCHED[switches]
    noise, caught = Replay(run), dict[str, Tensor]()

    reading = upscaler.reader.read(run.picture)
    prompt = compose(tuple(tag.name for tag in reading.tags), settings.prompt, settings.negative)
    assert prompt.positive == run.record["prompt"]
    assert upscaler.text_encoder.tokenize((prompt.negative, prompt.positive)).equal(stages["input_ids"])
    conditioning = upscaler.conditioning(prompt, reading, settings)
    rows = len(conditioning.text)
    torch.testing.assert_close(conditioning.text, stages["unet.text_embeds"][-rows:], atol=TEXT, rtol=0)

    schedule = upscaler.sampler.schedule(settings)
    assert [step.timestep for step in schedule.steps] == stages["timesteps"].tolist()
    start = upscaler.start(run.frame, settings, noise)
    predict = upscaler.sampler.predictor(run.frame.pixels, conditioning, settings).predict
    controlnet, unet = upscaler.sampler.controlnet, upscaler.sampler.unet
    hooks = [
        first_call(unet.conv_in, caught, "input", given=True),
        first_call(unet.conv_out, caught, "sample"),
        first_call(controlnet.controlnet_down_blocks[0], caught, "down.0"),
        first_call(controlnet.controlnet_down_blocks[-1], caught, "down.last"),
        first_call(controlnet.controlnet_mid_block, caught, "mid"),
    ]
    for step, latent in enumerate(denoise(start, predict, schedule, noise, upscaler.sampler.switches)):
        close(latent, stages["latents"][step], LATENT)
    for hook in hooks:
        hook.remove()

    close(caught["input"], stages["unet.input"][-rows:], CALL)
    close(caught["sample"], stages["unet.sample"][-rows:], CALL)
    for part in ("down.0", "down.last", "mid"):
        close(settings.control * caught[part], stages[f"control.{part}"], CALL)

    decoded = upscaler.vae.decode(latent).clamp(0, 1)
    within_grey_levels(decoded[0], run.folder / "decoded.png")
    aligned = align(decoded, run.frame.pixels, settings.colour)
    within_grey_levels(aligned[0], run.folder / "aligned.png")


def test_the_last_resize_is_the_recorded_one(run: Run) -> None:
    aligned = read(run.folder / "aligned.png").pixels
    within_grey_levels(resize(aligned, run.sizes.result), run.folder / "output.png")


@pytest.mark.parametrize("rows", [1, 2])
def test_a_guide_is_read_by_name_and_not_by_its_rows(rows: int, upscalers: dict[str, Upscaler]) -> None:
    """With two rows a bare tensor could be unpacked in the conditioning's place; each branch must get its own width."""
    upscaler = upscalers["seesr"]
    text_width, token_width = upscaler.sampler.unet.config.cross_attention_dim, 512
    conditioning = Conditioning(torch.zeros(rows, 77, text_width), torch.zeros(rows, 145, token_width))
    with torch.inference_mode():
        predicted = upscaler.sampler.unet(
            torch.zeros(rows, 4, 8, 8), torch.tensor(1), encoder_hidden_states=conditioning
        ).sample
    assert predicted.shape == (rows, 4, 8, 8)
