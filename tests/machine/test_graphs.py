"""A recording serves only where it pays and is seen to be right; whatever is wrong with one, the result is not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seesr_cli.catalogue import MINIATURE, SEESR
from seesr_cli.machine.graphs import SHAPES, WORTH, Compute, Graphs, Replay
from seesr_cli.machine.share import ALONE, Worker
from seesr_cli.restore.upscaler import Upscaler
from seesr_cli.run.afar import loader
from seesr_cli.run.request import Request
from seesr_cli.settings import Settings

NOTE = "The networks are run without CUDA graphs from now on, which is slower: "

Record = Callable[[Compute, list[Tensor]], Replay]


def right(compute: Compute, slots: list[Tensor]) -> Replay:
    """What CUDA does, on a CPU: compute on the same slots."""
    return lambda: compute(*slots)


def failing(error: Exception) -> Record:
    def record(compute: Compute, slots: list[Tensor]) -> Replay:
        raise error

    return record


def deaf(compute: Compute, slots: list[Tensor]) -> Replay:
    """A recording that does not read what is put in, as if it held numbers of its making."""
    made = compute(*slots)
    return lambda: made


def astray(factor: float) -> Record:
    return lambda compute, slots: lambda: factor * compute(*slots)


class Counting:
    """A recorder that counts its recordings."""

    def __init__(self, record: Record = right) -> None:
        self.made = 0
        self._record = record

    def __call__(self, compute: Compute, slots: list[Tensor]) -> Replay:
        self.made += 1
        return self._record(compute, slots)


def square(given: Tensor) -> Tensor:
    return given * given + 1


def asked(graphs: Graphs, calls: int, times: int, size: int = 3) -> None:
    """Ask `times` times for a square, each time of other numbers, and hold the answer to the question."""
    run = graphs.expecting(calls)
    for time in range(times):
        given = torch.arange(size) + float(time)
        assert torch.equal(run(1.0, square, (given,)), square(given))


def test_what_is_asked_for_often_is_recorded_once() -> None:
    recorder = Counting()
    graphs = Graphs(recorder)
    asked(graphs, WORTH, 5)
    asked(graphs, 2, 5)
    assert recorder.made == 1
    assert not graphs.notes


def test_few_steps_are_not_recorded_until_many_pictures_have_had_them() -> None:
    recorder = Counting()
    graphs = Graphs(recorder)
    for _ in range(WORTH // 2 - 1):
        asked(graphs, 2, 2)
    assert recorder.made == 0
    asked(graphs, 2, 2)
    assert recorder.made == 1


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (
            failing(RuntimeError("operation not permitted when stream is capturing\nmore")),
            "operation not permitted when",
        ),
        (failing(ValueError()), "ValueError."),
        (failing(torch.OutOfMemoryError("CUDA out of memory.")), "there is not the memory."),
        (astray(1.1), "a replay was 1.0e-01 away"),
        (astray(float("nan")), "a replay was nan away"),
        (deaf, "a replay was"),
    ],
)
def test_a_recording_that_goes_wrong_costs_no_result_and_is_told_once(record: Record, why: str) -> None:
    recorder = Counting(record)
    graphs = Graphs(recorder)
    asked(graphs, WORTH, 3)
    asked(graphs, WORTH, 3, size=4)
    assert recorder.made == 1
    (note,) = graphs.notes
    assert note.startswith(NOTE + why)
    assert "\n" not in note


def test_a_replay_may_differ_by_rounding() -> None:
    graphs = Graphs(astray(1 + 1e-3))
    run, given = graphs.expecting(WORTH), torch.randn(3, dtype=torch.float16)
    for _ in range(2):
        run(1.0, square, (given,))
    assert not graphs.notes


def test_memory_that_others_hold_is_freed_before_recordings_are_given_up() -> None:
    full = True

    def record(compute: Compute, slots: list[Tensor]) -> Replay:
        if full and len(slots[0]) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return right(compute, slots)

    recorder = Counting(record)
    graphs = Graphs(recorder)
    asked(graphs, WORTH, 2)
    asked(graphs, WORTH, 1, size=4)
    assert not graphs.notes
    full = False
    asked(graphs, WORTH, 2, size=4)
    asked(graphs, WORTH, 1)
    assert recorder.made == 4
    assert not graphs.notes


def test_what_is_not_finite_is_not_blamed_on_a_recording() -> None:
    recorder = Counting()
    graphs = Graphs(recorder)
    run = graphs.expecting(WORTH)
    assert run(1.0, square, (torch.tensor([float("inf")]),)).isinf().all()
    assert recorder.made == 0
    assert run(1.0, square, (torch.ones(1),)) == 2
    assert recorder.made == 1
    assert not graphs.notes


def test_no_more_shapes_are_kept_than_memory_is_meant_for() -> None:
    recorder = Counting()
    graphs = Graphs(recorder)
    for size in range(1, SHAPES + 2):
        asked(graphs, WORTH, 2, size)
    asked(graphs, WORTH, 1, SHAPES + 1)
    assert recorder.made == SHAPES + 1
    asked(graphs, WORTH, 1, 1)
    assert recorder.made == SHAPES + 2


def test_a_picture_is_made_all_the_same_and_says_what_went_wrong(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaler = Upscaler.load(SEESR, tiny_weights, "cpu", "fp32")
    picture, settings = torch.rand(3, 16, 16), Settings(scale=2, steps=2, process_size=64)
    usual = upscaler.upscale(picture, settings)
    upscaler.sampler.graphs = Graphs(failing(RuntimeError("no")))
    monkeypatch.setattr("seesr_cli.restore.sampler.straight", upscaler.sampler.graphs.expecting(WORTH))
    restored = upscaler.upscale(picture, settings)
    assert restored.notes == (*usual.notes, f"{NOTE}no.")
    assert torch.equal(restored.pixels, usual.pixels)
    assert upscaler.upscale(picture, settings).notes == usual.notes


@pytest.mark.parametrize("asked", [{}, {"graphs": True}])
def test_graphs_are_made_only_where_they_are_asked_for(asked: dict[str, bool]) -> None:
    worker = Worker("cpu", torch.get_num_threads(), ALONE)
    request = Request(MINIATURE, MINIATURE.defaults, dtype="fp32", **asked)  # type: ignore[arg-type]
    assert loader(worker, request, None)().sampler.switches.graphs is bool(asked)
