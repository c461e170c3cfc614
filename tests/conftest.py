"""What several tests share: the golden recording, the tiny checkpoint it belongs to, and one thread for each process.

The tests share the cores by processes: a thread that waits for another one computes while it does.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # for torch here, before it is imported, and for every child process

import hypothesis
import pytest

import rule
import warm
from seesr_cli.machine.available import cores, unclaimed
from warm import Kiln

WORKER_BYTES = 2 * 10**9
"""What a process that runs tests takes, child processes included."""

LOADED: dict[tuple[Any, ...], Any] = {}
"""Models by what they were loaded from."""

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")  # how long an example takes is the machine's affair

OWN_GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", type=Path, default=OWN_GOLDEN, help="replay this recording instead of our own")
    parser.addoption("--real-size", type=Path, help="folder for files of real size, 16 GB")
    parser.addoption("--golden-seed", type=int, default=rule.SEED, help="the seed that its weights were made with")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One golden test per recorded run and per recorded picture."""
    golden: Path = metafunc.config.getoption("--golden")
    if "golden_run" in metafunc.fixturenames:
        runs = sorted(path.parent for path in golden.glob("runs/*/run.json"))
        metafunc.parametrize("golden_run", runs, ids=lambda path: path.name)
    if "golden_picture" in metafunc.fixturenames:
        metafunc.parametrize("golden_picture", sorted(golden.glob("lr_*.png")), ids=lambda path: path.stem)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process for each core, as far as there is memory for it; a part of the tests runs in this one."""
    if config.args != config.getini("testpaths"):
        return 0
    free = unclaimed()
    return max(1, cores() if free is None else min(cores(), free // WORKER_BYTES))


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """A test that calls `main` leaves nothing in the environment that a file of options put there."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A test that calls `main` leaves none of its signal handlers behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is learnt from the tests, and no test knows what was learnt before: child processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the command in this process load each model once for all of them: loading has tests of its own."""
    from seesr_cli.restore.upscaler import Upscaler

    load = Upscaler.load

    def load_once(*arguments: Any) -> Upscaler:
        known = (*arguments, os.environ.get("SEESR_WEIGHTS"))
        if known not in LOADED:
            LOADED[known] = load(*arguments)
        return LOADED[known]

    monkeypatch.setattr(Upscaler, "load", load_once)


@pytest.fixture(scope="session")
def kiln() -> Iterator[Kiln]:
    """What starts `seesr` in processes of their own, without seconds of imports each."""
    with Kiln(warm.NETWORKS) as kiln:
        yield kiln


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Path:
    """The recording's folder."""
    return pytestconfig.getoption("--golden")


@pytest.fixture(scope="session")
def golden_weights(
    golden: Path, pytestconfig: pytest.Config, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The checkpoint that the recording was made with, in the published layout."""
    seed = pytestconfig.getoption("--golden-seed")
    if (golden, seed) == (OWN_GOLDEN, rule.SEED):
        return tiny_weights
    folder = tmp_path_factory.mktemp("golden-weights")
    rule.write(golden, folder, seed)
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, for tests that need any network of the right structure."""
    folder = tmp_path_factory.mktemp("tiny-weights")
    rule.write(OWN_GOLDEN, folder)
    return folder
