"""The prompt is the published one, oddities included, and what does not fit is known."""

from pathlib import Path

import pytest

from seesr_cli.device import choose
from seesr_cli.models.load import load_text_tower
from seesr_cli.prompt import Scribe, compose
from seesr_cli.settings import SEESR


@pytest.fixture(scope="module")
def scribe(tiny_weights: Path) -> Scribe:
    return Scribe(*load_text_tower(SEESR, tiny_weights, choose("cpu")))


def test_the_prompt_is_composed_as_published() -> None:
    assert compose(("frog", "stone"), "", "blur").positive == "frog, stone, ,clean, high-resolution, 8k"
    assert compose(("frog",), "a pond", "blur").positive == "frog, a pond,clean, high-resolution, 8k"
    assert compose((), "", "blur") == (", ,clean, high-resolution, 8k", "blur")


def test_texts_are_77_tokens_whatever_their_length(scribe: Scribe) -> None:
    ids = scribe.tokenize(("frog", "frog, " * 100))
    assert ids.shape == (2, 77)
    assert ids[0].tolist()[3:] == [0] * 74  # "!" fills up: start, frog, end, then padding
    assert scribe.encode(("frog",)).shape == (1, 77, 48)


def test_the_lost_end_of_a_long_prompt_is_told(scribe: Scribe) -> None:
    assert scribe.lost("frog, stone") == ""
    assert scribe.lost("frog " * 75) == ""
    assert scribe.lost("frog " * 75 + "stone") == "stone"
