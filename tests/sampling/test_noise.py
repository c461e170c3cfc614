"""One seed, one sequence."""

import torch

from seesr_cli.sampling.noise import seeded, together

SHAPE = torch.Size((1, 4, 8, 8))


def test_a_seed_gives_one_sequence() -> None:
    one, other = seeded(7), seeded(7)
    for _ in range(3):
        assert torch.equal(one(SHAPE), other(SHAPE))


def test_draws_and_seeds_differ() -> None:
    noise = seeded(7)
    first = noise(SHAPE)
    assert not torch.equal(first, noise(SHAPE))
    assert not torch.equal(first, seeded(8)(SHAPE))


def test_pictures_together_have_each_the_noise_that_they_have_alone() -> None:
    noise, alone = together([seeded(7), seeded(8)]), (seeded(7), seeded(8))
    for _ in range(3):
        drawn = noise(torch.Size((2, 4, 8, 8)))
        assert torch.equal(drawn, torch.cat([own(SHAPE) for own in alone]))


def test_noise_is_drawn_on_the_cpu_and_standard_normal() -> None:
    draw = seeded(0)(torch.Size((1, 4, 200, 200)))
    assert (draw.device.type, draw.dtype) == ("cpu", torch.float32)
    assert abs(float(draw.mean())) < 0.01
    assert abs(float(draw.std()) - 1) < 0.01
