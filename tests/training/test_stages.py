"""What a stage starts from, and where its pictures are degraded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from seesr_cli.models import keys
from seesr_cli.models.graft import Conditioning
from seesr_cli.training import samples, sources, stages
from seesr_cli.training.recipe import parsed
from seesr_cli.training.samples import Samples

CPU = torch.device("cpu")
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def with_base(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with Stable Diffusion's UNet beside it: that of SeeSR without image attention."""
    folder = tmp_path_factory.mktemp("base") / "weights"
    shutil.copytree(tiny_weights, folder)
    base = folder / "stable-diffusion-2-base" / "unet"
    base.mkdir()
    config: dict[str, Any] = json.loads((folder / "seesr/unet/config.json").read_text())
    own = {name: value for name, value in config.items() if "image_cross" not in name}
    (base / "config.json").write_text(json.dumps(own))
    state = load_file(folder / "seesr/unet" / FILE)
    plain = {name: 2 * tensor for name, tensor in state.items() if f"{keys.IMAGE_ATTENTION}." not in name}
    save_file(plain, base / FILE, {"format": "pt"})
    return folder


def test_training_as_published_starts_at_stable_diffusion_and_a_controlnet_that_adds_nothing(with_base: Path) -> None:
    stage = stages.SeesrStage(parsed("seesr", {"size": 64, "precision": "fp32"}, "test"), with_base, CPU)
    base = load_file(with_base / "stable-diffusion-2-base" / "unet" / FILE)
    unet, controlnet = (keys.published(each.state_dict()) for each in (stage.module.unet, stage.module.controlnet))
    assert base
    assert all(torch.equal(unet[name], tensor) for name, tensor in base.items())
    fresh = [name for name in unet if name not in base]
    assert fresh
    assert all(f"{keys.IMAGE_ATTENTION}." in name for name in fresh)
    copied = [name for name in controlnet if name in unet]
    assert len(copied) > 100
    assert all(torch.equal(controlnet[name], unet[name]) for name in copied)
    latent, tokens = torch.randn(1, 4, 8, 8), torch.randn(1, 145, 512)
    text, frame = torch.randn(1, 77, stage.module.unet.config.cross_attention_dim), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        down, middle = stage.module.controlnet(
            latent,
            torch.tensor([500]),
            encoder_hidden_states=Conditioning(text, tokens),
            controlnet_cond=frame,
            return_dict=False,
        )
    assert not any(each.any() for each in (*down, middle))
    whole = len(list(stage.module.controlnet.parameters()))
    trained = [name for name, each in stage.module.named_parameters() if each.requires_grad]
    assert sum(name.startswith("controlnet.") for name in trained) == whole
    assert all(".image." in name for name in trained if name.startswith("unet."))


def test_a_device_degrades_as_the_workers_do_also_where_it_computes_in_16_bits(
    tiny_weights: Path, tmp_path: Path
) -> None:
    """Within 1 of 255 where the processor is the same; JPEG may differ by 2 where it is not."""
    for number in range(3):
        pixels = torch.randint(0, 256, (96, 96, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).resize((300, 300)).save(tmp_path / f"{number}.png")
    keys_of = {"size": 64, "precision": "fp32", "start": "weights", "least_side": 0, "least_bytes": 0}
    making = stages.SeesrStage(parsed("seesr", keys_of, "test"), tiny_weights, CPU).making
    assert not making.on_device
    found = sources.find([str(tmp_path)])
    by_workers, there = (Samples(found, each) for each in (making, making._replace(on_device=True)))
    for n in range(6):
        sample = samples.stack([there[n]])
        assert sample.degraded.numel() == 0
        with torch.autocast("cpu", torch.bfloat16):
            clean, degraded = stages.pictures(sample, there.making, CPU)
        assert torch.equal(clean[0], by_workers[n].clean)
        assert (by_workers[n].degraded - degraded[0]).abs().max() <= 1 / 255
