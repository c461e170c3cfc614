"""A safetensors header that lies is found out without torch, and told in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seesr_cli.errors import WeightsInvalid
from seesr_cli.weights import header


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
    found = header.read(file)
    assert {name: (entry.dtype, entry.shape) for name, entry in found.entries.items()} == {
        "a": ("F32", [2, 3]),
        "b": ("F16", [4]),
    }
    assert found.metadata == {"format": "pt"}
    header.compare(file, {"a": [2, 3], "b": [4]})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content["a"].update(shape=[2, 4]), "'a' needs 32 bytes and its header gives it 24"),
        (lambda content: content["a"].update(shape=[-2, -3]), "has no shape"),
        (lambda content: content["a"].update(dtype="F128"), "unknown type F128"),
        (lambda content: content["a"].update(data_offsets=[4, 28]), "does not begin where"),
        (lambda content: content.pop("b"), "bytes long and its header says"),
        (lambda content: content.update(c={"dtype": "F32", "shape": [0]}), "not readable"),
        (lambda content: content.update(c=7), "not readable"),
    ],
)
def test_a_lying_header_is_refused(file: Path, change: Callable[[dict[str, Any]], object], complaint: str) -> None:
    rewrite(file, change)
    with pytest.raises(WeightsInvalid, match=rf"x\.safetensors: .*{complaint}"):
        header.read(file)


@pytest.mark.parametrize("data", [b"", b"\x07", b"\xff" * 100, (1 << 60).to_bytes(8, "little") + b"{}", bytes(64)])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(WeightsInvalid, match=r"x\.safetensors"):
        header.read(tmp_path / "x.safetensors")


def test_names_and_shapes_are_compared_both_ways(file: Path) -> None:
    with pytest.raises(WeightsInvalid, match="'c' is missing"):
        header.compare(file, {"a": [2, 3], "b": [4], "c": [1]})
    with pytest.raises(WeightsInvalid, match=r"'a' is \[2, 3\] and not \[3, 2\]"):
        header.compare(file, {"a": [3, 2], "b": [4]})
    with pytest.raises(WeightsInvalid, match="'b' is not part"):
        header.compare(file, {"a": [2, 3]})
