"""Compare the memory that decoding takes with what is expected; Linux only, seeded random weights.

    python benchmarks/decoder.py SIZE MEGABYTES [--narrow 4] [--threads 2]

Prints the plan, expected and used bytes (peak of the resident set over what was there before), and seconds.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seesr_cli.bands import Course, decoding
from seesr_cli.budget import plan
from seesr_cli.latent import Coder


def main(
    size: Annotated[int, typer.Argument(help="Side of the picture in pixels.")],
    megabytes: Annotated[int, typer.Argument(help="The budget.")],
    narrow: Annotated[int, typer.Option(help="Divide the published channels by this: as much faster, squared.")] = 1,
    threads: Annotated[int, typer.Option(help="Cores to compute with.")] = 2,
) -> None:
    """Decode a random latent of SIZE within MEGABYTES."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    channels = tuple(each // narrow for each in (128, 256, 512, 512))
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=channels, layers_per_block=2, norm_num_groups=32
    )
    coder, side = Coder(vae.eval(), megabytes * 10**6), size // coder_factor(channels)
    chosen = plan(Course.of(decoding(vae), (side, side)), megabytes * 10**6)
    print("whole" if chosen is None else chosen._replace(rows=()))
    coder.decode(torch.randn(1, 4, 4, 4))
    Path("/proc/self/clear_refs").write_text("5")
    before, started = resident("VmRSS"), time.monotonic()
    coder.decode(torch.randn(1, 4, side, side))
    used, seconds = resident("VmHWM") - before, time.monotonic() - started
    need = coder.working_memory((size, size)) if chosen is None else chosen.memory + 12 * size * size
    print(f"expected {need / 1e6:.0f} MB, used {used / 1e6:.0f} MB, ratio {need / used:.2f}, {seconds:.1f} s")


def coder_factor(channels: tuple[int, ...]) -> int:
    """Return how many pixels a latent stands for along each side."""
    return 2 ** (len(channels) - 1)


def resident(name: str) -> int:
    """Return a memory value of this process, in bytes, by the name that Linux gives it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    typer.run(main)
