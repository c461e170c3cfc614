"""What the tagger is shown, and what becomes of its tags in a person's hands."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from seesr_cli.catalogue import MINIATURE
from seesr_cli.restore.tag import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    NEAR,
    Reading,
    Tag,
    edited,
    load_reader,
    normalise,
    words,
)


def reading(*tags: tuple[str, float, float]) -> Reading:
    seen = tuple(Tag(*tag) for tag in tags)
    return Reading(tuple(tag for tag in seen if tag.fires), torch.zeros(1, 1, 1), seen)


def names(of: Reading) -> list[str]:
    return [tag.name for tag in of.tags]


SEEN = reading(("bird", 0.9, 0.7), ("cat", 0.1, 0.6), ("dog", 0.5, 0.6), ("Elk", 0.8, 0.5), ("fog", 0.55, 0.7))


def test_a_small_picture_is_stretched_bilinearly_without_regard_to_its_aspect() -> None:
    picture = torch.rand(3, 21, 30)
    plain = F.interpolate(picture.unsqueeze(0), (384, 384), mode="bilinear", align_corners=False)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    torch.testing.assert_close(normalise(picture, 384), (plain - mean) / deviation, atol=1e-5, rtol=1e-5)


def test_a_large_picture_is_averaged_down() -> None:
    checkerboard = (torch.arange(768).view(-1, 1) + torch.arange(768)) % 2
    seen = normalise(checkerboard.float().expand(3, -1, -1), 384)
    grey = (torch.tensor([0.5] * 3) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_DEVIATION)
    inner = seen[0, :, 4:-4, 4:-4]
    torch.testing.assert_close(inner, grey.view(3, 1, 1).expand_as(inner), atol=0.02, rtol=0)


def test_a_small_tagger_reads_with_one_thread_and_leaves_the_others_to_what_comes_next() -> None:
    reader, seen, before = load_reader(MINIATURE, device="cpu"), list[int](), torch.get_num_threads()
    reader.tagger.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        reader.read(torch.rand(3, 20, 20))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_near_misses_are_the_labels_next_below_their_thresholds_nearest_first() -> None:
    assert [tag.name for tag in SEEN.near] == ["dog", "fog", "cat"]
    crowd = reading(*((f"label {number}", number / 100, 0.5) for number in range(60)))
    assert [tag.name for tag in crowd.near] == [f"label {number}" for number in range(50, 50 - NEAR, -1)]


def test_a_near_miss_that_became_a_tag_is_none_any_more_and_a_dropped_tag_does_not_become_one() -> None:
    assert [tag.name for tag in edited(SEEN, add=("DOG",), drop=("bird",)).near] == ["fog", "cat"]


def test_nothing_asked_changes_nothing() -> None:
    assert edited(SEEN) == SEEN


def test_tags_are_dropped_by_their_whole_label_whatever_its_case() -> None:
    assert names(edited(SEEN, drop=("elk", "bir"))) == ["bird"]


def test_added_words_stand_at_the_end_in_their_order_and_are_certain() -> None:
    result = edited(SEEN, add=("a red  kite, wet stone", "fog"))
    assert names(result) == ["bird", "Elk", "a red kite", "wet stone", "fog"]
    assert [tag.certainty for tag in result.tags[2:]] == [float("inf")] * 3
    assert result.tags[2] == Tag("a red kite", 0.0, 1.0)
    assert result.tags[4].score == 0.55


def test_an_added_tag_that_is_there_stays_in_its_place_and_becomes_certain() -> None:
    result = edited(SEEN, add=("Bird",))
    assert names(result) == ["bird", "Elk"]
    assert result.tags[0].certainty == float("inf")
    assert result.tags[1].certainty == 0.8


@pytest.mark.parametrize(
    ("threshold", "tags"), [(0.0, ["bird", "cat", "dog", "Elk", "fog"]), (0.55, ["bird", "Elk"]), (1.0, [])]
)
def test_one_threshold_takes_the_place_of_each_label_s_own(threshold: float, tags: list[str]) -> None:
    result = edited(SEEN, threshold=threshold)
    assert names(result) == tags
    assert {tag.threshold for tag in (*result.tags, *result.near)} == {threshold}


def test_given_tags_replace_what_the_tagger_said_and_keep_the_scores_it_knows() -> None:
    result = edited(SEEN, given=("harbour", "elk", "dog"))
    assert result.tags == (Tag("harbour", 0.0, 1.0), Tag("elk", 0.8, 0.5), Tag("dog", 0.5, 0.6))
    assert [tag.certainty for tag in result.tags] == [float("inf"), 0.8, float("inf")]
    assert edited(SEEN, given=()).tags == ()


def test_words_are_what_stands_between_commas() -> None:
    assert words(" a,b  c ,, \n d\t") == ("a", "b c", "d")
    assert words(" , ") == ()


some_words = st.lists(st.sampled_from(["bird", "DOG", "elk", "kite", "wet stone", "fog, sea", " "]), max_size=4)


@given(
    given=st.none() | some_words,
    threshold=st.none() | st.floats(0, 1),
    drop=some_words,
    add=some_words,
)
def test_editing_again_with_the_tags_it_led_to_changes_nothing(
    given: list[str] | None, threshold: float | None, drop: list[str], add: list[str]
) -> None:
    once = edited(SEEN, given, threshold, drop, add)
    again = edited(SEEN, names(once), threshold, drop, add)
    assert again.tags == once.tags
