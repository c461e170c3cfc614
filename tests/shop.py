"""A tiny Hub with the tiny checkpoint, the lock that belongs to it, and the command that pulls from it."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import seesr_cli
from hub import Hub, serving, sha256
from seesr_cli.weights import lock
from seesr_cli.weights.lock import File, FileSource, Lock
from warm import Kiln

AUTHOR, BASE, MIRROR, RAM, TURBO, TAGS = (
    "author/SeeSR",
    "people/stable-diffusion-2-1-base",
    "others/stable-diffusion-2-1-base",
    "maker/ram",
    "owner/sd-turbo",
    "maker/lists",
)
UNET = "seesr/unet/diffusion_pytorch_model.safetensors"
CONTROLNET = "seesr/controlnet/diffusion_pytorch_model.safetensors"
VAE = "stable-diffusion-2-base/vae/diffusion_pytorch_model.safetensors"
TEXT = "stable-diffusion-2-base/text_encoder/model.safetensors"
KEPT = ("PATH", "LANG", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
"""Of the environment of the tests, for who pulls."""

PIECE = 10 << 20
"""Bytes that huggingface_hub hands over at once."""

LISTS = ("ram_tag_list.txt", "ram_tag_list_threshold.txt")


@dataclass
class Shop:
    """hub: what is served, at `address`; home: HF_HOME of who pulls; lock: what is pulled; folder: where it is kept."""

    hub: Hub
    address: str
    home: Path
    lock_file: Path
    kiln: Kiln
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def shelf(self) -> Path:
        return self.home / "assets/seesr/weights/default"

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start Python with these arguments, as somebody whose Hub this is."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(environment),
        )

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        keep = {name: os.environ[name] for name in KEPT if name in os.environ}
        own = {
            "PYTHONPATH": str(Path(seesr_cli.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.address,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "SEESR_LOCK": str(self.lock_file),
            "HOME": str(self.home),
        }
        return keep | own | self.environment | changes

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `seesr weights` with these arguments."""
        process = self.kiln.start("weights", *arguments, environment=self._environment(environment))
        code = process.wait(timeout=300)
        out, err = (printed.decode() for printed in process.communicate())
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, code, out, err)

    def pull(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Pull, which must end well."""
        ended = self.run("pull", *arguments, **environment)
        assert ended.returncode == 0, ended.stderr
        return ended

    def checksum(self, name: str) -> str:
        """Return the sha256 of a file in the lock."""
        return next(file.sha256 for file in lock.read(self.lock_file).files if file.file == name)

    def items(self) -> dict[str, dict[str, object]]:
        """Return what `list --json` says, by file."""
        lines = self.run("list", "--json").stdout.splitlines()
        return {item["file"]: item for item in map(json.loads, lines)}

    def rewrite(self, change: dict[str, dict[str, Any]]) -> None:
        """Change entries of the lock: file → what is to be another."""
        old = lock.read(self.lock_file)
        files = tuple(replace(file, **change.get(file.file, {})) for file in old.files)
        self.lock_file.write_text(lock.render(Lock(old.path, files, old.urls)))

    def grow(self) -> str:
        """Let the VAE be a file of some size, which huggingface_hub takes in several pieces; returns its sha256."""
        data = random.Random(0).randbytes(PIECE * 3)
        for repository in (BASE, MIRROR):
            self.hub.repositories[repository][self.hub.main[repository]][VAE.partition("/")[2]] = data
        checksum = sha256(data)
        self.hub.blobs[checksum] = data
        self.rewrite({VAE: {"bytes": len(data), "sha256": checksum}})
        return checksum


@contextmanager
def opened(weights: Path, folder: Path, kiln: Kiln) -> Iterator[Shop]:
    """Serve the checkpoint in `weights` (published layout); `folder` takes the lock and the puller's home.

    kiln: what `seesr weights` is forked from.
    """
    hub = Hub()
    content = {str(path.relative_to(weights)): path.read_bytes() for path in weights.rglob("*") if path.is_file()}

    def under(prefix: str) -> dict[str, bytes]:
        return {name.removeprefix(prefix): data for name, data in content.items() if name.startswith(prefix)}

    author = {name: data for name, data in content.items() if name.startswith("seesr/")}
    commits = {
        AUTHOR: hub.commit(AUTHOR, author),
        BASE: hub.commit(BASE, under("stable-diffusion-2-base/")),
        MIRROR: hub.commit(MIRROR, under("stable-diffusion-2-base/")),
        RAM: hub.commit(RAM, {name: content[name] for name in ("ram_swin_large_14m.pth", "DAPE.pth")}),
        TURBO: hub.commit(TURBO, under("sd-turbo/")),
        TAGS: hub.commit(TAGS, {f"data/{name}": content[name] for name in LISTS}),
    }
    spaces = "spaces/maker/ram-demo"
    hub.commit(spaces, {"ram_swin_large_14m.pth": content["ram_swin_large_14m.pth"]})

    def sources(name: str) -> tuple[FileSource, ...]:
        head, _, inner = name.partition("/")
        if head == "seesr":
            return (FileSource(AUTHOR, "model", name, branch="main"),)
        if head == "stable-diffusion-2-base":
            return tuple(FileSource(place, "model", inner, commits[place]) for place in (BASE, MIRROR))
        if head == "sd-turbo":
            return (FileSource(TURBO, "model", inner, commits[TURBO]),)
        if name in LISTS:
            return (FileSource(TAGS, "raw", f"data/{name}", commits[TAGS]),)
        own = FileSource(RAM, "model", name, commits[RAM])
        mirror = FileSource("maker/ram-demo", "space", name, hub.main[spaces])
        return (own, mirror) if name.startswith("ram") else (own,)

    files = []
    for name, data in sorted(content.items()):
        if name == "tagger_config.json":
            places: tuple[FileSource, ...] = (FileSource(TAGS, "raw", "data/tagger_config.json", commits[TAGS]),)
            hub.repositories[TAGS][commits[TAGS]]["data/tagger_config.json"] = data
        else:
            places = sources(name)
        unknown = name.startswith("seesr/")
        files.append(
            File(
                file=name,
                role=Path(name).parent.name or "tagger",
                models=("turbo",) if name.startswith("sd-turbo") else ("seesr", "turbo"),
                sources=places,
                bytes=len(data),
                licence="Apache-2.0",
                sha256="" if unknown else sha256(data),
                computed=unknown,
                unpinned="nobody has published one" if unknown else "",
                ask=TURBO if name.startswith("sd-turbo") else "",
                tensors=Path(name).parent.name if name in (UNET, CONTROLNET) else "",
            )
        )
    lists = folder / "tensors"
    lists.mkdir(parents=True)
    for part in ("unet", "controlnet"):
        keys = Path(__file__).parent / "golden/seesr" / part / "keys.json"
        (lists / f"{part}.json").write_bytes(keys.read_bytes())
    with serving(hub) as address:
        urls = {"raw": address + "/raw/{repository}/{revision}/{path}"}
        path = folder / "weights.lock"
        path.write_text(lock.render(Lock(path, tuple(files), urls)))
        yield Shop(hub, address, folder / "home", path, kiln)
