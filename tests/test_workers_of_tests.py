"""The tests are run by as many processes as there are cores, and memory, for."""

import pytest

import conftest


class Config:
    """As much of pytest's configuration as the choice asks for."""

    def __init__(self, *args: str) -> None:
        self.args = [*args]

    def getini(self, name: str) -> list[str]:
        return ["tests"]


@pytest.mark.parametrize(
    ("cores", "free", "workers"),
    [(2, 10**12, 2), (8, 3 * conftest.WORKER_BYTES, 3), (8, conftest.WORKER_BYTES // 2, 1), (4, None, 4)],
)
def test_there_is_a_process_for_each_core_as_far_as_there_is_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, free: int | None, workers: int
) -> None:
    monkeypatch.setattr(conftest, "cores", lambda: cores)
    monkeypatch.setattr(conftest, "unclaimed", lambda: free)
    assert conftest.pytest_xdist_auto_num_workers(Config("tests")) == workers  # type: ignore[arg-type]


def test_a_part_of_the_tests_runs_in_one_process() -> None:
    assert conftest.pytest_xdist_auto_num_workers(Config("tests/cli")) == 0  # type: ignore[arg-type]
