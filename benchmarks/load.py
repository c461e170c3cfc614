"""How long it takes to the first denoising step, and in how much memory, against the naive way.

    python benchmarks/load.py DIR            writes real-size files into DIR where there are none (14 GB), measures

Each measurement is a process of its own. "cold": the files' pages were dropped from the system's cache before; "warm":
they were read just before. The naive way constructs each network with its random weights, reads the files whole into
memory, copies and casts; ours maps the files and assigns. Both compute in fp32 on the CPU and end with one prediction
of UNet and ControlNet for a latent of 8 × 8, which reads every weight; "loading" is the time before that prediction.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["ours", "naive", "convert"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps({"ours": ours, "naive": naive, "convert": converted}[asked.only](asked.folder)))
        return
    write(asked.folder)
    made = measure(asked.folder, "convert")
    print(f"converting RAM + DAPE to fp16: {made['loading']:.1f} s, peak {made['peak'] / 1e9:.2f} GB")
    weights = used_bytes(asked.folder)
    print(f"bytes of the weights: {weights / 1e9:.2f} GB")
    results: dict[tuple[str, str], dict[str, float]] = {}
    for state in ("cold", "warm"):
        for way in ("ours", "naive"):
            (drop if state == "cold" else read)(asked.folder, way)
            found = results[way, state] = measure(asked.folder, way)
            print(
                f"{state} {way}: imports {found['imports']:.1f} s, loading {found['loading']:.1f} s, first step "
                f"{found['step']:.1f} s, peak {found['peak'] / 1e9:.2f} GB = {found['peak'] / weights:.2f} × weights"
            )
        slow, fast = results["naive", state], results["ours", state]
        loading = slow["loading"] / fast["loading"]
        stepped = (slow["loading"] + slow["step"]) / (fast["loading"] + fast["step"])
        print(f"{state}: loading {loading:.1f} × faster, to the end of the first step {stepped:.1f} ×")


def measure(folder: Path, way: str) -> dict[str, float]:
    """Return what a process of its own measured."""
    command = [sys.executable, __file__, str(folder), "--only", way]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def ours(folder: Path) -> dict[str, float]:
    """Load as the program does."""
    began = time.perf_counter()
    from seesr_cli.catalogue import SEESR
    from seesr_cli.restore.upscaler import Upscaler

    imported = time.perf_counter()
    upscaler = Upscaler.load(SEESR, folder, "cpu", "fp32")
    loaded = time.perf_counter()
    touch([upscaler.reader.tagger, upscaler.text_encoder._network, upscaler.vae.network])
    predict(upscaler.sampler.unet, upscaler.sampler.controlnet)
    return told(began, imported, loaded)


def naive(folder: Path) -> dict[str, float]:
    """Construct, read, copy, cast: as a program does that was written without a thought for it."""
    began = time.perf_counter()
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from safetensors.torch import load
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    from seesr_cli.catalogue import SEESR
    from seesr_cli.models import keys
    from seesr_cli.models.configs import PUBLISHED_TAGGER
    from seesr_cli.models.graft import build_controlnet, build_unet
    from seesr_cli.models.load import tag_names
    from seesr_cli.models.tagger import Tagger

    imported = time.perf_counter()

    def config(name: str) -> dict[str, Any]:
        return json.loads((folder / name / "config.json").read_text())

    def fill(network: Any, state: Any) -> Any:
        network.load_state_dict(state)
        return network.float().eval()

    own = folder / SEESR.tagger_config
    sizes = PUBLISHED_TAGGER | (json.loads(own.read_text()) if own.is_file() else {})
    tagger = Tagger(sizes, len(tag_names(SEESR, folder)))
    whole = torch.load(folder / "ram_swin_large_14m.pth", map_location="cpu", weights_only=True)["model"]
    lora = torch.load(folder / "DAPE.pth", map_location="cpu", weights_only=True)
    fill(tagger, keys.tagger(keys.fold_lora(keys.ram(whole), lora, 8, 1)[0]))
    del whole, lora
    base = folder / "stable-diffusion-2-base"
    tower = CLIPTextModel(CLIPTextConfig.from_dict(config("stable-diffusion-2-base/text_encoder")))
    fill(tower, keys.text_tower(load((base / "text_encoder/model.safetensors").read_bytes())))
    vae = AutoencoderKL(**config("stable-diffusion-2-base/vae"))
    fill(vae, keys.vae(load((base / "vae/diffusion_pytorch_model.safetensors").read_bytes())))
    networks = []
    for name, build in (("seesr/unet", build_unet), ("seesr/controlnet", build_controlnet)):
        network = build(config(name))
        content = (folder / name / "diffusion_pytorch_model.safetensors").read_bytes()
        networks.append(fill(network, keys.grafted(load(content))))
    loaded = time.perf_counter()
    touch([tagger, tower, vae])
    predict(*networks)
    return told(began, imported, loaded)


def converted(folder: Path) -> dict[str, float]:
    """Make the slim tagger anew."""
    began = time.perf_counter()
    import torch

    from seesr_cli.catalogue import SEESR
    from seesr_cli.machine.device import Place
    from seesr_cli.models import convert
    from seesr_cli.weights.shelf import Shelf

    imported = time.perf_counter()
    Shelf(folder).forget("tagger.fp16.safetensors")
    convert.prepare_tagger(SEESR, folder, Place(torch.device("cpu"), torch.float16))
    loaded = time.perf_counter()
    return told(began, imported, loaded)


def touch(networks: list[Any]) -> None:
    """Read every weight, so that none is left on the disk."""
    for network in networks:
        for parameter in network.parameters():
            parameter.data.view(-1)[::1024].sum()  # a page holds 1024 numbers


def predict(unet: Any, controlnet: Any) -> None:
    """Predict the noise of a small latent once."""
    import torch

    from seesr_cli.models.graft import Conditioning

    with torch.inference_mode():
        image = unet.down_blocks[0].attentions[0].image.transformer_blocks[0].attn2.to_k.in_features
        conditioning = Conditioning(torch.zeros(1, 77, unet.config.cross_attention_dim), torch.zeros(1, 145, image))
        latent, step = torch.zeros(1, 4, 8, 8), torch.tensor(999)
        down, middle = controlnet(latent, step, conditioning, torch.zeros(1, 3, 64, 64), return_dict=False)
        unet(latent, step, conditioning, down_block_additional_residuals=down, mid_block_additional_residual=middle)


def told(began: float, imported: float, loaded: float) -> dict[str, float]:
    """Return the durations in seconds and the peak of resident memory in bytes, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "imports": imported - began,
        "loading": loaded - imported,
        "step": time.perf_counter() - loaded,
        "peak": peak,
    }


def write(folder: Path) -> None:
    """Write the checkpoint and let it be a shelf: as if it had been pulled and run once."""
    sys.path.append(str(TESTS))
    import torch

    import real
    from seesr_cli.catalogue import SEESR
    from seesr_cli.machine.device import Place
    from seesr_cli.models import convert

    real.shelf(folder)
    convert.prepare_tagger(SEESR, folder, Place(torch.device("cpu"), torch.float32))


def files(folder: Path, way: str) -> list[Path]:
    """Return the weight files that a way reads."""
    found = [path for path in folder.rglob("*.safetensors") if ".fp16." not in path.name and ".bf16." not in path.name]
    if way == "ours":
        return found
    return [path for path in found if path.name != "tagger.safetensors"] + list(folder.glob("*.pth"))


def used_bytes(folder: Path) -> int:
    """Return the size of the weights that run."""
    return sum(path.stat().st_size for path in files(folder, "ours"))


def drop(folder: Path, way: str) -> None:
    """Let the system forget the files' pages."""
    for path in files(folder, way):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(folder: Path, way: str) -> None:
    """Let the system have the files' pages."""
    for path in files(folder, way):
        with path.open("rb", buffering=0) as stream:
            while stream.read(1 << 24):
                pass


if __name__ == "__main__":
    main()
