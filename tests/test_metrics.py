"""Retrieval metrics against a simulation of what they are the expectation of, and their refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vatt import metrics
from vatt.errors import NonFiniteError
from vatt.metrics import chance, retrieval


def ranks_in_random_order(similarity, target, rng):
    """Ranks (from 1) of the targets when ties are broken by lot."""
    ranks = []
    for row, item in zip(similarity, target, strict=True):
        order = rng.permutation(len(row))
        order = order[np.argsort(-row[order], kind="stable")]
        ranks.append(1 + int(np.flatnonzero(order == item)[0]))
    return np.array(ranks)


def test_ties_count_as_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 4, size=(12, 15)).astype(np.float32)  # quantised: ties everywhere
    target = rng.integers(0, 15, size=12)
    got = retrieval(similarity, target)
    draws = np.stack([ranks_in_random_order(similarity, target, rng) for _ in range(3000)])  # [draws Q]
    for k in (1, 5, 10):
        assert got[f"R@{k}"] == pytest.approx(100 * (draws <= k).mean(), abs=1.0)  # over 4 standard errors
    assert got["mean_rank"] == pytest.approx(draws.mean(), abs=0.1)
    assert got["median_rank"] == pytest.approx(np.median(draws.mean(axis=0)), abs=0.15)
    equal = (similarity == similarity[np.arange(12), target][:, None]).sum(axis=1)
    assert got["ties"] == (equal > 1).sum() > 0
    assert (got["queries"], got["items"]) == (12, 15)


def test_distinct_similarities_give_plain_ranks():
    rng = np.random.default_rng(1)
    similarity = rng.normal(size=(40, 30))
    target = rng.integers(0, 30, size=40)
    rank = np.array([1 + sum(x > row[t] for x in row) for row, t in zip(similarity, target, strict=True)])
    assert retrieval(similarity, target) == pytest.approx(
        {
            **{f"R@{k}": 100 * (rank <= k).mean() for k in (1, 5, 10)},
            "median_rank": np.median(rank),
            "mean_rank": rank.mean(),
            "queries": 40,
            "items": 30,
            "ties": 0,
        }
    )


def test_a_perfect_and_a_reversed_model():
    assert retrieval(np.eye(20)) == pytest.approx(
        {"R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1, "mean_rank": 1, "queries": 20, "items": 20, "ties": 0}
    )
    worst = retrieval(-np.eye(20))
    assert (worst["R@10"], worst["median_rank"], worst["ties"]) == (0, 20, 0)


def test_a_collapsed_model_scores_what_chance_scores():
    got = retrieval(np.full((1000, 1000), 0.5, np.float32))
    assert got == pytest.approx(
        {
            "R@1": 0.1,
            "R@5": 0.5,
            "R@10": 1.0,
            "median_rank": 500.5,
            "mean_rank": 500.5,
            "queries": 1000,
            "items": 1000,
            "ties": 1000,
        }
    )
    assert chance(1000) == pytest.approx({name: got[name] for name in chance(1000)})


@pytest.mark.parametrize("items", [1, 4, 7, 3350])
def test_chance(items):
    ranks = np.arange(1, items + 1)
    assert chance(items) == pytest.approx(
        {
            **{f"R@{k}": 100 * (ranks <= k).mean() for k in (1, 5, 10)},
            "median_rank": np.median(ranks),
            "mean_rank": ranks.mean(),
        }
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_order_of_queries_and_items_and_size_of_blocks_have_no_effect(seed, queries, items, levels):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, levels, size=(queries, items)) / 7
    target = rng.integers(0, items, size=queries)
    got = retrieval(similarity, target)
    rows, columns = rng.permutation(queries), rng.permutation(items)
    assert retrieval(similarity[rows][:, columns], np.argsort(columns)[target[rows]]) == pytest.approx(got)
    assert retrieval(np.exp(similarity), target) == got  # only the order counts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics.ranking, "_BLOCK", items * int(rng.integers(1, 4)))
        assert retrieval(similarity, target) == got


def test_many_captions_of_one_video_are_queries_of_their_own():
    similarity = np.array([[3.0, 1, 2], [1, 3, 2], [3, 1, 2], [1, 2, 3]])
    got = retrieval(similarity, [0, 0, 0, 2], recall_at=(1, 2))
    assert got == {"R@1": 75, "R@2": 75, "median_rank": 1, "mean_rank": 1.5, "queries": 4, "items": 3, "ties": 0}


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32])
def test_similarities_are_not_rounded(kind):
    similarity = np.zeros((3, 3), kind)
    similarity[0] = [1, np.nextafter(kind(1), kind(2)) if kind != np.int32 else 2, 0]
    assert retrieval(similarity, [0, 0, 0])["ties"] == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_similarity_that_is_not_finite_is_refused(value, monkeypatch):
    monkeypatch.setattr(metrics.ranking, "_BLOCK", 8)  # several blocks
    similarity = np.random.default_rng(2).normal(size=(7, 4))
    similarity[3, 2] = similarity[3, 3] = similarity[6, 0] = value
    with pytest.raises(NonFiniteError, match=rf"3 of 28 .* the {value} of query 3 and item 2"):
        retrieval(similarity, np.zeros(7, int))


def test_what_cannot_work_is_refused():
    similarity = np.zeros((3, 4))
    for wrong, message in (
        ((similarity, None), "square"),
        ((similarity, [0, 1]), "3 queries need 3 integers"),
        ((similarity, [0.0, 1.0, 2.0]), "integers"),
        ((similarity, [[0], [1], [2]]), "integers"),
        ((similarity, [0, -1, 2]), "query 1 is -1; items are 0 to 3"),
        ((similarity, [0, 1, 4]), "query 2 is 4"),
        ((np.zeros(3), None), "shape"),
        ((np.zeros((0, 0)), None), "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            retrieval(*wrong)
    with pytest.raises(ValueError, match="at least 1"):
        chance(0)
