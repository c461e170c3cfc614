"""Compare the memory that encoding and decoding take with what is expected; Linux only, seeded random weights.

    python benchmarks/decoder.py SIZE MEGABYTES [--narrow 4] [--threads 2] [--encode]

Prints the plan, expected and used bytes (peak of the resident set over what was there before), and processor seconds.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seesr_cli.restore.latent import VAE
from seesr_cli.sampling.noise import seeded
from seesr_cli.vae.course import Course
from seesr_cli.vae.plan import BESIDES, plan, whole
from seesr_cli.vae.steps import decoding, encoding


def main(
    size: Annotated[int, typer.Argument(help="Side of the picture in pixels.")],
    megabytes: Annotated[int, typer.Argument(help="The budget.")],
    narrow: Annotated[int, typer.Option(help="Divide the published channels by this: as much faster, squared.")] = 1,
    threads: Annotated[int, typer.Option(help="Cores to compute with.")] = 2,
    encode: Annotated[bool, typer.Option(help="Encode a picture, in the place of decoding a latent.")] = False,
) -> None:
    """Decode a random latent of SIZE, or encode a random picture, within MEGABYTES."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    channels = tuple(each // narrow for each in (128, 256, 512, 512))
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=channels, layers_per_block=2, norm_num_groups=32
    )
    own = VAE(vae.eval(), megabytes * 10**6)
    side = size // own.factor
    course = Course.of(encoding(vae), (size, size)) if encode else Course.of(decoding(vae), (side, side))
    chosen = plan(course, megabytes * 10**6)
    print("whole" if chosen is None else chosen._replace(rows=()))
    own.decode(torch.randn(1, 4, 4, 4))
    given = torch.rand(1, 3, size, size) if encode else torch.randn(1, 4, side, side)
    Path("/proc/self/clear_refs").write_text("5")
    before, started = resident("VmRSS"), time.process_time()
    if encode:
        own.encode(given, seeded(0))
    else:
        own.decode(given)
    used, seconds = resident("VmHWM") - before, time.process_time() - started
    need = (whole(course) if chosen is None else chosen.memory) + BESIDES + (0 if encode else 12 * size * size)
    print(f"expected {need / 1e6:.0f} MB, used {used / 1e6:.0f} MB, ratio {need / used:.2f}, {seconds:.1f} s")


def resident(name: str) -> int:
    """Return a memory value of this process, in bytes, by the name that Linux gives it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    typer.run(main)
