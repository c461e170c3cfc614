"""No seam and no change of tone between pieces, of the VAE and of the diffusion, on pictures where either would show.

The networks were trained: the miniature's, and the VAE of an earlier one, whose norms follow a picture as Stable
Diffusion's do (the present decoder's hardly do, so that pieces with norms of their own would pass unseen). What is
measured is the change from the picture made whole.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import skimage
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from seesr_cli.catalogue import MINIATURE
from seesr_cli.image import read
from seesr_cli.machine.device import choose
from seesr_cli.models.load import load_vae
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.sampling.tiles import cover
from seesr_cli.settings import Colour
from seesr_cli.vae import attention, pieces
from seesr_cli.vae.course import Course, Plan
from seesr_cli.vae.steps import Box, VAEStep, decoding, encoding, grid

NORMED = Path(__file__).parents[2] / "recipes" / "controls"
"""Holds `vae/`, in the layout of a model's folder."""

SIDE, PIECE = 256, 64
STRETCH = 16
"""Of a border, over which a step must hold to be a seam and not a detail."""

PICTURES = ("gradient", "sky", "photograph")


def picture(name: str, side: int) -> Tensor:
    """Return [3, side, side] in [0, 1]. A sky is flat, and ends in what is below it, off the borders of all pieces."""
    if name == "gradient":
        ramp = torch.linspace(0.1, 0.9, side).expand(side, side)
        return torch.stack([ramp, ramp.T, 1 - ramp])
    astronaut = read(Path(skimage.__path__[0]) / "data" / "astronaut.png").pixels[:3]
    pixels = F.interpolate(astronaut[None], (side, side), mode="area")[0]
    if name == "sky":
        pixels[:, : side * 5 // 8] = torch.tensor([0.45, 0.65, 0.9]).view(3, 1, 1)
    return pixels


def seam(change: Tensor, boxes: list[Box]) -> float:
    """Return by how many grey levels the steps of `change` across borders of boxes are larger than across other lines.

    A step is that of the mean over a STRETCH along the line, its size the mean over all stretches.
    """
    found = []
    for turned, starts in ((change, {box.left for box in boxes}), (change.mT, {box.top for box in boxes})):
        stretches = 255 * F.avg_pool2d(turned, (STRETCH, 1))
        steps = stretches.diff(dim=-1).abs().mean(dim=(0, 1))
        border = torch.zeros(len(steps), dtype=torch.bool)
        border[[start - 1 for start in starts - {0}]] = True
        if border.any():
            found.append(float(steps[border].mean() - steps[~border].mean()))
    return max(found)


def tone(change: Tensor, boxes: list[Box]) -> float:
    """Return by how many grey levels the means of `change` over boxes differ at most."""
    means = torch.stack([255 * box.cut(change).mean(dim=(1, 2)) for box in boxes])
    return float((means.amax(0) - means.amin(0)).max())


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return load_vae(MINIATURE, NORMED, choose("cpu", "fp32"))


@pytest.fixture
def attentive() -> AutoencoderKL:
    """A VAE, in the middle of whose decoder each position takes from those that are like it."""
    network = load_vae(MINIATURE, NORMED, choose("cpu", "fp32"))
    width = network.config.block_out_channels[-1]
    module = Attention(width, dim_head=width, heads=1, norm_num_groups=1, bias=True, residual_connection=True)
    with torch.no_grad():
        for linear, factor in ((module.to_q, 1.0), (module.to_k, 1.0), (module.to_v, 1.0), (module.to_out[0], 0.1)):
            linear.weight.copy_(factor * torch.eye(width))
            linear.bias.zero_()
    network.decoder.mid_block.attentions = torch.nn.ModuleList([module])
    network.decoder.mid_block.add_attention = True
    return network.eval().requires_grad_(False)


def through(steps: tuple[VAEStep, ...], given: Tensor, plan: Plan) -> Tensor:
    """Return what `steps` make of `given` as `plan` says."""
    course = Course.of(steps, (given.shape[-2], given.shape[-1]))
    made = torch.full((1, course.layer(len(steps) - 1).width, *course.sizes[-1]), torch.nan)
    pieces.run(course, plan, lambda box: box.cut(given), lambda box, part: box.put(made, part))
    return made


def apart(steps: tuple[VAEStep, ...], given: Tensor, boxes: list[Box]) -> Tensor:
    """Return what `steps` make of `given` where each box has norms of its own: what seams come from."""
    course = Course.of(steps, (given.shape[-2], given.shape[-1]))
    made = torch.full((1, course.layer(len(steps) - 1).width, *course.sizes[-1]), torch.nan)
    for box in boxes:
        box.put(made, pieces.through(course, (0, len(steps)), (box,), lambda part: part.cut(given), {})[0][0])
    return made


def exact(steps: tuple[VAEStep, ...], rows: int) -> Plan:
    return Plan(0, 0, (0, 0), 1, (rows,) * len(steps), False, 0, 1.0)


def joined(steps: tuple[VAEStep, ...], first: int, last: int, side: int, reduction: int) -> Plan:
    return exact(steps, side)._replace(first=first, last=last, piece=(side, side), reduction=reduction)


@torch.inference_mode()
def encoded(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Return the mean of the posterior of `pixels`."""
    return vae.quant_conv(vae.encoder(2 * pixels[None] - 1)).chunk(2, dim=1)[0]


@torch.inference_mode()
def decoded(vae: AutoencoderKL, latent: Tensor) -> Tensor:
    return vae.decode(latent, return_dict=False)[0][0] / 2 + 0.5


@pytest.mark.parametrize("name", PICTURES)
@torch.inference_mode()
def test_the_decoder_s_pieces_show_no_seam_and_one_tone(vae: AutoencoderKL, name: str) -> None:
    latent, steps = encoded(vae, picture(name, SIDE)), decoding(vae)
    whole, rows, squares = decoded(vae, latent), grid((SIDE, SIDE), (32, SIDE)), grid((SIDE, SIDE), (PIECE, PIECE))
    bands_made = through(steps, latent, exact(steps, 32))[0] / 2 + 0.5 - whole
    assert seam(bands_made, rows) < 1e-3
    assert tone(bands_made, rows) < 1e-3
    for first, reduction in ((0, 2), (0, 4), (10, 4)):
        estimated = through(steps, latent, joined(steps, first, len(steps), PIECE, reduction))[0] / 2 + 0.5 - whole
        assert seam(estimated, squares) < 0.05
        assert tone(estimated, squares) < 0.5
    naive = apart(steps, latent, squares)[0] / 2 + 0.5 - whole
    assert seam(naive, squares) > 0.5
    assert tone(naive, squares) > 1.5


@pytest.mark.parametrize("name", PICTURES)
@torch.inference_mode()
def test_the_encoder_s_pieces_show_no_seam_and_one_tone(vae: AutoencoderKL, name: str) -> None:
    """Seen in the picture that the whole decoder makes of the latent."""
    pixels, steps, side = 2 * picture(name, SIDE)[None] - 1, encoding(vae), PIECE // 4
    whole, squares = decoded(vae, encoded(vae, picture(name, SIDE))), grid((SIDE, SIDE), (PIECE, PIECE))

    def change(parameters: Tensor) -> Tensor:
        return decoded(vae, parameters.chunk(2, dim=1)[0]) - whole

    in_bands = change(through(steps, pixels, exact(steps, 8)))
    rows = grid((SIDE, SIDE), (32, SIDE))
    assert seam(in_bands, rows) < 1e-2
    assert tone(in_bands, rows) < 1e-2
    for reduction in (2, 4):
        estimated = change(through(steps, pixels, joined(steps, 0, len(steps), side, reduction)))
        assert seam(estimated, squares) < 0.05
        assert tone(estimated, squares) < 0.5
    naive = change(apart(steps, pixels, grid((SIDE // 4, SIDE // 4), (side, side))))
    assert seam(naive, squares) > 0.2
    assert tone(naive, squares) > 1.5


class WithinSquares:
    """diffusers' attention, with its residual, of positions to those in the same square of 24² only."""

    def __call__(
        self, attention: Attention, given: Tensor, encoder_hidden_states: None, attention_mask: None, temb: None
    ) -> Tensor:
        normed, found = attention.group_norm(given), torch.empty_like(given)
        for box in grid((given.shape[-2], given.shape[-1]), (24, 24)):
            positions = box.cut(normed).flatten(2).mT
            queries, keys, values = (layer(positions) for layer in (attention.to_q, attention.to_k, attention.to_v))
            heard = attention.to_out[0](F.scaled_dot_product_attention(queries, keys, values))
            box.put(found, heard.mT.view_as(box.cut(found)))
        return given + found


@pytest.mark.parametrize("name", PICTURES)
@torch.inference_mode()
def test_attention_to_what_is_near_and_to_means_of_the_rest_shows_no_seam_and_one_tone(
    attentive: AutoencoderKL, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    latent, steps = encoded(attentive, picture(name, SIDE)), decoding(attentive)
    whole, squares = decoded(attentive, latent), grid((SIDE, SIDE), (96, 96))
    monkeypatch.setattr(attention, "GLOBAL", 32)
    monkeypatch.setattr(attention, "HALO", 4)
    change = through(steps, latent, exact(steps, 32))[0] / 2 + 0.5 - whole
    attentive.decoder.mid_block.attentions[0].processor = WithinSquares()
    naive = decoded(attentive, latent) - whole
    assert seam(change, squares) < 0.15
    assert tone(change, squares) < 2.5
    assert seam(naive, squares) > 0.3
    assert tone(naive, squares) > 3


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler.load(MINIATURE, None, "cpu", "fp32")


@pytest.mark.parametrize("name", PICTURES)
def test_the_diffusion_s_tiles_show_no_seam_and_one_tone(upscaler: Upscaler, name: str) -> None:
    given, settings = picture(name, 88), replace(MINIATURE.defaults, process_size=64)
    prepared = upscaler.prepare(given, settings)
    sampled = upscaler.sample(prepared, settings)

    def change(tile: int, overlap: int, colour: Colour) -> tuple[Tensor, list[Box]]:
        """Return it beside one pass, and the boxes between which shares change hands: in the middle of overlaps."""
        chosen = replace(settings, colour=colour)
        whole = upscaler.develop(sampled.latent, prepared, chosen).pixels
        made = upscaler.upscale(given, replace(chosen, tile=tile, overlap=overlap)).pixels
        starts = sorted({part.left for part in cover((88, 88), tile, overlap)})
        edges = [0, *(4 * (first + tile + second) // 2 for first, second in pairwise(starts)), 352]
        spans = list(pairwise(edges))
        return made - whole, [Box(top, left, bottom, right) for top, bottom in spans for left, right in spans]

    blended, hard = change(48, settings.overlap, settings.colour), change(44, 0, "none")
    assert seam(*blended) < 0.1
    assert tone(*blended) < 0.3
    assert seam(*hard) > 0.15
    assert tone(*hard) > 0.25
