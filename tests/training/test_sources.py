"""Pictures by number: what is found, what a sample follows from, and what is skipped."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from seesr_cli.errors import UsageError
from seesr_cli.training import samples, sources
from seesr_cli.training.degradation import MILD
from seesr_cli.training.objective import Objective
from seesr_cli.training.samples import Cut, Making, Samples
from seesr_cli.training.sources import Order, Source, chance


def making() -> Making:
    cut = Cut(32, least_side=16, least_bytes=0)
    return Making(7, cut, MILD, (4, 4, 4), 1000, Objective(), 0.5, 0.25, True, False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        pixels = torch.randint(0, 256, (48, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_folder_a_list_and_shards_give_the_same_pictures(folder: Path, tmp_path: Path) -> None:
    found = sources.find([str(folder)])
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"{number}.png" for number in range(5)))
    shards = sources.write_shards(found, tmp_path / "shards", 20_000)
    assert len(shards) > 1
    packed = sources.find([str(tmp_path / "shards")])
    for other in (sources.find([str(names)]), packed):
        assert [sources.read(each).tolist() for each in other] == [sources.read(each).tolist() for each in found]


@pytest.mark.parametrize("content", [None, "x.jpg.txt"])
def test_a_folder_without_pictures_is_told(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / content).touch()
    with pytest.raises(UsageError, match="no picture in it"):
        sources.find([str(tmp_path)])


def test_a_hundred_thousand_names_are_listed_without_a_look_at_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes half a second; a look at each file takes minutes on a network drive."""
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"a/{number}.png" for number in range(100_000)))
    looks: list[object] = []
    for module, name in ((os, "stat"), (os, "lstat"), (os, "open"), (os.path, "exists"), (os.path, "isfile")):
        real = getattr(module, name)

        def counted(*given: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            looks.append(given)
            return real(*given, **more)

        monkeypatch.setattr(module, name, counted)
    found = sources.find([str(names)])
    monkeypatch.undo()
    assert len(found) == 100_000
    assert len(looks) < 10
    order = Order(len(found), 0)
    assert len({order(n) for n in range(0, 100_000, 1000)}) == 100


def test_every_epoch_takes_every_picture_once_in_another_order() -> None:
    order = Order(20, 3)
    first, second = ([order(n) for n in range(start, start + 20)] for start in (0, 20))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert [Order(20, 3)(n) for n in range(20)] == first


def test_a_sample_is_a_function_of_seed_and_number(folder: Path) -> None:
    found = sources.find([str(folder)])
    forward = [Samples(found, making())[n] for n in range(8)]
    backward = Samples(found, making())
    for n in reversed(range(8)):
        again, before = backward[n], forward[n]
        for part in ("clean", "degraded", "timestep", "untagged", "untold", "noise", "posterior"):
            assert torch.equal(getattr(again, part), getattr(before, part))
    assert not torch.equal(forward[0].noise, forward[1].noise)


def test_ranks_share_the_numbers_out_and_leave_none(folder: Path) -> None:
    found = sources.find([str(folder)])
    alone = samples.load(Samples(found, making()), 6, 0, 1, 6, 0)
    halves = [samples.load(Samples(found, making()), 6, rank, 2, 3, 0) for rank in range(2)]
    whole = next(alone).n.tolist()
    assert whole == list(range(6, 12))
    assert sorted(n for half in halves for n in next(half).n.tolist()) == whole


def test_damaged_and_tiny_pictures_are_skipped_and_named(folder: Path) -> None:
    (folder / "5.png").write_bytes((folder / "0.png").read_bytes()[:400])
    Image.new("RGB", (8, 8)).save(folder / "6.png")
    found = sources.find([str(folder)])
    made = [Samples(found, making())[n] for n in range(len(found))]
    told = {text for sample in made for text in sample.skipped}
    assert len(told) == 2
    assert any("5.png cannot be read" in text for text in told)
    assert any("6.png is 8x8" in text for text in told)


def test_nothing_but_damaged_pictures_is_an_error_that_names_the_last(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(UsageError, match=r"No usable picture.*a\.png"):
        Samples(sources.find([str(tmp_path)]), making())[0]


def test_what_is_drawn_for_a_sample_is_drawn_as_often_as_the_recipe_says() -> None:
    drawn = [samples.draw_numbers(making(), chance(1, n)) for n in range(10_000)]
    assert sum(each.untagged for each in drawn) / 10_000 == pytest.approx(0.5, abs=0.015)
    assert sum(each.untold for each in drawn) / 10_000 == pytest.approx(0.25, abs=0.015)
    assert sum(each.timestep for each in drawn) / 10_000 == pytest.approx(499.5, abs=9)
    noise = torch.stack([each.noise for each in drawn[:2000]])
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)


def test_half_of_the_squares_are_mirrored_and_none_where_directions_have_names() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).repeat(3, 16, 1)
    for flip, share in ((True, 0.5), (False, 0.0)):
        cuts = [samples.cut(ramp, Cut(16, flip=flip), chance(2, n)) for n in range(1000)]
        assert sum(bool(each[0, 0, 0] > each[0, 0, -1]) for each in cuts) / 1000 == pytest.approx(share, abs=0.05)


def test_short_pictures_are_mirrored_at_their_edge() -> None:
    pixels = torch.arange(5, dtype=torch.uint8).repeat(3, 5, 1)
    square = samples.cut(pixels, Cut(8, flip=False), chance(0, 0))
    assert (square[0, 0] * 255).round().tolist() == [0, 1, 2, 3, 4, 3, 2, 1]


def test_enlargement_is_torchs_or_pillows_bicubic() -> None:
    small = torch.rand(1, 3, 8, 8)
    published, inference = (samples.enlarged(small, 4, published) for published in (True, False))
    assert torch.equal(published, torch.nn.functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1))
    assert 0.005 < (published - inference).abs().max() < 0.5


def test_a_source_in_a_shard_is_read_from_its_place(folder: Path, tmp_path: Path) -> None:
    shard = sources.write_shards(sources.find([str(folder)]), tmp_path / "s", 10**9)[0]
    first = sources.find([str(shard)])[0]
    assert isinstance(first, Source)
    assert first.load() == (folder / "0.png").read_bytes()


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_samples(folder: Path) -> None:
    numbered = Samples(sources.find([str(folder)]), making())

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for n in range(300):
        numbered[n]
    before = resident()
    for n in range(300, 2300):
        numbered[n]
    assert resident() - before < 20e6
