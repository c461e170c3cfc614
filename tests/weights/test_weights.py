"""Where the files are, and what is said when they are not."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from conftest import OWN_GOLDEN
from seesr_cli.catalogue import MINIATURE, SEESR
from seesr_cli.errors import WeightsMissing
from seesr_cli.weights import FOLDER_VARIABLE, find, locate, lock, places


@pytest.fixture(autouse=True)
def nothing_pulled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


def test_without_any_folder_every_way_out_is_named() -> None:
    with pytest.raises(WeightsMissing, match=r"'seesr' are not on this machine \(.*GB") as missing:
        locate(SEESR, None)
    fetch, other = missing.value.remedies
    assert re.search(r"seesr weights pull seesr.*--to DIR.*--weights DIR", fetch)
    assert other.startswith("--model miniature")


def test_the_option_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named, given = tmp_path / "named", tmp_path / "given"
    named.mkdir()
    given.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(named))
    assert locate(SEESR, None) == named
    assert locate(SEESR, given) == given


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="nowhere"):
        locate(SEESR, tmp_path / "nowhere")


def test_the_miniature_is_in_the_package_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert locate(MINIATURE, None).name == "miniature"


def test_the_first_of_several_names_is_found_and_all_are_named_when_none_is(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    assert find(tmp_path, "a", "b") == tmp_path / "b"
    with pytest.raises(WeightsMissing, match="c or d"):
        find(tmp_path, "c", "d")


BASE = "stable-diffusion-2-base/vae/config.json"


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_published_layout_is_looked_at_first(tmp_path: Path) -> None:
    put(tmp_path / BASE, tmp_path / "stable-diffusion-2-1-base/vae/config.json")
    assert find(tmp_path, BASE) == tmp_path / BASE


@pytest.mark.parametrize("base", ["stable-diffusion-2-base", "stable-diffusion-2-1-base"])
def test_a_snapshot_of_the_author_s_repository_may_stand_beside_the_base_model(tmp_path: Path, base: str) -> None:
    snapshot = tmp_path / "SeeSR"
    put(snapshot / "seesr/unet/config.json", snapshot / "DAPE.pth", tmp_path / base / "vae/config.json")
    for given in (tmp_path, snapshot):
        assert find(given, BASE) == tmp_path / base / "vae/config.json"
        assert find(given, "seesr/unet/config.json") == snapshot / "seesr/unet/config.json"
        assert find(given, "DAPE.pth") == snapshot / "DAPE.pth"


def test_a_snapshot_in_huggingface_hub_s_cache_finds_the_base_model_and_the_tagger_there(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--CSWRY--SeeSR/snapshots/abc"
    base = tmp_path / "models--sd2-community--stable-diffusion-2-1-base/snapshots/def"
    ram = tmp_path / "models--xinyu1205--recognize_anything_model/snapshots/123/ram_swin_large_14m.pth"
    put(snapshot / "seesr/unet/config.json", base / "vae/config.json", ram)
    assert find(snapshot, BASE) == base / "vae/config.json"
    assert find(snapshot, "ram_swin_large_14m.pth") == ram


def test_what_was_looked_for_and_where_is_told(tmp_path: Path) -> None:
    (tmp_path / "SeeSR/seesr").mkdir(parents=True)
    with pytest.raises(WeightsMissing) as told:
        find(tmp_path, BASE)
    assert all(str(path) in str(told.value) for path in places(tmp_path, BASE))
    assert len(places(tmp_path, BASE)) == 4


def test_the_names_and_shapes_that_are_packaged_are_the_published_networks() -> None:
    for file in lock.read().files:
        if file.tensors:
            golden = OWN_GOLDEN / "real" / f"{file.tensors}_keys.json"
            assert lock.read().tensors(file) == json.loads(golden.read_text())
