"""Time networks by the number of threads and by how threads wait for each other.

    python benchmarks/threads.py [miniature|real] [--sides 256,1024] [--rounds 3] [--busy 0] [--threads 1,2]

`miniature` restores one picture whose result has so many pixels a side. `real` predicts once with UNet and ControlNet
of the published size, random weights (7 GB), at a latent of a quarter of that. Each way is a process of its own, since
torch reads the waiting policy once; the ways take turns. busy: other processes that compute meanwhile, each with one
thread. Prints medians of seconds and processor seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

import typer

POLICIES = {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "no spin": {"GOMP_SPINCOUNT": "0"}}

MINIATURE = """
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.catalogue import MINIATURE
upscaler = Upscaler.load(MINIATURE, None, "cpu", "fp32")
picture = torch.rand(3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
def work():
    upscaler.upscale(picture, MINIATURE.defaults)
"""

REAL = """
import speed
from seesr_cli.machine.device import choose
from seesr_cli.restore.switches import Switches
place, task = choose("cpu", "fp32"), speed.Work(side)
networks = speed.make("real", place)
parts = speed.given(task, networks, place.device)
predict = speed.ours(networks, task, parts, Switches(), 1)
def work():
    with torch.inference_mode():
        predict(parts.latent, 500)
"""

TIMING = """
import json, sys, time, torch
side, rounds = int(sys.argv[1]), int(sys.argv[2])
{work}
work()
found = []
for _ in range(rounds):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    found.append((time.perf_counter() - wall, time.process_time() - cpu))
print(json.dumps(found))
"""

BUSY = "import torch; torch.set_num_threads(1); a = torch.rand(512, 512)\nwhile True: a @ a"


def main(
    networks: Annotated[Literal["miniature", "real"], typer.Argument(help="Which networks.")] = "miniature",
    sides: Annotated[str, typer.Option(help="Of the result, pixels, between commas.")] = "256,1024",
    threads: Annotated[str, typer.Option(help="Numbers of threads, between commas.")] = "1,2",
    rounds: Annotated[int, typer.Option(min=1, help="Calls of each process that are timed.")] = 3,
    busy: Annotated[int, typer.Option(min=0, help="Other processes that compute meanwhile.")] = 0,
) -> None:
    """Print a line for each size, number of threads and policy."""
    code = TIMING.format(work=MINIATURE if networks == "miniature" else REAL)
    print(f"{networks}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {busy} other processes of ours")
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        for side in sides.split(","):
            for count in threads.split(","):
                for name, policy in POLICIES.items():
                    if count == "1" and policy:
                        continue  # one thread waits for nobody
                    wall, cpu = timed(code, side, rounds, {**policy, "OMP_NUM_THREADS": count})
                    print(f"{side:>5}², {count} threads, {name:8} {wall:7.2f} s, {cpu:7.2f} processor s", flush=True)
    finally:
        for other in others:
            other.kill()


def timed(code: str, side: str, rounds: int, environment: dict[str, str]) -> tuple[float, float]:
    """Return the medians of one way: seconds and processor seconds."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    paths = os.pathsep.join([str(Path(__file__).parent), clean.pop("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, side, str(rounds)]
    ended = subprocess.run(
        command, env={**clean, **environment, "PYTHONPATH": paths}, stdout=subprocess.PIPE, check=True, text=True
    )
    found = json.loads(ended.stdout.splitlines()[-1])
    return median(wall for wall, _ in found), median(cpu for _, cpu in found)


if __name__ == "__main__":
    typer.run(main)
