"""The training stages, on networks of a few thousand weights."""

import copy
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from seesr_cli.evaluate import fidelity
from seesr_cli.evaluate.consistency import consistency
from seesr_cli.models.configs import PUBLISHED_TAGGER
from seesr_cli.models.graft import TwoCrossAttentions, build_controlnet, build_unet, build_vae
from seesr_cli.models.tagger import Tagger
from seesr_cli.training import autoencoder, dape, evaluation, lora, objective, pairs, photographs, restorer
from seesr_cli.training import teacher as tagger
from seesr_cli.training.autoencoder import AutoencoderRecipe
from seesr_cli.training.degradation import MILD
from seesr_cli.training.optimise import Average, rate
from seesr_cli.training.photographs import Photograph
from seesr_cli.training.restorer import Networks, Pair
from seesr_cli.training.teacher import Example

TAGGER = PUBLISHED_TAGGER | {
    "image_res": 96,
    "window_size": 3,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "tagging_head": {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "encoder_width": 8,
        "layer_norm_eps": 1e-12,
    },
}
UNET = {
    "in_channels": 12,
    "out_channels": 12,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 1,
    "use_linear_projection": True,
    "use_image_cross_attention": True,
    "image_cross_attention_dim": 8,
}
TEXT = CLIPTextConfig(
    vocab_size=16,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    bos_token_id=14,
    eos_token_id=15,
)


def photograph(name: str, side: int, seed: int) -> Photograph:
    """Return soft shapes with an edge."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")[0]
    pixels[:, :, side // 2 :] *= 0.6
    return Photograph(name, pairs.whole(pixels))


PHOTOGRAPHS = tuple(photograph(str(seed), 96, seed) for seed in range(3))


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    recipe = AutoencoderRecipe(crop=64, fit_crops=6)
    torch.manual_seed(0)
    network = build_vae(recipe.config)
    autoencoder.start_linear(network, PHOTOGRAPHS, recipe)
    return network


def make_networks(vae: AutoencoderKL) -> Networks:
    torch.manual_seed(0)
    unet = build_unet(UNET)
    controlnet = build_controlnet(UNET | {"conditioning_embedding_out_channels": [8, 8, 8]})
    restorer.copy_encoder(unet, controlnet)
    kept = torch.cumprod(1 - torch.linspace(1e-5, 1e-3, 20), 0)
    return Networks(copy.deepcopy(vae), CLIPTextModel(TEXT), unet, controlnet, kept)


def make_pairs(vae: AutoencoderKL, count: int = 2) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    made = [pairs.draw_pair(PHOTOGRAPHS, 64, [(1.0, MILD)], vae, generator) for _ in range(count)]
    prompt = torch.tensor([14, *range(1, 10), 15, *[0] * 66])
    return [pairs.guide(pair, torch.randn(10, 8, generator=generator), prompt, prompt.flip(0)) for pair in made]


def test_the_linear_start_is_a_good_code_before_any_training(vae: AutoencoderKL) -> None:
    clean = photographs.unit(PHOTOGRAPHS[0].pixels)[None]
    with torch.no_grad():
        restored = vae.decode(vae.encode(2 * clean - 1).latent_dist.mean).sample / 2 + 0.5
    assert -10 * torch.log10((restored - clean).square().mean()) > 30


def test_training_the_autoencoder_gives_the_same_weights_for_the_same_seed(vae: AutoencoderKL) -> None:
    recipe = AutoencoderRecipe(steps=2, batch=1, crop=64)
    results = []
    for _ in range(2):
        network = copy.deepcopy(vae)
        losses = [progress.loss for progress in autoencoder.train(network, PHOTOGRAPHS, recipe)]
        results.append((losses, network.decoder.conv_in.weight.detach().clone()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_lora_changes_nothing_until_it_is_trained_and_folds_without_a_trace() -> None:
    torch.manual_seed(0)
    teacher = Tagger(TAGGER, 5).eval()
    tagger.start_from_nothing(teacher, 0)
    student, learning = dape.make_student(teacher, dape.DapeRecipe())
    picture = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(student(picture)[0], teacher(picture)[0], atol=1e-6)
        for parameter in learning:
            parameter.add_(0.1 * torch.randn_like(parameter))
        changed = student(picture)[0]
        assert not torch.allclose(changed, teacher(picture)[0], atol=1e-3)
        lora.fold(student)
        assert torch.allclose(student(picture)[0], changed, atol=1e-5)
    assert student.state_dict().keys() == teacher.state_dict().keys()


def test_the_update_is_b_times_a_over_the_rank() -> None:
    weight = torch.zeros(4, 6)
    update = lora.LowRank(weight, rank=8, alpha=1.0, generator=torch.Generator().manual_seed(0))
    torch.nn.init.ones_(update.b)
    assert torch.allclose(update(weight), update.b @ update.a / 8)


def test_the_published_tagger_has_the_28_updates_of_dape() -> None:
    # 24 Swin blocks with query and value, 2 head layers with query and key: 48 + 8 tensors in the published file,
    # where one pair
    # of tensors holds query and value of a block together
    with torch.device("meta"):
        network = Tagger(PUBLISHED_TAGGER, 4585)
    assert len(list(lora.layers(network))) == 2 * 24 + 2 * 2


def examples(count: int = 4) -> Sequence[Example]:
    generator = torch.Generator().manual_seed(0)
    return [
        Example(
            clean=PHOTOGRAPHS[index % 3].pixels,
            degraded=PHOTOGRAPHS[index % 3].pixels[:, ::4, ::4],
            labels=(torch.rand(5, generator=generator) > 0.5).float(),
            known=torch.ones(5),
        )
        for index in range(count)
    ]


def test_the_dape_stage_trains_lora_alone_and_its_loss_falls() -> None:
    torch.manual_seed(0)
    teacher = Tagger(TAGGER, 5)
    tagger.start_from_nothing(teacher, 0)
    before = copy.deepcopy(teacher.state_dict())
    recipe = dape.DapeRecipe(steps=25, batch=2, lr=3e-2)
    student, learning = dape.make_student(teacher, recipe)
    losses = [loss for _, loss in dape.train(teacher, student, learning, examples(), recipe)]
    assert sum(losses[-5:]) < sum(losses[:5])
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])
    frozen = [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
    assert len(learning) + len(frozen) == len(list(student.parameters()))


def test_a_student_of_whom_everything_learns_leaves_its_teacher_alone() -> None:
    torch.manual_seed(0)
    teacher = Tagger(TAGGER, 5)
    tagger.start_from_nothing(teacher, 0)
    before = copy.deepcopy(teacher.state_dict())
    recipe = dape.DapeRecipe(steps=12, batch=2, lr=1e-3, learns="all")
    student, learning = dape.make_student(teacher, recipe)
    assert len(learning) == len(list(teacher.parameters()))
    losses = [loss for _, loss in dape.train(teacher, student, learning, examples(), recipe)]
    assert sum(losses[-4:]) < sum(losses[:4])
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_taggers_learn_in_the_precision_that_they_are_in() -> None:
    torch.manual_seed(0)
    teacher = Tagger(TAGGER, 5).bfloat16()
    tagger.start_from_nothing(teacher, 0)
    losses = [loss for _, loss in tagger.train(teacher, examples(), 12, 2, 1e-3, 0)]
    assert losses[-1] < losses[0]
    assert tagger.scores(teacher, [examples()[0].clean]).dtype == torch.float32
    recipe = dape.DapeRecipe(steps=1, batch=2, learns="all")
    student, learning = dape.make_student(teacher, recipe)
    assert next(iter(dape.train(teacher, student, learning, examples(), recipe)))[1] > 0
    assert {parameter.dtype for parameter in student.parameters()} == {torch.bfloat16}


def test_the_dape_loss_is_the_sum_of_both_published_terms() -> None:
    student, teacher = (torch.tensor([[0.3]]), torch.ones(1, 2, 3)), (torch.tensor([[1.2]]), torch.zeros(1, 2, 3))
    wanted, given = torch.sigmoid(teacher[0]), torch.sigmoid(student[0])
    entropy = -(wanted * given.log() + (1 - wanted) * (1 - given).log()).mean()
    assert torch.allclose(dape.loss(student, teacher, dape.DapeRecipe()), 1.0 + entropy)


def test_the_teacher_learns_and_unknown_labels_teach_nothing() -> None:
    torch.manual_seed(0)
    some = [example._replace(known=torch.tensor([1.0, 1, 1, 1, 0])) for example in examples()]
    flipped = [example._replace(labels=torch.cat([example.labels[:4], 1 - example.labels[4:]])) for example in some]
    runs = []
    for each in (some, flipped):
        torch.manual_seed(0)
        network = Tagger(TAGGER, 5)
        tagger.start_from_nothing(network, 0)
        runs.append([loss for _, loss in tagger.train(network, each, 12, 2, 1e-3, 0)])
    assert runs[0][-1] < runs[0][0]
    assert runs[0] == pytest.approx(runs[1])


def test_half_of_the_teachers_batches_are_mirrored_and_none_where_labels_name_a_direction() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).repeat(3, 16, 1)
    examples = [Example(ramp, ramp, torch.ones(1), torch.ones(1))]
    for mirror, share in ((True, 0.5), (False, 0.0)):
        generator = torch.Generator().manual_seed(0)
        drawn = [tagger.draw_batch(examples, 1, 16, generator, mirror).clean[0, 0, 0] for _ in range(200)]
        assert sum(bool(each[0] > each[-1]) for each in drawn) / 200 == pytest.approx(share, abs=0.1)


def test_thresholds_are_where_f1_is_best() -> None:
    probabilities = torch.tensor([[0.8, 0.1], [0.75, 0.2], [0.4, 0.3]])
    labels = torch.tensor([[1.0, 0], [1, 0], [0, 0]])
    chosen = tagger.best_thresholds(probabilities, labels, torch.ones_like(labels))
    assert 0.4 <= chosen[0] < 0.75
    assert chosen[1] == 0.5


def test_the_controlnet_starts_as_the_unets_encoder(vae: AutoencoderKL) -> None:
    networks = make_networks(vae)
    ours = networks.controlnet.state_dict()
    for name, value in networks.unet.state_dict().items():
        if name.startswith(("conv_in.", "time_embedding.", "down_blocks.", "mid_block.")):
            assert torch.equal(ours[name], value)


def test_a_denoiser_from_nothing_starts_at_the_noise_and_its_controlnet_adds_nothing(vae: AutoencoderKL) -> None:
    torch.manual_seed(0)
    wide = UNET | {"block_out_channels": [24, 16]}
    unet, controlnet = build_unet(wide), build_controlnet(wide | {"conditioning_embedding_out_channels": [8, 8, 8]})
    restorer.copy_encoder(unet, controlnet)
    kept = torch.cumprod(1 - torch.linspace(1e-3, 0.4, 20), 0)
    networks = Networks(copy.deepcopy(vae), CLIPTextModel(TEXT), unet, controlnet, kept)
    restorer.start_at_noise(networks)
    denoiser = objective.Denoiser(unet, controlnet, networks.text)
    noise, step = torch.randn(2, 12, 16, 16), torch.tensor([19, 19])
    prompt, tokens = torch.full((2, 77), 3), torch.randn(2, 10, 8)
    with torch.no_grad():
        one, other = (denoiser(noise, step, prompt, tokens, torch.full((2, 3, 64, 64), grey)) for grey in (0.0, 1.0))
    assert torch.equal(one, other)
    assert (one - noise).square().mean() < 0.01

    # the first step opens the control path, and all of it can learn
    training = restorer.Training(networks, restorer.Denoising(batch=2, crop=32, lr=1e-3, learns="all"))
    source = restorer.batches(make_pairs(vae), training.recipe, 4, training.generator)
    for _ in range(2):
        training.learn(next(source))
    assert controlnet.controlnet_cond_embedding.conv_in.weight.grad.any()
    assert networks.text.get_input_embeddings().weight.grad.any()


def test_the_published_stage_trains_the_controlnet_and_the_image_attention_alone(vae: AutoencoderKL) -> None:
    networks = make_networks(vae)
    torch.nn.init.normal_(networks.controlnet.controlnet_mid_block.weight)
    before = copy.deepcopy(networks.unet.state_dict())
    recipe = restorer.Denoising(steps=2, batch=2, crop=32, lr=1e-2)
    assert len(list(restorer.Training(networks, recipe).run(make_pairs(vae)))) == 2
    moved = {name for name, value in networks.unet.state_dict().items() if not torch.equal(value, before[name])}
    image = {
        f"{place}.image.{name}"
        for place, module in networks.unet.named_modules()
        if isinstance(module, TwoCrossAttentions)
        for name, _ in module.image.named_parameters()
    }
    assert moved
    assert moved <= image


def test_the_published_stage_has_the_published_numbers() -> None:
    recipe = restorer.Denoising()
    assert (recipe.lr, recipe.decay, recipe.clip, recipe.tag_dropout) == (5e-5, 1e-2, 1.0, 0.5)
    assert (recipe.batch, recipe.steps, recipe.crop) == (192, 150_000, 512)


def test_added_noise_keeps_the_variance() -> None:
    latent, noise = torch.randn(2, 4, 32, 32), torch.randn(2, 4, 32, 32)
    noisy = objective.add_noise(latent, noise, torch.tensor([0.3, 0.9]))
    assert noisy.var().item() == pytest.approx(1, abs=0.1)


def test_a_training_from_nothing_starts_at_its_input_and_goes_on_as_if_never_stopped(vae: AutoencoderKL) -> None:
    recipe = restorer.OneStep(steps=4, batch=1, crop=32, alone=0.5, any_step=0.0)
    material = make_pairs(vae)

    def fresh() -> restorer.Training:
        networks = make_networks(vae)
        restorer.start_from_nothing(networks)
        return restorer.Training(networks, recipe)

    whole = fresh()
    generator = torch.Generator().manual_seed(5)
    batch = next(restorer.batches(material, recipe, 4, generator))
    with torch.no_grad():
        predicted = whole.denoiser(batch.start, torch.tensor([19]), batch.prompt, batch.tokens, batch.frame)
    assert not predicted.any()
    losses = [progress.loss for progress in whole.run(material)]
    first = fresh()
    begun = [progress.loss for progress in islice(first.run(material), 2)]
    second = fresh()
    second.restore(copy.deepcopy(first.state()))
    assert begun + [progress.loss for progress in second.run(material)] == pytest.approx(losses)


def test_the_shares_without_tags_and_without_tokens_are_the_dropouts(vae: AutoencoderKL) -> None:
    recipe = restorer.Denoising(batch=50, crop=32, tag_dropout=0.5, token_dropout=0.3)
    source = restorer.batches(make_pairs(vae), recipe, 4, torch.Generator().manual_seed(0))
    prompts, tokens = zip(*((batch.prompt, batch.tokens) for batch in islice(source, 4)), strict=True)
    assert (torch.cat(prompts)[:, 0] == 14).float().mean().item() == pytest.approx(0.5, abs=0.12)
    assert (torch.cat(tokens) == 0).all((1, 2)).float().mean().item() == pytest.approx(0.3, abs=0.1)


def test_the_learning_rate_rises_falls_and_ends_low() -> None:
    values = [rate(step / 100) for step in range(101)]
    assert max(values) == pytest.approx(1, abs=0.01)
    assert values[0] < 0.05
    assert values[-1] == pytest.approx(0.02)
    assert values[10:] == sorted(values[10:], reverse=True)


def test_averaged_weights_follow_and_forget_the_start() -> None:
    layer = torch.nn.Linear(1, 1)
    average = Average(layer.state_dict(), 0.9)
    torch.nn.init.constant_(layer.weight, 3.0)
    for _ in range(100):
        average.update(layer.state_dict())
    assert average.weights["weight"].item() == pytest.approx(3.0, abs=1e-2)


def test_crops_are_turned_only_where_labels_allow_it() -> None:
    ramp = [Photograph("ramp", torch.arange(20, dtype=torch.uint8).repeat(3, 20, 1))]
    for turned, kinds in ((True, 4), (False, 1)):
        generator = torch.Generator().manual_seed(0)
        drawn = [photographs.crop(ramp, 16, generator, turned)[1].int() for _ in range(60)]
        slopes = {(int(each[0, 0, 1] - each[0, 0, 0]), int(each[0, 1, 0] - each[0, 0, 0])) for each in drawn}
        assert len(slopes) == kinds
        assert (1, 0) in slopes


def test_no_photograph_is_both_trained_on_and_kept_aside() -> None:
    pictures = [Photograph(str(index), torch.zeros(3, 1, 1, dtype=torch.uint8)) for index in range(51)]
    split = photographs.split(pictures)
    assert len(split.training) == 41
    assert len(split.held_out) == 10
    assert not {each.name for each in split.training} & {each.name for each in split.held_out}


def test_f1_is_what_its_formula_says() -> None:
    fired, truth = torch.tensor([[True, True, False]]), torch.tensor([[True, False, True]])
    assert tagger.f1(fired, truth, torch.tensor([[True, True, True]])) == 0.5
    assert tagger.f1(fired, truth, torch.tensor([[True, False, False]])) == 1.0


def test_each_method_is_measured_as_evaluate_does_and_bicubic_against_itself_gains_nothing() -> None:
    made = list(evaluation.trials(PHOTOGRAPHS, size=64))
    outcomes = [evaluation.judge(trial, pairs.enlarge(trial.degraded, 4)) for trial in made]
    assert len(outcomes) == 6
    for trial, outcome in zip(made, outcomes, strict=True):
        clean, source = photographs.in_8_bits(trial.clean), photographs.in_8_bits(trial.degraded)
        lanczos = np.asarray(Image.fromarray(source).resize((64, 64), Image.Resampling.LANCZOS))
        departs = consistency(lanczos, source)
        told = outcome.methods["Lanczos"]
        assert (told.psnr, told.ssim) == (fidelity.psnr(lanczos, clean), fidelity.ssim(lanczos, clean))
        assert (told.niqe, told.consistency, told.drift) == (None, departs.psnr, departs.drift)
        assert len({quality.consistency for quality in outcome.methods.values()}) == 3
    summaries = evaluation.summarise(outcomes)
    assert [each.method for each in summaries] == 2 * list(evaluation.METHODS)
    assert {each.squares for each in summaries} == {3}
    for bicubic, restored in (summaries[0:4:3], summaries[4:8:3]):
        assert restored == bicubic._replace(method="restored")
        assert (restored.gain, restored.worst) == (0, 0)
    assert evaluation.table(summaries).count("\n") == 9
