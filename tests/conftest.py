"""What several tests share: the golden recording, and the tiny checkpoint it belongs to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import rule

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


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is learnt from the tests, and no test knows what was learnt before: child processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Path:
    """The recording's folder."""
    return pytestconfig.getoption("--golden")


@pytest.fixture(scope="session")
def golden_weights(golden: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that the recording was made with, in the published layout."""
    folder = tmp_path_factory.mktemp("golden-weights")
    rule.write(golden, folder, pytestconfig.getoption("--golden-seed"))
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, for tests that need any network of the right structure."""
    folder = tmp_path_factory.mktemp("tiny-weights")
    rule.write(OWN_GOLDEN, folder)
    return folder
