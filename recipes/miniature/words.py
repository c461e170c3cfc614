"""The miniature's labels and its CLIP tokenizer, both made here."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import attributes
import textures
from tokenizers.pre_tokenizers import ByteLevel

from seesr_cli.settings import NEGATIVE_PROMPT, QUALITY_WORDS

HAND_LABELS: dict[str, list[str]] = json.loads((Path(__file__).parent / "labels.json").read_text(encoding="utf-8"))
"""What each photograph of the recipe shows, seen by eye: file name without ending -> labels."""

COMMON = (
    "a an the and or of in on with at by to from photo photograph picture image close up detailed sharp crisp "
    "natural realistic old young small large black white grey pink brown golden silver car bus train boat ship "
    "plane bicycle motorbike road path bridge tower castle church temple harbour river forest field garden park "
    "snow ice rain storm sun moon star fire smoke cat bird horse cow sheep fish insect butterfly bee bear table "
    "chair sofa bed lamp book paper bottle cup glass plate bread cake apple orange banana coffee camera computer "
    "keyboard clock shoe shirt dress hand eye smile group family baby boy girl statue painting drawing poster "
    "sign flag map high low quality resolution no not very good best bad worst artefacts compressed jpeg blurry "
    "noisy pixelated texture pattern lines dots"
)
"""Everyday words that a person may type; all others are spelt in pieces or bytes."""

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"
LENGTH = 77


def labels(hand_labels: Mapping[str, Iterable[str]] = HAND_LABELS) -> tuple[str, ...]:
    """Return every label the tagger knows: what is shown, what was made, what is measured."""
    shown = sorted({label for each in hand_labels.values() for label in each} | set(textures.KINDS))
    return (*shown, *attributes.WORDS)


def write_tokenizer(folder: Path, known: Iterable[str]) -> int:
    """Write a CLIP tokenizer that knows the words of `known`, the prompts and `COMMON`; returns its vocabulary's size.

    A byte-pair code trained until each of these words is one piece: any other text still has pieces, down to bytes.
    """
    corpus = " ".join([*known, QUALITY_WORDS, NEGATIVE_PROMPT, COMMON]).lower()
    words = sorted(set(re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]", corpus)))
    merges = byte_pairs(words)
    alphabet = sorted(ByteLevel.alphabet())
    # in CLIP's order: bytes, bytes that end a word, merges, then the two special tokens
    pieces = [
        *alphabet,
        *(f"{byte}</w>" for byte in alphabet),
        *(first + second for first, second in merges),
        START,
        END,
    ]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}

    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": PAD}
    _write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n", encoding="utf-8"
    )
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, "errors": "replace"}
        | special,
    )
    return len(vocabulary)


def byte_pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    """Return the merges, in order, after which each of `words` is one piece: commonest pair first, then by alphabet.

    Ours, since the library's trainer breaks ties differently at each call, and weights belong to one vocabulary.
    """
    spelt = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for pieces in spelt for pair in pairwise(pieces)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelt = [_merged(pieces, best) for pieces in spelt]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
