"""Crops: within the frame and their bounds whatever the frame, the same for every frame of a clip, drawn uniformly."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vatt.config import AugmentConfig
from vatt.data.crops import Box, centre, evaluation_crops, inception, jitter, spread, training_crop

SIDES = st.integers(1, 4000)


def inside(box: Box, width: int, height: int) -> bool:
    eps = 1e-9 * max(width, height)
    return (
        min(box.height, box.width) > 0
        and min(box.top, box.left) >= 0
        and box.top + box.height <= height + eps
        and box.left + box.width <= width + eps
    )


@settings(max_examples=300, deadline=None)
@given(width=SIDES, height=SIDES, seed=st.integers(0, 2**32))
def test_every_crop_lies_in_the_frame_and_depends_on_nothing_but_seed_and_frame(width, height, seed):
    for name in ("inception", "jitter", "centre"):
        crop = training_crop(AugmentConfig(crop=name), np.random.default_rng(seed))
        box = crop(width, height)
        assert inside(box, width, height)
        crop(height + 1, width)  # a frame of another size in between changes nothing
        assert crop(width, height) == box == pickle.loads(pickle.dumps(crop))(width, height)
    assert all(inside(crop(width, height), width, height) for crop in evaluation_crops(3))


@settings(max_examples=300, deadline=None)
@given(width=st.integers(64, 4000), height=st.integers(64, 4000), seed=st.integers(0, 2**32), low=st.floats(0.02, 0.9))
def test_an_inception_crop_keeps_its_bounds(width, height, seed, low):
    area, aspect = (low, min(1.0, low + 0.2)), (0.6, 1.7)
    box = inception(np.random.default_rng(seed), area=area, aspect=aspect)(width, height)
    assert 0.6 - 1e-9 <= box.width / box.height <= 1.7 + 1e-9
    share = box.height * box.width / (width * height)
    largest = min(1.7 * height / width, width / 0.6 / height, 1.0)  # as a share, at the best aspect ratio there is
    if largest > 1.5 * low:
        assert area[0] <= share <= area[1]
        assert all(float(x).is_integer() for x in box)  # what the fallback gives seldom is


def test_a_frame_too_long_for_any_box_gives_the_largest_in_its_middle():
    crop = inception(np.random.default_rng(0))
    assert crop(4000, 100) == Box(0, 1900, 100, 200)
    assert crop(100, 4000) == Box(1900, 0, 200, 100)


def test_inception_crops_are_drawn_uniformly():
    """In a square: aspect ratios and, given them, heights are uniform; corners are everywhere alike."""
    rng = np.random.default_rng(0)
    boxes = np.array([inception(rng)(1000, 1000) for _ in range(2000)])
    top, left, height, width = boxes.T
    ratio = width / height
    low, high = np.sqrt(0.08 / ratio) * 1000, np.minimum(1000, 1000 / ratio)
    for sample in (ratio / 1.5 - 1 / 3, (height - low) / (high - low)):
        assert stats.kstest(sample, "uniform").pvalue > 0.01
    free = (height < 950) & (width < 950)
    for corner, side in ((top, height), (left, width)):
        assert stats.kstest(corner[free] / (1000 - side[free]), "uniform").pvalue > 0.01
    areas = height * width / 1e6
    assert areas.min() < 0.1
    assert areas.max() > 0.9


def test_jitter_scales_by_factors_within_bounds_four_times_in_five():
    rng = np.random.default_rng(1)
    boxes = np.array([jitter(rng)(640, 360) for _ in range(2000)])
    _, _, height, width = boxes.T
    square = height == width
    assert square.mean() == pytest.approx(0.2, abs=0.03)
    assert np.all(height[square] == 360)
    # The box is the square's side over each factor: their ratio lies within 0.8 / 1.2 and its inverse.
    assert np.all((width / height >= 0.8 / 1.2) & (width / height <= 1.2 / 0.8))
    assert (width / height).min() < 0.7
    assert (width / height).max() > 1.4
    assert np.all(np.isclose(height, 360) | np.isclose(width, 640))  # the short side of the scaled frame is whole
    shares = boxes[square, 1] / (640 - 360)
    assert stats.kstest(shares, "uniform").pvalue > 0.01


def test_evaluation_sees_the_centre_or_the_ends_as_well():
    assert evaluation_crops(1) == (centre,)
    assert [crop(640, 360) for crop in evaluation_crops(3)] == [
        Box(0, 0, 360, 360), Box(0, 140, 360, 360), Box(0, 280, 360, 360)]  # fmt: skip
    assert [crop(360, 640).top for crop in evaluation_crops(3)] == [0, 140, 280]
    assert spread(1, 3)(640, 360) == centre(640, 360)
    with pytest.raises(ValueError, match="no place 3 among 3"):
        spread(3, 3)


def test_other_seeds_give_other_crops():
    boxes = {training_crop(AugmentConfig(), np.random.default_rng(seed))(640, 360) for seed in range(20)}
    assert len(boxes) == 20
