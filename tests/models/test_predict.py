"""The networks' own way through their blocks, from constants, is that of the stock `forward`, whatever is switched."""

import json
from copy import deepcopy
from dataclasses import fields

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from conftest import OWN_GOLDEN
from seesr_cli.machine.graphs import WORTH, Compute, Graphs, Replay, straight
from seesr_cli.models.graft import Conditioning, build_controlnet, build_unet
from seesr_cli.models.products import lower
from seesr_cli.restore.denoise import controlled, guided, tiled, watched
from seesr_cli.restore.switches import Switches
from seesr_cli.sampling.tiles import cover

Networks = tuple[UNet2DConditionModel, ControlNetModel]

OFF = Switches(**dict.fromkeys((field.name for field in fields(Switches)), False))
SWITCHES = {"all": Switches(), "none": OFF} | {
    field.name: Switches(**{**vars(OFF), field.name: True}) for field in fields(Switches)
}
SIZE = (10, 13)  # no multiple of the UNet's eight


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(0)
    made = []
    for name, build in (("unet", build_unet), ("controlnet", build_controlnet)):
        network = build(json.loads((OWN_GOLDEN / "seesr" / name / "config.json").read_text()))
        for parameter in network.parameters():  # a ControlNet begins with zeros, which would show nothing
            nn.init.normal_(parameter, std=0.1)
        made.append(network.eval().requires_grad_(False))
    return made[0], made[1]


def given(networks: Networks, pictures: int, rows: int) -> tuple[Tensor, Tensor, Conditioning]:
    chance = torch.Generator().manual_seed(1)
    width = networks[0].config.cross_attention_dim
    text = torch.randn(pictures * rows, 77, width, generator=chance)
    tokens = torch.randn(pictures, 145, 512, generator=chance).repeat_interleave(rows, dim=0)
    height, breadth = SIZE
    frames = torch.rand(pictures, 3, 8 * height, 8 * breadth, generator=chance)
    return torch.randn(pictures, 4, *SIZE, generator=chance), frames, Conditioning(text, tokens)


def stock(networks: Networks, latent: Tensor, frame: Tensor, conditioning: Conditioning, control: float) -> Tensor:
    """Return the prediction for one latent as diffusers makes it: [rows, 4, h, w]."""
    unet, controlnet = networks
    rows = len(conditioning.text)
    latent, time = latent.expand(rows, -1, -1, -1), torch.tensor(321)
    down, middle = controlnet(
        latent, time, conditioning, frame.expand(rows, -1, -1, -1), conditioning_scale=control, return_dict=False
    )
    return unet(
        latent, time, conditioning, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize("control", [1.0, 0.7])
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("rows", [1, 2])
@torch.inference_mode()
def test_a_prediction_is_the_stock_one(networks: Networks, rows: int, pictures: int, control: float) -> None:
    latent, frames, conditioning = given(networks, pictures, rows)
    predict = controlled(*networks, conditioning, watched(networks[1], frames, 8), control)
    ours = predict(latent, 321, cover(SIZE, 96, 4))
    for picture, part in enumerate(ours.chunk(pictures)):
        own = Conditioning(*(reading[picture * rows : (picture + 1) * rows] for reading in conditioning))
        close(part, stock(networks, latent[picture : picture + 1], frames[picture : picture + 1], own, control))


@torch.inference_mode()
def predicted(networks: Networks, batch: int, switches: Switches) -> Tensor:
    latent, frames, conditioning = given(networks, 2, 2)
    tiles = cover(SIZE, 8, 2)
    assert len(tiles) == 4
    view = watched(networks[1], frames, 8, switches=switches)
    return tiled(guided(controlled(*networks, conditioning, view, 1.0, switches), 5.5), tiles, batch)(latent, 321)


@pytest.fixture(scope="module")
def plain(networks: Networks) -> Tensor:
    """What is predicted with every switch off, tile by tile."""
    return predicted(networks, 1, OFF)


@pytest.mark.parametrize(("batch", "switches"), [(1, "all"), *((3, name) for name in SWITCHES)])
def test_no_switch_and_no_batch_changes_the_picture(
    networks: Networks, plain: Tensor, batch: int, switches: str
) -> None:
    close(predicted(networks, batch, SWITCHES[switches]), plain)


@torch.inference_mode()
def test_a_view_is_kept_within_its_budget(networks: Networks) -> None:
    _, frames, _ = given(networks, 1, 1)
    looked = []
    hook = networks[1].controlnet_cond_embedding.register_forward_hook(lambda *_: looked.append(1))
    tiles = cover(SIZE, 8, 2)
    one = watched(networks[1], frames, 8)(tiles[:1]).nbytes
    looked.clear()
    view = watched(networks[1], frames, 8, budget=3 * one)
    first, second = view(tiles), view(tiles)
    hook.remove()
    assert torch.equal(first, second)
    assert len(looked) == 4 + 1


@torch.inference_mode()
def test_a_replay_follows_the_latent_the_time_and_the_picture(networks: Networks) -> None:
    recordings = []

    def record(compute: Compute, slots: list[Tensor]) -> Replay:  # what CUDA does, on a CPU: compute on the same slots
        recordings.append(1)
        return lambda: compute(*slots)

    graphs, tiles = Graphs(record), cover(SIZE, 8, 2)
    run = graphs.expecting(WORTH)
    latent, frames, conditioning = given(networks, 1, 2)
    for change in (0.0, 1.0):
        picture, read = (frames + change) / 2, Conditioning(conditioning.text + change, conditioning.image - change)
        view = watched(networks[1], picture, 8)
        usual, replayed = (
            tiled(guided(controlled(*networks, read, view, 1.0, run=way), 5.5), tiles, 3) for way in (straight, run)
        )
        for timestep in (700, 3):
            assert torch.equal(replayed(latent * timestep, timestep), usual(latent * timestep, timestep))
    assert len(recordings) == 1
    graphs.forget()
    replayed(latent, 3)
    assert len(recordings) == 2


@pytest.mark.parametrize("rows", [1, 2])
@torch.inference_mode()
def test_on_a_cpu_in_bf16_every_convolution_is_given_channels_last(networks: Networks, rows: int) -> None:
    networks = deepcopy(networks)
    for network in networks:
        lower(network, torch.bfloat16)
    latent, frames, conditioning = given(networks, 1, rows)
    convolutions = [module for network in networks for module in network.modules() if isinstance(module, nn.Conv2d)]
    seen: dict[nn.Module, bool] = {}

    def look(module: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
        seen[module] = given[0].is_contiguous(memory_format=torch.channels_last)

    hooks = [convolution.register_forward_hook(look) for convolution in convolutions]
    tiles = cover(SIZE, 96, 4)
    beside = controlled(*networks, conditioning, watched(networks[1], frames, 8), 1.0)(latent, 321, tiles)
    assert len(seen) > 60
    assert all(seen.values())
    for hook in hooks:
        hook.remove()
    plane = controlled(*networks, conditioning, watched(networks[1], frames, 8, OFF), 1.0, OFF)(latent, 321, tiles)
    assert float((beside - plane).norm() / plane.norm()) < 0.03
