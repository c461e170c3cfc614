"""The adversary of the look: a network that tells what the decoder draws from photographs.

L1 draws the mean of all that a small picture may have been, which is smooth. What then tells it from a photograph is
just what the eye misses: the sharpness of edges and the grain of surfaces.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesr_cli.training.optimise import adamw, descend, set_rate

FINE = 10.0
"""What fine detail is multiplied with for the judge."""


class Judge(nn.Module):
    """Gives every cell of four pixels a mark, high for a photograph; it sees 26 pixels around.

    Its cells are those of the latent, so that a lattice is easily seen.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(7, width, 4, 2, 1),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
                nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            ]
        )
        self.mark = nn.Conv2d(2 * width, 1, 1)

    def forward(self, pixels: Tensor, strength: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the marks [B, 1, H / 4, W / 4] of pictures [B, 3, H, W] in [0, 1], and the features on the way.

        strength: how much detail was asked for, [B] from -1 to 1.
        """
        plane = strength.to(pixels)[:, None, None, None].expand(-1, 1, *pixels.shape[-2:])
        smooth = F.avg_pool2d(pixels, 5, 1, 2, count_include_pad=False)
        found, features = torch.cat([2 * pixels - 1, FINE * (pixels - smooth), plane], 1), []
        for layer in self.layers:
            found = F.leaky_relu(layer(found), 0.2)
            features.append(found)
        return self.mark(found), features


class Adversary:
    """A judge that learns beside the decoder."""

    def __init__(self, lr: float) -> None:
        self.judge = Judge()
        self.optimiser = adamw([(self.judge.parameters(), lr)], betas=(0.5, 0.99))

    def learn(self, made: Tensor, true: Tensor, strength: Tensor, factor: float) -> None:
        """Take one step (hinge loss) on drawn and true pictures.

        factor: of the learning rate.
        """
        set_rate(self.optimiser, factor)
        self.judge.requires_grad_(True)
        theirs, ours = self.judge(true, strength)[0], self.judge(made.detach(), strength)[0]
        descend(self.optimiser, F.relu(1 - theirs).mean() + F.relu(1 + ours).mean())
        self.judge.requires_grad_(False)

    def loss(self, made: Tensor, true: Tensor, strength: Tensor, match: float) -> Tensor:
        """Return what the decoder loses: its marks, and `match` times the L1 between features (arXiv 1711.11585)."""
        marks, ours = self.judge(made, strength)
        with torch.no_grad():
            theirs = self.judge(true, strength)[1]
        off = [F.l1_loss(own, their) / their.abs().mean() for own, their in zip(ours, theirs, strict=True)]
        return match * torch.stack(off).mean() - marks.mean()

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on from here."""
        return {"judge": self.judge.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.judge.load_state_dict(state["judge"])
        self.optimiser.load_state_dict(state["optimiser"])


def balanced(loss: Tensor, other: Tensor, picture: Tensor, share: float) -> Tensor:
    """Return `loss` and `other` added so that the slope of the latter at `picture` is `share` of the former's."""
    slopes = [torch.autograd.grad(each, picture, retain_graph=True)[0].norm() for each in (loss, other)]
    return loss + share * slopes[0] / slopes[1].clamp_min(1e-12) * other
