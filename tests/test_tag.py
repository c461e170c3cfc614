"""What the tagger is shown."""

import torch
import torch.nn.functional as F

from seesr_cli.tag import IMAGENET_DEVIATION, IMAGENET_MEAN, normalise


def test_a_small_picture_is_stretched_bilinearly_without_regard_to_its_aspect() -> None:
    picture = torch.rand(3, 21, 30)
    plain = F.interpolate(picture.unsqueeze(0), (384, 384), mode="bilinear", align_corners=False)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    torch.testing.assert_close(normalise(picture, 384), (plain - mean) / deviation, atol=1e-5, rtol=1e-5)


def test_a_large_picture_is_averaged_down() -> None:
    checkerboard = (torch.arange(768).view(-1, 1) + torch.arange(768)) % 2
    seen = normalise(checkerboard.float().expand(3, -1, -1), 384)
    grey = (torch.tensor([0.5] * 3) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_DEVIATION)
    inner = seen[0, :, 4:-4, 4:-4]
    torch.testing.assert_close(inner, grey.view(3, 1, 1).expand_as(inner), atol=0.02, rtol=0)
