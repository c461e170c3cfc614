"""A safetensors file that is damaged, or of another network, is refused in a sentence, without torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seesr_cli.errors import WeightsInvalid
from seesr_cli.weights.pull import check_tensors

HELD = {"a": [2, 3], "b": [4]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.float16)}, path, {"format": "pt"})
    return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])
    change(content)
    text = json.dumps(content).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_what_safetensors_wrote_is_read(file: Path) -> None:
    check_tensors(file, HELD)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["a"].update(shape=[2, 4]),
        lambda content: content["a"].update(shape=[-2, -3]),
        lambda content: content["a"].update(dtype="F128"),
        lambda content: content["a"].update(data_offsets=[4, 28]),
        lambda content: content["b"].update(data_offsets=[0, 8]),
        lambda content: content.pop("b"),
        lambda content: content.update(c={"dtype": "F32", "shape": [0]}),
        lambda content: content.update(c=7),
    ],
)
def test_a_lying_header_is_refused(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite(file, change)
    with pytest.raises(WeightsInvalid, match=r"x\.safetensors: not a whole safetensors file"):
        check_tensors(file, HELD)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_file_of_another_length_is_refused(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(WeightsInvalid, match="not a whole safetensors file"):
        check_tensors(file, HELD)


@pytest.mark.parametrize("data", [b"", b"\x07", b"\xff" * 100, (1 << 60).to_bytes(8, "little") + b"{}", bytes(64)])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(WeightsInvalid, match=r"x\.safetensors"):
        check_tensors(tmp_path / "x.safetensors", HELD)


def test_names_and_shapes_are_compared_both_ways(file: Path) -> None:
    with pytest.raises(WeightsInvalid, match=r"'c' is missing and should be \[1\]"):
        check_tensors(file, HELD | {"c": [1]})
    with pytest.raises(WeightsInvalid, match=r"'a' is \[2, 3\] and should be \[3, 2\]"):
        check_tensors(file, HELD | {"a": [3, 2]})
    with pytest.raises(WeightsInvalid, match=r"'b' is \[4\] and is no part of the network"):
        check_tensors(file, {"a": [2, 3]})
