"""Where records begin and end, and which captions go with them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vatt.data.captions import Caption, nearest
from vatt.data.prepare.cutting import narrations, neighbours, shifted, windows

milliseconds = st.integers(0, 120_000).map(lambda ms: ms / 1000)


@st.composite
def captions(draw):
    found = []
    for number in range(draw(st.integers(0, 20))):
        start = draw(milliseconds)
        end = draw(
            st.just(start) | st.integers(0, 20_000).map(lambda ms, start=start: start + ms / 1000) | st.just(np.inf)
        )
        found.append(Caption(start, end, str(number)))
    if draw(st.booleans()):
        found.sort(key=lambda caption: caption.start)
    return found


@settings(max_examples=200, deadline=None)
@given(
    captions(),
    milliseconds,
    st.integers(100, 15_000).map(lambda ms: ms / 1000),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
    st.integers(1, 7),
    st.none() | st.integers(0, 9),
)
def test_a_record_keeps_the_captions_nearest_to_any_clip_in_it(said, start, length, clips, k, seed):
    kept = neighbours(said, start, start + length, k)
    relative = shifted([said[index] for index in kept], start)
    for low, high in clips:
        # on the grid of milliseconds, where equal distances are common
        begin = round(min(low, high) * length, 3)
        end = min(round(max(low, high) * length, 3), length)
        begin = min(begin, end)
        rngs = (None, None) if seed is None else (np.random.default_rng(seed), np.random.default_rng(seed))
        of_record = nearest(relative, begin, end, k, rngs[0])
        of_film = nearest(said, start + begin, start + end, k, rngs[1])
        assert [caption.text for caption in of_record] == [caption.text for caption in of_film]


def test_a_record_keeps_few_captions_of_a_long_film():
    said = [Caption(3.0 * i, 3.0 * i + 3, str(i)) for i in range(2000)]
    kept = neighbours(said, 3000.0, 3010.0, 5)
    assert set(range(998, 1006)) <= set(kept)
    assert len(kept) < 16


@given(
    milliseconds, st.integers(1, 200_000).map(lambda ms: ms / 1000), st.integers(500, 30_000).map(lambda ms: ms / 1000)
)
def test_windows_tile_the_file_and_lose_nothing(start, length, seconds):
    spans = windows(start, start + length, seconds)
    assert spans[0][0] == start
    assert spans[-1][1] == start + length
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    for low, high in spans[:-1]:
        assert high - low == pytest.approx(seconds)
    last = spans[-1][1] - spans[-1][0]
    assert last < 2 * seconds + 1e-6
    assert last >= seconds - 1e-6 or len(spans) == 1


def test_windows_begin_on_the_grid_of_frames():
    assert windows(0, 34, 10) == [(0, 10), (10, 20), (20, 34)]
    assert windows(0, 36, 10) == [(0, 10), (10, 20), (20, 36)]
    assert windows(0, 3, 10) == [(0, 3)]


def test_narrations_are_widened_about_their_centre_and_moved_inside():
    said = [Caption(10, 12, "middle"), Caption(0, 1, "first"), Caption(59, 60, "last"), Caption(20, 28, "long enough")]
    spans = narrations(said, 0, 60, shortest=5, longest=10)
    assert spans == [(0, 5), (8.5, 13.5), (20, 28), (55, 60)]


def test_narrations_twice_the_same_or_without_words_or_outside_give_nothing_more():
    said = [Caption(10, 12, "a"), Caption(10, 12, "b"), Caption(30, 32, " "), Caption(70, 72, "outside")]
    assert narrations(said, 0, 60, shortest=5, longest=10) == [(8.5, 13.5)]
    assert narrations([], 0, 60, shortest=5, longest=10) == []


def test_what_is_said_throughout_is_cut_into_windows():
    assert narrations([Caption(0, np.inf, "title")], 2, 33, shortest=5, longest=10) == [(2, 12), (12, 22), (22, 33)]


def test_a_file_shorter_than_the_shortest_record_is_one():
    assert narrations([Caption(1, 2, "a")], 0, 3, shortest=5, longest=10) == [(0, 3)]


@settings(max_examples=300, deadline=None)
@given(milliseconds, st.integers(0, 5000), st.integers(100, 3000), st.integers(1, 3000), st.integers(1, 3000))
def test_captions_equally_far_stay_so_on_the_clock_of_a_record(start, begin, half, away, length):
    """One before the clip, one behind, as far: in binary fractions neither distance is exact."""
    begin, half, away, length = (value / 1000 for value in (begin, half, away, length))
    centre = 10 + start + begin + half
    said = [Caption(centre + away, centre + away + length, "b"), Caption(centre - away - length, centre - away, "a")]
    said = [Caption(round(caption.start, 3), round(caption.end, 3), caption.text) for caption in said]
    start += 10
    of_film = nearest(said, start + begin, start + begin + 2 * half, 1)
    assert [caption.text for caption in of_film] == ["b"]  # the first in the file
    assert nearest(shifted(said, start), begin, begin + 2 * half, 1) == list(shifted(of_film, start))
