"""The lock holds what it must, says what it does not know, and refuses what cannot be held to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from seesr_cli.catalogue import MODELS
from seesr_cli.errors import UsageError, WeightsInvalid
from seesr_cli.weights import lock

ENTRY = f"""\
[[file]]
file = "a/b.safetensors"
role = "unet"
models = ["seesr"]
repository = "somebody/something"
type = "model"
revision = "{"0" * 40}"
path = "b.safetensors"
bytes = 10
sha256 = "{"a" * 64}"
licence = "Apache-2.0"
"""


def test_our_lock_is_what_the_renewal_would_write() -> None:
    ours = lock.read()
    assert lock.render(ours) == ours.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "model", [model for model in MODELS.values() if not model.bundled], ids=lambda model: model.name
)
def test_our_lock_has_every_file_that_loading_asks_for(model: object) -> None:
    from seesr_cli.catalogue import Model

    assert isinstance(model, Model)
    files = {file.file for file in lock.read().of(model.name)}
    networks = {f"{folder}/diffusion_pytorch_model.safetensors" for folder in (model.unet, model.controlnet)}
    assert files >= networks | {f"{model.unet}/config.json", f"{model.controlnet}/config.json"}
    assert files >= {f"{model.base}/{part}/config.json" for part in ("text_encoder", "vae")}
    assert files >= {f"{model.base}/tokenizer/{name}" for name in ("vocab.json", "merges.txt", "tokenizer_config.json")}
    assert files >= {*model.tagger, model.tags, model.thresholds, f"{model.scheduler}/scheduler_config.json"}


def test_our_lock_vouches_for_all_but_the_author_s_networks_and_says_why_there() -> None:
    unknown = [file for file in lock.read().files if not file.sha256]
    authors = [file for file in unknown if "seesr" in file.models]
    others = [file.file for file in unknown if file not in authors]
    assert others == ["metrics/MANIQA_PIPAL-ae6d356b.pth", "testsets/StableSR_testsets.zip"]
    assert all(file.file.startswith(("seesr/unet/", "seesr/controlnet/")) for file in authors)
    assert all(file.unpinned and file.computed and file.sources[0].branch == "main" for file in authors)
    assert {file.tensors for file in unknown} == {"unet", "controlnet", ""}


def test_only_sd_turbo_is_asked_for() -> None:
    asked = {file.ask for file in lock.read().of("turbo") if file.file.startswith("sd-turbo")}
    assert asked == {"stabilityai/sd-turbo"}
    assert not any(file.ask for file in lock.read().of("seesr"))


def test_a_model_that_is_not_in_the_lock_is_named() -> None:
    with pytest.raises(UsageError, match=r"miniature.*choose metrics, seesr, turbo, all"):
        lock.read().of("miniature")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("0" * 40, "0" * 7), "neither a full revision nor a branch"),
        (lambda text: text.replace(f'revision = "{"0" * 40}"\n', 'branch = ""\n'), "neither a full revision"),
        (lambda text: text.replace("a" * 64, "a" * 63), "no sha256 and no reason"),
        (lambda text: text.replace("a/b.s", "../b.s"), "leads out of the folder"),
        (lambda text: text.replace("a/b.s", "/b.s"), "leads out of the folder"),
        (lambda text: text + text, "stands there twice"),
        (lambda text: text.replace('"model"', '"ftp"'), "unknown type 'ftp'"),
        (lambda text: '[urls]\nraw = "http://example.org/{path}"\n' + text, "not an https address"),
        (lambda text: text.replace("bytes = 10", "bytes = 0"), "has no size"),
        (lambda text: text + 'instead_of = "c"\n', "stands for a file that is not there"),
        (lambda text: text + "surprise = 1\n", "surprise"),
        (lambda text: text.replace('models = ["seesr"]\n', ""), "models"),
        (lambda text: text + "[", "not a readable lock"),
    ],
)
def test_an_entry_that_cannot_be_held_to_is_named(tmp_path: Path, change: Callable[[str], str], complaint: str) -> None:
    path = tmp_path / "weights.lock"
    path.write_text(ENTRY)
    assert lock.read(path).files[0].sources[0].repository == "somebody/something"
    path.write_text(change(ENTRY))
    with pytest.raises(WeightsInvalid, match=complaint):
        lock.read(path)


def test_an_address_without_a_revision_needs_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "weights.lock"
    plain = ENTRY.replace(f'revision = "{"0" * 40}"\n', "").replace('"model"', '"server"')
    text = '[urls]\nserver = "https://example.org/{path}"\n' + plain
    path.write_text(text)
    content = lock.read(path)
    assert content.url(content.files[0].sources[0]).startswith("https://example.org/")
    path.write_text(text.replace(f'sha256 = "{"a" * 64}"', 'unpinned = "nobody has published one"'))
    with pytest.raises(WeightsInvalid, match="neither a full revision nor a branch"):
        lock.read(path)


def test_another_lock_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.lock").write_text(ENTRY)
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path / "own.lock"))
    assert [file.file for file in lock.read().files] == ["a/b.safetensors"]
