"""Pieces make what the whole makes: with true statistics to rounding, with measured ones nearly; never a seam."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

import peak
from seesr_cli.models.graft import build_vae
from seesr_cli.restore.latent import VAE
from seesr_cli.vae import attention as attending
from seesr_cli.vae import moments as taking
from seesr_cli.vae import pieces
from seesr_cli.vae import plan as budget
from seesr_cli.vae import steps as taken
from seesr_cli.vae.course import Course, Plan
from seesr_cli.vae.steps import decoding, encoding, spread

SIZE = (88, 136)
ROUNDING = 5e-5  # of outputs whose deviation is of order 1


def vae(padding: str, attention: bool = True, compact: bool = False) -> AutoencoderKL:
    config = {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [8, 16, 16, 16],
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "mid_block_add_attention": attention,
        "padding_mode": padding,
    }
    torch.manual_seed(0)
    if compact:
        config["compact_decoder"] = {"width": 12, "layers": 3}
    return build_vae(config).eval()


def gradient(height: int, width: int) -> Tensor:
    return torch.linspace(-1, 1, width).expand(1, 3, height, width).clone()


def go(steps: tuple[taken.VAEStep, ...], given: Tensor, plan: Plan | None = None, rows: int = 5) -> Tensor:
    """Return what `steps` make of `given` in bands of `rows`, or as `plan` says."""
    course = Course.of(steps, (given.shape[-2], given.shape[-1]))
    plan = plan or Plan(0, 0, (0, 0), 1, (rows,) * len(steps), False, 0, 1.0)
    last = steps[-1]
    assert isinstance(last, taken.Layer)
    made = torch.full((1, last.width, *course.sizes[-1]), torch.nan)
    with torch.inference_mode():
        pieces.run(course, plan, lambda box: box.cut(given), lambda box, part: box.put(made, part))
    return made


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_bands_decode_what_the_decoder_does(padding: str) -> None:
    network, latent = vae(padding), torch.randn(1, 4, 11, 17)
    with torch.inference_mode():
        whole = network.decode(latent, return_dict=False)[0]
    torch.testing.assert_close(go(decoding(network), latent), whole, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_bands_encode_what_the_encoder_does(padding: str) -> None:
    network, pixels = vae(padding), torch.rand(1, 3, *SIZE)
    with torch.inference_mode():
        whole = network.quant_conv(network.encoder(pixels))
    torch.testing.assert_close(go(encoding(network), pixels), whole, atol=ROUNDING, rtol=0)


def joined(steps: tuple[taken.VAEStep, ...], first: int, last: int, piece: tuple[int, int], reduction: int = 1) -> Plan:
    """Return a plan whose joined steps are measured on all if nothing is reduced: pieces alone make no difference."""
    return Plan(first, last, piece, reduction, (5,) * len(steps), False, 0, 1.0)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize(("first", "last", "piece"), [(5, 35, (20, 31)), (27, 30, (33, 50)), (16, 27, (16, 16))])
def test_pieces_of_joined_steps_make_what_all_of_them_make(
    padding: str, first: int, last: int, piece: tuple[int, int]
) -> None:
    network, latent = vae(padding), torch.randn(1, 4, 11, 17)
    steps = decoding(network)
    with torch.inference_mode():
        whole = network.decode(latent, return_dict=False)[0]
    made = go(steps, latent, joined(steps, first, last, piece))
    torch.testing.assert_close(made, whole, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize(("last", "piece"), [(6, (20, 31)), (11, (17, 16))])
def test_pieces_of_the_encoder_s_joined_steps_make_what_all_of_them_make(
    padding: str, last: int, piece: tuple[int, int]
) -> None:
    network, pixels = vae(padding), torch.rand(1, 3, *SIZE)
    steps = encoding(network)
    with torch.inference_mode():
        whole = network.quant_conv(network.encoder(pixels))
    torch.testing.assert_close(go(steps, pixels, joined(steps, 0, last, piece)), whole, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("piece", [None, (3, 4), (11, 6)])
def test_a_compact_decoder_in_pieces_makes_what_it_makes_at_once(padding: str, piece: tuple[int, int] | None) -> None:
    network, latent = vae(padding, compact=True), torch.randn(1, 4, 11, 17)
    with torch.inference_mode():
        whole = network.decode(latent, return_dict=False)[0]
    steps = decoding(network)
    made = go(steps, latent, None if piece is None else joined(steps, 1, len(steps), piece))
    torch.testing.assert_close(F.pixel_shuffle(made, spread(network)), whole, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("budget_bytes", [2**14, 2**16, 2**18, 2**30])
def test_a_compact_decoder_works_within_its_budget(budget_bytes: int) -> None:
    network, latent = vae("reflect", compact=True), torch.randn(1, 4, 40, 56)
    whole = VAE(network, 2**40).decode(latent)
    torch.testing.assert_close(VAE(network, budget_bytes).decode(latent), whole, atol=ROUNDING, rtol=0)


def test_nothing_is_joined_while_something_waits_to_be_added() -> None:
    """A span from within would not find it."""
    steps = decoding(vae("zeros", compact=True))
    assert budget._cuts(Course.of(steps, (11, 17))) == [0, 1, len(steps)]


def test_moments_of_parts_are_those_of_the_whole_far_from_zero_too() -> None:
    features = 1000 + torch.randn(1, 8, 30, 20)
    moments = taking.Moments()
    for part in torch.split(features, [7, 23], dim=2):
        moments.add(part)
    norm = moments.norm(torch.nn.GroupNorm(2, 8))
    variance, mean = torch.var_mean(features.double().view(2, -1), dim=1, correction=0)
    torch.testing.assert_close(norm.mean, mean.float().repeat_interleave(4))
    torch.testing.assert_close(norm.variance, variance.float().repeat_interleave(4), rtol=1e-4, atol=0)


@pytest.mark.parametrize("picture", ["gradient", "flat", "noisy"])
def test_there_is_no_step_between_pieces_whose_norms_are_estimated(picture: str) -> None:
    network = vae("zeros", attention=False)
    steps = decoding(network)
    latent = {"gradient": gradient(12, 18), "flat": torch.full((1, 3, 12, 18), 0.3), "noisy": torch.randn(1, 3, 12, 18)}
    given = torch.cat([latent[picture], latent[picture][:, :1]], dim=1)
    one, many = (go(steps, given, joined(steps, 1, len(steps), piece, 2)) for piece in ((96, 144), (23, 29)))
    # The same norms in one piece and in many: what differs is what the borders do.
    assert (one - many).abs().max() <= ROUNDING
    assert one.std() > 1e-3


def test_attention_above_its_limit_is_the_whole_s_where_means_are_of_what_is_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Squares of two by two equal latents: a mean over them stands for four, to rounding."""
    network = vae("zeros")
    width = network.config.block_out_channels[-1]
    features = torch.randn(1, width, 12, 19).repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :23, :37]
    attention = next(step for step in decoding(network) if isinstance(step, taken.Attention))
    course = Course.of(decoding(network), (23, 37))

    def attended() -> Tensor:
        rest = taking.Rest(width, (23, 37), torch.float32, torch.device("cpu"))
        rest.write(taken.Box(0, 0, 23, 37), features)
        attending.attend(attention, rest, course)
        return rest.features

    with torch.inference_mode():
        whole = attended()
        monkeypatch.setattr(attending, "GLOBAL", 16)
        monkeypatch.setattr(attending, "HALO", 3)
        assert attending.coarseness((23, 37)) == 2
        torch.testing.assert_close(attended(), whole, atol=ROUNDING, rtol=0)
    assert (whole - features).abs().max() > 0.01


def test_a_plan_prefers_true_statistics_and_gives_them_up_only_where_memory_is_short() -> None:
    network = vae("zeros")
    course = Course.of(decoding(network), (64, 64))
    need = budget.whole(course)
    assert budget.plan(course, need) is None
    exact = budget.plan(course, need - 1)
    assert exact is not None
    assert exact.first == exact.last
    tight = budget.plan(course, exact.memory // 2)
    assert tight is not None
    assert tight.first < tight.last
    assert tight.memory < exact.memory


def test_features_rest_in_the_host_s_memory_where_the_device_has_not_enough() -> None:
    course = Course.of(decoding(vae("zeros")), (64, 64))
    alone, helped = budget.plan(course, 2**22), budget.plan(course, 2**22, 2**30)
    assert alone is not None
    assert helped is not None
    assert alone.first < alone.last
    assert helped.first == helped.last
    assert helped.hosted


def test_real_networks_keep_within_the_stated_memory_at_any_size() -> None:
    with torch.device("meta"):
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        )
    for side, gigabytes in ((4096, 6), (8192, 8), (16384, 24)):
        for steps, size in ((decoding(network), (side // 8, side // 8)), (encoding(network), (side, side))):
            course = Course.of(steps, size)._replace(device=torch.device("cpu"))
            plan = budget.plan(course, gigabytes * 10**9 - 12 * side * side)
            assert plan is not None
            assert plan.memory + 12 * side * side <= gigabytes * 10**9
            assert plan.overhead < 1.3


USED = f"""
import sys, torch
{peak.CODE}
from vae.test_pieces import vae
from seesr_cli.machine.device import memory_kept
from seesr_cli.restore.latent import VAE
from seesr_cli.sampling.noise import seeded
torch.set_num_threads(1)
side, encodes, pieces = int(sys.argv[1]), sys.argv[2] == "encode", VAE(vae("zeros", attention=False), int(sys.argv[3]))
def work(side):
    if encodes:
        pieces.encode(torch.rand(1, 3, side, side), seeded(0))
    else:
        pieces.decode(torch.randn(1, 4, side // 8, side // 8))
with memory_kept(torch.device("cpu")):
    [torch.nn.functional.gelu(torch.ones(2**20 * size)) for size in range(1, 16)]
work(64)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
work(side)
print(peak() - before, pieces.working_memory((side, side)))
"""


@pytest.mark.skipif(not peak.THERE, reason="reads the peak from /proc")
@pytest.mark.parametrize("way", ["encode", "decode"])
def test_pieces_use_no_more_memory_than_expected_and_not_much_less(way: str) -> None:
    """After steps of denoising, whose freed memory lies about."""
    command = [sys.executable, "-c", USED, "512", way, str(30 * 10**6)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd="tests")
    used, expected = map(int, shown.stdout.split())
    assert used <= expected <= 1.25 * used + budget.BESIDES, (used, expected)
