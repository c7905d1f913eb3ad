"""Hot words score where they stand as whole words, and from their first character on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efmodel.decoding.hot_words import HotWords


def scores(hot: HotWords, text: str) -> list[float]:
    """Return the score after each character and after the end, started words included."""
    state, complete, after = hot.start, 0.0, []
    for character in text + " ":
        state, score = hot.step(state, character)
        complete += score
        after.append(complete + hot.partial(state))
    return after


def test_a_word_scores_from_its_first_character():
    assert scores(HotWords(["ann"], 1), "ann") == [1, 2, 3, 3]


def test_the_start_of_another_word_loses_its_score():
    assert scores(HotWords(["ann"], 1), "anna") == [1, 2, 3, 0, 0]
    assert scores(HotWords(["anna"], 1), "ann") == [1, 2, 3, 0]
    assert scores(HotWords(["ann"], 1), "joann") == [0, 0, 0, 0, 0, 0]


def test_words_next_to_each_other_all_score():
    assert scores(HotWords(["a", "bc"], 2), "a bc a x bc")[-1] == 2 * (1 + 2 + 1 + 2)


def test_several_words_score_as_one():
    hot = HotWords(["new york"], 1)
    assert scores(hot, "new york") == [1, 2, 3, 3, 4, 5, 6, 7, 7]
    assert scores(hot, "new car")[-1] == scores(hot, "york")[-1] == 0


def test_a_word_that_starts_a_longer_one_is_paid_once():
    hot = HotWords(["new", "new york", "york"], 1)
    assert scores(hot, "new york")[-1] == 7
    assert scores(hot, "new car")[-1] == 3
    assert scores(hot, "york new")[-1] == 7


def test_words_of_scripts_without_spaces_stand_anywhere():
    hot = HotWords(["\u6771\u4eac", "\u6771\u4eac\u90fd"], 1)
    assert scores(hot, "\u5728\u6771\u4eac\u5728")[-1] == 2
    assert scores(hot, "\u6771\u4eac\u90fd")[-1] == 3


WORDS = st.text("ab", min_size=1, max_size=3)


@given(st.sets(WORDS, max_size=4), st.lists(WORDS, max_size=6))
def test_single_words_score_as_often_as_they_occur(hot_words, words):
    expected = sum(len(word) for word in words if word in hot_words)
    assert scores(HotWords(hot_words, 1), " ".join(words))[-1] == pytest.approx(expected)


@given(st.sets(st.text("ab ", max_size=6), max_size=4), st.lists(WORDS, max_size=6))
def test_no_character_is_paid_twice(hot_words, words):
    text = " ".join(words)
    assert all(0 <= s <= len(text) for s in scores(HotWords(hot_words, 1), text))
