"""Time a step, the VAE and the tagger against a plain path that does what the published code does.

    python benchmarks/speed.py [one|eight|2k|4k|turbo|vae|tagger|load]... [--model real|miniature] [--steps 2]
        [--rounds 2] [--device auto] [--dtype auto] [--tile-batch 8] [--json FILE] [--plot FILE.svg] [--weights DIR]
        [--vae-side 4096] [--vae-megabytes 6000]

Networks of real size have seeded random weights (6.5 GB in fp32; a minute); nothing is fetched. The plain path is
written here for clarity: one tile and one picture at a time, everything computed anew at each step by the stock
classes; under autocast on a GPU, in fp32 on a CPU. The ladder turns on one switch of the program after the other. All
rungs take turns in one process, as often as there are rounds; what is printed are medians, seconds and processor
seconds per step (of a shared machine believe the second), and ratios to the plain path, for which operations are
counted. No ratio is printed of a rung whose prediction is not the plain one's. Peaks of memory are the rung's own,
weights included. `vae` is one picture through the stock VAE whole, where there is the memory for that, in diffusers'
tiles, and as the program does it within a budget: equal as long as the features fit it, up to 2048² (decision 10).
`load` needs a folder, see load.py.
"""

import json
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields, replace
from functools import partial
from html import escape
from math import prod
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal, NamedTuple

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import load as loading
from seesr_cli.catalogue import MINIATURE
from seesr_cli.forecast import counts
from seesr_cli.machine.device import Place, choose, layout
from seesr_cli.machine.graphs import WORTH, Compute, Graphs, Run, straight
from seesr_cli.models import configs
from seesr_cli.models.graft import Conditioning, TwoCrossAttentions, build_controlnet, build_unet
from seesr_cli.models.load import load_controlnet, load_unet, load_vae
from seesr_cli.models.tagger import Tagger
from seesr_cli.restore.denoise import Predictor, Tiles, controlled, denoise, guided, tiled, watched
from seesr_cli.restore.latent import VAE
from seesr_cli.restore.switches import Switches
from seesr_cli.sampling.noise import seeded
from seesr_cli.sampling.schedule import schedule
from seesr_cli.sampling.tiles import cover
from seesr_cli.vae.course import Course
from seesr_cli.vae.plan import free, plan, whole
from seesr_cli.vae.steps import decoding, encoding
from seesr_cli.weights import locate

CONFIGS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "real"
LABELS = 4585
GUIDANCE = 5.5
SAME = 1e-5
"""Of a prediction in fp32: how far it may be from the plain path's, relative."""
NO_WORSE = 1.1
"""Of a prediction in 16 bits: its error against fp32, in that of the plain path."""

HIGH_WATER = Path("/proc/self/clear_refs")
"""Where Linux takes the wish to forget a process's peak: a 5."""

STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


class Work(NamedTuple):
    """What is predicted: `pictures` of side `side` pixels, with guidance or without, in tiles."""

    side: int
    pictures: int = 1
    guidance: float = GUIDANCE
    tile: int = 96
    overlap: int = 4


WORKS: dict[str, Work] = {
    "one": Work(512),
    "eight": Work(512, pictures=8),
    "2k": Work(2048),
    "4k": Work(4096),
    "turbo": Work(512, guidance=1.0, overlap=32),
}


CASES = (*WORKS, "vae", "tagger", "load")


class Networks(NamedTuple):
    """The two networks of a step, and how many pixels a side of a latent pixel has."""

    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    factor: int


class Given(NamedTuple):
    """What a step is made from; of a conditioning the rows of one picture follow each other."""

    latent: Tensor
    frames: Tensor
    conditioning: Conditioning
    tiles: Tiles


class Rung(NamedTuple):
    """One way to make a step; the ladder's rungs add to one another."""

    name: str
    predict: Callable[[], Predictor]
    switches: Switches


class Timing(NamedTuple):
    """Seconds and processor seconds of one step."""

    wall: float
    cpu: float


def main(
    cases: Annotated[list[str] | None, typer.Argument(help=f"What to time: {', '.join(CASES)}.")] = None,
    model: Annotated[Literal["real", "miniature"], typer.Option(help="Which networks.")] = "real",
    steps: Annotated[int, typer.Option(min=1, help="Steps of a run; a whole picture has 50.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="How often each rung has its turn.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, fp16, bf16.")] = "auto",
    tile_batch: Annotated[int, typer.Option(min=1, help="Tiles or pictures in one call, on the last rung.")] = 8,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the ladders into this SVG file.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder for `load`; see load.py.")] = None,
    vae_side: Annotated[int, typer.Option(min=64, help="Side of the picture of `vae`, pixels.")] = 4096,
    vae_megabytes: Annotated[int, typer.Option(min=64, help="What the VAE may work in.")] = 6000,
) -> None:
    """Print the ladders of the cases."""
    place = choose(device, dtype)
    wanted = cases or ["one"]
    if strangers := set(wanted) - set(CASES):
        raise typer.BadParameter(f"{', '.join(strangers)}: known are {', '.join(CASES)}")
    rate = matrix_rate(place)
    print(f"{machine(place)}; matrix product {rate / 1e9:.0f} GF/s in {place.dtype}; {model}")
    results: dict[str, Any] = {
        "machine": machine(place),
        "dtype": str(place.dtype).removeprefix("torch."),
        "model": model,
        "rate": rate,
        "steps": steps,
        "rounds": rounds,
    }
    networks = None
    for case in wanted:
        if case == "load":
            results[case] = load_case(weights)
        elif case == "tagger":
            results[case] = tagger_case(place, rounds)
        elif case == "vae":
            results |= vae_case(make_vae(model, place), place, rounds, vae_side, vae_megabytes * 10**6, rate)
        else:
            networks = networks or make(model, place)
            results[case] = ladder(case, WORKS[case], networks, place, steps, rounds, tile_batch, rate)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1))
    if plot is not None:
        plot.write_text(drawn(results))


def machine(place: Place) -> str:
    """Return what this is measured on."""
    if place.device.type == "cuda":
        return torch.cuda.get_device_name(place.device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def make(model: str, place: Place) -> Networks:
    """Return the networks of one model on `place`; those of real size are filled with seeded normals."""
    if model == "miniature":
        folder = locate(MINIATURE, None)
        return joined(load_unet(MINIATURE, folder, place), load_controlnet(MINIATURE, folder, place))
    configs = [json.loads((CONFIGS / f"{name}_config.json").read_text()) for name in ("unet", "controlnet")]
    with torch.device("meta"):
        unet, controlnet = build_unet(configs[0]), build_controlnet(configs[1])
    return joined(fill(unet, place), fill(controlnet, place))


def joined(unet: UNet2DConditionModel, controlnet: ControlNetModel) -> Networks:
    """Return both, with the factor by which the ControlNet reduces the picture."""
    layers = controlnet.controlnet_cond_embedding.modules()
    return Networks(unet, controlnet, prod(layer.stride[0] for layer in layers if isinstance(layer, nn.Conv2d)))


def fill(network: Any, place: Place) -> Any:
    """Return a network of the meta device on `place`, its weights normal and of a size that keeps features in range."""
    network.to_empty(device=place.device)
    chance = torch.Generator(place.device).manual_seed(0)
    for name, parameter in network.named_parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.05
        nn.init.normal_(parameter, std=spread, generator=chance)
        if parameter.ndim == 1 and name.endswith("weight"):
            nn.init.normal_(parameter, mean=1.0, std=0.1, generator=chance)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(place.dtype)
    return network.requires_grad_(False).eval()


def given(work: Work, networks: Networks, device: torch.device) -> Given:
    """Return seeded inputs of one piece of work."""
    chance = torch.Generator().manual_seed(1)
    rows = 2 if work.guidance > 1 else 1
    place = next(module for module in networks.unet.modules() if isinstance(module, TwoCrossAttentions))
    text, tokens = (part.transformer_blocks[0].attn2.to_k.in_features for part in (place.text, place.image))
    side = work.side // networks.factor
    conditioning = Conditioning(
        torch.randn(work.pictures * rows, 77, text, generator=chance),
        torch.randn(work.pictures, 145, tokens, generator=chance).repeat_interleave(rows, dim=0),
    )
    return Given(
        torch.randn(work.pictures, networks.unet.config.in_channels, side, side, generator=chance).to(device),
        torch.rand(work.pictures, 3, work.side, work.side, generator=chance).to(device),
        Conditioning(*(reading.to(device, networks.unet.dtype) for reading in conditioning)),
        cover((side, side), work.tile, work.overlap, device),
    )


def plain(networks: Networks, work: Work, parts: Given) -> Predictor:
    """Return the prediction as the published code has it: every tile of every picture by itself, everything anew."""
    unet, controlnet, factor = networks
    rows = len(parts.conditioning.text) // work.pictures
    casts = unet.device.type == "cuda" and unet.dtype != torch.float32

    def one(crop: Tensor, frame: Tensor, conditioning: Conditioning, timestep: int) -> Tensor:
        several, time_now = crop.to(unet.dtype).expand(rows, -1, -1, -1), torch.tensor(timestep, device=unet.device)
        with torch.autocast("cuda", unet.dtype) if casts else nullcontext():
            down, middle = controlnet(
                several,
                time_now,
                encoder_hidden_states=conditioning,
                controlnet_cond=frame.to(unet.dtype).expand(rows, -1, -1, -1),
                return_dict=False,
            )
            noise = unet(
                several,
                time_now,
                encoder_hidden_states=conditioning,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )[0].float()
        return noise if rows == 1 else noise[:1] + work.guidance * (noise[1:] - noise[:1])

    def predict(latent: Tensor, timestep: int) -> Tensor:
        noise = torch.zeros_like(latent)
        for picture in range(work.pictures):
            conditioning = Conditioning(
                *(reading[picture * rows : (picture + 1) * rows] for reading in parts.conditioning)
            )
            for tile in parts.tiles:
                crop = tile.crop(latent[picture : picture + 1])
                frame = tile.crop(parts.frames[picture : picture + 1], factor)
                tile.crop(noise[picture : picture + 1]).add_(one(crop, frame, conditioning, timestep) * tile.share)
        return noise

    return predict


def ours(networks: Networks, work: Work, parts: Given, switches: Switches, batch: int) -> Predictor:
    """Return the program's prediction; with a batch of 1 one picture after the other, as it takes them by itself."""
    if batch == 1 and work.pictures > 1:
        rows = len(parts.conditioning.text) // work.pictures
        each = []
        for picture in range(work.pictures):
            conditioning = Conditioning(
                *(reading[picture * rows : (picture + 1) * rows] for reading in parts.conditioning)
            )
            own = parts._replace(
                latent=parts.latent[:1], frames=parts.frames[picture : picture + 1], conditioning=conditioning
            )
            each.append(ours(networks, work._replace(pictures=1), own, switches, 1))
        return lambda latent, timestep: torch.cat(
            [predict(latent[i : i + 1], timestep) for i, predict in enumerate(each)]
        )
    view = watched(networks.controlnet, parts.frames, networks.factor, switches)
    run = recorded() if switches.graphs and networks.unet.device.type == "cuda" else straight
    predict = controlled(networks.unet, networks.controlnet, parts.conditioning, view, 1.0, switches, run)
    if work.guidance > 1:
        predict = guided(predict, work.guidance)
    return tiled(predict, parts.tiles, max(1, batch // work.pictures))


def recorded() -> Run:
    """Return the program's run of recordings; it says so where there are none."""
    graphs = Graphs()
    run = graphs.expecting(WORTH)

    def told(number: float, compute: Compute, tensors: tuple[Tensor, ...]) -> Tensor:
        result = run(number, compute, tensors)
        if graphs.notes:
            print(f"  {graphs.notes.pop()}")
        return result

    return told


def rungs(networks: Networks, work: Work, parts: Given, place: Place, batch: int) -> Iterator[Rung]:
    """Yield the plain path, and the program with one switch more at a time; those that do nothing here are left out."""
    switches = Switches(**{field.name: False for field in fields(Switches)})
    yield Rung("plain", partial(plain, networks, work, parts), switches)
    yield Rung("our way", partial(ours, networks, work, parts, switches, 1), switches)
    for name in vars(switches):
        useful = {
            "memory": place.device.type == "cpu",
            "channels_last": layout(place) is torch.channels_last,
            "attention": place.device.type == "cuda",
            "graphs": place.device.type == "cuda",
        }.get(name, True)
        if useful and not (name == "prefix" and work.guidance <= 1):
            switches = replace(switches, **{name: True})
            yield Rung(f"+ {name}", partial(ours, networks, work, parts, switches, 1), switches)
    if batch > 1 and (work.pictures > 1 or len(parts.tiles) > 1):
        yield Rung(f"+ {batch} a call", partial(ours, networks, work, parts, switches, batch), switches)


@torch.inference_mode()
def ladder(
    case: str, work: Work, networks: Networks, place: Place, steps: int, rounds: int, batch: int, rate: float
) -> dict[str, Any]:
    """Print and return the ladder of one case."""
    parts = given(work, networks, place.device)
    every = list(rungs(networks, work, parts, place, batch))
    operations = counted(networks, work, parts)
    agrees = agreement(networks, work, parts, every, place)
    table = schedule(STABLE_DIFFUSION, steps)
    times: dict[str, list[Timing]] = {rung.name: [] for rung in every}
    peaks: dict[str, float] = {}
    for _ in range(rounds):
        for rung in every:
            forget_peak(place)
            times[rung.name].append(timed(rung, parts.latent, table, place))
            peaks[rung.name] = peak(place)
            print(f"  {rung.name}: {times[rung.name][-1]}", flush=True)
    print(f"{case}: {work}, {len(parts.tiles)} tiles, {operations / 1e9:.0f} GF a step, {steps} steps, {rounds} rounds")
    rows = told(operations, times, peaks, agrees, place, rate)
    return {"work": work._asdict(), "operations": operations, "unit": "seconds a step", "rungs": rows}


def told(
    operations: int,
    times: dict[str, list[Timing]],
    peaks: dict[str, float],
    errors: dict[str, float],
    place: Place,
    rate: float,
) -> dict[str, Any]:
    """Print and return a row for each way that was timed; "plain" is the one that others are held against."""
    rows: dict[str, Any] = {}
    for name, taken in times.items():
        took = middle(taken)
        row: dict[str, Any] = {
            "seconds": took.wall,
            "cpu_seconds": took.cpu,
            "peak": peaks[name],
            "error": errors.get(name),
        }
        speed = f"{operations / took.wall / 1e9:.0f} GF/s = {operations / took.wall / rate:.0%} of the matrix rate"
        line = f"  {name:16} {took.wall:8.3f} s {took.cpu:8.3f} cpu-s, {speed}, peak {row['peak'] / 1e9:.2f} GB"
        if "plain" not in times:
            line += ": no plain path here to hold it against"
        elif allowed(errors, name, place):
            base = middle(times["plain"])
            row |= {"ratio": base.wall / took.wall, "cpu_ratio": base.cpu / took.cpu}
            line += f", error {errors[name]:.1e}, {row['ratio']:.2f} x ({row['cpu_ratio']:.2f} cpu)"
        else:
            line += f", error {errors[name]:.1e}: NOT what the plain path gives, no ratio"
        print(line)
        rows[name] = row
    return rows


def agreement(networks: Networks, work: Work, parts: Given, every: list[Rung], place: Place) -> dict[str, float]:
    """Return each rung's distance, of one prediction, from the plain one in fp32, relative."""
    if place.dtype != torch.float32:
        exact = networks._replace(
            **{name: deepcopy(getattr(networks, name)).float() for name in ("unet", "controlnet")}
        )
        full = parts._replace(conditioning=Conditioning(*(reading.float() for reading in parts.conditioning)))
        truth = plain(exact, work, full)(parts.latent, 500)
    else:
        truth = every[0].predict()(parts.latent, 500)
    return {rung.name: float((rung.predict()(parts.latent, 500) - truth).norm() / truth.norm()) for rung in every}


def allowed(errors: dict[str, float], name: str, place: Place) -> bool:
    """Return whether a rung's prediction is the plain one."""
    if place.dtype == torch.float32:
        return errors[name] <= SAME
    return errors[name] <= NO_WORSE * errors["plain"]


def timed(rung: Rung, latent: Tensor, table: Any, place: Place) -> Timing:
    """Return what a step takes, all preparations of a picture divided among its steps."""
    wait(place)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in denoise(latent, rung.predict(), table, seeded(0), rung.switches):
        pass
    wait(place)
    count = len(table.steps)
    return Timing((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def middle(times: list[Timing]) -> Timing:
    """Return the medians."""
    return Timing(median(one.wall for one in times), median(one.cpu for one in times))


def wait(place: Place) -> None:
    """Let the device finish."""
    if place.device.type == "cuda":
        torch.cuda.synchronize()


def forget_peak(place: Place) -> None:
    """Let the peak of memory be counted from now on."""
    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif HIGH_WATER.exists():
        HIGH_WATER.write_text("5")


def peak(place: Place) -> float:
    """Return the most memory in bytes since `forget_peak`: on the device, or of the process on a CPU.

    Where the system cannot forget it is the most so far.
    """
    if place.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if HIGH_WATER.exists():
        status = HIGH_WATER.with_name("status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def counted(networks: Networks, work: Work, parts: Given) -> int:
    """Return the floating-point operations of a plain step, counted on the meta device (a multiply-add is two)."""
    meta = Networks(deepcopy_meta(networks.unet), deepcopy_meta(networks.controlnet), networks.factor)
    tile = parts.tiles[0]
    alone = work._replace(pictures=1)
    rows = len(parts.conditioning.text) // work.pictures
    one = Given(
        tile.crop(parts.latent[:1]).to("meta"),
        tile.crop(parts.frames[:1], networks.factor).to("meta"),
        Conditioning(*(reading[:rows].to("meta") for reading in parts.conditioning)),
        (tile._replace(top=0, left=0, bottom=tile.bottom, right=tile.right, share=tile.share.to("meta")),),
    )
    with FlopCounterMode(display=False) as counter:
        plain(meta, alone, one)(one.latent, 500)
    return counter.get_total_flops() * len(parts.tiles) * work.pictures


def deepcopy_meta(network: Any) -> Any:
    """Return the network without its weights."""
    memo: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        memo[id(tensor)] = nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=False)
    return deepcopy(network, memo)


def matrix_rate(place: Place) -> float:
    """Return the best operations per second of a large matrix product, seen in five."""
    side = 8192 if place.device.type == "cuda" else 1536
    one = torch.randn(side, side, device=place.device, dtype=place.dtype)
    best = float("inf")
    for _ in range(6):
        wait(place)
        began = time.perf_counter()
        one @ one
        wait(place)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def make_vae(model: str, place: Place) -> AutoencoderKL:
    """Return the VAE of one model on `place`; that of real size is filled with seeded normals."""
    if model == "miniature":
        return load_vae(MINIATURE, locate(MINIATURE, None), place)
    levels = len(configs.PUBLISHED_VAE["block_out_channels"])
    down, up = ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels
    with torch.device("meta"):
        # The published size of samples, which is that of diffusers' tiles.
        vae = AutoencoderKL(**configs.PUBLISHED_VAE, down_block_types=down, up_block_types=up, sample_size=768)
    return fill(vae, place)


@torch.inference_mode()
def vae_case(
    vae: AutoencoderKL, place: Place, rounds: int, side: int, budget: int, rate: float
) -> dict[str, dict[str, Any]]:
    """Print and return the ladders of encoding and decoding one picture."""
    own = VAE(vae, budget)
    chance = torch.Generator().manual_seed(1)
    pixels = torch.rand(1, 3, side, side, generator=chance).to(place.device)
    small = side // own.factor
    latent = torch.randn(1, own.channels, small, small, generator=chance).to(place.device)

    def encode(vae: AutoencoderKL) -> Tensor:
        posterior = vae.encode((2 * pixels - 1).to(vae.dtype)).latent_dist
        drawn = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0)).to(place.device)
        return (posterior.mean.float() + posterior.std.float() * drawn) * vae.config.scaling_factor

    def decode(vae: AutoencoderKL) -> Tensor:
        return vae.decode((latent / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0].float() / 2 + 0.5

    def in_tiles(way: Callable[[AutoencoderKL], Tensor]) -> Tensor:
        vae.enable_tiling()
        try:
            return way(vae)
        finally:
            vae.disable_tiling()

    found = {}
    for name, plain_way, our_way, steps, size, cost in (
        ("encode", encode, lambda: own.encode(pixels, seeded(0)), encoding(vae), side, counts.encoder),
        ("decode", decode, lambda: own.decode(latent), decoding(vae), small, counts.decoder),
    ):
        course = Course.of(steps, (size, size))
        ways: dict[str, Callable[[], Tensor]] = {
            "plain": partial(plain_way, vae),
            "diffusers' tiles": partial(in_tiles, plain_way),
            "ours": our_way,
        }
        truth = None
        if whole(course) > free(place.device):
            print(f"vae, {name}: whole it takes {whole(course) / 1e9:.1f} GB, which is not here")
            del ways["plain"]
        else:
            truth = plain_way(vae if place.dtype == torch.float32 else deepcopy(vae).float()).cpu()
        errors: dict[str, float] = {}
        times: dict[str, list[Timing]] = {way: [] for way in ways}
        peaks: dict[str, float] = {}
        for _ in range(rounds):
            for way, run in ways.items():
                forget_peak(place)
                wait(place)
                wall, cpu = time.perf_counter(), time.process_time()
                made = run()
                wait(place)
                times[way].append(Timing(time.perf_counter() - wall, time.process_time() - cpu))
                peaks[way] = peak(place)
                if truth is not None:
                    errors[way] = float((made.cpu() - truth).norm() / truth.norm())
        operations = cost(dict(vae.config), (size, size)).operations
        chosen = plan(course, budget)
        ours = "whole" if chosen is None else f"in pieces, {chosen.memory / 1e9:.2f} GB expected"
        print(
            f"vae, {name}: {side}², {operations / 1e9:.0f} GF, {rounds} rounds; in {budget / 1e9:g} GB ours is {ours}"
        )
        rows = told(operations, times, peaks, errors, place, rate)
        found[f"vae, {name}"] = {"side": side, "operations": operations, "unit": "seconds", "rungs": rows}
    return found


@torch.inference_mode()
def tagger_case(place: Place, rounds: int) -> dict[str, Any]:
    """Time the tagger of real size: the published code runs it once for the tags and once for the tokens."""
    with torch.device("meta"):
        tagger = Tagger(configs.PUBLISHED_TAGGER, LABELS)
    tagger = fill(tagger, place)
    pixels = torch.rand(1, 3, tagger.side, tagger.side).to(place.device, place.dtype)
    walls: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(rounds + 1):
        for way, times in walls.items():
            wait(place)
            began = time.perf_counter()
            for _ in range(2 if way == "plain" else 1):
                tagger(pixels)
            wait(place)
            times.append(time.perf_counter() - began)
    found = {way: median(times[1:]) for way, times in walls.items()}
    ratio = found["plain"] / found["ours"]
    print(f"tagger: twice {found['plain']:.3f} s, once {found['ours']:.3f} s, {ratio:.2f} x")
    return beside(found["plain"], found["ours"])


def load_case(folder: Path | None) -> dict[str, Any]:
    """Time from the start of a process to the end of the first step, on files that load.py wrote."""
    if folder is None:
        raise typer.BadParameter("load needs --weights DIR, a folder that benchmarks/load.py has filled")
    seconds, peaks = {}, {}
    for way in ("naive", "ours"):
        measured = loading.measure(folder, way)
        seconds[way] = measured["imports"] + measured["loading"] + measured["step"]
        peaks[way] = measured["peak"]
        print(f"load to first step, {way}: {seconds[way]:.1f} s, peak {peaks[way] / 1e9:.2f} GB")
    result = beside(seconds["naive"], seconds["ours"])
    for rung, way in (("plain", "naive"), ("ours", "ours")):
        result["rungs"][rung]["peak"] = peaks[way]
    return result


def beside(plain: float, ours: float) -> dict[str, Any]:
    """Return the ladder of two ways, of which only the seconds are known."""
    rungs = {"plain": {"seconds": plain, "ratio": 1.0}, "ours": {"seconds": ours, "ratio": plain / ours}}
    return {"unit": "seconds", "rungs": rungs}


def drawn(results: dict[str, Any]) -> str:
    """Return the ladders as an SVG picture: a bar of seconds per rung, the plain one's grey, its ratio beside it."""
    about = f"{results['machine']}, {results['dtype']}, {results['model']}; medians of {results['rounds']}"
    lines, height = [f'<text x="10" y="24">{escape(about)}</text>'], 44
    for case, result in results.items():
        if not (isinstance(result, dict) and "rungs" in result):
            continue
        lines.append(f'<text x="10" y="{height + 14}" font-weight="bold">{case}, {result["unit"]}</text>')
        height += 24
        longest = max(row["seconds"] for row in result["rungs"].values())
        for name, row in result["rungs"].items():
            width, colour = 400 * row["seconds"] / longest, "#999" if name == "plain" else "#4a7"
            ratio = f", {row['ratio']:.2f} x" if "ratio" in row else ", no ratio"
            lines.append(f'<text x="130" y="{height + 13}" text-anchor="end">{escape(name)}</text>')
            lines.append(f'<rect x="140" y="{height}" width="{width:.0f}" height="16" fill="{colour}"/>')
            lines.append(f'<text x="{148 + width:.0f}" y="{height + 13}">{row["seconds"]:.2f}{ratio}</text>')
            height += 22
        height += 14
    lines.insert(0, f'<rect width="680" height="{height}" fill="white"/>')
    style = 'font-family="sans-serif" font-size="13"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{height}" {style}>{"".join(lines)}</svg>\n'


if __name__ == "__main__":
    typer.run(main)
