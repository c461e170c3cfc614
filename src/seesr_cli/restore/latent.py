"""Encode pixels to a latent, and decode a latent to pixels, with one VAE."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..machine.device import Place, memory_returned, place_of
from ..machine.precision import of_vae
from ..machine.share import ALONE, Share
from ..sampling.noise import Noise
from ..sizes import Size
from ..vae.course import Course, Plan
from ..vae.pieces import OnPiece, run
from ..vae.plan import BESIDES, free, plan, whole
from ..vae.steps import VAEStep, decoding, encoding, spread

LEAST_BUDGET = 2**26
"""Bytes of features below which smaller pieces save no more memory."""


class VAE:
    """Encodes and decodes pictures of any size with one VAE.

    A picture that fits into memory goes through the VAE whole; a larger one in pieces (vae/pieces.py).

    budget: bytes that features may take on the VAE's device, without weights, input and result; None: the `share` of
        this process in what is free there.
    """

    def __init__(self, network: AutoencoderKL, budget: int | None = None, share: Share = ALONE) -> None:
        self.network = network
        self.budget = budget
        self._share = share
        self.factor: int = 2 ** (len(network.config.block_out_channels) - 1)
        self.channels: int = network.config.latent_channels

    @property
    def place(self) -> Place:
        """The device and the precision of the network."""
        return place_of(self.network)

    @torch.inference_mode()
    def encode(self, pixels: Tensor, noise: Noise, on_piece: OnPiece = lambda done, total: None) -> Tensor:
        """Return a sample of the latent of `pixels`: [1, channels, H/factor, W/factor], float32, scaled for the UNet.

        The posterior is sampled, as published, so `noise` is drawn from once.

        pixels: [1, 3, H, W], RGB in [0, 1], H and W multiples of `factor`.
        on_piece: told of the pieces, or of the blocks if the picture goes through whole.
        """
        with memory_returned(self.place.device):
            posterior = self._posterior(pixels, on_piece)
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return (mean + deviation * noise(mean.shape).to(mean.device)) * self.network.config.scaling_factor

    @torch.inference_mode()
    def decode(self, latent: Tensor, on_piece: OnPiece = lambda done, total: None) -> Tensor:
        """Return the pixels [1, 3, H, W] of a latent, float32, RGB nominally in [0, 1] and not clamped.

        They are on the VAE's device, or on the CPU if they were made in pieces. They are NaN or infinite if the VAE's
        precision has too small a range for the picture; see `decode_in_full_precision`.

        on_piece: as for `encode`.
        """
        with memory_returned(self.place.device):
            return self._pixels(latent, on_piece)

    def decode_in_full_precision(self, latent: Tensor) -> Tensor:
        """Return the pixels as `decode` does, computed in float32 for any precision of the VAE."""
        held = self.place.dtype
        try:
            self.network.float()
            return self.decode(latent)
        finally:
            self.network.to(held)

    def lower_budget(self) -> str | None:
        """Use less memory from now on; return a sentence about the change, or None if nothing is left."""
        budget = (self._free() if self.budget is None else self.budget) // 2
        if budget >= LEAST_BUDGET:
            self.budget = budget
            return f"Memory ran out: the VAE works in pieces of at most {budget / 2**20:.0f} MiB from now on."
        if self.place.device.type == "cpu":
            return None
        self.budget = None
        self.network.to("cpu", of_vae("cpu", self.place.dtype))  # a CPU has no arithmetic for fp16
        return "Memory ran out: the VAE works on the CPU from now on."

    def _free(self) -> int:
        return free(self.place.device, self._share)

    def working_memory(self, size: Size) -> int:
        """Return the most bytes that encoding and decoding a frame of `size`, (height, width), take at this budget.

        On the VAE's device, without weights and input, with the result if it is made there.
        """
        needs = [whole(course) if chosen is None else chosen.memory for course, chosen in self._both(size)]
        result = 3 * size[0] * size[1] * torch.float32.itemsize if self.place.device.type == "cpu" else 0
        return max(needs) + BESIDES + result

    def whole(self, size: Size) -> bool:
        """Return whether a frame of `size`, (height, width), is encoded and decoded whole in the memory now free."""
        return all(chosen is None for _, chosen in self._both(size))

    def _both(self, size: Size) -> list[tuple[Course, Plan | None]]:
        """Return the courses and plans for encoding and decoding a frame of `size`."""
        small = (size[0] // self.factor, size[1] // self.factor)
        return [self._chosen(encoding(self.network), size), self._chosen(decoding(self.network), small)]

    def _posterior(self, pixels: Tensor, on_piece: OnPiece) -> DiagonalGaussianDistribution:
        course, chosen = self._chosen(encoding(self.network), (pixels.shape[-2], pixels.shape[-1]))
        if chosen is None:
            with _blocks_told(self.network.encoder, on_piece):
                return self.network.encode((2 * pixels - 1).to(self.place.device, self.place.dtype)).latent_dist
        shape = (1, 2 * self.channels, *course.sizes[-1])
        parameters = torch.empty(shape, dtype=self.place.dtype, device=self.place.device)
        run(course, chosen, lambda box: 2 * box.cut(pixels) - 1, lambda box, part: box.put(parameters, part), on_piece)
        return DiagonalGaussianDistribution(parameters)

    def _pixels(self, latent: Tensor, on_piece: OnPiece) -> Tensor:
        course, chosen = self._chosen(decoding(self.network), (latent.shape[-2], latent.shape[-1]))
        scale = self.network.config.scaling_factor
        if chosen is None:
            unscaled = (latent / scale).to(self.place.device, self.place.dtype)
            with _blocks_told(self.network.decoder, on_piece):
                return self.network.decode(unscaled, return_dict=False)[0].float() / 2 + 0.5
        times = spread(self.network)
        pixels = torch.empty(1, 3, times * course.sizes[-1][0], times * course.sizes[-1][1])
        run(
            course,
            chosen,
            lambda box: box.cut(latent) / scale,
            lambda box, part: box.times(times).put(pixels, F.pixel_shuffle(part.float() / 2 + 0.5, times)),
            on_piece,
        )
        return pixels

    def _chosen(self, steps: tuple[VAEStep, ...], size: Size) -> tuple[Course, Plan | None]:
        """Return the course of `steps` over a map of `size`, and its plan in pieces; None if it fits whole."""
        course, device = Course.of(steps, size), self.place.device
        budget = self._free() if self.budget is None else self.budget
        return course, plan(course, budget, 0 if device.type == "cpu" else free(torch.device("cpu"), self._share))


@contextmanager
def _blocks_told(network: nn.Module, on_piece: OnPiece) -> Iterator[None]:
    """Tell of each block of `network` when it has been computed, for as long as the block of code runs."""
    blocks, done = [module for module in network.modules() if isinstance(module, ResnetBlock2D | nn.PReLU)], 0

    def tick(*_: object) -> None:
        nonlocal done
        done += 1
        on_piece(done, len(blocks))

    hooks = [block.register_forward_hook(tick) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
