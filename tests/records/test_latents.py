"""A latent on disk is the latent, or none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seesr_cli.errors import OutputUnwritable
from seesr_cli.records import latents
from seesr_cli.records.lines import Key

KEY = Key("1" * 64, "2" * 64, "3" * 64)
ABOUT = {"prompt": "frog, \u00e9, \udcff", "tags": [{"name": "frog", "score": 0.1}], "seed": 2**63, "none": None}


def bits(latent: torch.Tensor) -> torch.Tensor:
    return latent.contiguous().view(torch.int32)


def test_a_latent_and_what_is_said_of_it_come_back_bit_for_bit(tmp_path: Path) -> None:
    latent = torch.randint(-(2**31), 2**31, (1, 4, 5, 7), dtype=torch.int32).view(torch.float32)  # NaNs of all kinds
    latent[0, 0, 0, :4] = torch.tensor([float("nan"), -0.0, float("-inf"), 1e-45])
    latents.save(tmp_path / "a", latent, ABOUT, KEY)
    loaded = latents.load(tmp_path / "a", KEY)
    assert loaded is not None
    assert torch.equal(bits(loaded[0]), bits(latent))
    assert loaded[1] == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_view_and_a_latent_with_a_gradient_are_saved_as_what_they_show(tmp_path: Path) -> None:
    latent = torch.randn(1, 7, 5, 4, requires_grad=True).permute(0, 3, 2, 1)[:, :, 1:]
    latents.save(tmp_path / "a", latent, {}, KEY)
    loaded = latents.load(tmp_path / "a", KEY)
    assert loaded is not None
    assert torch.equal(loaded[0], latent)


def test_what_is_absent_and_what_follows_from_something_else_are_no_latent(tmp_path: Path) -> None:
    assert latents.load(tmp_path / "a", KEY) is None
    assert latents.load(tmp_path, KEY) is None
    latents.save(tmp_path / "a", torch.zeros(1, 4, 1, 1), {}, KEY)
    for field in Key._fields:
        assert latents.load(tmp_path / "a", KEY._replace(**{field: "0" * 64})) is None
    latents.save(tmp_path / "a", torch.ones(1, 4, 1, 1), {}, KEY._replace(input="0" * 64))
    assert latents.load(tmp_path / "a", KEY) is None


def test_a_latent_that_lost_its_end_or_a_bit_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    latents.save(path, torch.randn(1, 4, 2, 2), {"prompt": "frog"}, KEY)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert latents.load(path, KEY) is None
        path.write_bytes(whole[:size].ljust(len(whole), b"\0"))  # as a power cut leaves it
        if size < len(whole.rstrip(b"\0")):
            assert latents.load(path, KEY) is None
    path.write_bytes(whole)
    loaded = latents.load(path, KEY)
    assert loaded is not None
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        changed = latents.load(path, KEY)
        # A flipped bit of the header's spaces, say, changes nothing that is read.
        assert changed is None or (torch.equal(changed[0], loaded[0]) and changed[1] == loaded[1])
        assert changed is None or place < len(whole) - loaded[0].nbytes


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_bytes_of_any_kind_are_no_latent(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.latent"
    header = b'{"__metadata__":' + content + b"}"
    for text in (content, len(header).to_bytes(8, "little") + header):
        path.write_bytes(text)
        assert latents.load(path, KEY) is None


def test_where_there_is_no_room_for_it_the_old_one_stays(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys, torch, pathlib\n"
        "from seesr_cli.records import latents\nfrom seesr_cli.records.lines import Key\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "latents.save(pathlib.Path(sys.argv[1]), torch.zeros(1, 4, 64, 64), {}, Key('1', '2', '3'))\n"
    )
    latents.save(tmp_path / "a", torch.ones(1, 4, 1, 1), {}, KEY)
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
    assert OutputUnwritable.__name__ in ended.stderr
    assert "cannot be written" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert latents.load(tmp_path / "a", KEY) is not None


@pytest.mark.parametrize("name", [b"a.png", b"\xff\xfe\n'\".png", b"n" * 251 + b".png", "é".encode() * 125 + b".webp"])
def test_places_are_short_enough_for_every_name(tmp_path: Path, name: bytes) -> None:
    target = tmp_path / os.fsdecode(name)
    for path in (latents.place(target), latents.kept_place(target)):
        assert path.parent == tmp_path
        latents.save(path, torch.zeros(1, 4, 1, 1), {}, KEY)
        assert latents.load(path, KEY) is not None
    assert latents.place(target).name.startswith(".seesr-")
    assert latents.kept_place(target).name.endswith(".latent.safetensors")


def test_every_target_has_a_place_of_its_own(tmp_path: Path) -> None:
    long = "n" * 250
    targets = [tmp_path / name for name in ("a.png", "a.webp", "b.png", f"{long}1.png", f"{long}2.png")]
    assert len({latents.place(target) for target in targets}) == 5
    assert latents.kept_place(tmp_path / "photo_x4.png") == tmp_path / "photo_x4.latent.safetensors"
    assert latents.kept_place(targets[3]) != latents.kept_place(targets[4])


def test_a_latent_is_discarded_and_one_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    latents.save(tmp_path / "a", torch.zeros(1, 4, 1, 1), {}, KEY)
    latents.discard(tmp_path / "a")
    latents.discard(tmp_path / "a")
    assert not list(tmp_path.iterdir())
