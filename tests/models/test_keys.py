"""Names translate both ways, and LoRA folds in where the published model folds it."""

import json

import pytest
import torch
from torch import Tensor

from conftest import OWN_GOLDEN
from seesr_cli.models import keys
from seesr_cli.models.configs import PUBLISHED_TAGGER
from seesr_cli.models.tagger import Tagger

RANK = 8


def meta(file: str) -> dict[str, Tensor]:
    shapes = json.loads((OWN_GOLDEN / "real" / file).read_text())
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("network", ["unet", "controlnet"])
def test_grafted_names_and_published_names_are_one_another_s_inverse(network: str) -> None:
    state = meta(f"{network}_keys.json")
    assert list(keys.published(keys.grafted(state))) == list(state)
    assert not any(keys.IMAGE_ATTENTION in name for name in keys.grafted(state))


def test_the_real_ram_file_fills_the_published_tagger_exactly() -> None:
    with torch.device("meta"):
        tagger = Tagger(PUBLISHED_TAGGER, labels=4585)
    wanted = keys.ram(meta("ram_keys.json"))
    ours = keys.published_tagger(tagger.state_dict())
    assert {name: tensor.shape for name, tensor in wanted.items()} == {n: t.shape for n, t in ours.items()}
    back = keys.tagger(wanted)
    assert {name: tensor.shape for name, tensor in back.items()} == {
        name: tensor.shape for name, tensor in tagger.state_dict().items()
    }


def test_every_tensor_of_the_real_dape_file_has_a_place() -> None:
    lora = meta("dape_keys.json")
    assert len(lora) == 248
    assert sum(name.startswith("visual_encoder.") for name in lora) == 48
    assert sum(name.startswith("tagging_head.") for name in lora) == 8
    ram = keys.ram(meta("ram_keys.json"))
    folded, strays = keys.fold_lora(ram, lora, RANK, 1)
    assert not strays
    assert {name: tensor.shape for name, tensor in folded.items()} == {name: t.shape for name, t in ram.items()}


def test_a_swin_update_moves_query_and_value_and_leaves_key() -> None:
    name = "visual_encoder.layers.0.blocks.0.attn.qkv"
    weight, down, up = torch.randn(48, 16), torch.randn(16, 16), torch.randn(32, 8)
    lora = {f"{name}.lora_A": down, f"{name}.lora_B": up}
    folded, strays = keys.fold_lora({f"{name}.weight": weight}, lora, RANK, 1)
    change = folded[f"{name}.weight"] - weight
    torch.testing.assert_close(change[:16], up[:16] @ down[:8] / 8, atol=1e-5, rtol=1e-4)
    assert torch.equal(change[16:32], torch.zeros(16, 16))
    torch.testing.assert_close(change[32:], up[16:] @ down[8:] / 8, atol=1e-5, rtol=1e-4)
    assert not strays


def test_the_captioner_s_update_is_folded_into_the_weight_it_shares_with_the_head() -> None:
    place = "encoder.layer.0.crossattention.self.query"
    weight = torch.zeros(4, 4)
    lora = {
        f"{part}.{place}.lora_{half}": torch.ones(RANK, 4) if half == "A" else torch.ones(4, RANK)
        for part in ("tagging_head", "tag_encoder")
        for half in "AB"
    }
    folded, strays = keys.fold_lora({f"tagging_head.{place}.weight": weight}, lora, RANK, 1)
    assert torch.equal(folded[f"tagging_head.{place}.weight"], torch.full((4, 4), 2.0))
    assert not strays


def test_a_lora_tensor_without_a_place_is_named() -> None:
    lora = {"visual_encoder.nowhere.lora_A": torch.ones(8, 4), "visual_encoder.nowhere.lora_B": torch.ones(4, 8)}
    assert keys.fold_lora({}, lora, RANK, 1)[1] == ["visual_encoder.nowhere.lora_A"]
    half = {"tagging_head.alone.lora_B": torch.ones(4, 8)}
    assert keys.fold_lora({}, half, RANK, 1)[1] == ["tagging_head.alone.lora_B"]


def test_older_releases_of_ram_call_the_head_vision_multi() -> None:
    assert list(keys.ram({"vision_multi.encoder.layer.0.x": torch.ones(1)})) == ["tagging_head.encoder.layer.0.x"]


def test_the_captioner_and_constant_buffers_are_left_out() -> None:
    state = dict.fromkeys(
        ("text_decoder.x", "tag_encoder.y", "visual_encoder.a.relative_position_index", "visual_encoder.a.attn_mask"),
        torch.ones(1),
    )
    assert keys.ram(state) == {}


def test_old_names_of_the_vae_s_attention_are_renewed() -> None:
    old = {
        "decoder.mid_block.attentions.0.query.weight": torch.ones(4, 4),
        "decoder.mid_block.attentions.0.proj_attn.bias": torch.ones(4),
        "encoder.mid_block.attentions.0.value.weight": torch.ones(4, 4, 1, 1),
        "encoder.conv_in.weight": torch.ones(4, 3, 3, 3),
    }
    new = keys.vae(old)
    assert {name: tuple(tensor.shape) for name, tensor in new.items()} == {
        "decoder.mid_block.attentions.0.to_q.weight": (4, 4),
        "decoder.mid_block.attentions.0.to_out.0.bias": (4,),
        "encoder.mid_block.attentions.0.to_v.weight": (4, 4),
        "encoder.conv_in.weight": (4, 3, 3, 3),
    }


def test_the_text_tower_loses_its_prefix_and_its_positions() -> None:
    state = {"text_model.embeddings.position_ids": torch.ones(1), "text_model.final_layer_norm.bias": torch.ones(1)}
    assert list(keys.text_tower(state)) == ["final_layer_norm.bias"]
