"""At real size, by name: pytest -m slow tests/test_real_size.py --real-size DIR, which takes and keeps 16 GB."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import real
import rule
from seesr_cli.catalogue import SEESR
from seesr_cli.machine.device import Place, choose
from seesr_cli.models import convert, keys, load
from seesr_cli.weights.shelf import Shelf

pytestmark = pytest.mark.slow

CPU = choose("cpu", "fp32")


@pytest.fixture(scope="module")
def shelf(pytestconfig: pytest.Config) -> Shelf:
    """The checkpoint of real size as if it had been pulled."""
    folder: Path | None = pytestconfig.getoption("--real-size")
    if folder is None:
        pytest.skip("needs --real-size DIR, and 16 GB there")
    return real.shelf(folder)


def test_the_tagger_is_converted_in_bounded_memory_and_is_the_rule_s(shelf: Shelf) -> None:
    code = f"""
import resource, sys
from pathlib import Path
from seesr_cli.machine.device import choose, Place
from seesr_cli.models import convert
from seesr_cli.catalogue import SEESR
import torch
convert.prepare_tagger(SEESR, Path({str(shelf.root)!r}), Place(torch.device("cpu"), torch.float16))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    shelf.forget("tagger.fp16.safetensors")
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) * 1024
    assert peak < 3e9, f"{peak / 1e9:.2f} GB"
    assert shelf.path("tagger.fp16.safetensors").stat().st_size < 0.45e9
    tagger = load_file(shelf.path("tagger.fp16.safetensors"))
    assert load.load_tagger(SEESR, shelf.root, CPU).state_dict().keys() == tagger.keys()
    expected = keys.tagger(
        {
            name: rule.tensor("ram", name, real.names("ram_keys.json")[name])
            for name in ("label_embed", "fc.weight", "visual_encoder.layers.3.blocks.1.mlp.fc1.weight")
        }
    )
    for name, tensor in expected.items():
        assert torch.equal(tagger[name], tensor.half())


@pytest.mark.parametrize("part", ["unet", "controlnet"])
def test_a_network_of_real_size_is_converted_and_loaded(shelf: Shelf, part: str) -> None:
    stem = f"seesr/{part}/{load.DIFFUSION}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    convert.network(shelf, f"{stem}.safetensors", f"{stem}.fp16.safetensors", torch.float16)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 1e9, f"{grown / 1e9:.2f} GB"
    network = {"unet": load.load_unet, "controlnet": load.load_controlnet}[part](
        SEESR, shelf.root, Place(torch.device("cpu"), torch.float16)
    )
    shapes = real.names(f"{part}_keys.json")
    ours = keys.published(network.state_dict())
    assert {name: list(tensor.shape) for name, tensor in ours.items()} == shapes
    for name in list(shapes)[:: len(shapes) // 5]:
        assert torch.equal(ours[name], rule.tensor(f"seesr/{part}", name, shapes[name]).half())
