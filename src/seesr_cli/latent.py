"""Pixels become a latent, and a latent pixels."""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from .noise import Noise


class Coder:
    """Encodes and decodes whole pictures with one VAE."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.channels: int = vae.config.latent_channels

    @torch.inference_mode()
    def encode(self, pixels: Tensor, noise: Noise) -> Tensor:
        """Return a sample of the latent of `pixels`, scaled as the UNet expects it.

        pixels: [1, 3, H, W], RGB in [0, 1], H and W multiples of `factor`. Returns [1, channels, H/factor, W/factor],
        float32. `noise` is drawn from once: the posterior is sampled, as published, not its mean taken.
        """
        posterior = self.vae.encode((2 * pixels - 1).to(self.vae.device, self.vae.dtype)).latent_dist
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return (mean + deviation * noise(mean.shape).to(mean.device)) * self.vae.config.scaling_factor

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Return the pixels [1, 3, H, W] of a latent, float32, RGB nominally in [0, 1] and not clamped.

        They are not finite where the VAE's precision was too small for the picture; see `decode_in_full_precision`.
        """
        unscaled = (latent / self.vae.config.scaling_factor).to(self.vae.device, self.vae.dtype)
        return self.vae.decode(unscaled, return_dict=False)[0].float() / 2 + 0.5

    def decode_in_full_precision(self, latent: Tensor) -> Tensor:
        """Return what `decode` does, computed in float32 whatever precision the VAE is held in."""
        held = self.vae.dtype
        try:
            self.vae.float()
            return self.decode(latent)
        finally:
            self.vae.to(held)
