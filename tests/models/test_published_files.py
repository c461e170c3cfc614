"""The published small files are those that the lock pins, and loading reads them as the published system does."""

import hashlib

import pytest
from transformers.models.clip.tokenization_clip import CLIPTokenizer

import real
from seesr_cli.catalogue import SEESR
from seesr_cli.models import load
from seesr_cli.weights import lock

FILES = sorted(path.relative_to(real.PUBLISHED).as_posix() for path in real.PUBLISHED.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    folder = real.PUBLISHED / real.BASE / "tokenizer"
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_has_the_checksum_of_the_lock(name: str) -> None:
    pinned = {file.file: file.sha256 for file in lock.read().files}
    assert hashlib.sha256((real.PUBLISHED / name).read_bytes()).hexdigest() == pinned[name]


def test_every_label_has_a_threshold() -> None:
    assert len(load.tag_names(SEESR, real.PUBLISHED)) == len(load.tag_thresholds(SEESR, real.PUBLISHED)) == real.LABELS


def test_a_prompt_is_filled_with_the_published_pad_token(tokenizer: CLIPTokenizer) -> None:
    """It is the one of special_tokens_map.json, `!`, and not the one of tokenizer_config.json."""
    ids = tokenizer(["a cat"], padding="max_length", truncation=True, max_length=77).input_ids[0]
    assert ids == [49406, 320, 2368, 49407, *[0] * 73]


def test_the_schedules_are_read_from_the_published_files() -> None:
    config = load.load_schedule_config(SEESR, real.PUBLISHED)
    assert (config["beta_start"], config["beta_end"], config["num_train_timesteps"]) == (0.00085, 0.012, 1000)
