"""Measure how far a precision moves a picture from the one in fp32, from end to end, and where the error arises.

    python benchmarks/precision.py [miniature|real]... [--scheme bf16|mixed|fp16]... [--photos FOLDER] [--count 4]
        [--side 256] [--steps 4] [--json FILE]

`real` has networks of the published size with seeded random weights (tests/real.py, tests/rule.py; 11 GB of memory).
Pictures are photographs of FOLDER, degraded as in quality.py, or small ones of tests/golden.

Schemes. `bf16`, `fp16`: weights and features. `mixed`: bf16 only inside the products, which is what the program's
`--dtype bf16` means on a CPU (models/products.py).

Each row computes the parts that it names in the scheme, and all others in fp32. Columns: the relative error of the
latent after encoding, after the first step and after the last one, in percent; PSNR of the picture against the one in
fp32, mean and worst of all pictures; the largest difference in grey levels; processor seconds of the steps and in all.
"""

import json
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from math import log10
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from seesr_cli.catalogue import MINIATURE
from seesr_cli.image import read
from seesr_cli.machine.device import choose
from seesr_cli.models import load
from seesr_cli.models.configs import PUBLISHED_TAGGER
from seesr_cli.models.graft import Conditioning, build_controlnet, build_unet, kv_cache
from seesr_cli.models.predict import Residuals, noise, residuals
from seesr_cli.models.products import ENDS, lower
from seesr_cli.models.tagger import Tagger
from seesr_cli.restore.colour import align
from seesr_cli.restore.denoise import RowPredictor, Tiles, begin, denoise, guided, tiled
from seesr_cli.restore.latent import VAE
from seesr_cli.restore.prepare import prepare
from seesr_cli.restore.prompt import TextEncoder
from seesr_cli.restore.tag import Reader
from seesr_cli.sampling.noise import seeded
from seesr_cli.sampling.schedule import schedule
from seesr_cli.sampling.tiles import cover
from seesr_cli.settings import Settings
from seesr_cli.sizes import sizes
from seesr_cli.training import evaluation, photographs
from seesr_cli.weights import locate

TESTS = Path(__file__).resolve().parents[1] / "tests"
GOLDEN = TESTS / "golden"

Scheme = str

DTYPES = {"bf16": torch.bfloat16, "mixed": torch.bfloat16, "fp16": torch.float16}

PARTS = ("tagger", "text", "encode", "controlnet", "unet", "decode")

ROWS: dict[str, tuple[str, ...]] = {part: (part,) for part in PARTS} | {
    "steps (controlnet, unet)": ("controlnet", "unet"),
    "all but the VAE": ("tagger", "text", "controlnet", "unet"),
    "all": PARTS,
}

Network = TypeVar("Network", bound=nn.Module)


class Model(NamedTuple):
    """Networks of one model in fp32, and what they need besides."""

    tagger: Tagger
    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    tokenizer: CLIPTokenizer
    tower: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    schedule_config: dict[str, Any]
    settings: Settings


class Course(NamedTuple):
    """What became of one picture: latents after encoding and after each step, pixels in [0, 1], processor seconds."""

    latents: tuple[Tensor, ...]
    pixels: Tensor
    stepping: float
    seconds: float


def main(
    cases: Annotated[list[str] | None, typer.Argument(help="miniature, real.")] = None,
    scheme: Annotated[list[str] | None, typer.Option(help="What to compare with fp32; bf16 and mixed.")] = None,
    photos: Annotated[Path | None, typer.Option(help="Photographs; else tests/golden, 128² at most.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 4,
    side: Annotated[int, typer.Option(min=64, help="Side of the result, pixels.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Of the networks of real size.")] = 4,
    rows: Annotated[list[str] | None, typer.Option(help="Only these rows.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Print a table for each model and scheme."""
    found: dict[str, Any] = {}
    for case in cases or ["miniature"]:
        model = miniature() if case == "miniature" else real_size(steps)
        pictures = chosen(photos, side, count)
        print(
            f"{case}: {len(pictures)} pictures of {side}², {model.settings.steps} steps; "
            f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
        )
        exact = [course(model, picture, None, ()) for picture in pictures]
        took = mean(each.stepping for each in exact), mean(each.seconds for each in exact)
        print(f"fp32: {took[0]:.2f} s in the steps, {took[1]:.2f} s in all")
        for name in scheme or ["bf16", "mixed"]:
            print(f"{case}, {name:27} encode  step 1    last  mean dB  worst  levels  steps s  all s")
            for row, parts in ROWS.items():
                if rows is None or row in rows:
                    result = compared(exact, [course(model, picture, name, parts) for picture in pictures])
                    found[f"{case}, {name}, {row}"] = result
                    print(line(row, result), flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1))


def compared(exact: Sequence[Course], other: Sequence[Course]) -> dict[str, float]:
    """Return the errors of `other`."""
    latents = [
        [float((one - right).norm() / right.norm()) for one, right in zip(each.latents, true.latents, strict=True)]
        for each, true in zip(other, exact, strict=True)
    ]
    differences = [each.pixels - true.pixels for each, true in zip(other, exact, strict=True)]
    decibels = [-10 * log10(max(float(difference.square().mean()), 1e-12)) for difference in differences]
    return {
        "encode": mean(errors[0] for errors in latents),
        "step 1": mean(errors[1] for errors in latents),
        "last": mean(errors[-1] for errors in latents),
        "mean dB": mean(decibels),
        "worst dB": min(decibels),
        "levels": 255 * max(float(difference.abs().max()) for difference in differences),
        "stepping": mean(each.stepping for each in other),
        "seconds": mean(each.seconds for each in other),
    }


def line(row: str, found: dict[str, float]) -> str:
    """Return one row of the table."""
    errors = "".join(f"{100 * found[name]:7.2f}%" for name in ("encode", "step 1", "last"))
    picture = f"{found['mean dB']:9.1f}{found['worst dB']:7.1f}{found['levels']:8.1f}"
    return f"  {row:34}{errors}{picture}{found['stepping']:9.2f}{found['seconds']:7.2f}"


@torch.inference_mode()
def course(model: Model, picture: Tensor, scheme: Scheme | None, parts: tuple[str, ...]) -> Course:
    """Return what becomes of `picture`, [3, h, w] in [0, 1], with `parts` in `scheme` and the others in fp32.

    The stages are those of the program, with a cast between them.
    """

    def given(network: Network, part: str) -> Network:
        return network if scheme is None or part not in parts else in_scheme(network, scheme)

    settings, random = model.settings, seeded(0)
    stations = sizes((picture.shape[-2], picture.shape[-1]), settings)
    frame = prepare(picture, stations)
    tagger, tower = given(model.tagger, "tagger"), given(model.tower, "text")
    encoder, decoder = given(model.vae, "encode"), given(model.vae, "decode")
    unet, controlnet = given(model.unet, "unet"), given(model.controlnet, "controlnet")
    table = schedule(model.schedule_config, settings.steps, settings.solver)

    began = time.process_time()
    reading = Reader(tagger, model.names, model.thresholds).read(picture)
    text_encoder = TextEncoder(model.tokenizer, tower)
    fitted = text_encoder.fit(
        [tag.name for tag in reading.tags], [tag.score for tag in reading.tags], "", settings.negative
    )
    texts = (fitted.prompt.negative, fitted.prompt.positive) if settings.guidance > 1 else (fitted.prompt.positive,)
    conditioning = Conditioning(text_encoder.encode(texts).float(), reading.tokens.float().expand(len(texts), -1, -1))
    encoded = VAE(encoder).encode(frame.pixels, random)
    latents = [encoded]

    stepping = time.process_time()
    predict = rows_of(unet, controlnet, conditioning, frame.pixels)
    each = guided(predict, settings.guidance) if settings.guidance > 1 else predict
    tiles = cover((encoded.shape[-2], encoded.shape[-1]), 96, 4)
    latents += denoise(begin(encoded, table, random), tiled(each, tiles), table, random)
    stepped = time.process_time() - stepping

    decoded = frame.crop(VAE(decoder).decode(latents[-1])).clamp(0, 1)
    pixels = align(decoded, frame.crop(frame.pixels), settings.colour)[0]
    return Course(tuple(latents), pixels, stepped, time.process_time() - began)


def rows_of(
    unet: UNet2DConditionModel, controlnet: ControlNetModel, conditioning: Conditioning, frame: Tensor
) -> RowPredictor:
    """Return the prediction of both networks, each in the precision of its first convolution."""

    def cast(network: UNet2DConditionModel | ControlNetModel) -> torch.dtype:
        return network.conv_in.weight.dtype

    by_controlnet, by_unet = (
        kv_cache(network, Conditioning(*(reading.to(cast(network)) for reading in conditioning)))
        for network in (controlnet, unet)
    )
    seen = controlnet.controlnet_cond_embedding(frame.to(cast(controlnet)))

    def predict(latent: Tensor, timestep: int, tiles: Tiles) -> Tensor:
        now = torch.full((1,), timestep)
        added = residuals(controlnet, latent.to(cast(controlnet)), now, by_controlnet, seen, 1.0)
        control = Residuals(tuple(skip.to(cast(unet)) for skip in added.skips), added.middle.to(cast(unet)))
        return noise(unet, latent.to(cast(unet)), now, by_unet, control).float()

    return predict


def in_scheme(network: Network, scheme: Scheme) -> Network:
    """Return a copy of `network` that computes in `scheme`; in the memory of what is cast."""
    layers = [
        layer
        for name, layer in network.named_modules()
        if scheme != "mixed" or (isinstance(layer, nn.Linear | nn.Conv2d) and name.rpartition(".")[2] not in ENDS)
    ]
    cast = {
        id(parameter): nn.Parameter(parameter.to(DTYPES[scheme]), requires_grad=False)
        for layer in layers
        for parameter in layer.parameters(recurse=False)
    }
    kept = {id(parameter): parameter for parameter in network.parameters()}
    copy = deepcopy(network, memo={**kept, **cast})
    if scheme == "mixed":
        lower(copy, torch.bfloat16)
    return copy


def chosen(photos: Path | None, side: int, count: int) -> list[Tensor]:
    """Return the inputs of `count` pictures whose results have `side` pixels a side."""
    if photos is None:
        return [read(GOLDEN / f"lr_{number}.png").pixels[:, : side // 4, : side // 4] for number in range(count)]
    trials = evaluation.trials(photographs.read(photos), side)
    return [trial.degraded for trial, _ in zip(trials, range(count), strict=False)]


def miniature() -> Model:
    """Return the bundled model."""
    folder, place = locate(MINIATURE, None), choose("cpu", "fp32")
    return Model(
        load.load_tagger(MINIATURE, folder, place),
        load.tag_names(MINIATURE, folder),
        load.tag_thresholds(MINIATURE, folder),
        *load.load_text_tower(MINIATURE, folder, place),
        load.load_vae(MINIATURE, folder, place),
        load.load_unet(MINIATURE, folder, place),
        load.load_controlnet(MINIATURE, folder, place),
        load.load_schedule_config(MINIATURE, folder),
        replace(MINIATURE.defaults, process_size=64),
    )


def real_size(steps: int) -> Model:
    """Return networks of the published size, whose weights follow from their names."""
    sys.path.append(str(TESTS))
    import real
    import rule

    def filled(network: Network, part: str) -> Network:
        network.to_empty(device="cpu")
        for name, parameter in network.named_parameters():
            parameter.data = rule.tensor(part, name, list(parameter.shape))
        return network.requires_grad_(False).eval()

    configs = [json.loads((GOLDEN / "real" / f"{name}_config.json").read_text()) for name in ("unet", "controlnet")]
    text = CLIPTextConfig.from_dict(real.TEXT_CONFIG)
    with torch.device("meta"):
        tagger, tower = Tagger(PUBLISHED_TAGGER, real.LABELS), CLIPTextModel(text)
        vae, unet, controlnet = AutoencoderKL(**real.VAE_CONFIG), build_unet(configs[0]), build_controlnet(configs[1])
    tower = filled(tower, "text_encoder")
    tower.embeddings.position_ids = torch.arange(text.max_position_embeddings).unsqueeze(0)
    base = real.PUBLISHED / real.BASE
    return Model(
        filled(tagger, "ram"),
        tuple((real.PUBLISHED / "ram_tag_list.txt").read_text().splitlines()),
        tuple(float(line) for line in (real.PUBLISHED / "ram_tag_list_threshold.txt").read_text().split()),
        CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True),
        tower,
        filled(vae, "vae"),
        filled(unet, "seesr/unet"),
        filled(controlnet, "seesr/controlnet"),
        json.loads((base / "scheduler" / "scheduler_config.json").read_text()),
        Settings(steps=steps, process_size=64),
    )


if __name__ == "__main__":
    typer.run(main)
