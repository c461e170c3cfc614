"""The prompt is the published one, oddities included, and what does not fit is known."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seesr_cli.catalogue import SEESR
from seesr_cli.machine.device import choose
from seesr_cli.models.load import load_text_tower
from seesr_cli.restore.prompt import TextEncoder, compose
from seesr_cli.settings import QUALITY_WORDS


@pytest.fixture(scope="module")
def text_encoder(tiny_weights: Path) -> TextEncoder:
    return TextEncoder(*load_text_tower(SEESR, tiny_weights, choose("cpu", "fp32")))


def test_the_prompt_is_composed_as_published() -> None:
    assert compose(("frog", "stone"), "", "blur").positive == "frog, stone, ,clean, high-resolution, 8k"
    assert compose(("frog",), "a pond", "blur").positive == "frog, a pond,clean, high-resolution, 8k"
    assert compose((), "", "blur") == (", ,clean, high-resolution, 8k", "blur")


def test_texts_are_77_tokens_whatever_their_length(text_encoder: TextEncoder) -> None:
    ids = text_encoder.tokenize(("frog", "frog, " * 100))
    assert ids.shape == (2, 77)
    assert ids[0].tolist()[3:] == [0] * 74  # "!" fills up: start, frog, end, then padding
    assert text_encoder.encode(("frog",)).shape == (1, 77, 48)


def test_the_lost_end_of_a_long_prompt_is_told(text_encoder: TextEncoder) -> None:
    assert text_encoder.lost("frog, stone") == ""
    assert text_encoder.lost("frog " * 75) == ""
    assert text_encoder.lost("frog " * 75 + "stone") == "stone"


# --- fitting -----------------------------------------------------------------------------------------------------

FULL = 33
"""Tags of one token that fit: 75 tokens, less the 9 of the quality words with their commas, are two a tag."""


def test_while_it_fits_the_prompt_is_the_published_one(text_encoder: TextEncoder) -> None:
    tags = ("frog",) * FULL
    fitted = text_encoder.fit(tags, [0.9] * FULL, "", "blur")
    assert fitted == (compose(tags, "", "blur"), (), "")
    assert text_encoder.fit((), (), "", "blur").prompt == compose((), "", "blur")


def test_beyond_77_tokens_the_least_certain_tags_go_and_the_quality_words_stay(text_encoder: TextEncoder) -> None:
    tags = tuple("frog" if place % 2 else "stone" for place in range(FULL + 2))
    certainty = [0.9] * len(tags)
    certainty[3], certainty[10] = 0.71, 0.7
    prompt, left_out, cut = text_encoder.fit(tags, certainty, "", "blur")
    assert (left_out, cut) == (("stone", "frog"), "")
    assert prompt.positive == compose((*tags[:3], *tags[4:10], *tags[11:]), "", "").positive
    assert text_encoder.lost(prompt.positive) == ""


def test_no_tag_goes_that_there_was_room_for(text_encoder: TextEncoder) -> None:
    tags = tuple("frog" if place % 2 else "stone" for place in range(FULL + 1))
    fitted = text_encoder.fit(tags, [0.5] * len(tags), "", "")
    assert fitted.left_out == (tags[-1],)  # of equally certain ones the last


def test_what_a_person_asked_for_goes_last(text_encoder: TextEncoder) -> None:
    tags = ("stone",) * 40 + ("frog",)
    prompt, left_out, _ = text_encoder.fit(tags, [0.99] * 40 + [math.inf], "", "")
    assert set(left_out) == {"stone"}
    assert ", frog, ," in prompt.positive


def test_the_person_s_prompt_is_kept_before_any_tag(text_encoder: TextEncoder) -> None:
    own = "frog " * 64 + "stone"
    prompt, left_out, cut = text_encoder.fit(("stone", "frog"), (0.9, 0.8), own, "")
    assert (prompt, left_out, cut) == (compose((), own, ""), ("frog", "stone"), "")


def test_of_a_person_s_prompt_that_is_too_long_alone_the_end_goes_and_is_told(text_encoder: TextEncoder) -> None:
    prompt, left_out, cut = text_encoder.fit(("stone",), (0.9,), "frog " * 65 + "stone frog", "")
    assert prompt == compose((), ("frog " * 65).strip(), "")
    assert (left_out, cut) == (("stone",), "stone frog")


@pytest.mark.parametrize("own", ["湖" * 200, "🦊" * 100, "x" * 500, ",,,;" * 100, " a" * 5000, "<|endoftext|>" * 90])
def test_a_prompt_without_spaces_is_cut_too(text_encoder: TextEncoder, own: str) -> None:
    prompt, _, cut = text_encoder.fit((), (), own, "")
    assert prompt.positive.endswith(QUALITY_WORDS)
    assert text_encoder.lost(prompt.positive) == ""
    assert cut
    assert own.strip().endswith(cut)


def test_all_the_labels_there_are_fit_in_no_time(text_encoder: TextEncoder) -> None:
    tags = tuple(f"label {number}" for number in range(4585))
    prompt, left_out, _ = text_encoder.fit(tags, [number / 4585 for number in range(4585)], "", "")
    kept = prompt.positive.split(", ,")[0].split(", ")
    assert tuple(kept) == tags[-len(kept) :]
    assert len(kept) + len(left_out) == 4585
    longer = compose(tags[-len(kept) - 1 :], "", "").positive
    assert text_encoder.lost(longer) != ""


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tags=st.lists(st.tuples(st.text("ab é1'#-,.☃ ", min_size=1, max_size=9), st.floats(0, 1)), max_size=60),
    own=st.text("ab é1',.☃ ", max_size=120),
)
def test_whatever_the_words_all_of_the_prompt_is_read(
    text_encoder: TextEncoder, tags: list[tuple[str, float]], own: str
) -> None:
    names = tuple(name for name, _ in tags)
    prompt, left_out, cut = text_encoder.fit(names, [certainty for _, certainty in tags], own, "")
    assert text_encoder.lost(prompt.positive) == ""
    assert prompt.positive.endswith(f",{QUALITY_WORDS}")
    if not text_encoder.lost(published := compose(names, own, "").positive):
        assert (prompt.positive, left_out, cut) == (published, (), "")
